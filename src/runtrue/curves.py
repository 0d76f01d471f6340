"""What to read from a loss curve: where it ended, and how sure that is. Lists of floats in, floats out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median

TAIL = 0.2
"""Share of a curve, at its end, whose mean is where it ended: the same as in a trial."""
FAR = 1e38
"""A loss beyond what float32 can hold, which is no number any more."""


def lost_at(losses: Sequence[float]) -> int | None:
    """The first step whose loss is no number any more; None if there is none."""
    return next((step for step, loss in enumerate(losses) if not abs(loss) < FAR), None)


def tail(losses: Sequence[float]) -> Sequence[float]:
    """The last fifth, at least three losses."""
    return losses[-max(3, round(TAIL * len(losses))) :]


def end(losses: Sequence[float]) -> float:
    """Where a curve ended: the mean of its tail."""
    return fmean(tail(losses))


def wobble(losses: Sequence[float]) -> float:
    """Standard deviation of a single loss, from neighbouring ones: a trend does not count."""
    steps = [b - a for a, b in pairwise(losses)]
    return math.sqrt(sum(s * s for s in steps) / len(steps) / 2) if steps else 0.0


def typical_wobble(losses: Sequence[float]) -> float:
    """The same from the median, so that a few jumps do not count: of N(0, 2σ²) the median size is 0.954 σ."""
    return median([abs(b - a) for a, b in pairwise(losses)] or [0.0]) / 0.954


def noise(losses: Sequence[float]) -> float:
    """Standard error of `end`."""
    last = tail(losses)
    return wobble(last) / math.sqrt(len(last))


def apart(a: Sequence[float], b: Sequence[float]) -> float:
    """Standard error of end(a) - end(b). Of the same steps, what the batches have in common drops out."""
    if len(a) == len(b):
        return noise([x - y for x, y in zip(a, b)])
    return math.hypot(noise(a), noise(b))


def still_falls(losses: Sequence[float], sigmas: float) -> bool:
    """True if the tail lies below what stands before it by more than so many standard errors."""
    last = len(tail(losses))
    before = losses[-2 * last : -last] or losses[:1]
    return fmean(before) - end(losses) > sigmas * math.hypot(noise(losses), wobble(before) / math.sqrt(len(before)))
