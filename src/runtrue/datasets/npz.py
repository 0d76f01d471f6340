"""NumPy archives under the keys that people use, as plain arrays: nothing in the file is run."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from runtrue.datasets.arrays import LIMIT, Array, split_of
from runtrue.datasets.images import DataError, Split

TRAIN = (("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"), ("x", "y"))
VAL = (("x_val", "y_val"), ("val_images", "val_labels"), ("x_test", "y_test"), ("test_images", "test_labels"))
NAMES = ("classes", "class_names", "label_names")
"""Keys of images and labels, the first pair that is there; capital letters are the same. Names of the classes, if any."""


def splits_at(path: Path) -> tuple[Split, Split | None, tuple[str, ...] | None]:
    """Training split, validation split and names of the classes, the latter two None where the file has none.

    Raises DataError if it is no archive, is damaged, holds objects, or has none of the keys.
    """
    try:
        with path.open("rb") as stream:
            stored = np.load(stream, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                raise DataError(f"{path} is a single array: an archive with images and labels is made by np.savez")
            with stored:
                return _splits(stored, path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, TypeError) as error:
        raise DataError(f"{path} cannot be read as a NumPy archive (.npz): {error}") from error


def _splits(stored: Any, path: Path) -> tuple[Split, Split | None, tuple[str, ...] | None]:
    keys = {key.lower(): key for key in stored.files}
    train, val = ([pair for pair in pairs if pair[0] in keys] for pairs in (TRAIN, VAL))
    if not train:
        wanted = ", ".join("/".join(pair) for pair in TRAIN)
        raise DataError(f"{path} has the keys {', '.join(stored.files) or '(none)'}, expected one pair of {wanted}")
    names = next((_array(stored, keys[name], path) for name in NAMES if name in keys), None)
    return (
        _split(stored, keys, train[0], path),
        _split(stored, keys, val[0], path) if val else None,
        None if names is None else tuple(map(str, names.ravel())),
    )


def _split(stored: Any, keys: Mapping[str, str], pair: tuple[str, str], path: Path) -> Split:
    images, labels = pair
    if labels not in keys:
        raise DataError(
            f"{path} has the images {keys[images]}, but no labels {labels}; its keys are {', '.join(stored.files)}"
        )
    return split_of(
        _array(stored, keys[images], path),
        _array(stored, keys[labels], path),
        f"{path}, {keys[images]} with {keys[labels]}",
    )


def _array(stored: Any, key: str, path: Path) -> Array:
    need = max((info.file_size for info in stored.zip.infolist() if info.filename == f"{key}.npy"), default=0)
    if need > LIMIT:
        raise DataError(
            f"{path}: {key} has {need / 2**30:.1f} GiB, and the limit is {LIMIT / 2**30:g} GiB: take fewer images"
        )
    array: Array = stored[key]
    return array
