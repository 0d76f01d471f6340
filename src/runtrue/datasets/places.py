"""Where the well-known sets usually lie on a disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from runtrue.datasets.images import DataError

Found = TypeVar("Found")

VARIABLE = "RUNTRUE_DATA"
"""The environment variable that names the first place to look at."""


class NotFoundError(DataError):
    """None of the places has it: all of them are listed."""


@dataclass(frozen=True)
class Known:
    """A set by its name: the folders under each usual place, those of the system, what is looked for, how to get it."""

    name: str
    folders: tuple[str, ...]
    files: str
    get: str
    system: tuple[str, ...] = ()


KNOWN = {
    one.name: one
    for one in (
        Known(
            "fashion-mnist",
            ("FashionMNIST/raw", "fashion-mnist", "."),
            "train-images-idx3-ubyte or train-images-idx3-ubyte.gz",
            "python -c \"import torchvision; torchvision.datasets.FashionMNIST('data', download=True)\", or on Debian and "
            "Ubuntu apt install dataset-fashion-mnist",
            ("/usr/share/datasets/fashion-mnist",),
        ),
        Known(
            "mnist",
            ("MNIST/raw", "mnist", "."),
            "train-images-idx3-ubyte or train-images-idx3-ubyte.gz",
            "python -c \"import torchvision; torchvision.datasets.MNIST('data', download=True)\"",
        ),
        Known(
            "cifar10",
            (".",),
            "the folder cifar-10-batches-py or cifar-10-batches-bin",
            "python -c \"import torchvision; torchvision.datasets.CIFAR10('data', download=True)\"",
        ),
        Known(
            "cifar100",
            (".",),
            "the folder cifar-100-python or cifar-100-binary",
            "python -c \"import torchvision; torchvision.datasets.CIFAR100('data', download=True)\"",
        ),
    )
}


def candidates(known: Known, root: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The folders to look at, in order: those of `root` alone if one is given."""
    if root is not None:
        roots = [Path(root).expanduser()]
    else:
        named = os.environ.get(VARIABLE)
        roots = [Path(named).expanduser()] if named else []
        roots += [Path("data"), Path("~/.cache/runtrue").expanduser()]
    yield from (place / folder for place in roots for folder in known.folders)
    if root is None:
        yield from map(Path, known.system)


def search(
    known: Known, root: str | os.PathLike[str] | None, look: Callable[[Path], Found | str]
) -> tuple[Path, Found]:
    """The first folder in which `look` finds the set (it says in a string why not), and what it found.

    Raises NotFoundError that lists every folder that was looked at.
    """
    looked = []
    for place in candidates(known, root):
        found = look(place) if place.is_dir() else "no such folder"
        if not isinstance(found, str):
            return place, found
        looked.append(f"  {place.absolute()}: {found}")
    raise NotFoundError(
        f"{known.name} was not found. Looked for {known.files} in\n"
        + "\n".join(looked)
        + f"\nTo get it: {known.get}. If it lies somewhere else, put the folder into ${VARIABLE} or pass it as root."
    )
