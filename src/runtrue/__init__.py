"""runtrue finds out whether a PyTorch network will train, says why not, cures it, and shows that the cure worked."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from runtrue import init, lab, nets
    from runtrue.api import check
    from runtrue.diagnosis import Treatment, fix
    from runtrue.findings import Finding, Outcome, Remedy
    from runtrue.report import Report
    from runtrue.task import Task, TaskError
    from runtrue.training import train
    from runtrue.tuning.api import finetune
    from runtrue.watch.api import watch

__all__ = [
    "Finding",
    "Outcome",
    "Remedy",
    "Report",
    "Task",
    "TaskError",
    "Treatment",
    "check",
    "finetune",
    "fix",
    "init",
    "lab",
    "nets",
    "train",
    "watch",
]

_HOME = {
    "Finding": "runtrue.findings",
    "Outcome": "runtrue.findings",
    "Remedy": "runtrue.findings",
    "Report": "runtrue.report",
    "Task": "runtrue.task",
    "TaskError": "runtrue.task",
    "Treatment": "runtrue.diagnosis",
    "check": "runtrue.api",
    "fix": "runtrue.diagnosis",
    "train": "runtrue.training",
}
_ROOMS = ("finetune", "init", "lab", "nets", "watch")


def __getattr__(name: str) -> Any:
    """Public names are looked up when they are used, so that `import runtrue` costs next to nothing (PEP 562)."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"runtrue.{name}")
    raise AttributeError(f"module 'runtrue' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
