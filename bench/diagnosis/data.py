"""Real data that need no download: sets of scikit-learn, and the Fashion-MNIST subset of the package."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diagnosis.parts import standardized, tensor
from runtrue import datasets

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


def body_measures() -> Array:
    """(442, 10) columns of the diabetes set in their own units: years, mm Hg, mg/dl, …"""
    from sklearn.datasets import load_diabetes

    return np.asarray(load_diabetes(scaled=False).data, float)


def progression(raw: bool = False) -> tuple[Tensor, Tensor]:
    """The diabetes set: ten columns and the progression of the disease, standardized unless `raw` (25 … 346)."""
    columns, targets = _table("diabetes")
    if raw:
        return tensor(body_measures()), tensor(targets[:, None])
    return tensor(standardized(columns)), tensor(standardized(targets[:, None]))


def tumours(raw: bool = False) -> tuple[Tensor, Tensor]:
    """The breast cancer set: 30 columns, (569, 1) targets 0 and 1."""
    columns, labels = table("breast_cancer", raw)
    return columns, labels.float()[:, None]


def circles(rng: np.random.RandomState, count: int = 400) -> tuple[Tensor, Tensor]:
    """Two noisy rings, one inside the other, as AutoTrainer's subjects have them: (N, 2), labels 0 and 1."""
    from sklearn.datasets import make_circles

    points, labels = make_circles(count, noise=0.08, factor=0.4, random_state=rng)
    return tensor(points), torch.tensor(labels, dtype=torch.long)


def blobs(rng: np.random.RandomState, count: int = 500) -> tuple[Tensor, Tensor]:
    """Three clouds that overlap a little: (N, 2), labels 0 … 2."""
    from sklearn.datasets import make_blobs

    points, labels = make_blobs(count, centers=[[-4, 0], [0, 5], [4, -1]], cluster_std=1.5, random_state=rng)[:2]
    return tensor(points), torch.tensor(labels, dtype=torch.long)


def spirals(rng: np.random.RandomState, count: int = 450) -> tuple[Tensor, Tensor]:
    """Three arms of a spiral, the toy set of CS231n: (N, 2), labels 0 … 2."""
    labels = np.repeat(np.arange(3), count // 3)
    radius = np.tile(np.linspace(0.05, 1, count // 3), 3)
    angle = 4 * labels + 4 * radius + 0.15 * rng.randn(count)
    return tensor(np.stack([radius * np.sin(angle), radius * np.cos(angle)], 1)), torch.tensor(labels, dtype=torch.long)


def clothes(count: int = 1000, split: Literal["train", "test"] = "train", flat: bool = True) -> tuple[Tensor, Tensor]:
    """Of the Fashion-MNIST subset: standardized pixels (N, 784) or (N, 1, 28, 28), labels 0 … 9."""
    return datasets.fashion_mnist(split, flat=flat, limit=count)


def garments(count: int = 1000) -> tuple[Tensor, Tensor]:
    """The same images with four yes/no questions: footwear; covers the torso; long sleeves; heel or sole to be seen."""
    images, labels = clothes(count)
    groups = ((5, 7, 9), (0, 2, 3, 4, 6), (2, 4), (5, 9))
    return images, torch.stack([torch.isin(labels, torch.tensor(group)) for group in groups], 1).float()
