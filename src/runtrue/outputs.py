"""What the network gives at its first step, what made it, and what is wanted: in a few plain facts. Nothing here judges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from runtrue.calls import ActivationCall
from runtrue.tape import LossCall, Spread

Wanted = Literal["labels", "one-hot", "yes-no", "shares", "numbers"]
SUM_ERROR = 1e-3  # float32 softmax rows sum to 1 within 1e-6; halves within 1e-3
BOUNDS = {
    "relu": (0.0, math.inf), "relu6": (0.0, 6.0), "tanh": (-1.0, 1.0), "hardtanh": (-1.0, 1.0), "softsign": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0), "hardsigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "softplus": (0.0, math.inf),
    "log_softmax": (-math.inf, 0.0), "logsigmoid": (-math.inf, 0.0), "sin": (-1.0, 1.0),
}  # fmt: skip
"""What an activation can give. Those that are not here can give (nearly) every number."""


@dataclass(frozen=True)
class Maker:
    """The activation that made the predictions.

    place: how many activations were called before it, in the model's forward or in the loss, whichever called this one.
    where: path of the module that called it; None in the loss.
    module: path of a module that is nothing but this activation and is called once; None if there is none.
    dim: of a softmax, as it was given.
    """

    name: str
    place: int
    where: str | None
    module: str | None
    dim: int | None


@dataclass(frozen=True)
class OutputFacts:
    """Of what reached the loss in the first batches: predictions (N, …) and targets.

    low, high: of the predictions. rows_sum_to_one: they are not negative and sum to 1 over dimension 1; over_batch: over
    dimension 0 instead. log_rows: their exponentials do. wanted: what the targets are. below, above: share of the targets that
    the activation's bounds leave out, under and over them. spreads: operations of the loss that broadcast.
    """

    loss: str | None
    shape: tuple[int, ...]
    low: float
    high: float
    rows_sum_to_one: bool
    over_batch: bool
    log_rows: bool
    wanted: Wanted
    target_shape: tuple[int, ...]
    target_low: float
    target_high: float
    maker: Maker | None = None
    below: float = 0.0
    above: float = 0.0
    spreads: tuple[Spread, ...] = ()
    sums: bool = False
    """The loss is the sum over the batch, not the mean."""
    negated: bool = False
    """The loss is a known loss with its sign turned."""
    as_given: bool = True
    """What reached the loss function are the outputs themselves; False: the user's loss does something to them first."""

    @property
    def columns(self) -> int:
        return math.prod(self.shape[1:]) if len(self.shape) > 1 else 1

    @property
    def same_numbers(self) -> bool:
        """As many predictions as targets, in other shapes."""
        return self.shape != self.target_shape and math.prod(self.shape) == math.prod(self.target_shape)


def measure(
    calls: Sequence[LossCall], outputs: Any, targets: Any, made_by: ActivationCall | None,
    activated: Sequence[ActivationCall] = (), spreads: Sequence[Spread] = (), loss: float = math.nan, value: float | None = None,
) -> OutputFacts | None:  # fmt: skip
    """From the loss calls of some batches, or from outputs and targets where the loss is none of torch's.

    made_by: what made `outputs`. activated: every activation called in one forward pass. loss: of the first batch;
    value: of its loss call. None if there are no two tensors to compare.
    """
    same = [call for call in calls if call.name == calls[0].name and isinstance(call.target, Tensor)] if calls else []
    given, wanted = ([c.input for c in same], [c.target for c in same]) if same else ([outputs], [targets])
    if not all(isinstance(t, Tensor) and t.numel() and t.dim() for t in (*given, *wanted)):
        return None
    first, target = given[0].detach(), wanted[0].detach()
    maker = _maker(same[0].made_by if same else made_by, activated)
    rows = torch.cat([t.detach().double().flatten() for t in wanted])
    low, high = BOUNDS.get(maker.name, (-math.inf, math.inf)) if maker else (-math.inf, math.inf)
    return OutputFacts(
        loss=same[0].name if same else None,
        shape=tuple(first.shape),
        low=float(first.min()),
        high=float(first.max()),
        rows_sum_to_one=_sums_to_one(first, 1),
        over_batch=not _sums_to_one(first, 1) and len(first) > 1 and _sums_to_one(first, 0),
        log_rows=first.dim() > 1 and bool((first.double().logsumexp(1).abs() < SUM_ERROR).all()),
        wanted=kind_of(target),
        target_shape=tuple(target.shape),
        target_low=float(rows.min()),
        target_high=float(rows.max()),
        maker=maker,
        below=float((rows < low).double().mean()),
        above=float((rows > high).double().mean()),
        spreads=tuple(spreads),
        sums=bool(same) and same[0].options.get("reduction") == "sum",
        negated=value is not None and value > 0 and abs(loss + value) <= 1e-3 * value,
        as_given=not isinstance(outputs, Tensor)
        or outputs.shape != first.shape
        or torch.equal(outputs.detach(), first),
    )


def kind_of(target: Tensor) -> Wanted:
    """Whole numbers are labels; rows with a single 1 one-hot; 0 and 1 alone yes or no; rows that sum to 1 shares of classes."""
    if not target.is_floating_point():
        return "labels" if target.dim() != 2 or target.shape[1] == 1 or not _binary(target) else "yes-no"
    if _binary(target):
        hot = target.dim() > 1 and target.shape[1] > 1 and bool((target.sum(1) == 1).all())
        return "one-hot" if hot else "yes-no"
    return "shares" if _sums_to_one(target, 1) and target.shape[1] > 1 else "numbers"


def _binary(target: Tensor) -> bool:
    return bool(((target == 0) | (target == 1)).all())


def _sums_to_one(values: Tensor, dim: int) -> bool:
    if values.dim() <= dim or values.shape[dim] < 1 or not values.is_floating_point():
        return False
    return bool((values >= 0).all()) and bool(((values.double().sum(dim) - 1).abs() < SUM_ERROR).all())


def _maker(made_by: ActivationCall | None, activated: Sequence[ActivationCall]) -> Maker | None:
    if made_by is None:
        return None
    where = None if made_by.outside else made_by.where
    once = made_by.module and sum(other.module and other.where == made_by.where for other in activated) == 1
    before = [call for call in activated if call.place < made_by.place and call.outside == made_by.outside]
    return Maker(made_by.name, len(before), where, where if once else None, made_by.dim)
