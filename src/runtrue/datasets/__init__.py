"""Labelled images: a set that ships with runtrue, sets on the user's disk, and the loader that makes batches of them."""

from __future__ import annotations

from runtrue.datasets.augment import Augment
from runtrue.datasets.embedded import CLASSES, MEAN, SIDE, STD, fashion_mnist
from runtrue.datasets.images import DataError, Images, Skipped, Split
from runtrue.datasets.load import load
from runtrue.datasets.loader import Loader
from runtrue.datasets.tensors import from_tensors

__all__ = [
    "CLASSES", "MEAN", "SIDE", "STD", "Augment", "DataError", "Images", "Loader", "Skipped", "Split", "fashion_mnist",
    "from_tensors", "load",
]  # fmt: skip
