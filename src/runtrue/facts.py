"""What the data are like, in a few numbers a tensor: read over the batches, one feature at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from runtrue.task import TaskError, split

MAX_SECONDS = 3.0  # of reading: a very large set is judged on its first part


@dataclass(frozen=True)
class TensorFacts:
    """One tensor of the batches. mean, std, low, high: over the finite values. A feature is a column of (N, F), a channel of
    (N, C, …), a place in the last dimension of (N, T, F).

    bad_rows: examples with a value that is not finite. alike: all examples are equal. feature_means, feature_stds: empty if
    the features cannot be told apart (shapes that change from batch to batch). values: the distinct values, up to 65.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    examples: int
    whole: bool
    floating: bool
    mean: float
    std: float
    low: float
    high: float
    bad_rows: int
    bad_values: int
    alike: bool
    feature_means: tuple[float, ...] = ()
    feature_stds: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    @property
    def largest(self) -> float:
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class DataFacts:
    inputs: tuple[TensorFacts, ...]
    targets: TensorFacts | None
    batch_size: int


def measure(batches: Iterable[Any], *, pairs: bool, whole: bool) -> DataFacts:
    """Read the batches once. `pairs`: each is (inputs, targets); else every floating tensor in them counts as input."""
    inputs: dict[str, _Running] = {}
    targets: dict[str, _Running] = {}
    start, size, complete = time.monotonic(), 0, True
    for batch in batches:
        if time.monotonic() - start > MAX_SECONDS:
            complete = False
            break
        given, wanted = split(batch) if pairs else (batch, None)
        for group, value in ((inputs, given), (targets, wanted)):
            for name, tensor in _named(value):
                group.setdefault(name, _Running(name)).add(tensor)
                size = size or (len(tensor) if tensor.dim() else 0)
    if pairs and not targets:
        raise TaskError("the second part of a batch holds no tensor: a batch is (inputs, targets), both tensors")
    read = [running.facts(whole and complete) for running in inputs.values()]
    first = next(iter(targets.values()), None)
    return DataFacts(tuple(read), first.facts(whole and complete) if first else None, size)


def _named(value: Any, name: str = "") -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(name, value)]
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in _named(item, f"{name}[{key!r}]")]
    if isinstance(value, (tuple, list)):
        return [pair for i, item in enumerate(value) for pair in _named(item, f"{name}[{i}]")]
    return []


class _Running:
    """Sums over the batches; only rows that are finite count."""

    def __init__(self, name: str) -> None:
        self.name, self.alike = name, True
        self.rows = self.bad_rows = self.bad_values = 0
        self.count: Tensor | None = None  # finite values seen, a number a feature, as are the sums
        self.sum = self.square = self.shift = torch.zeros(())
        self.low, self.high, self.values = math.inf, -math.inf, frozenset[float]()
        self.first: Tensor | None = None

    def add(self, tensor: Tensor) -> None:
        tensor = tensor.detach().reshape(1) if tensor.dim() == 0 else tensor.detach()
        self.first = tensor if self.first is None else self.first
        self.rows += len(tensor)
        if tensor.numel() == 0 or tensor.is_complex():
            return
        flat = tensor.reshape(len(tensor), -1)
        if flat.dtype not in (torch.float32, torch.float64):  # squares of half-precision numbers leave their range
            flat = flat.to(torch.float32 if flat.is_floating_point() else torch.float64)
        good = torch.isfinite(flat)
        whole = bool(good.all())
        if not whole:
            self.bad_values += int((~good).sum())
            self.bad_rows += int((~good).any(1).sum())
        self.alike = self.alike and flat.shape[1] == self.first[0].numel() and self._equal_first(flat)
        kept = flat if whole else torch.where(good, flat, torch.zeros_like(flat))
        self._add_features(kept.reshape(tensor.shape), good.reshape(tensor.shape))
        if whole or good.any():
            fine = flat if whole else flat[good]
            self.low, self.high = min(self.low, float(fine.min())), max(self.high, float(fine.max()))
            if len(self.values) <= 64:
                self.values |= frozenset(torch.unique(fine)[:65].tolist())

    def _equal_first(self, flat: Tensor) -> bool:
        assert self.first is not None
        one = self.first[0].to(flat.dtype).reshape(1, -1)
        return bool(((flat == one) | (flat.isnan() & one.isnan())).all())

    def _add_features(self, kept: Tensor, good: Tensor) -> None:
        """Sums are taken around each feature's first mean, so that a large offset does not swallow the spread."""
        over = {1: (0,), 2: (0,), 3: (0, 1)}.get(kept.dim(), (0, *range(2, kept.dim())))
        count = good.sum(over).double()
        means = kept.sum(over, dtype=torch.float64) / count.clamp(min=1)
        if self.count is None:
            self.count, self.sum, self.square, self.shift = (torch.zeros_like(count) for _ in range(4))
        if self.count.shape != count.shape:
            return self._add_as_one(kept, good)
        fresh = means.to(kept.dtype).double()  # rounded, as it is subtracted below
        self.shift = torch.where(self.count == 0, fresh, self.shift)
        shift = self.shift.to(kept.dtype).reshape([1 if d in over else n for d, n in enumerate(kept.shape)])
        around = torch.where(good, kept - shift, torch.zeros_like(kept))
        self.count = self.count + count
        self.sum = self.sum + around.sum(over, dtype=torch.float64)
        self.square = self.square + around.square().sum(over, dtype=torch.float64)
        return None

    def _add_as_one(self, kept: Tensor, good: Tensor) -> None:
        """Features that change from batch to batch cannot be told apart: all values together."""
        assert self.count is not None
        if self.count.dim():
            total, each = self.count.sum(), self.count * self.shift
            center = ((each + self.sum).sum() / total.clamp(min=1)).float().double()
            apart = self.shift - center
            self.square = (self.square + 2 * apart * self.sum + self.count * apart.square()).sum()
            self.sum, self.count, self.shift = (self.count * apart + self.sum).sum(), total, center
        around = torch.where(good, kept.double() - self.shift, torch.zeros(()).double())
        self.count, self.sum = self.count + good.sum(), self.sum + around.sum()
        self.square = self.square + around.square().sum()

    def facts(self, whole: bool) -> TensorFacts:
        assert self.first is not None
        count = torch.zeros(()) if self.count is None else self.count
        offsets = self.sum / count.clamp(min=1)
        means = self.shift + offsets
        variances = (self.square / count.clamp(min=1) - offsets.square()).clamp(min=0)
        stds = variances.sqrt()
        share = count / count.sum().clamp(min=1)
        mean = float((share * means).sum())
        std = float((share * (variances + (means - mean).square())).sum().sqrt())
        some = bool(count.sum() > 0)
        return TensorFacts(
            name=self.name,
            dtype=str(self.first.dtype).removeprefix("torch."),
            shape=tuple(self.first.shape),
            examples=self.rows,
            whole=whole,
            floating=self.first.is_floating_point(),
            mean=mean if some else math.nan,
            std=std if some else math.nan,
            low=self.low if some else math.nan,
            high=self.high if some else math.nan,
            bad_rows=self.bad_rows,
            bad_values=self.bad_values,
            alike=self.alike and self.rows > 1,
            feature_means=tuple(means.flatten().tolist()) if means.dim() else (),
            feature_stds=tuple(stds.flatten().tolist()) if stds.dim() else (),
            values=tuple(sorted(self.values)),
        )
