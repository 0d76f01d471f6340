"""A table of images, CSV or TSV: a column of paths, one of labels, and perhaps one that parts training from validation."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from runtrue.datasets import pictures
from runtrue.datasets.arrays import affordable
from runtrue.datasets.folder import SIDE, TRAIN, VAL
from runtrue.datasets.halves import halved
from runtrue.datasets.images import DataError, Images, Skipped, Split, counted, gathered

PATHS = ("path", "file", "filename", "file_name", "image", "image_path", "filepath", "img", "name", "id")
LABELS = ("label", "class", "target", "category", "labels", "y")
SPLITS = ("split", "set", "subset", "fold", "partition")
"""Names of the columns, whatever the case of their letters; the first one that the table has is taken."""

Row = tuple[Path, str, str]
"""Path, label, and split ("" if the table has no such column)."""


def read(
    file: Path, *, side: int = SIDE, fraction: float = 0.2, seed: int = 0, framing: pictures.Framing = "crop"
) -> Images:
    """Paths are relative to the table's folder, or absolute. Classes are numbered in the order of the alphabet, numbers by size.

    Raises DataError for a table that cannot be read, lacks a column, or leaves fewer than two classes; images that cannot be read
    and rows without a label are left out and listed.
    """
    rows, skipped = rows_of(file)
    classes = in_order({label for _, label, _ in rows})
    if len(classes) < 2:
        raise DataError(
            f"{file}: {counted(len(classes), 'class')} in {counted(len(rows), 'row')}: there is nothing to tell apart"
        )
    affordable(len(rows), (3, side, side), str(file))
    pixels, good, left_out = pictures.read([path for path, _, _ in rows], side, framing)
    labels = torch.tensor([classes.index(rows[place][1]) for place in good], dtype=torch.int64)
    paths = tuple(rows[place][0] for place in good)
    whole, skipped = Split(torch.from_numpy(pixels), labels, paths), [*skipped, *left_out]
    _refuse_empty(whole, classes, file, skipped)
    train, val = _parted(whole, [rows[place][2] for place in good], classes, file, fraction, seed)
    return gathered(file.stem, train, val, classes, str(file.absolute()), skipped)


def rows_of(file: Path) -> tuple[list[Row], list[Skipped]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            start = opened.read(4096)
            opened.seek(0)
            lines = list(csv.reader(opened, delimiter=_delimiter(start)))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is no table of text: {error}") from error
    if len(lines) < 2:
        raise DataError(f"{file} has {counted(len(lines), 'line')}: expected names of columns, and a line an image")
    head = [name.strip().lower() for name in lines[0]]
    path, label = column(head, PATHS, file, "of paths"), column(head, LABELS, file, "of labels")
    part = next((head.index(name) for name in SPLITS if name in head), None)
    rows: list[Row] = []
    skipped: list[Skipped] = []
    for number, line in enumerate(lines[1:], start=2):
        if not any(line):
            continue
        wanted = max(path, label, part or 0)
        told = [cell.strip() for cell in line]
        if len(line) <= wanted or not told[path] or not told[label]:
            skipped.append(Skipped(f"{file}, line {number}", "no path, or no label"))
            continue
        rows.append(
            (Path(os.path.normpath(file.parent / told[path])), told[label], told[part] if part is not None else "")
        )
    return rows, skipped


def _delimiter(start: str) -> str:
    first = start.splitlines()[0] if start else ""
    return max(",;\t", key=first.count)


def column(head: Sequence[str], names: Iterable[str], file: Path, what: str) -> int:
    found = next((head.index(name) for name in names if name in head), None)
    if found is None:
        raise DataError(f"{file} has no column {what} ({', '.join(names)}): its columns are {', '.join(head)}")
    return found


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """By the alphabet; by size where all are whole numbers."""
    found = list(labels)
    return tuple(sorted(found, key=int) if all(one.isdecimal() for one in found) else sorted(found))


def _refuse_empty(whole: Split, classes: Sequence[str], file: Path, skipped: Sequence[Skipped]) -> None:
    counts = torch.bincount(whole.labels, minlength=len(classes)).tolist()
    empty = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        why = f" ({counted(len(skipped), 'file')} skipped, the first is {skipped[0]})" if skipped else ""
        raise DataError(
            f"{file}: no image that can be read of {', '.join(empty)}{why}: are the paths relative to the table?"
        )


def _parted(
    whole: Split, parts: Sequence[str], classes: tuple[str, ...], file: Path, fraction: float, seed: int
) -> tuple[Split, Split]:
    """As the table says, or else the same share of every class."""
    if not any(parts):
        return halved(whole, fraction, seed, classes, str(file))
    words = [part.lower() for part in parts]
    named = next((name for name in VAL if name in words), None)
    train, val = ([i for i, word in enumerate(words) if word in names] for names in (TRAIN, (named,)))
    if not train or not val:
        raise DataError(
            f"{file}: the split column has {', '.join(sorted(set(parts)))}: expected {TRAIN[0]} and one of {', '.join(VAL)}"
        )
    first, second = whole.at(torch.tensor(train)), whole.at(torch.tensor(val))
    if missing := set(range(len(classes))) - set(first.labels.tolist()):
        raise DataError(f"{file}: no training image of {', '.join(classes[i] for i in sorted(missing))}")
    return first, second
