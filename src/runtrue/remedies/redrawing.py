"""Other rows for a task: how a remedy deals batches that are not the user's, without touching the user's data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from runtrue.batches import draw, is_pair, map_tensors, size_of, to_device
from runtrue.sandbox import Sandbox
from runtrue.splits.rows import digests_of, is_numbered
from runtrue.task import Task, split
from runtrue.trials import Changed


@dataclass(frozen=True, eq=False)
class Redrawn(Changed):
    """Other batches in place of the user's own: in a trial those that `change` deals, in training those that `settle` gives."""

    settle: Callable[[], Any]
    includes_source: ClassVar[bool] = True

    def __iter__(self) -> Iterator[Any]:
        source = self.settle()
        return iter(draw(source, 32)) if is_pair(source) else iter(source)

    def settled(self) -> Any:
        return self.settle()


def redrawn(task: Task, batches: Iterator[Any], box: Sandbox, settle: Callable[[], Any]) -> Task:
    """The task with these batches; a change that another remedy made to each batch is kept."""
    before = task.train if isinstance(task.train, Changed) else None

    def change(_: Any) -> Any:
        batch = to_device(next(batches), box.device)
        return before.applied(batch) if before else batch

    def settled() -> Any:
        return Changed(settle(), before.applied).settled() if before else settle()

    return task.replace(train=Redrawn(task.train, change, settled))


def first_of(marks: list[int]) -> list[int]:
    seen: dict[int, int] = {}
    return [row for row, mark in enumerate(marks) if seen.setdefault(mark, row) == row]


@dataclass(frozen=True, eq=False)
class Without:
    """The batches of `source` without rows whose inputs are known, or came earlier in the epoch."""

    source: Any
    batch_size: int
    known: frozenset[int]

    def __iter__(self) -> Iterator[Any]:
        seen = set(self.known)
        for batch in in_batches(self.source, self.batch_size):
            marks = digests_of(split(batch)[0], size_of(batch))[0]
            keep = torch.tensor([i for i in first_of(marks) if marks[i] not in seen], dtype=torch.long)
            seen |= set(marks)
            if len(keep):
                yield map_tensors(batch, partial(rows_at, keep))


def in_batches(source: Any, batch_size: int) -> Any:
    """The user's own batches, or those of a plain loader over a dataset."""
    if callable(source) and not hasattr(source, "__iter__") and not isinstance(source, Dataset):
        source = source()
    return DataLoader(source, batch_size, shuffle=is_numbered(source)) if isinstance(source, Dataset) else source


def rows_at(keep: Tensor, tensor: Tensor) -> Tensor:
    return tensor[keep.to(tensor.device)]
