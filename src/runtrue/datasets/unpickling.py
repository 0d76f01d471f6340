"""Pickles that hold data alone: containers, numbers, strings and NumPy arrays of integers. Nothing in them is run.

Python's own unpickler, in Python: its counterpart in C, and NumPy's `__setstate__`, trust what they read, so that a changed
byte can exhaust the memory or break NumPy. What stands in for arrays and their types here only keeps what it is given.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from runtrue.datasets.arrays import Array

CODES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")


def loads(content: bytes) -> Any:
    """What was pickled, arrays as arrays, byte strings of Python 2 as text. Raises ValueError with the reason."""
    try:
        return _with_arrays(ArraysOnly(io.BytesIO(content), encoding="latin1").load())
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from error


class ArraysOnly(pickle._Unpickler):
    """Raises UnpicklingError where a pickle asks for anything but arrays, before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if allowed is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only arrays are read")
        return allowed


class Kind:
    """A `numpy.dtype` as it is pickled: its code, and with its state the order of the bytes."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = code, "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class Rows:
    """A `numpy.ndarray` as it is pickled."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> Array:
        _, shape, kind, by_columns, content = self.state
        if not isinstance(kind, Kind) or kind.code not in CODES or kind.order not in ("|", "<", ">", "="):
            raise ValueError(f"an array of {getattr(kind, 'code', kind)!r}, and only integers are read")
        data = content.encode("latin1") if isinstance(content, str) else bytes(content)
        whole: Array = np.frombuffer(data, dtype=kind.order.replace("|", "=") + kind.code)
        return np.reshape(whole, shape, order="F" if by_columns else "C")


def _rows(*_: Any) -> Rows:
    """Protocols up to 4: an empty array, whose state follows."""
    return Rows()


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> Rows:
    """Protocol 5."""
    rows = Rows()
    rows.state = (1, shape, kind, order == "F", content)
    return rows


def _latin1(text: str, encoding: str) -> bytes:
    """Protocols 0 to 2 write bytes as a call of `_codecs.encode`."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _with_arrays(value: Any) -> Any:
    """Dicts and lists at the top, with arrays for what stands in for them."""
    if isinstance(value, dict):
        return {key: _with_arrays(item) for key, item in value.items()}
    return value.array() if isinstance(value, Rows) else value


ALLOWED: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _rows,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): Rows,
    ("numpy", "dtype"): Kind,
    ("_codecs", "encode"): _latin1,
}
