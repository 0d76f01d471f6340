"""Numbers that lie on the host, counted by NumPy, a tensor a row: of a few thousand numbers a call costs more than its work, so
those of one shape are copied side by side and counted together.

What is not finite, and what float32 cannot hold: as in `stats`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtrue import stats

Rows = NDArray[np.float32]
"""(k, …): k tensors."""
ROOM = 2**16  # numbers that wait to be counted: 256 KiB


def on_host(x: Tensor) -> bool:
    """Its numbers can be had at once, as they are."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and x.layout is torch.strided and x.numel() > 0


def moments(rows: Rows) -> tuple[NDArray[Any], NDArray[Any]]:
    """(means, standard deviations of the population) of (k, n), each (k,)."""
    count = rows.shape[1]
    means: NDArray[Any]
    with np.errstate(all="ignore"):
        means = np.add.reduce(rows, 1) / np.float32(count)
        apart = np.subtract(rows, means[:, None])
        variances = np.add.reduce(np.multiply(apart, apart, out=apart), 1) / np.float32(count)
        stds = np.sqrt(variances)
        for i in _doubtful(variances):
            exact = rows[i].astype(np.float64)
            means[i], stds[i] = exact.mean(), exact.std()
    return means, stds


def norms(rows: Rows) -> NDArray[Any]:
    """‖·‖₂ of each of (k, n)."""
    found: NDArray[Any]
    with np.errstate(all="ignore"):
        squares = np.add.reduce(np.multiply(rows, rows), 1)
        found = np.sqrt(squares)
        for i in _doubtful(squares / np.float32(max(1, rows.shape[1]))):
            found[i] = np.sqrt(np.square(rows[i].astype(np.float64)).sum())
    return found


def _doubtful(mean_squares: NDArray[Any]) -> list[int]:
    """Rows whose squares float32 may have lost."""
    return [i for i, x in enumerate(mean_squares.tolist()) if not stats.FAINT_SQUARE < x < math.inf]


def means(rows: Rows) -> NDArray[Any]:
    """Of each of (k, n); 0 of no numbers: a process may have no part of a parameter."""
    found: NDArray[Any] = np.add.reduce(rows, 1) / np.float32(max(1, rows.shape[1]))
    return found


def shares(marks: NDArray[np.bool_]) -> list[float]:
    """Of what is marked in each of (k, …)."""
    return [np.count_nonzero(row) / max(1, row.size) for row in marks]


def all_along(marks: NDArray[np.bool_], dim: int) -> NDArray[np.bool_]:
    """(k, F): which of the F units along `dim` of each row are marked throughout."""
    count, units = len(marks), marks.shape[1:][dim]
    if dim == 1 and marks.ndim > 3:
        marks = np.logical_and.reduce(marks.reshape(*marks.shape[:3], -1), 3)
    found: NDArray[np.bool_] = np.logical_and.reduce(marks.reshape(count, -1, units), 1)
    return found


class Block:
    """Copies of parts of tensors, until there are enough of one kind to be counted at once.

    count: called with what they are, a name for each, and the rows (k, …), which are overwritten later.
    """

    def __init__(self, count: Callable[[Any, list[Any], Rows], None]) -> None:
        self._count = count
        self._room: Rows | None = None
        self._what: tuple[Hashable, tuple[int, ...]] | None = None
        self._names: list[Any] = []
        self._rows: Rows | None = None

    def add(self, what: Hashable, name: Any, part: Rows) -> None:
        """part: float32, no more than half of `ROOM`."""
        if (what, part.shape) != self._what or len(self._names) == len(self._rows if self._rows is not None else ()):
            self.settle()
            if self._room is None:
                self._room = np.empty(ROOM, np.float32)
            self._what, fit = (what, part.shape), ROOM // part.size
            self._rows = self._room[: fit * part.size].reshape(fit, *part.shape)
        assert self._rows is not None
        np.copyto(self._rows[len(self._names)], part)
        self._names.append(name)

    def settle(self) -> None:
        """Count what is waiting."""
        if self._names:
            assert self._what is not None and self._rows is not None
            what, names, rows = self._what[0], self._names, self._rows[: len(self._names)]
            self.clear()
            self._count(what, names, rows)

    def clear(self) -> None:
        """Forget what is waiting."""
        self._what, self._names, self._rows = None, [], None
