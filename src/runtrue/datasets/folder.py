"""A folder of class folders: `photos/cat/1.jpg`, or `photos/train/cat/1.jpg` beside `photos/val/cat/2.jpg`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from runtrue.datasets import pictures
from runtrue.datasets.arrays import affordable
from runtrue.datasets.halves import halved
from runtrue.datasets.images import DataError, Images, Skipped, Split, counted, gathered

SIDE = 64
"""Pixels along each side if nothing else is asked for: objects are still told apart (Chrabaszcz et al. 2017 train on ImageNet
at this size), a network trains on two cores in minutes, and ten thousand photographs take 120 MB."""

TRAIN = ("train", "training")
VAL = ("val", "valid", "validation", "test", "testing")
"""Names of sub-folders that are splits and no classes, whatever the case of their letters; the first one of `VAL` is taken."""

HIDDEN = ("thumbs.db", "desktop.ini")
"""Files that systems leave behind, beside those whose name begins with a dot."""


@dataclass(frozen=True)
class Listing:
    """The files of one split: their paths, the numbers of their classes, and what could not be listed."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    skipped: tuple[Skipped, ...]


def read(
    folder: Path, *, side: int = SIDE, fraction: float = 0.2, seed: int = 0, framing: pictures.Framing = "crop"
) -> Images:
    """Raises DataError if there are no class folders, one alone, one without an image that can be read, or too few of them."""
    train_at, val_at = splits_in(folder)
    classes = classes_in(train_at)
    listed = [listing(train_at, classes)] + ([listing(val_at, known(val_at, classes))] if val_at else [])
    affordable(sum(len(each.paths) for each in listed), (3, side, side), str(folder))
    found = [_read(each, side, framing) for each in listed]
    skipped = [one for _, left_out in found for one in left_out]
    train = found[0][0]
    _refuse_empty_classes(train, classes, train_at, skipped)
    if val_at is None:
        train, val = halved(train, fraction, seed, classes, str(folder))
    else:
        val = found[1][0]
        if len(val) == 0:
            raise DataError(f"{val_at}: no image that can be read{_because(skipped, val_at)}")
    return gathered(folder.resolve().name, train, val, classes, str(folder.absolute()), skipped)


def splits_in(folder: Path) -> tuple[Path, Path | None]:
    """The folders that hold the class folders for training and for validation (None: nobody has divided them).

    `train` is a split only where all folders beside it are splits too and it holds folders itself: it may be a class.
    """
    inside = {path.name.lower(): path for path in folders_in(folder)}
    train = next((inside[name] for name in TRAIN if name in inside), None)
    if train is None or not set(inside) <= {*TRAIN, *VAL} or not folders_in(train):
        return folder, None
    return train, next((inside[name] for name in VAL if name in inside), None)


def folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be read as a folder of class folders: {error.strerror or error}") from error


def classes_in(folder: Path) -> tuple[str, ...]:
    """Names of the class folders in the order of the alphabet, which numbers them. Raises DataError for fewer than two."""
    inside = folders_in(folder)
    if len(inside) > 1:
        return tuple(path.name for path in inside)
    wanted = f"expected one folder for each class, as in {folder / 'cat'} and {folder / 'dog'}"
    if not inside:
        files = sum(1 for path in folder.iterdir() if not _hidden(path.name))
        raise DataError(f"{folder} has no folder of a class, but {counted(files, 'file')}: {wanted}")
    deeper = len(folders_in(inside[0])) > 1
    hint = (
        f": did you mean folder:{inside[0]}?"
        if deeper
        else f", and with one class there is nothing to tell apart: {wanted}"
    )
    raise DataError(f"{folder} has one folder, {inside[0].name}{hint}")


def known(folder: Path, classes: Sequence[str]) -> Sequence[str]:
    """The classes themselves. Raises DataError for a folder that is none of them."""
    strange = sorted({path.name for path in folders_in(folder)} - set(classes))
    if strange:
        raise DataError(
            f"{folder}: {', '.join(strange)} is no class of the training folder, whose classes are {', '.join(classes)}: a class "
            "that is never trained cannot be told"
        )
    return classes


def listing(folder: Path, classes: Sequence[str]) -> Listing:
    """All files under each class folder, however deep, sorted; links to folders are not followed below the class folder."""
    paths: list[Path] = []
    labels: list[int] = []
    skipped: list[Skipped] = []

    def failed(error: OSError) -> None:
        skipped.append(Skipped(str(error.filename), f"cannot be listed: {error.strerror or error}"))

    for number, name in enumerate(classes):
        for place, folders, files in os.walk(folder / name, onerror=failed if (folder / name).exists() else None):
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            found = [Path(place, file) for file in sorted(files) if not _hidden(file)]
            paths += found
            labels += [number] * len(found)
    return Listing(tuple(paths), tuple(labels), tuple(skipped))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in HIDDEN


def _read(listed: Listing, side: int, framing: pictures.Framing) -> tuple[Split, tuple[Skipped, ...]]:
    pixels, good, skipped = pictures.read(listed.paths, side, framing)
    labels = torch.tensor(listed.labels, dtype=torch.int64)[good]
    return Split(torch.from_numpy(pixels), labels, tuple(listed.paths[place] for place in good)), (
        *listed.skipped,
        *skipped,
    )


def _refuse_empty_classes(split: Split, classes: Sequence[str], folder: Path, skipped: Sequence[Skipped]) -> None:
    counts = torch.bincount(split.labels, minlength=len(classes)).tolist()
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        why = _because(skipped, folder / empty[0])
        raise DataError(
            f"{folder}: no image that can be read in {', '.join(empty)}{why}: add images, or take the folder away"
        )


def _because(skipped: Sequence[Skipped], folder: Path) -> str:
    """The first file that was left out there, and how many were."""
    there = [one for one in skipped if Path(one.path) == folder or folder in Path(one.path).parents]
    return f" ({counted(len(there), 'file')} skipped, the first is {there[0]})" if there else ""
