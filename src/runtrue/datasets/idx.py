"""IDX files, the format of MNIST (LeCun et al. 1998) and of the sets that follow it; plain or gzipped.

Two bytes 0, a byte for the type (8: unsigned bytes), a byte for the number of dimensions, the dimensions as big-endian
32-bit integers, then the data.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from runtrue.datasets.arrays import LIMIT, Array, split_of
from runtrue.datasets.images import DataError, Split

UNSIGNED_BYTES = 0x08
GZIP = b"\x1f\x8b"
CHUNK = 2**20  # bytes read at a time, so that it is known how many there were where a file breaks off
FILE = re.compile(r"(?P<set>.*?)(?P<split>train|t10k|test)-(?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?")
"""MNIST's names and those in use beside them: `train-images-idx3-ubyte.gz`, `emnist-letters-test-labels.idx1-ubyte`."""

Files = dict[tuple[str, str], Path]
"""(`train` or `test`, `images` or `labels`) and where the file is."""


def read(path: Path) -> Array:
    """The array in a file. Raises DataError if the file is damaged, with what was expected and what is there."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP
            raw.seek(0)
            return _array(cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw, path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _array(stream: BinaryIO, path: Path) -> Array:
    magic, _ = _taken(stream, 4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != UNSIGNED_BYTES or not 1 <= magic[3] <= 4:
        raise DataError(
            f"{path} is no IDX file of bytes: it begins with {magic.hex(' ') or 'nothing'}, expected 00 00 08 and the number "
            "of dimensions"
        )
    lengths, _ = _taken(stream, 4 * magic[3])
    if len(lengths) < 4 * magic[3]:
        raise DataError(f"{path} breaks off within its header: fetch it again")
    shape = struct.unpack(f">{magic[3]}I", lengths)
    need, told = math.prod(shape), " × ".join(map(str, shape))
    if need > LIMIT:
        raise DataError(
            f"{path} says that it holds {told} bytes, and the limit is {LIMIT / 2**30:g} GiB: it is damaged"
        )
    data, sound = _taken(stream, need + 1)
    if len(data) != need or not sound:
        there = (
            f"only {len(data):,} are there"
            if len(data) < need
            else "there are more"
            if sound
            else "its checksum is wrong"
        )
        raise DataError(f"{path} is damaged: its header says {told} = {need:,} bytes, {there}: fetch it again")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _taken(stream: BinaryIO, count: int) -> tuple[bytearray, bool]:
    """Up to `count` bytes, and whether the stream was sound until there."""
    taken = bytearray()
    try:
        while len(taken) < count and (some := stream.read(min(CHUNK, count - len(taken)))):
            taken += some
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return taken, False
    return taken, True


def sets_in(folder: Path) -> dict[str, Files]:
    """The sets whose files lie in a folder, by what stands in front of `train-images-…`: nothing, for MNIST itself.

    A plain file goes before a gzipped one of the same name.
    """
    found: dict[str, Files] = {}
    for path in sorted(folder.iterdir(), reverse=True):
        named = FILE.fullmatch(path.name)
        if named and path.is_file():
            split = "train" if named["split"] == "train" else "test"
            found.setdefault(named["set"], {})[split, named["what"]] = path
    return found


def splits_at(path: Path) -> tuple[Split, Split | None]:
    """Training and test split (None where there is no such file) of a folder, or of the set to which a file belongs.

    Raises DataError if nothing or several sets are there, if a file is missing, or if one is damaged.
    """
    folder = path.parent if path.is_file() else path
    if not folder.is_dir():
        raise DataError(f"{path}: no such folder or file")
    sets = sets_in(folder)
    if path.is_file():
        named = FILE.fullmatch(path.name)
        sets = {named["set"]: sets[named["set"]]} if named else {}
    if not sets:
        raise DataError(f"{path}: no file is named as those of MNIST are, train-images-idx3-ubyte or …ubyte.gz")
    if len(sets) > 1:
        raise DataError(
            f"{path}: several sets ({', '.join(sorted(map(repr, sets)))}): name one file of the one you mean"
        )
    (files,) = sets.values()
    return split(files, "train", folder), split(files, "test", folder) if ("test", "images") in files else None


def split(files: Files, part: str, folder: Path) -> Split:
    """The `train` or the `test` part. Raises DataError if a file is missing or damaged."""
    for what in ("images", "labels"):
        if (part, what) not in files:
            there = ", ".join(sorted(path.name for path in files.values()))
            raise DataError(f"{folder}: the file of the {what} of the {part} split is missing; there are {there}")
    images, labels = files[part, "images"], files[part, "labels"]
    return split_of(read(images), read(labels), f"{images} with {labels.name}")
