"""Real data that need no download: sets of scikit-learn, and the Fashion-MNIST subset of the package."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diagnosis.parts import standardized, tensor

Array = NDArray[np.float64]


@cache
def _digits() -> tuple[Array, NDArray[Any]]:
    """1,797 digits of 8 × 8 pixels, each pixel blown up to 3 × 3 and framed: 28 × 28 grey levels 0 … 255, like MNIST."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.pad(np.kron(found.images, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2))) / 16 * 255
    return images.reshape(len(images), 784).round(), found.target


def digits(raw: bool = False) -> tuple[Tensor, Tensor]:
    """(1797, 784) grey levels 0 … 1, or 0 … 255 if `raw`; labels 0 … 9."""
    images, labels = _digits()
    return tensor(images if raw else images / 255), torch.tensor(labels, dtype=torch.long)


@cache
def _table(name: str) -> tuple[Array, NDArray[Any]]:
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    return np.asarray(found.data, float), np.asarray(found.target)


def table(name: str, raw: bool = False) -> tuple[Tensor, Tensor]:
    """A set of scikit-learn by name (iris, wine, breast_cancer, diabetes, linnerud): standardized columns unless `raw`.

    Targets as they are: int64 labels (N,), or float32 numbers (N, outputs).
    """
    columns, targets = _table(name)
    inputs = tensor(columns if raw else standardized(columns))
    if np.issubdtype(targets.dtype, np.integer):
        return inputs, torch.tensor(targets, dtype=torch.long)
    return inputs, tensor(targets.reshape(len(targets), -1))
