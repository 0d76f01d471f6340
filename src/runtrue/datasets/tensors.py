"""Images that a program holds already."""

from __future__ import annotations

from typing import Any

import torch

from runtrue.datasets.images import DataError, Images, Split, gathered

FORM = "two pairs (images, labels), to train and to validate with: images (N, C, H, W), labels whole numbers (N,)"


def from_tensors(data: Any, name: str = "tensors") -> Images:
    """A set from ((images, labels), (images, labels)): training and validation, images (N, C, H, W), labels (N,) from 0 on.

    uint8 images are normalized by the statistics of the training images; floating-point ones are taken as they are.
    Raises DataError for anything else, and says what was wrong.
    """
    try:
        (train, train_labels), (val, val_labels) = data
    except (TypeError, ValueError):
        raise DataError(f"data must be {FORM}; got an object of type {type(data).__name__}") from None
    splits = [
        split_of(images, labels, part)
        for images, labels, part in ((train, train_labels, "training"), (val, val_labels, "validation"))
    ]
    first, second = splits
    if first.images.shape[1:] != second.images.shape[1:] or first.images.dtype != second.images.dtype:
        raise DataError(
            f"training and validation images differ: {first.images.dtype} {tuple(first.images.shape[1:])} and "
            f"{second.images.dtype} {tuple(second.images.shape[1:])}"
        )
    count = 1 + max(int(split.labels.max()) for split in splits)
    classes = [str(number) for number in range(count)]
    if first.images.dtype == torch.uint8:
        return gathered(name, first, second, classes, "tensors")
    channels, height, width = first.images.shape[1:]
    as_they_are = (0.0,) * channels, (1 / 255,) * channels  # the loader divides by 255 and by this
    return Images(name, first, second, tuple(classes), *as_they_are, channels, (height, width), "tensors")


def split_of(images: Any, labels: Any, part: str) -> Split:
    images, labels = torch.as_tensor(images), torch.as_tensor(labels)
    if images.dim() != 4 or labels.dim() != 1 or len(images) != len(labels) or not len(labels):
        raise DataError(
            f"data must be {FORM}; the {part} pair has shapes {tuple(images.shape)} and {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool or int(labels.min()) < 0:
        raise DataError(
            f"the {part} labels must be whole numbers from 0 on; they are {labels.dtype}, from {float(labels.min()):g}"
        )
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise DataError(f"the {part} images are {images.dtype}: give uint8 (0 to 255), or floating-point numbers")
    return Split(images if images.dtype == torch.uint8 else images.float(), labels.long())
