"""The batches of a task, drawn once: every variant that is compared trains on the same ones, and the loader runs once."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

from runtrue.task import TaskError, blame

MAX_BATCHES = 100  # as many as a trial on a slow network has steps
MAX_BYTES = 128 * 2**20  # held at most, beside the user's own data
MIXED_BYTES = 16 * 2**20  # up to this a second copy of the data, in the order of the epoch, is kept
MAX_SECONDS = 5.0  # of drawing: a slow loader gives fewer batches


@dataclass(frozen=True, eq=False)
class Batches:
    """Batches by the number of the step, the same for every trial. `per_epoch` is None where the loader does not tell."""

    get: Callable[[int], Any]
    held: int
    """How many different batches there are; step `held` sees batch 0 again."""
    per_epoch: int | None
    used_up: bool = False
    """The loader is an iterator: what was drawn from it cannot be put back."""
    shuffled: bool | None = None

    def __iter__(self) -> Iterator[Any]:
        return (self.get(i) for i in range(self.held))

    def merged(self, rows: int, most: int) -> list[Any]:
        """The batches joined to larger ones of at least `rows` examples, `most` examples in all; as they are where they
        cannot be joined."""
        found: list[Any] = []
        waiting: list[Any] = []
        count = 0
        for batch in self:
            waiting.append(batch)
            count += size_of(batch)
            if sum(map(size_of, waiting)) >= rows or count >= most or size_of(batch) == 0:
                found += join(waiting)
                waiting = []
            if count >= most or len(found) >= MAX_BATCHES:
                break
        return found + join(waiting)


def draw(
    source: Any,
    batch_size: int,
    seed: int = 0,
    *,
    drop_single: bool = True,
    seconds: float = MAX_SECONDS,
    size: int = MAX_BYTES,
) -> Batches:
    """Draw the batches of any form of training data (see `Task`). Tensors that come out are never the user's own.

    `drop_single`: leave out a last batch of one example if there are larger ones (batch normalization cannot take it).
    `seconds`, `size`: of drawing, and of what is held, in bytes; beyond them no further batch is drawn.
    Raises TaskError if there is no batch, or if the loader fails.
    """
    if callable(source) and not isinstance(source, (Iterable, Dataset)):
        source = source()
    if is_pair(source):
        return _from_tensors(map_tensors(source, lambda t: t), batch_size, seed, drop_single)
    used_up = isinstance(source, Iterator)
    shuffled, loader = None, source
    if isinstance(source, Dataset) and not isinstance(source, IterableDataset):
        generator = torch.Generator().manual_seed(seed)
        loader = DataLoader(source, batch_size, shuffle=True, generator=generator)
    elif isinstance(source, IterableDataset):
        loader = DataLoader(source, batch_size)
    elif isinstance(source, DataLoader):
        loader = in_this_process(source)
        shuffled = {RandomSampler: True, SequentialSampler: False}.get(type(source.sampler))
    if not isinstance(loader, Iterable):
        raise TaskError(
            f"train is of type {type(source).__name__}: pass a DataLoader, a Dataset, an iterable of batches, "
            "or a pair (inputs, targets) of tensors"
        )
    batches, whole = _take(loader, seconds, size)
    if drop_single and whole and len(batches) > 1 and size_of(batches[-1]) == 1 != size_of(batches[0]):
        batches.pop()
    total = len(batches) if whole and not used_up else _length(loader)
    held = len(batches)
    return Batches(lambda i: own(batches[i % held]), held, total, used_up, shuffled)


def _from_tensors(pair: tuple[Any, Any], batch_size: int, seed: int, drop_single: bool) -> Batches:
    count = size_of(pair)
    if count == 0:
        raise TaskError("train holds 0 examples: pass tensors with at least one row")
    starts = list(range(0, count, batch_size))
    if drop_single and len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    orders: dict[int, Tensor] = {}
    mixed: dict[int, Any] = {}
    small = sum(t.numel() * t.element_size() for t in tensors_of(pair)) <= MIXED_BYTES

    def get(step: int) -> Any:
        epoch, place = divmod(step, len(starts))
        if epoch not in orders:
            orders.clear()  # one permutation is kept: steps come in order
            mixed.clear()
            orders[epoch] = torch.randperm(count, generator=torch.Generator().manual_seed(seed + epoch))
        first, last = starts[place], starts[place] + batch_size
        if small and len(starts) > 1:  # all rows in their new order once, instead of a selection every step
            if epoch not in mixed:
                mixed[epoch] = map_tensors(pair, lambda t: t[orders[epoch].to(t.device)])
            return map_tensors(mixed[epoch], lambda t: t[first:last].clone())
        rows = orders[epoch][first:last]
        return map_tensors(pair, lambda t: t[rows.to(t.device)])

    return Batches(get, len(starts), len(starts), shuffled=True)


def _take(loader: Iterable[Any], seconds: float, most: int) -> tuple[list[Any], bool]:
    """The first batches, and whether these are all."""
    batches: list[Any] = []
    size, start = 0, time.monotonic()
    try:
        for batch in loader:
            if len(batches) >= MAX_BATCHES or size > most or time.monotonic() - start > seconds:
                return batches, False
            batches.append(own(batch))
            size += sum(t.numel() * t.element_size() for t in tensors_of(batch))
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(f"the training data failed at batch {len(batches)}: {blame(error)}") from error
    if not batches:
        raise TaskError("the training data gave no batch: the loader is empty (or an iterator that was used before)")
    return batches, True


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def in_this_process(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The same loader without worker processes, so that drawing starts none and leaves none behind."""
    alone = copy.copy(loader)
    alone.__dict__.update(num_workers=0, persistent_workers=False, prefetch_factor=None, timeout=0, _iterator=None)
    alone.__dict__.update(multiprocessing_context=None, pin_memory=False)
    alone.__dict__["_DataLoader__multiprocessing_context"] = None
    return alone


