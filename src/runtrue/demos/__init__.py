"""Sick and healthy tasks on real images: `runtrue check demo:NAME`. They are the specimens of the checks as well.

Each sick task has one fault, planted into a task that trains well without it. The images are the Fashion-MNIST subset
that ships with runtrue. One module a family; importing this package fills the register.
"""

from __future__ import annotations

from runtrue.demos import basic, outputs, splits, structure
from runtrue.demos.register import DEMOS, demo, load

__all__ = ["DEMOS", "basic", "demo", "load", "outputs", "splits", "structure"]
