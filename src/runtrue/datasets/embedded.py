"""Real images that ship with runtrue: a balanced subset of Fashion-MNIST (Xiao et al. 2017), see `data/NOTICE.md`."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
"""What the labels 0 to 9 stand for."""

MEAN, STD = 0.285261, 0.353196
"""Mean and standard deviation of the 3,000 training images, grey levels from 0 (black) to 1 (white)."""

SIDE = 28
"""Pixels along each side of an image as it is stored."""


def fashion_mnist(
    split: Literal["train", "test"] = "train",
    *,
    flat: bool = False,
    normalize: bool = True,
    channels: int = 1,
    size: int = SIDE,
    limit: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Images and labels: 3,000 to train with, 1,000 to test with, as many of each class, in mixed order.

    Returns images, float32 (N, channels, size, size), or (N, channels * size * size) if `flat`, and labels, int64 (N,)
    from 0 to 9. Grey levels are 0 to 1, or (grey - MEAN) / STD if `normalize`. A `size` above 28 adds black borders and
    `channels` repeats the grey channel: 3 channels of 32 by 32 pixels is what ResNets for CIFAR take. `limit` keeps the
    first N. Each call returns tensors of its own.

    Raises ValueError for an unknown split, less than one channel, a size below 28, or a limit outside 1 to N.

    >>> images, labels = fashion_mnist("test", limit=100)
    >>> images.shape, labels.dtype
    (torch.Size([100, 1, 28, 28]), torch.int64)
    """
    pixels, labels = stored(split)
    if channels < 1 or size < SIDE:
        raise ValueError(f"need channels >= 1 and size >= {SIDE}, got channels={channels}, size={size}")
    if limit is not None and not 1 <= limit <= len(labels):
        raise ValueError(f"limit must be 1 to {len(labels)} for the split {split!r}, got {limit}")
    images = torch.tensor(pixels[:limit, None], dtype=torch.float32) / 255  # (N, 1, 28, 28)
    before, after = (size - SIDE) // 2, (size - SIDE + 1) // 2
    images = F.pad(images, (before, after, before, after)).repeat(1, channels, 1, 1)
    if normalize:
        images = (images - MEAN) / STD
    return images.flatten(1) if flat else images, torch.tensor(labels[:limit], dtype=torch.int64)


@cache
def stored(split: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read-only uint8 arrays, images (N, 28, 28) and labels (N,), read from the package once a process."""
    if split not in ("train", "test"):
        raise ValueError(f'split must be "train" or "test", not {split!r}')
    file = resources.files("runtrue") / "data" / "fashion_mnist_subset.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        pixels, labels = stored[f"{split}_images"], stored[f"{split}_labels"]
    pixels.flags.writeable = labels.flags.writeable = False
    return pixels, labels
