"""Runs that are going on, in a browser: a list, a page for each that follows it, and some of them beside each other.

Read only. Listens on this machine alone, unless another address is asked for: then a token has to stand in the URL.
"""

from __future__ import annotations

from runtrue.watch.serve.server import serve

__all__ = ["serve"]
