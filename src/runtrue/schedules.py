"""Decay of the learning rate (N4.2): the formulas, as factors on the first rate α₀, and torch's scheduler that follows them.

Time t is in epochs. `per="step"` lets it pass within an epoch; `per="epoch"` holds the rate until the next one begins.

>>> [round(step(t), 4) for t in (0, 19, 20, 40)]
[1.0, 1.0, 0.8, 0.64]
>>> round(exponential(10, k=0.1), 4), round(inverse(10, k=0.1), 4), cosine(5, total=10)
(0.3679, 0.5, 0.5)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

Decay = Literal["none", "step", "exp", "inverse", "cosine"]
Per = Literal["epoch", "step"]
DECAYS: tuple[str, ...] = get_args(Decay)
"""The names of what `scheduler` knows."""
EVERY, FACTOR = 20, 0.8
"""The notes' step: every 20 epochs, 20 % less."""
LAST = {"exp": 0.01, "inverse": 0.1}
"""Where no k is given: the rate at the end over the first. Two decades, as a cosine crosses nearly all of the way down; 1/t
would lose half of its rate in the first hundredth of a run for that, so it gets one decade."""


def step(t: float, every: float = EVERY, factor: float = FACTOR) -> float:
    """factor^⌊t / every⌋: every 20 epochs, 20 % less (N4.2)."""
    return float(factor ** math.floor(t / every))


def exponential(t: float, k: float) -> float:
    """e^(-k t) (N4.2): the same share less in every epoch."""
    return math.exp(-k * t)


def inverse(t: float, k: float) -> float:
    """1 / (1 + k t) (N4.2): half of it at t = 1 / k, and ever slower."""
    return 1 / (1 + k * t)


def cosine(t: float, total: float) -> float:
    """(1 + cos(π t / T)) / 2, from 1 to 0 in T epochs, and 0 after (Loshchilov and Hutter 2017, eq. 5, with no restart)."""
    return (1 + math.cos(math.pi * min(t / total, 1.0))) / 2


@dataclass(frozen=True)
class Schedule:
    """Number of a step -> factor on the first rate. Plain numbers only, so that a saved scheduler holds all of it."""

    decay: str
    epochs: float
    steps_per_epoch: int
    per: str = "epoch"
    warmup: float = 0.0
    """Epochs in which the rate rises in a line from near 0 to the first rate (Goyal et al. 2017, section 2.2): with every
    step, also where the decay goes by epochs. The decay begins after it."""
    k: float = 0.0
    every: float = EVERY
    factor: float = FACTOR

    def __call__(self, number: int) -> float:
        rising = self.warmup * self.steps_per_epoch
        if number < rising:
            return (number + 1) / (rising + 1)
        t = number / self.steps_per_epoch
        t = math.floor(t) if self.per == "epoch" else t
        return self.decayed(max(0.0, t - self.warmup))

    def decayed(self, t: float) -> float:
        """The decay alone, t epochs after the warmup."""
        if self.decay == "step":
            return step(t, self.every, self.factor)
        if self.decay == "exp":
            return exponential(t, self.k)
        if self.decay == "inverse":
            return inverse(t, self.k)
        if self.decay == "cosine":
            return cosine(t, self.epochs - self.warmup)
        return 1.0


def scheduler(
    optimizer: Optimizer,
    decay: Decay | str = "none",
    *,
    epochs: float,
    steps_per_epoch: int,
    per: Per | str = "epoch",
    warmup: float = 0.0,
    k: float | None = None,
    every: float = EVERY,
    factor: float = FACTOR,
) -> LambdaLR:
    """torch's scheduler for this decay, to be stepped after every step of the optimizer, whatever `per` says.

    `epochs` is how long the run is meant to take, `warmup` how many of them rise to the first rate. Without k, `exp` ends at a
    hundredth of the first rate and `inverse` at a tenth. Its `state_dict` holds the schedule as well: a run that goes on with
    it follows the rates of the run before. Every group keeps its own first rate.

    Raises ValueError for an unknown decay or `per`, and for numbers out of their limits.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    >>> schedule = scheduler(optimizer, "step", epochs=2, steps_per_epoch=3, every=1)
    >>> rates = []
    >>> for _ in range(6):
    ...     rates.append(optimizer.param_groups[0]["lr"])
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [0.5, 0.5, 0.5, 0.4, 0.4, 0.4]
    """
    _check(decay, per, epochs, steps_per_epoch, warmup)
    k = default_k(decay, epochs - warmup) if k is None else k
    if not 0 <= k < math.inf or not every > 0 or not 0 < factor <= 1:
        raise ValueError(f"need k from 0 up, every above 0 and factor from 0 to 1, got {k=}, {every=}, {factor=}")
    return LambdaLR(optimizer, Schedule(decay, epochs, steps_per_epoch, per, warmup, k, every, factor))


def default_k(decay: str, epochs: float) -> float:
    """The k with which the rate gets down to `LAST` in so many epochs; 0 where the decay has none."""
    if decay == "exp":
        return -math.log(LAST["exp"]) / epochs
    if decay == "inverse":
        return (1 / LAST["inverse"] - 1) / epochs
    return 0.0


def _check(decay: str, per: str, epochs: float, steps_per_epoch: int, warmup: float) -> None:
    if decay not in DECAYS:
        raise ValueError(f"there is no decay {decay!r} here; there are: {', '.join(DECAYS)}")
    if per not in get_args(Per):
        raise ValueError(f'a rate changes per "epoch" or per "step", not per {per!r}')
    if not epochs > 0 or steps_per_epoch < 1:
        raise ValueError(f"need epochs above 0 and at least 1 step in each, got {epochs=}, {steps_per_epoch=}")
    if not 0 <= warmup < epochs:
        raise ValueError(f"the warmup must end before the run does: from 0 to {epochs:g} epochs, got {warmup!r}")
