"""From a word to images: `load("fashion-mnist")`, `load("folder:photos")`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from runtrue.datasets import cifar, folder, idx, npz, table
from runtrue.datasets.arrays import bordered, numbered, within
from runtrue.datasets.embedded import CLASSES, stored
from runtrue.datasets.halves import halved
from runtrue.datasets.images import DataError, Images, Split, gathered
from runtrue.datasets.pictures import Framing
from runtrue.datasets.places import KNOWN, NotFoundError, search

SUBSET = "fashion-mnist-subset"
SPLITS: tuple[Literal["train", "test"], ...] = ("train", "test")
FIRST_LABELS = {
    "fashion-mnist": (9, 0, 0, 3, 0, 2, 7, 2, 5, 5),
    "mnist": (5, 0, 4, 1, 9, 2, 1, 3, 1, 4),
}
"""Of the training files: both sets have the same names of files, and a folder may hold the other one."""


@dataclass(frozen=True)
class Wish:
    """What was asked for beside the name; see `load`."""

    size: int | None
    seed: int
    val_fraction: float
    root: str | os.PathLike[str] | None
    framing: Framing = "crop"


def load(
    where: str = "fashion-mnist",
    *,
    size: int | None = None,
    seed: int = 0,
    val_fraction: float = 0.2,
    root: str | os.PathLike[str] | None = None,
    framing: Framing = "crop",
) -> Images:
    """Images and labels in memory, as bytes, with a training and a validation split.

    `where` is a set by its name, looked for in the usual places (under `root` alone if that is given): `fashion-mnist` (the
    subset that ships with runtrue where the full set is not found), `fashion-mnist-subset`, `mnist`, `cifar10`, `cifar100`;
    or data of one's own: `folder:PATH` (a folder of class folders), `csv:PATH` (a table with
    a column of paths and one of labels), `npz:PATH`, `idx:PATH`.

    `size`: pixels along each side. Photographs of a folder are resized to it (64 if not given); other images get black
    borders. `framing`: "crop" cuts out the middle of a photograph, "whole" puts all of it on white. `val_fraction` of every
    class is taken for validation, by `seed`, where the data brings no split of its own.

    Raises DataError if nothing is found (it lists the places), or if what is found cannot be used; ValueError for a size
    below 1 and for a fraction outside 0 to 1.

    >>> print(load("fashion-mnist-subset").describe())
    fashion-mnist-subset: 3,000 training and 1,000 validation images, 1 × 28 × 28, 10 classes
    read from the images that ship with runtrue
    """
    if size is not None and size < 1:
        raise ValueError(f"size is a number of pixels, 1 or more, got {size}")
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction lies between 0 and 1, got {val_fraction}")
    wish = Wish(size, seed, val_fraction, root, framing)
    form, colon, path = where.partition(":")
    if where in NAMED:
        return NAMED[where](wish)
    if colon and form in FORMS:
        return FORMS[form](Path(path).expanduser(), wish)
    raise DataError(unknown(where))


def unknown(where: str) -> str:
    """What to write instead."""
    near = difflib.get_close_matches(where, NAMED, n=1)
    form = (
        "folder"
        if Path(where).is_dir()
        else Path(where).suffix.lstrip(".")
        if where.endswith((".npz", ".csv"))
        else None
    )
    hint = f" Did you mean {form}:{where}?" if form else f" Did you mean {near[0]}?" if near else ""
    return f"unknown data {where!r}: write {', '.join(NAMED)}, {', '.join(f'{form}:PATH' for form in FORMS)}.{hint}"


# -- sets by their name


def subset(wish: Wish, why: str = "") -> Images:
    train, val = (bordered(_shipped(split), wish.size, SUBSET) for split in SPLITS)
    return gathered(SUBSET, train, val, CLASSES, f"the images that ship with runtrue{why}")


def _shipped(split: Literal["train", "test"]) -> Split:
    pixels, labels = stored(split)
    return Split(torch.tensor(pixels[:, None]), torch.tensor(labels, dtype=torch.int64))


def fashion(wish: Wish) -> Images:
    """The full set from the usual places, else the subset. A `root` is taken at its word: it has to be there."""
    try:
        return mnist("fashion-mnist", CLASSES, wish)
    except NotFoundError:
        if wish.root is not None:
            raise
        return subset(wish, ": the full set is in none of the usual places")


def mnist(name: str, classes: tuple[str, ...], wish: Wish) -> Images:
    place, files = search(KNOWN[name], wish.root, partial(_mnist_files, name))
    return _known(name, classes, idx.split(files, "train", place), idx.split(files, "test", place), place, wish)


def _mnist_files(name: str, place: Path) -> idx.Files | str:
    files = idx.sets_in(place).get("", {})
    if ("train", "images") not in files:
        return "no such file"
    if ("train", "labels") in files:
        first = tuple(idx.read(files["train", "labels"])[:10].tolist())
        for other, labels in FIRST_LABELS.items():
            if other != name and first == labels:
                return f"the files of {other}"
    return files


def tiny(name: str, wish: Wish) -> Images:
    """CIFAR-10 or CIFAR-100."""
    _, (place, layout) = search(KNOWN[name], wish.root, lambda at: cifar.layout_in(at, name) or "no such folder in it")
    train, val, classes = cifar.splits_at(place, layout, name)
    return _known(name, classes, train, val, place, wish)


def _known(name: str, classes: tuple[str, ...], train: Split, val: Split, place: Path, wish: Wish) -> Images:
    within(((f"{place}, training", train), (f"{place}, test", val)), classes)
    train, val = (bordered(split, wish.size, str(place)) for split in (train, val))
    return gathered(name, train, val, classes, str(place.absolute()))


# -- data of one's own


def from_folder(path: Path, wish: Wish) -> Images:
    side = folder.SIDE if wish.size is None else wish.size
    return folder.read(path, side=side, fraction=wish.val_fraction, seed=wish.seed, framing=wish.framing)


def from_table(path: Path, wish: Wish) -> Images:
    side = folder.SIDE if wish.size is None else wish.size
    return table.read(path, side=side, fraction=wish.val_fraction, seed=wish.seed, framing=wish.framing)


def from_idx(path: Path, wish: Wish) -> Images:
    return _own(path, *idx.splits_at(path), None, wish)


def from_npz(path: Path, wish: Wish) -> Images:
    return _own(path, *npz.splits_at(path), wish)


def _own(path: Path, train: Split, val: Split | None, names: tuple[str, ...] | None, wish: Wish) -> Images:
    where = str(path)
    if names is None:
        train, val, names = numbered(train, val, where)
    if len(names) < 2:
        raise DataError(f"{where}: {len(names)} class ({', '.join(names)}): there is nothing to tell apart")
    within(((where, train), *(((f"{where}, validation", val),) if val else ())), names)
    if val is None:
        train, val = halved(train, wish.val_fraction, wish.seed, names, where)
    if val.images.shape[1:] != train.images.shape[1:]:
        raise DataError(
            f"{where}: training images are {_shape(train)}, validation images {_shape(val)}: they have to be of one shape"
        )
    train, val = (bordered(split, wish.size, where) for split in (train, val))
    return gathered(path.stem or where, train, val, names, str(path.absolute()))


def _shape(split: Split) -> str:
    return " × ".join(map(str, split.images.shape[1:]))


NAMED: dict[str, Callable[[Wish], Images]] = {
    "fashion-mnist": fashion,
    SUBSET: subset,
    "mnist": partial(mnist, "mnist", tuple("0123456789")),
    "cifar10": partial(tiny, "cifar10"),
    "cifar100": partial(tiny, "cifar100"),
}
"""Sets by their name."""

FORMS: dict[str, Callable[[Path, Wish], Images]] = {
    "folder": from_folder, "csv": from_table, "npz": from_npz, "idx": from_idx
}  # fmt: skip
"""Forms of data of one's own, written in front of a path: `npz:digits.npz`."""
