"""Changes that cure, one file a family. Importing this package fills the register."""

from __future__ import annotations

from runtrue.remedies import data, optimizer, outputs, scaling, weights, wiring
from runtrue.remedies.registry import REMEDIES, remedies_for, remedy

__all__ = ["REMEDIES", "data", "optimizer", "outputs", "remedies_for", "remedy", "scaling", "weights", "wiring"]
