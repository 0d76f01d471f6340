"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) as they are distributed: the folders of pickles that torchvision unpacks, and
the binary ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtrue.datasets.arrays import Array, split_of
from runtrue.datasets.images import DataError, Split
from runtrue.datasets.unpickling import loads

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """Files of a set in one of its two forms. `labels`: the key in a pickle, or the place of the label among the bytes in
    front of each image, of which there are `front`."""

    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    labels: str | int
    front: int = 0


LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    "cifar10": (
        Layout(
            "cifar-10-batches-py", tuple(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta", "labels"
        ),
        Layout(
            "cifar-10-batches-bin",
            tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test_batch.bin",
            "batches.meta.txt",
            0,
            front=1,
        ),
    ),
    "cifar100": (
        Layout("cifar-100-python", ("train",), "test", "meta", "fine_labels"),
        Layout("cifar-100-binary", ("train.bin",), "test.bin", "fine_label_names.txt", 1, front=2),
    ),
}
COUNTS = {"cifar10": 10, "cifar100": 100}


def layout_in(folder: Path, name: str) -> tuple[Path, Layout] | None:
    """Where a set lies in or under a folder, and in which form; None if it is not there."""
    for layout in LAYOUTS[name]:
        for place in (folder / layout.folder, folder):
            if place.name == layout.folder and place.is_dir():
                return place, layout
    return None


def splits_at(folder: Path, layout: Layout, name: str) -> tuple[Split, Split, tuple[str, ...]]:
    """Training and test split, and the names of the classes. Raises DataError for missing and damaged files."""
    missing = [file for file in (*layout.train, layout.test) if not (folder / file).is_file()]
    if missing:
        raise DataError(f"{folder}: {', '.join(missing)} missing: unpack the archive again")
    parts = [_batch(folder / file, layout) for file in layout.train]
    images, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    test = _batch(folder / layout.test, layout)
    return (
        split_of(images, labels, str(folder)),
        split_of(*test, str(folder / layout.test)),
        _names(folder, layout, name),
    )


def _batch(path: Path, layout: Layout) -> tuple[Array, Array]:
    """uint8 images (N, 3, 32, 32) and integer labels (N,) of one file."""
    if isinstance(layout.labels, int):
        return _records(path, layout.front, layout.labels)
    stored = _mapping(path)
    data, labels = stored.get("data"), stored.get(layout.labels)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS:
        there = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"{path}: 'data' is {there}, expected uint8 (N, {PIXELS})")
    if not isinstance(labels, (list, np.ndarray)) or len(labels) != len(data):
        there = f"{len(labels):,}" if isinstance(labels, (list, np.ndarray)) else "none"
        raise DataError(f"{path}: {len(data):,} images, and of their labels {layout.labels!r} there are {there}")
    if isinstance(labels, list) and not all(isinstance(label, int) for label in labels):
        raise DataError(f"{path}: labels {layout.labels!r} that are no integers: unpack the archive again")
    return data.reshape(-1, *SHAPE), np.asarray(labels)


def _records(path: Path, front: int, place: int) -> tuple[Array, Array]:
    """The binary form: for each image its labels, then 1,024 bytes each of red, green and blue."""
    data = np.frombuffer(_bytes(path), dtype=np.uint8)
    if len(data) == 0 or len(data) % (front + PIXELS):
        raise DataError(
            f"{path} is damaged: {len(data):,} bytes are not a number of records of {front} + {PIXELS:,} bytes: unpack the "
            "archive again"
        )
    records = data.reshape(-1, front + PIXELS)
    return records[:, front:].reshape(-1, *SHAPE), records[:, place]


def _names(folder: Path, layout: Layout, name: str) -> tuple[str, ...]:
    """Names of the classes; their numbers where the file that names them is not there."""
    path, count = folder / layout.names, COUNTS[name]
    if not path.is_file():
        return tuple(map(str, range(count)))
    if isinstance(layout.labels, int):
        found: Any = _bytes(path).decode("utf-8", errors="replace").split()
    else:
        found = _mapping(path).get("label_names" if name == "cifar10" else "fine_label_names")
    if not isinstance(found, list) or len(found) != count:
        there = f"{len(found)} names" if isinstance(found, list) else "no names"
        raise DataError(f"{path}: {there} of classes, expected {count}")
    return tuple(map(str, found))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _mapping(path: Path) -> dict[Any, Any]:
    try:
        found = loads(_bytes(path))
    except ValueError as error:
        raise DataError(f"{path} is damaged, or no pickle of CIFAR: {error}: unpack the archive again") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds a {type(found).__name__}, expected a dict with data and labels")
    return {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in found.items()}
