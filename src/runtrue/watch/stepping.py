"""What is read of parameters at one step: gradients and weights before the optimizer's step, and what it changed.

Numbers stay on the device where the tensors are, one each; nothing here waits. Of a large parameter pieces are read, spread over
all of it, and only its gradient's norm is of the whole: so a reading costs little beside the step it reads, and needs no copy of
a whole network. Of a parameter that is spread over processes its own shard is read: norms are the shard's, means are weighted by
its size, to be brought together by `ranks`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from runtrue import stats
from runtrue.watch import rows
from runtrue.watch.packets import Key
from runtrue.watch.rows import Rows, on_host

MOST_FOLLOWED = 2**13
"""Numbers of one parameter whose size and change are read, and of its gradient's mean and zeros; smaller parameters are read
whole. Of so many that are alike a norm is within 1.1 % (a standard error), a mean within 1.6 % of a deviation; pieces lie all
over it, so that rows that are not alike (those of an embedding) have their part in it. A hundred layers hold 1.6 MB in a step."""
PIECE = 32  # numbers that lie side by side


@dataclass(eq=False)
class Like:
    """Parameters of which equally many numbers are followed, on one device: read together, a row each."""

    names: list[str] = field(default_factory=list)
    held: list[nn.Parameter] = field(default_factory=list)
    before: Tensor | Rows | None = None

    def weights(self) -> Tensor | Rows:
        return rows_of([local(p) for p in self.held], MOST_FOLLOWED)

    def gradients(self) -> list[Tensor]:
        return [local(p.grad) for p in self.held]


@dataclass(eq=False)
class Step:
    """One optimizer's step. sizes: how many numbers a parameter has whose mean is read. parts: how many times as many numbers a
    parameter has as are followed."""

    numbers: dict[Key, Tensor | float]
    sizes: dict[str, int]
    parts: dict[str, float]
    followed: list[Like] = field(default_factory=list)

    @torch.no_grad()
    def begin(self, named: Mapping[str, nn.Parameter]) -> None:
        """Between the backward pass and the step. Sparse gradients and complex numbers are left out."""
        dense = {name: p for name, p in named.items() if dense_and_real(p.grad)}
        self.followed = alike(dense)
        for like in self.followed:
            before = like.before = like.weights()
            self._tell(like.names, "moved_from", norms_of_rows(before))
            self._tell(like.names, "grad_norm", norms(like.gradients()))
            self._note_sizes(like, before.shape[1])
            if all(p.dim() < 2 for p in like.held):
                continue
            part = rows_of(like.gradients(), MOST_FOLLOWED)
            self._tell_means(like, "grad_mean", means_of_rows(part))
            self._tell_means(like, "grad_zero", zeros_of_rows(part))
            self._tell_means(like, "weight_mean", means_of_rows(before))

    def _note_sizes(self, like: Like, followed: int) -> None:
        for name, parameter in zip(like.names, like.held):
            own = local(parameter).numel()
            if own > followed:
                self.parts[name] = own / followed
            if parameter.dim() > 1:
                self.sizes[name] = parameter.numel()

    def _tell(self, names: Iterable[str], what: str, values: Iterable[Tensor | float]) -> None:
        for name, value in zip(names, values, strict=True):
            self.numbers[name, what] = value

    def _tell_means(self, like: Like, what: str, means: Iterable[Tensor | float]) -> None:
        for name, parameter, mean in zip(like.names, like.held, means, strict=True):
            if parameter.dim() > 1 and parameter.numel():
                cut = shards(parameter)
                share = 1 if cut == 1 else cut * local(parameter).numel() / parameter.numel()
                self.numbers[name, what] = mean if share == 1 else mean * share

    @torch.no_grad()
    def end(self) -> None:
        """‖w after − w before‖ of what is followed."""
        for like in self.followed:
            assert like.before is not None
            change = like.weights()
            change -= like.before
            self._tell(like.names, "moved", norms_of_rows(change))
        self.followed = []


def dense_and_real(gradient: Tensor | None) -> bool:
    return gradient is not None and gradient.layout is torch.strided and not gradient.is_complex()


def alike(named: Mapping[str, nn.Parameter]) -> list[Like]:
    found: dict[Any, Like] = {}
    for name, parameter in named.items():
        own = local(parameter)
        if own.numel() <= MOST_FOLLOWED:
            same: Any = own.shape
        else:  # of those that are read by rows, equally many numbers are not to be had
            same = pieces(own.numel(), max(own.stride()), MOST_FOLLOWED) if lies_together(own) else name
        key = (same, own.device, own.dtype)
        like = found.setdefault(key, Like())
        like.names.append(name)
        like.held.append(parameter)
    return list(found.values())


def rows_of(tensors: Sequence[Tensor], most: int) -> Tensor | Rows:
    """A copy of what is read of each, flat, one below the other: NumPy's on the host, in float32 where they are halves."""
    if all(map(on_host, tensors)):
        parts = [spread(x.detach(), most).numpy() for x in tensors]
        found = np.empty((len(parts), *parts[0].shape), np.float32)
        for i, part in enumerate(parts):
            found[i] = part
        return found.reshape(len(parts), -1)
    stacked = torch.stack([spread(x, most) for x in tensors]).reshape(len(tensors), -1)
    return stacked if stacked.dtype in (torch.float32, torch.float64) else stacked.float()


