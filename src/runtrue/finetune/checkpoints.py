"""Weights from a file that somebody else wrote: safetensors, or a checkpoint of torch's, of which no code is run."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WRAPPINGS = (
    "state_dict",
    "model_state_dict",
    "model",
    "model_ema",
    "ema",
    "net",
    "network",
    "module",
    "weights",
    "params",
)
"""Keys under which training programs keep the weights beside what else they save, in the order in which they are tried."""

AROUND = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before every name


LONGEST_HEADER = 100_000_000  # bytes, of safetensors: the format allows no more

OTHERS = {
    b"\x89HDF": "an HDF5 file, as Keras writes them: its layers are laid out in another way than torch's; take the weights of a "
    "PyTorch model (.pth, .safetensors)",
    b"\x1f\x8b": "compressed (gzip): unpack it, and name the file with the weights in it",
    b"\x93NUMPY": "an array of NumPy's, not the weights of a network by name",
    b"GGUF": "a GGUF file, whose weights are rounded for running a model, not for training it; take .safetensors",
}
"""What files begin with that are mistaken for weights, and what is said of them."""

CONSTRUCTED = (argparse.Namespace,)  # what checkpoints hold beside weights, and what runs nothing


class WeightsError(ValueError):
    """A file holds no weights that can be taken from it: says which, why, and what to do."""


def read(path: str | Path) -> dict[str, Tensor]:
    """Name -> tensor, on the CPU. What wraps the weights in the file (an optimizer beside them, `module.` before each name) is
    taken off; numbers and words among them are left out.

    Raises WeightsError for a file that is missing, empty, damaged, no checkpoint, or that would run code to be loaded.
    """
    path = Path(path)
    found = _safetensors(path) if _kind(path) == "safetensors" else _of_torch(path)
    tensors = weights_in(found)
    if not tensors:
        held = ", ".join(map(str, list(found)[:6])) if isinstance(found, Mapping) else type(found).__name__
        raise WeightsError(f"{path} holds no weights by name (it holds {held or 'nothing'}): save model.state_dict()")
    return {_bare(name): tensor for name, tensor in tensors.items()}


def _kind(path: Path) -> str:
    """By what the file begins with: names lie."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    if not start:
        raise WeightsError(f"{path} is empty: 0 bytes")
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        raise WeightsError(
            f"{path} is a web page, not weights: the link led to a page about the file, or to an error; download the file itself"
        )
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a pointer of Git LFS, not the weights: run `git lfs pull` where it came from")
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < LONGEST_HEADER:
        return "safetensors"
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return "torch"
    for begins, what in OTHERS.items():
        if start.startswith(begins):
            raise WeightsError(f"{path} is {what}")
    raise WeightsError(
        f"{path} is neither a safetensors file nor a checkpoint of torch's: it begins with {start[:8]!r}"
    )


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise WeightsError(f'{path}: safetensors is not installed: pip install "runtrue[train]"') from error
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is damaged: {error}") from error


def _of_torch(path: Path) -> Any:
    _look_into(path)
    try:
        with warnings.catch_warnings(), _constructed():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
        if asked is None:
            raise WeightsError(f"{path} is damaged: {_first(error)}") from error
        raise WeightsError(
            f"{path} is not loaded: it would run {asked[1]}, and a file may run anything. Ask whoever wrote it for the weights "
            "alone, torch.save(model.state_dict(), …) or safetensors"
        ) from error
    except Exception as error:  # a damaged file fails anywhere in the reader
        raise WeightsError(f"{path} is damaged: {_first(error)}") from error


def _constructed() -> AbstractContextManager[None]:
    allowed = getattr(torch.serialization, "safe_globals", None)  # since torch 2.5
    return nullcontext() if allowed is None else allowed(list(CONSTRUCTED))


def _look_into(path: Path) -> None:
    """Raises WeightsError for an archive that torch did not write, or that holds a program."""
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # as above
        raise WeightsError(f"{path} is damaged: {_first(error)}") from error
    if any("/code/" in name for name in names):
        raise WeightsError(f"{path} is a TorchScript program, which is not loaded: save model.state_dict() instead")
    if any(name.endswith(".keras") or name == "model.weights.h5" for name in names):
        raise WeightsError(f"{path} is a model of Keras: take the weights of a PyTorch model (.pth, .safetensors)")
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        raise WeightsError(
            f"{path} is an archive that torch did not write (it holds {', '.join(names[:4]) or 'nothing'}): if the weights are "
            "in it, unpack it and name their file"
        )


def _first(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def weights_in(found: Any) -> dict[str, Tensor]:
    """The mapping from names to tensors, where it lies in what was saved; empty if there is none."""
    for one in _candidates(found):
        tensors = {str(name): value.detach() for name, value in one.items() if isinstance(value, Tensor)}
        if tensors and 2 * len(tensors) >= len(one):
            return tensors
    return {}


def _candidates(found: Any) -> Iterator[Mapping[Any, Any]]:
    """Those under a known key come before what holds them: a checkpoint may have tensors of its own beside."""
    if not isinstance(found, Mapping):
        return
    for key in WRAPPINGS:
        if isinstance(found.get(key), Mapping):
            yield from _candidates(found[key])
    yield found


def _bare(name: str) -> str:
    while name.startswith(AROUND):
        name = name[len(next(one for one in AROUND if name.startswith(one))) :]
    return name
