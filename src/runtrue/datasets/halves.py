"""A validation split where the data brings none: the same share of every class, by a seed."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from runtrue.datasets.images import DataError, Split


def halved(whole: Split, fraction: float, seed: int, classes: tuple[str, ...], where: str) -> tuple[Split, Split]:
    """Training and validation split, each in mixed order."""
    train, val = stratified(whole.labels, fraction, seed, classes, where)
    return whole.at(train), whole.at(val)


def stratified(
    labels: Tensor, fraction: float, seed: int, classes: tuple[str, ...], where: str
) -> tuple[Tensor, Tensor]:
    """Places of the training and of the validation examples, int64, in mixed order.

    Of n examples of a class `fraction` · n, rounded, but at least one and not all go into validation.
    Raises DataError if a class has a single example.
    """
    generator = Generator().manual_seed(seed)
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for number, name in enumerate(classes):
        places = (labels == number).nonzero()[:, 0]
        if len(places) == 1:
            raise DataError(
                f"{where}: class {name!r} has 1 image, and needs at least 2, one to train with and one to validate with: add "
                "images, leave the class out, or bring a validation split"
            )
        places = places[torch.randperm(len(places), generator=generator)]
        kept = len(places) - min(max(1, round(fraction * len(places))), len(places) - 1)
        parts[0].append(places[:kept])
        parts[1].append(places[kept:])
    train, val = (torch.cat(part) for part in parts)
    return train[torch.randperm(len(train), generator=generator)], val[torch.randperm(len(val), generator=generator)]
