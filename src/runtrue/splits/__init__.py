"""What the rows of train and val say before and beside any training: labels that inputs predict, order, twins, mismatch."""

from __future__ import annotations

from runtrue.splits.facts import (
    Labels,
    Order,
    Overlap,
    Recall,
    Relation,
    Repeats,
    Shift,
    Split,
    SplitFacts,
    Trained,
)
from runtrue.splits.measure import UNRELATED, measure
from runtrue.splits.pool import Pool, pool_of
from runtrue.splits.trained import train_and_score

__all__ = [
    "UNRELATED", "Labels", "Order", "Overlap", "Pool", "Recall", "Relation", "Repeats", "Shift", "Split", "SplitFacts", "Trained",
    "measure", "pool_of", "train_and_score",
]  # fmt: skip
