"""Which steps are read: every so many, or as often as a share of the time allows."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median

SHARE = 0.005
"""Of the time that a training takes, how much the readings may take where nothing else is asked for. The whole promise is 1 %:
the other half is for what is done in every step, and for the thread that writes."""
MOST = 500  # steps between two readings, however dear they are
LEAST = 5  # steps between two readings that nobody asked to be closer
REMEMBERED = 15


@dataclass(eq=False)
class Pace:
    """every: steps from one reading to the next; None: as `SHARE` allows, by the time that readings and steps took."""

    every: int | None = None
    plain: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    read: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    next: int = 0

    def took(self, seconds: float, was_read: bool, spent: float = 0.0) -> None:
        """A step took so long; if it was read, so much of it was spent in reading, as far as that can be told."""
        if not was_read:
            self.plain.append(seconds)
        elif self.plain:
            self.read.append(max(spent, seconds - median(self.plain)))
        else:
            self.read.append(spent)

    def after(self, step: int) -> int:
        """The next step to be read, after `step` was."""
        self.next = step + self.gap()
        return self.next

    def gap(self) -> int:
        if self.every is not None:
            return self.every
        if not self.plain or not self.read:
            return LEAST
        usual = median(self.plain)
        cost = median(self.read)
        return min(MOST, max(LEAST, math.ceil(cost / (SHARE * usual)) if usual > 0 else MOST))
