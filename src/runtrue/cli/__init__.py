"""The command. Exit codes: 0 no fault, 1 fault found, 2 the call or the target is wrong.

Nothing heavy is imported before a command runs, so that `runtrue --help` answers at once.
"""

from __future__ import annotations

from runtrue.cli.app import main

__all__ = ["main"]
