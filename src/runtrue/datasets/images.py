"""Labelled images in memory, as bytes: what every reader gives, and the one error that readers raise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

SHOWN = 5
"""Reasons for skipped files that a description lists, the most frequent first; the others are counted."""


class DataError(Exception):
    """Data that was not found or cannot be used: where it was looked for, what is wrong, and what to do."""


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a set: images, uint8 (N, C, H, W), their labels, int64 (N,), and the file of each where they lie in files."""

    images: Tensor
    labels: Tensor
    paths: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, places: Tensor) -> Split:
        """Those at these places, int64 (M,), in that order."""
        paths = tuple(self.paths[place] for place in places.tolist()) if self.paths else ()
        return Split(self.images[places], self.labels[places], paths)


@dataclass(frozen=True, eq=False)
class Images:
    """A training and a validation split, what the labels stand for, and the constants that normalise the images.

    `mean` and `std` are those of the training images, a number for each channel, grey levels from 0 to 1. `size` is
    (height, width). `origin` says where the set was read.
    """

    name: str
    train: Split
    val: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    size: tuple[int, int]
    origin: str
    skipped: tuple[Skipped, ...] = ()

    def describe(self) -> str:
        """Lines to show: how much of what was read where, and which files were left out."""
        height, width = self.size
        lines = [
            f"{self.name}: {len(self.train):,} training and {len(self.val):,} validation images, "
            f"{self.channels} × {height} × {width}, {len(self.classes)} classes",
            f"read from {self.origin}",
        ]
        if self.skipped:
            lines.append(f"{counted(len(self.skipped), 'file')} skipped:")
            reasons = Counter(one.reason for one in self.skipped).most_common()
            lines += [f"  {self._skipped_for(reason)}" for reason, _ in reasons[:SHOWN]]
            if len(reasons) > SHOWN:
                lines.append(f"  … and {sum(count for _, count in reasons[SHOWN:]):,} more")
        return "\n".join(lines)

    def _skipped_for(self, reason: str) -> str:
        first, *others = (one.path for one in self.skipped if one.reason == reason)
        return f"{first}{f' and {len(others):,} more' if others else ''}: {reason}"


def gathered(
    name: str, train: Split, val: Split, classes: Sequence[str], origin: str, skipped: Sequence[Skipped] = ()
) -> Images:
    """The set with its constants, computed from the training images."""
    mean, std = statistics(train.images)
    channels, height, width = train.images.shape[1:]
    return Images(name, train, val, tuple(classes), mean, std, channels, (height, width), origin, tuple(skipped))


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 images (N, C, H, W), in grey levels from 0 to 1.

    Exact, from counts of the 256 levels. A channel in which nothing varies gets 1 as its deviation, so that normalising
    leaves it at 0.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * levels).sum()
        variance = (share * (levels - mean).square()).sum()
        means.append(mean.item())
        deviations.append(variance.sqrt().item() if int((share > 0).sum()) > 1 else 1.0)
    return tuple(means), tuple(deviations)


def counted(count: int, noun: str) -> str:
    """`1 file`, `2 files`, `3 classes`."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{count:,} {noun if count == 1 else plural}"