def norms_of_rows(x: Tensor | Rows) -> Sequence[Tensor | float]:
    if isinstance(x, Tensor):
        return apart(torch.linalg.vector_norm(x, dim=1))
    found: list[float] = rows.norms(x).tolist()
    return found


def means_of_rows(x: Tensor | Rows) -> Sequence[Tensor | float]:
    """0 of no numbers: a process may have no part of a parameter."""
    if isinstance(x, Tensor):
        return apart(x.sum(1) / max(1, x.shape[1]))
    found: list[float] = rows.means(x).tolist()
    return found


def zeros_of_rows(x: Tensor | Rows) -> Sequence[Tensor | float]:
    """Share of the numbers that are exactly 0."""
    return means_of_rows(stats.zeros(x)) if isinstance(x, Tensor) else rows.shares(np.equal(x, 0))


def apart(x: Tensor) -> Sequence[Tensor | float]:
    """Numbers that lie on the host are taken as they are; others stay where they are."""
    found: list[float] = x.tolist() if x.device.type == "cpu" else []
    return found or x.unbind()


def spread(x: Tensor, most: int) -> Tensor:
    """Pieces from all over a parameter that make `most` numbers, or less; the whole of a small one."""
    if x.numel() <= most:
        return x
    if not lies_together(x):
        return x[:: -(-x.numel() // most)]
    count, apart = pieces(x.numel(), max(x.stride()), most)
    return x.as_strided((count, PIECE), (apart, 1))


@cache
def pieces(numbers: int, row: int, most: int) -> tuple[int, int]:
    """How many, and how far from one to the next: so far that all columns have their turn, also where a row (as it lies in the
    memory) is a whole number of pieces."""
    whole = numbers // PIECE
    every = -(-whole // (most // PIECE))
    while math.gcd(every * PIECE, row) > PIECE:
        every += 1
    return -(-whole // every), every * PIECE


def lies_together(x: Tensor) -> bool:
    """All numbers lie side by side in the memory, in whatever order."""
    return (
        x.is_contiguous()
        or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))
        or (x.dim() == 2 and x.stride() == (1, x.shape[0]))
    )


def norms(tensors: Sequence[Tensor]) -> Sequence[Tensor | float]:
    """‖·‖₂ of the whole of each; in float32 where a half could not hold it."""
    if all(map(on_host, tensors)):
        return [stats.norm_on_host(t.as_strided((t.numel(),), (1,)) if lies_together(t) else t) for t in tensors]
    if all(t.dtype in (torch.float32, torch.float64) for t in tensors):
        return apart(torch.stack(torch._foreach_norm(list(tensors))))
    return [torch.linalg.vector_norm(t, dtype=torch.promote_types(t.dtype, torch.float32)) for t in tensors]


def local(tensor: Tensor | None) -> Tensor:
    """This process's shard of a distributed tensor; the tensor itself otherwise."""
    assert tensor is not None
    to_local = getattr(tensor, "to_local", None)
    found = tensor if to_local is None else to_local()
    assert isinstance(found, Tensor)
    return found


def shards(parameter: Tensor) -> int:
    """Into how many parts a distributed tensor is cut: times this and its share of all numbers, the mean of a part is to be
    averaged over the processes. 1 for a tensor that is whole."""
    placements, found = getattr(parameter, "placements", ()), 1
    for dimension, placement in enumerate(placements):
        if placement.is_shard():
            found *= parameter.device_mesh.size(dimension)  # type: ignore[attr-defined]  # of DTensor
    return found
