"""The photographs of a fine-tuning: read once, divided, with copies on both sides of the division named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from runtrue import datasets
from runtrue.datasets import DataError, Images, Split, folder, pictures, table
from runtrue.datasets.images import counted
from runtrue.datasets.pictures import Framing
from runtrue.findings import Finding
from runtrue.finetune.still import digest
from runtrue.tuning.settings import Settings

APART = 3.0
"""Times as many images in the largest class as in the smallest, from which on the classes are weighed in the loss. A choice, not
a measurement: one that leaves sets that were gathered with some care as they are."""
LOOKED_AT = 64  # pictures
MOST = 0.5  # share of the pictures on white from which on they are seen whole: 0.89 on the photographs of the bench
SHOWN = 3  # pairs of copies that a message names


def read(settings: Settings, side: int, framing: Framing = "crop") -> Images:
    """uint8 (N, 3, side, side) of both splits. Raises DataError for what is no such data."""
    where = named(settings)
    return datasets.load(where, size=side, seed=settings.seed, val_fraction=settings.val_fraction, framing=framing)


def framing(settings: Settings) -> Framing:
    """As asked for; "auto" looks at some pictures. Cut-out ones, on white or nothing, mostly fill their picture: a crop would
    take off their heads and tails, and white around them is nothing new to the network."""
    if settings.framing != "auto":
        return "whole" if settings.framing == "whole" else "crop"
    form, _, path = named(settings).partition(":")
    place = Path(path).expanduser()
    if form == "folder":
        at = folder.splits_in(place)[0]
        paths: Sequence[Path] = folder.listing(at, folder.classes_in(at)).paths
    else:
        paths = [one for one, _, _ in table.rows_of(place)[0]]
    some = paths[:: max(1, len(paths) // LOOKED_AT)]
    cut_out = sum(pictures.on_white(path) for path in some)
    return "whole" if cut_out > MOST * len(some) else "crop"


def named(settings: Settings) -> str:
    """`folder:PATH` or `csv:PATH`. Raises DataError where there is nothing."""
    where = settings.data
    form, colon, _ = where.partition(":")
    if not (colon and form in ("folder", "csv")):
        if not where:
            raise DataError("say where the photographs are: --data FOLDER (a folder of class folders), or csv:PATH")
        path = Path(where).expanduser()
        if not path.is_dir() and not path.is_file():
            raise DataError(f"there is no folder {path}: expected a folder of class folders, or csv:PATH")
        where = f"folder:{where}" if path.is_dir() else f"csv:{where}"
    return where


def overlap(images: Images) -> Iterator[Finding]:
    """Pictures of the validation set that are also trained on, pixel by pixel, whatever their files are called."""
    seen = {digest(image): place for place, image in enumerate(images.train.images)}
    pairs = [(place, seen[found]) for place, image in enumerate(images.val.images) if (found := digest(image)) in seen]
    if not pairs:
        return
    named = [f"{_name(images.val, v)} is {_name(images.train, t)}" for v, t in pairs[:SHOWN]]
    differ = [(v, t) for v, t in pairs if images.val.labels[v] != images.train.labels[t]]
    contradicts = f" {len(differ)} of them under another label." if differ else ""
    yield Finding(
        "train-val-overlap", "warning", "the split",
        f"{counted(len(pairs), 'picture')} of the {len(images.val)} to validate with (limit 0) are trained on as well: "
        f"{'; '.join(named)}{'; …' if len(pairs) > SHOWN else ''}.{contradicts} The validation accuracy is too high by up to "
        f"{len(pairs) / len(images.val):.1%}: remove the copies, or part them by hand into train/ and val/.",
        {"copies": len(pairs), "of": len(images.val), "limit": 0, "otherwise labelled": len(differ)},
    )  # fmt: skip


def _name(split: Split, place: int) -> str:
    return str(Path(*split.paths[place].parts[-2:])) if split.paths else f"image {place}"


def weights_of(labels: Tensor, classes: int, settings: Settings) -> Tensor | None:
    """(classes,), mean 1 over the examples: N / (K · n_c); None where the classes are about even, or none are wanted."""
    counts = torch.bincount(labels, minlength=classes).clamp(min=1).float()
    if settings.class_weights == "none" or float(counts.max() / counts.min()) < APART:
        return None
    return len(labels) / (classes * counts)


def weighing(labels: Tensor, names: tuple[str, ...], weights: Tensor | None) -> str:
    """In words, for the report."""
    counts = torch.bincount(labels, minlength=len(names))
    most, least = int(counts.argmax()), int(counts.argmin())
    told = f"{names[most]} has {int(counts[most])} images, {names[least]} {int(counts[least])}"
    if weights is None:
        return f"all classes count alike ({told})"
    return (
        f"the classes are uneven ({told}): in the loss an image of {names[least]} counts "
        f"{float(weights[least] / weights[most]):.2g} times as much as one of {names[most]}, so that each class weighs the same"
    )