def is_pair(value: Any) -> bool:
    """True for (inputs, targets) given as tensors or arrays with the same number of rows."""
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not isinstance(value[1], (Tensor, np.ndarray)):
        return False
    if not isinstance(value[0], (Tensor, np.ndarray, tuple, list, Mapping)):
        return False
    if isinstance(value, list) and value[1].ndim == 0:
        return False
    rows = {len(t) if t.ndim else -1 for t in tensors_of(value)}
    if len(rows) != 1 and isinstance(value, tuple):
        raise TaskError(f"inputs and targets differ in their number of rows: {sorted(rows)}; each row is one example")
    return len(rows) == 1 and -1 not in rows


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with `change` applied to every tensor (arrays become tensors)."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return change(torch.as_tensor(value))
    if isinstance(value, Mapping):
        try:
            other = copy.copy(value)
            for key in value:
                other[key] = map_tensors(value[key], change)  # type: ignore[index]
            return other
        except TypeError:
            return {key: map_tensors(item, change) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        items = [map_tensors(item, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def tensors_of(value: Any) -> Iterator[Any]:
    """Every tensor or array in a structure of tuples, lists and mappings."""
    if isinstance(value, (Tensor, np.ndarray)):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_of(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_of(item)


def join(parts: list[Any]) -> list[Any]:
    """One batch from several of the same form, in a list; the parts themselves where their forms differ."""
    if len(parts) < 2:
        return parts
    columns = [list(tensors_of(part)) for part in parts]
    shapes = {tuple((t.dtype, t.shape[1:]) if t.ndim else None for t in column) for column in columns}
    if len(shapes) > 1 or None in next(iter(shapes)) or not all(map(size_of, parts)):
        return parts
    return [together(parts)]


def together(parts: list[Any]) -> Any:
    """Batches of one structure, row under row. Raises ValueError or RuntimeError where they do not fit."""
    columns = zip(*(list(tensors_of(part)) for part in parts), strict=True)
    whole = iter([torch.cat([torch.as_tensor(t) for t in column]) for column in columns])
    return map_tensors(parts[0], lambda _: next(whole))


def own(batch: Any) -> Any:
    """A copy of a batch: a model that works in place must not reach the user's tensors."""
    return map_tensors(batch, lambda t: t.detach().clone())


def to_device(batch: Any, device: torch.device) -> Any:
    return map_tensors(batch, lambda t: t.to(device))


def size_of(batch: Any) -> int:
    """How many examples a batch holds: the common first dimension of its tensors, 0 if they have none."""
    rows = {len(t) for t in tensors_of(batch) if t.ndim}
    return rows.pop() if len(rows) == 1 else 0


def head(batch: Any, count: int) -> Any:
    """The first `count` examples of a batch; the whole batch where its tensors have no common first dimension."""
    if size_of(batch) <= count:
        return own(batch)
    return map_tensors(batch, lambda t: t[:count].detach().clone() if t.ndim else t.clone())
