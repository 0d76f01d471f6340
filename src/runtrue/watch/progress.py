"""What a loss curve says so far: where it began, its best, where it is, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from runtrue.curves import FAR, typical_wobble
from runtrue.watch.history import History

BEGINNING = 8  # losses whose mean is where a run began
NOW = 64  # losses, at most, whose mean is where it stands
SIGMAS = 4.0  # standard errors that a difference has to pass: of hundreds of judgements none should be chance
LEARNED = 0.05
"""Share of the first loss by which a loss has to fall before a network counts as learning."""
HALF, BACK_AGAIN = 0.5, 0.95
"""Shares of the first loss: below the one much was learned, and above the other it is lost again."""
BURST = 2.0
"""Times the very first loss, which no step had touched, above which the mean of the beginning is not where the run began."""
BACK = 0.8
"""Share of the first loss that single losses have to come below, in a run that burst, if its first loss was a lucky batch."""


@dataclass(frozen=True)
class Progress:
    """steps: losses that are numbers. start, now, best: means. wobble: standard deviation of one loss. error: of now − start.

    whole: the training was seen from its first step. one_loss: one optimizer makes it smaller; of two that play against each
    other the loss tells nothing.
    """

    steps: int
    start: float
    now: float
    best: float
    wobble: float
    error: float
    whole: bool = True
    one_loss: bool = True

    @property
    def fell(self) -> float:
        return self.start - self.now

    @property
    def falls(self) -> bool:
        """By more than chance explains, be it ever so little: what was trained before has little left to learn."""
        return self.fell > SIGMAS * self.error

    @property
    def learned(self) -> bool:
        """The loss fell by more than chance explains, and by a share that counts; or it did so once."""
        return max(self.fell, self.start - self.best) > max(SIGMAS * self.error, LEARNED * abs(self.start))

    @property
    def forgot(self) -> bool:
        """Much was learned once, and the loss is back where it began."""
        return self.best < HALF * self.start and self.now > BACK_AGAIN * self.start > 0

    @property
    def stuck(self) -> bool:
        """Nothing was learned, or all was lost again, as far as a loss can tell: what verdicts on layers and rates need."""
        return self.whole and self.one_loss and (not self.learned or self.forgot)

    def describe(self) -> str:
        return f"loss {self.start:.4g} at the start, {self.now:.4g} now"


def progress(history: History) -> Progress | None:
    """None before there are enough losses to tell."""
    recent, first = numbers(history.recent), numbers(history.first)
    if len(recent) < 2 * BEGINNING or len(first) < BEGINNING:
        return None
    last = recent[-min(NOW, max(BEGINNING, len(recent) // 4)) :]
    wobble = typical_wobble(last)
    return Progress(
        steps=history.seen - history.lost,
        start=beginning(first, recent),
        now=fmean(last),
        best=min([*windows(recent, len(last)), *(mean for _, mean in levels(history, len(last)))]),
        wobble=wobble,
        error=wobble * math.sqrt(1 / len(last) + 1 / BEGINNING),
        whole=history.began == 0,
        one_loss=history.facts.get("optimizers", 1) < 2,
    )


def beginning(first: Sequence[float], recent: Sequence[float]) -> float:
    """Where a run began: the mean of its first losses, or the very first one, if the steps behind it made the loss burst."""
    start = fmean(first[:BEGINNING])
    if 0 < BURST * first[0] < start and sorted(recent)[len(recent) // 20] > BACK * first[0]:
        return first[0]
    return start


def numbers(losses: Iterable[float]) -> list[float]:
    return [loss for loss in losses if abs(loss) < FAR]


def windows(losses: Sequence[float], width: int) -> list[float]:
    """Means of neighbouring windows, of which the last one ends with the last loss."""
    return [fmean(losses[i : i + width]) for i in range(len(losses) % width, len(losses), width)]


def levels(history: History, width: int) -> Iterator[tuple[int, float]]:
    """(last step, mean) of neighbouring stretches of the whole run that hold so many losses at least: of fewer, the best is a
    lucky one."""
    total, count = 0.0, 0
    for part in history.curve:
        if part.mean is not None:
            total, count = total + part.mean * part.count, count + part.count
        if count >= width:
            yield part.last, total / count
            total, count = 0.0, 0
