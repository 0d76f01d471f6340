"""From a word to images: `load("fashion-mnist-subset")`."""

from __future__ import annotations

import os
from typing import Literal

import torch

from runtrue.datasets.embedded import CLASSES, stored
from runtrue.datasets.images import DataError, Images, Split, gathered

SUBSET = "fashion-mnist-subset"
WORDS = (SUBSET,)
"""What `where` may be."""


def load(
    where: str = "fashion-mnist",
    *,
    size: int | None = None,
    seed: int = 0,
    val_fraction: float = 0.2,
    root: str | os.PathLike[str] | None = None,
) -> Images:
    """Images and labels in memory, with a training and a validation split.

    Raises DataError if nothing is found there, or if what is found cannot be used.

    >>> print(load("fashion-mnist-subset").describe())
    fashion-mnist-subset: 3,000 training and 1,000 validation images, 1 × 28 × 28, 10 classes
    read from the images that ship with runtrue
    """
    if where in (SUBSET, "fashion-mnist"):
        return subset()
    raise DataError(f"unknown data {where!r}: write one of {', '.join(WORDS)}")


def subset() -> Images:
    return gathered(SUBSET, _shipped("train"), _shipped("test"), CLASSES, "the images that ship with runtrue")


def _shipped(split: Literal["train", "test"]) -> Split:
    pixels, labels = stored(split)
    return Split(torch.tensor(pixels[:, None]), torch.tensor(labels, dtype=torch.int64))
