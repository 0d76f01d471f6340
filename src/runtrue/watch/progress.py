"""What a loss curve says so far: where it began, its best, where it is, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from runtrue.curves import FAR, typical_wobble
from runtrue.watch.history import History

BEGINNING = 8  # losses whose mean is where a run began
NOW = 64  # losses, at most, whose mean is where it stands
SIGMAS = 4.0  # standard errors that a difference has to pass: of hundreds of judgements none should be chance
LEARNED = 0.05
"""Share of the first loss by which a loss has to fall before a network counts as learning."""


@dataclass(frozen=True)
class Progress:
    """steps: losses that are numbers. start, now: means. wobble: standard deviation of a single loss. error: of now − start."""

    steps: int
    start: float
    now: float
    best: float
    wobble: float
    error: float

    @property
    def fell(self) -> float:
        return self.start - self.now

    @property
    def learned(self) -> bool:
        """The loss fell by more than chance explains, and by a share that counts; or it did so once."""
        return max(self.fell, self.start - self.best) > max(SIGMAS * self.error, LEARNED * abs(self.start))

    def describe(self) -> str:
        return f"loss {self.start:.4g} at the start, {self.now:.4g} now"


def progress(history: History) -> Progress | None:
    """None before there are enough losses to tell."""
    recent, first = numbers(list(history.recent)), numbers(history.first)
    if len(recent) < 2 * BEGINNING or len(first) < BEGINNING:
        return None
    last = recent[-min(NOW, max(BEGINNING, len(recent) // 4)) :]
    wobble = typical_wobble(last)
    means = [part.mean for part in history.curve if part.mean is not None and part.count >= min(BEGINNING, 2)]
    smooth = windows(recent, len(last))
    return Progress(
        steps=history.steps - history.lost,
        start=fmean(first[:BEGINNING]),
        now=fmean(last),
        best=min([*smooth, *smoothed(means)], default=fmean(last)),
        wobble=wobble,
        error=wobble * math.sqrt(1 / len(last) + 1 / BEGINNING),
    )


def numbers(losses: Sequence[float]) -> list[float]:
    return [loss for loss in losses if abs(loss) < FAR]


def windows(losses: Sequence[float], width: int) -> list[float]:
    """Means of neighbouring windows."""
    return [fmean(losses[i : i + width]) for i in range(0, len(losses) - width + 1, width)]


def smoothed(means: Sequence[float]) -> list[float]:
    """Of stretches, in threes: a single one may be one lucky batch."""
    return [median(means[i : i + 3]) for i in range(len(means) - 2)]
