"""The register of checks. A check is one function and one decorator; without a sick and a healthy specimen it cannot register."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from runtrue.findings import CAUSES, STAGE_OF, Finding
from runtrue.measure import Measurements
from runtrue.task import Task

Judge = Callable[[Measurements], Iterator[Finding]]
Specimen = Callable[[], Task]

CHECKS: dict[str, Check] = {}


@dataclass(frozen=True)
class Check:
    """A question asked of a task. `judge` is pure: numbers in, findings out.

    A finding of severity "warning" is a suspicion: its remedy decides in a trial whether it is the cause. "fault" is certain
    from the numbers alone. "note" is a fact worth telling, never a verdict.
    """

    cause: str
    judge: Judge
    sick: Specimen
    healthy: Specimen

    @property
    def stage(self) -> str:
        return STAGE_OF[self.cause]

    @property
    def meaning(self) -> str:
        """One line: what is wrong."""
        return (self.judge.__doc__ or "").strip().splitlines()[0]

    @property
    def explanation(self) -> str:
        """The whole text: evidence, threshold, source."""
        return inspect.cleandoc(self.judge.__doc__ or "")


def check(cause: str, *, sick: Specimen, healthy: Specimen) -> Callable[[Judge], Judge]:
    """Register a judge for a cause. Raises ValueError for an unknown or taken cause, or a judge without a docstring."""
    if cause not in STAGE_OF:
        raise ValueError(f"unknown cause id {cause!r}; known are {', '.join(sorted(STAGE_OF))}")
    if cause in CHECKS:
        raise ValueError(f"the cause {cause!r} has a check already: {CHECKS[cause].judge.__name__}")

    def register(judge: Judge) -> Judge:
        if not judge.__doc__:
            raise ValueError(f"the check for {cause!r} has no docstring: its first line is what users read")
        CHECKS[cause] = Check(cause, judge, sick, healthy)
        return judge

    return register


def rank(cause: str) -> int:
    """The place of a cause in the order in which causes bring about one another: smaller comes first."""
    return [c for causes in CAUSES.values() for c in causes].index(cause)
