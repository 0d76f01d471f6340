"""Seconds to spend, and who is told what they are spent on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

Say = Callable[[str, float], None]
"""Called with what is being done and the seconds left of the budget."""


def nobody(what: str, left: float) -> None:
    """Progress that nobody asked for."""


@dataclass(frozen=True)
class Budget:
    """Counts down from `seconds`, from the moment it is made."""

    seconds: float
    say: Say = nobody
    begun: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ValueError(f"the budget must be more than 0 seconds, not {self.seconds!r}")

    def share(self, part: float) -> Budget:
        """The same clock with a part of its seconds."""
        return replace(self, seconds=part * self.seconds)

    @property
    def spent(self) -> float:
        return time.monotonic() - self.begun

    @property
    def left(self) -> float:
        return self.seconds - self.spent

    @property
    def end(self) -> float:
        """The `time.monotonic()` at which it is used up."""
        return self.begun + self.seconds

    def fits(self, seconds: float) -> bool:
        return seconds <= self.left

    def now(self, what: str) -> None:
        self.say(what, max(0.0, self.left))
