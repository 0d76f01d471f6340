"""Changes that cure, one file a family. Importing this package fills the register."""

from __future__ import annotations

from runtrue.remedies import (
    data,
    labels,
    optimizer,
    outputs,
    regularization,
    scaling,
    splits,
    structure,
    weights,
    wiring,
)
from runtrue.remedies.registry import REMEDIES, remedies_for, remedy

__all__ = [
    "REMEDIES", "data", "labels", "optimizer", "outputs", "regularization", "remedies_for", "remedy", "scaling", "splits",
    "structure", "weights", "wiring",
]  # fmt: skip
