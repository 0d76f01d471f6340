"""All rows of a task in one structure, to be drawn in another order than the user's batches have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from runtrue.batches import MAX_BATCHES, is_pair, map_tensors, own, size_of, tensors_of, together
from runtrue.sandbox import Sandbox
from runtrue.splits.rows import is_shuffled

MAX_BYTES = 64 * 2**20  # of batches put together: a copy beside those that the sandbox holds


@dataclass(frozen=True, eq=False)
class Pool:
    """Rows by number. batch: how many the user's batches have. shuffled: they have them in random order.

    whole: these are all rows of the task.
    """

    rows: Any
    size: int
    batch: int
    shuffled: bool
    whole: bool

    def take(self, numbers: Tensor) -> Any:
        return map_tensors(self.rows, lambda t: t[numbers.to(t.device)])

    def batches(self, numbers: Tensor) -> Iterator[Any]:
        """One epoch of these rows. A last batch of one row is left out if there are larger ones."""
        parts = numbers.split(self.batch)
        short = len(parts) > 1 and len(parts[-1]) == 1 < self.batch
        return map(self.take, parts[:-1] if short else parts)

    def endless(self, numbers: Tensor, seed: int, *, mixed: bool = True) -> Iterator[Any]:
        """Epoch after epoch, each in an order of its own if `mixed`."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(numbers), generator=generator) if mixed else torch.arange(len(numbers))
            yield from self.batches(numbers[order])


def pool_of(box: Sandbox) -> Pool | None:
    """The rows of a pair of tensors as they are; else those of the batches that were drawn. None if they cannot be put
    together: batches of many shapes, or holding what is no tensor."""
    source = box.task.train
    if is_pair(source):
        rows = map_tensors(source, lambda t: t)
        return Pool(rows, size_of(rows), box.task.batch_size, shuffled=True, whole=True)
    whole = not box.batches.used_up and box.batches.held == box.batches.per_epoch
    return pooled(box.batches, shuffled=is_shuffled(source), whole=whole)


def pooled(batches: Iterable[Any], *, shuffled: bool, whole: bool) -> Pool | None:
    """The rows of these batches, as far as they may be held; None if they cannot be put together."""
    taken: list[Any] = []
    size = 0
    for batch in batches:
        if size > MAX_BYTES:
            whole = False
            break
        if not size_of(batch) or not _is_tensors(batch):
            return None
        taken.append(batch)
        size += sum(t.numel() * t.element_size() for t in tensors_of(batch))
    try:
        rows = together(taken)
    except (RuntimeError, TypeError, KeyError, ValueError, IndexError):
        return None
    return Pool(rows, size_of(rows), size_of(taken[0]), shuffled, whole)


def _is_tensors(batch: Any) -> bool:
    if isinstance(batch, Mapping):
        return all(map(_is_tensors, batch.values()))
    if isinstance(batch, (tuple, list)):
        return all(map(_is_tensors, batch))
    return hasattr(batch, "ndim") and batch.ndim > 0


@dataclass(frozen=True, eq=False)
class Epochs:
    """Batches to train on: rows of a pool, for each epoch those that `choose` gives."""

    pool: Pool
    choose: Callable[[], Tensor]

    def __iter__(self) -> Iterator[Any]:
        return self.pool.batches(self.choose())

    def __len__(self) -> int:
        return math.ceil(len(self.choose()) / self.pool.batch)


@dataclass(frozen=True, eq=False)
class Mixed:
    """The rows of `source` in other batches: as many batches as a buffer holds are put together and dealt out at random."""

    source: Iterable[Any]
    buffer: int = MAX_BATCHES

    def __iter__(self) -> Iterator[Any]:
        waiting = iter(self.source)
        while taken := [own(batch) for batch in islice(waiting, self.buffer)]:
            rows = pooled(taken, shuffled=False, whole=True)
            yield from taken if rows is None else rows.batches(torch.randperm(rows.size))
