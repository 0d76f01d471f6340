"""Arrays as they come from files, checked and brought to one form: uint8 images (N, C, H, W), int64 labels (N,)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from runtrue.datasets.images import DataError, Split

Array = NDArray[Any]

MOST_CHANNELS = 4
"""A dimension of 1 to 4 that is smaller than the other two is that of the channels."""

LIMIT = 4 * 2**30
"""Bytes of images that are read into memory: 350,000 of 3 × 64 × 64, or a quarter of a machine with 16 GB."""


def split_of(images: Array, labels: Array, where: str) -> Split:
    """Raises DataError if either cannot be used, or if there are not as many of both."""
    found = Split(pixels_of(images, where), labels_of(labels, where))
    if len(found.images) != len(found.labels):
        raise DataError(
            f"{where}: {len(found.images):,} images and {len(found.labels):,} labels: each image needs one label"
        )
    if len(found) == 0:
        raise DataError(f"{where}: no image in it")
    return found


def pixels_of(array: Array, where: str) -> Tensor:
    """uint8 (N, C, H, W) from (N, H, W), (N, H, W, C) or (N, C, H, W) with levels 0 to 255 or 0 to 1.

    Raises DataError for other shapes, levels outside, and numbers that are not finite.
    """
    levels = np.moveaxis(array[..., None] if array.ndim == 3 else array, channel_axis(array, where), 1)
    return torch.from_numpy(np.require(bytes_of(levels, where), requirements=["C", "W"]))


def channel_axis(array: Array, where: str) -> int:
    shape = " × ".join(map(str, array.shape))
    if array.ndim == 3:
        return 3  # the one that is added
    if array.ndim != 4:
        raise DataError(
            f"{where}: images of shape {shape}, expected (N, H, W), (N, H, W, C) or (N, C, H, W)"
            + (": reshape the flat rows first" if array.ndim == 2 else "")
        )
    _, second, third, last = array.shape
    first_fits, last_fits = (
        1 <= few <= MOST_CHANNELS and few <= min(sides)
        for few, sides in ((second, (third, last)), (last, (second, third)))
    )
    if first_fits == last_fits:
        raise DataError(
            f"{where}: in images of shape {shape} the channels (1 to {MOST_CHANNELS}) are neither clearly the second nor the "
            "last dimension"
        )
    return 1 if first_fits else 3


def bytes_of(levels: Array, where: str) -> Array:
    """Levels 0 to 255 as they are, 0 to 1 (in floating point, or false and true) times 255."""
    if levels.dtype == np.uint8 or levels.size == 0:
        return np.asarray(levels, dtype=np.uint8)
    if levels.dtype.kind not in "biuf":
        raise DataError(f"{where}: images of type {levels.dtype}, expected numbers: levels 0 to 255 or 0 to 1")
    if levels.dtype.kind == "f":
        broken = ~np.isfinite(levels).reshape(len(levels), -1).all(1)
        if broken.any():
            raise DataError(
                f"{where}: {int(broken.sum()):,} of {len(levels):,} images hold NaN or infinity, the first is number "
                f"{int(broken.argmax())}: leave them out"
            )
    low, high = float(levels.min()), float(levels.max())
    if low < 0 or high > 255:
        raise DataError(
            f"{where}: levels from {low:g} to {high:g}, expected 0 to 255 or 0 to 1: give the images as they are before "
            "normalising"
        )
    scale = 255 if levels.dtype.kind == "b" or (levels.dtype.kind == "f" and high <= 1) else 1
    scaled: Array = np.rint(levels * scale).astype(np.uint8)
    return scaled


def labels_of(array: Array, where: str) -> Tensor:
    """int64 (N,) from integers of any kind, (N,) or (N, 1). Raises DataError for anything else."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        shape = " × ".join(map(str, array.shape))
        hint = ": one-hot labels become numbers by argmax(1)" if array.ndim == 2 else ""
        raise DataError(f"{where}: labels of shape {shape}, expected one number an image{hint}")
    if array.dtype.kind not in "iu":
        hint = (
            "np.unique(labels, return_inverse=True) numbers them" if array.dtype.kind in "SUO" else "labels.astype(int)"
        )
        raise DataError(
            f"{where}: labels of type {array.dtype}, expected integers that count the classes from 0: {hint}"
        )
    if array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{where}: label {array.max()} is out of range")
    return torch.from_numpy(array.astype(np.int64))


def within(splits: Iterable[tuple[str, Split]], names: Sequence[str]) -> None:
    """Raises DataError if a label is not the number of one of the named classes."""
    for where, split in splits:
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= len(names):
            wrong = high if high >= len(names) else low
            raise DataError(
                f"{where}: label {wrong}, but there are {len(names)} classes, numbered 0 to {len(names) - 1}"
            )


def numbered(train: Split, val: Split | None, where: str) -> tuple[Split, Split | None, tuple[str, ...]]:
    """The splits with labels from 0, and names of classes made from the labels, which are 0 to K - 1, or 1 to K.

    Raises DataError if a number between has no training image: a gap would be an output that nothing trains.
    """
    seen = torch.unique(train.labels)
    low, high = int(seen[0]), int(seen[-1])
    if low not in (0, 1) or high - low + 1 != len(seen):
        some = ", ".join(str(one) for one in seen[:6].tolist()) + (", …" if len(seen) > 6 else "")
        raise DataError(
            f"{where}: {len(seen)} different labels from {low} to {high} ({some}), expected all numbers from 0 to K - 1: "
            "np.unique(labels, return_inverse=True)[1] numbers them so"
        )
    if val is not None and not low <= int(val.labels.min()) <= int(val.labels.max()) <= high:
        raise DataError(
            f"{where}: labels {int(val.labels.min())} to {int(val.labels.max())} in validation, {low} to {high} in training: "
            "a class that is never trained cannot be told"
        )
    moved = [None if of is None else Split(of.images, of.labels - low) for of in (train, val)]
    assert moved[0] is not None
    return moved[0], moved[1], tuple(map(str, seen.tolist()))


def bordered(split: Split, size: int | None, where: str) -> Split:
    """Images of `size` × `size`: with black borders around, as even as can be. Raises DataError if they are larger."""
    height, width = split.images.shape[2:]
    if size is None or size == height == width:
        return split
    if size < max(height, width):
        raise DataError(
            f"{where}: the images are {height} × {width}, and size={size} would cut them: it can only add borders"
        )
    top, left = (size - height) // 2, (size - width) // 2
    return Split(F.pad(split.images, (left, size - width - left, top, size - height - top)), split.labels)


def affordable(count: int, shape: Sequence[int], where: str) -> None:
    """Raises DataError if images of that number and shape would need more memory than `LIMIT`."""
    need = count * math.prod(shape)
    if need > LIMIT:
        raise DataError(
            f"{where}: {count:,} images of {' × '.join(map(str, shape))} need {need / 2**30:.1f} GiB of memory, and the limit is "
            f"{LIMIT / 2**30:g} GiB: take a smaller size, fewer images, or a data loader of your own"
        )
