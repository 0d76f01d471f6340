"""What is remembered of a run for judging it: bounded, whatever the number of steps. The record on disk is fed the same."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from runtrue.watch.record import Stretch, joined, stretch, thinned

RECENT = 1024  # single losses
STRETCHES = 256  # of the whole curve
READINGS = 24
FIRST = 64
CHANGES = 512  # of the rates
Key = tuple[str, str]


class Read(NamedTuple):
    """Numbers of one step in the order of a layout that many readings share."""

    step: int
    layout: tuple[Key, ...]
    numbers: array[float]


@dataclass(eq=False)
class History:
    steps: int = 0
    """The step that comes next."""
    began: int = 0
    """The first step that was seen: above 0 a run is gone on with, and its losses do not begin where the training did."""
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    """The last losses, one a step; the last one is that of step `steps - 1`."""
    first: list[float] = field(default_factory=list)
    """The first losses."""
    curve: list[Stretch] = field(default_factory=list)
    """The whole run in at most twice `STRETCHES` parts."""
    first_lost: int | None = None
    lost: int = 0
    """Losses that were no numbers."""
    reads: deque[Read] = field(default_factory=lambda: deque(maxlen=READINGS))
    read: int = 0
    rates: list[tuple[int, tuple[float, ...]]] = field(default_factory=list)
    """(step, learning rates of all groups), where they changed; the last `CHANGES` of them."""
    top_rate: float = 0.0
    """The largest rate of the whole run."""
    known: dict[str, Any] = field(default_factory=dict)
    """What was told of the network before its first step."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    epoch_counts: list[Counter[str]] = field(default_factory=list)
    """Counts of the loop within each epoch told."""
    facts: dict[str, Any] = field(default_factory=dict)
    stale: deque[bool] = field(default_factory=lambda: deque(maxlen=200))
    """Of the last optimizer steps: the gradient held parts of batches before the last step."""
    alike: int = 0
    """Batches of this epoch that equal the one before."""
    same: int = 0
    """The same, over the ends of epochs."""
    origin: str = ""
    apart: list[str] = field(default_factory=list)
    """Parameters that the processes of a distributed training hold with different values."""
    _width: int = 1

    def goes_on_at(self, step: int) -> None:
        """The next loss is that of this step."""
        if not self.steps:
            self.began = step
        self.steps = step

    def add_rates(self, rates: Sequence[tuple[int, tuple[float, ...]]]) -> None:
        self.rates = (self.rates + list(rates))[-CHANGES:]
        self.top_rate = max([self.top_rate, *(rate for _, groups in rates for rate in groups)])

    @property
    def seen(self) -> int:
        """Steps that were seen, whether their loss was told or not."""
        return self.steps - self.began

    @property
    def untold(self) -> int:
        """Steps whose loss the user did not tell."""
        return self.counts["untold loss"]

    @property
    def losses_lost(self) -> int:
        """Losses that were told and were no numbers."""
        return max(0, self.lost - self.untold)

    def add_losses(self, losses: Sequence[float], seconds: float) -> None:
        for i, loss in enumerate(losses):
            if not abs(loss) < 1e38:
                self.lost += 1
                self.first_lost = self.steps + i if self.first_lost is None else self.first_lost
        self.recent.extend(losses)
        if len(self.first) < FIRST:
            self.first += losses[: FIRST - len(self.first)]
        for start in range(0, len(losses), self._width):
            part = stretch(self.steps + start, losses[start : start + self._width], 0.0)
            last = self.curve[-1] if self.curve else None
            if last is not None and part.last - last.first < self._width:
                self.curve[-1] = joined(last, part)
            else:
                self.curve.append(part)
        self.steps += len(losses)
        while len(self.curve) > 2 * STRETCHES:
            self._width *= 2
            self.curve = list(thinned(self.curve, self._width))

    def add_read(self, step: int, numbers: Mapping[Key, float]) -> None:
        layout = tuple(numbers)
        if self.reads and self.reads[-1].layout == layout:
            layout = self.reads[-1].layout
        self.reads.append(Read(step, layout, array("f", numbers.values())))
        self.read += 1

    def series(self, what: str, last: int = READINGS) -> dict[str, list[float]]:
        """By layer or parameter, the numbers of the last readings that have them, the oldest first."""
        found: dict[str, list[float]] = {}
        for read in list(self.reads)[-last:]:
            for (name, kind), number in zip(read.layout, read.numbers, strict=True):
                if kind == what:
                    found.setdefault(name, []).append(number)
        return found

    @property
    def rate(self) -> float:
        """Now, of the group that has the largest."""
        return max(self.rates[-1][1], default=0.0) if self.rates else 0.0
