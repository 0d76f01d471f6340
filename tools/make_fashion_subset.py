"""Build the Fashion-MNIST subset that runtrue ships: `python tools/make_fashion_subset.py FOLDER [OUTPUT]`.

FOLDER holds the four files of Fashion-MNIST (`train-images-idx3-ubyte.gz` and so on). The same files give the same
arrays: the shuffle is numpy's RandomState, whose stream is frozen. Prints the constants for `runtrue/datasets/embedded.py`.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 0
CLASSES = 10
PER_CLASS = {"train": 300, "test": 100}
FILES = {"train": "train", "test": "t10k"}
OUTPUT = Path(__file__).parents[1] / "src/runtrue/data/fashion_mnist_subset.npz"

Bytes = NDArray[np.uint8]


def read_idx(path: Path) -> Bytes:
    """An IDX file of bytes: two zeros, the type 8, the number of dimensions, each dimension as 4 bytes, the values."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is no IDX file of bytes: it starts with {raw[:4]!r}")
    shape = tuple(int(side) for side in np.frombuffer(raw, dtype=">u4", count=raw[3], offset=4))
    values: Bytes = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * raw[3])
    return values.reshape(shape)


def choose(labels: Bytes, per_class: int, random: np.random.RandomState) -> NDArray[Any]:
    """Indices of `per_class` examples of each class: the first of each in a shuffle, in the order of the shuffle."""
    order = random.permutation(len(labels))
    firsts = [order[labels[order] == label][:per_class] for label in range(CLASSES)]
    chosen: NDArray[Any] = order[np.isin(order, np.concatenate(firsts))]
    return chosen


def main(folder: Path, output: Path = OUTPUT) -> None:
    random = np.random.RandomState(SEED)
    arrays: dict[str, Bytes] = {}
    for split, prefix in FILES.items():
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")  # (N, 28, 28)
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")  # (N,)
        chosen = choose(labels, PER_CLASS[split], random)
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images[chosen], labels[chosen]
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(output, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    pixels = arrays["train_images"] / 255.0
    print(f"{output}: {output.stat().st_size:,} bytes, MEAN = {pixels.mean():.6f}, STD = {pixels.std():.6f}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
