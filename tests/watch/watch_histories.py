"""Histories made by hand, for the tests of the judges: a curve, readings and counts whose verdict is known."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from runtrue.findings import Finding
from runtrue.watch.history import History

Judge = Callable[[History], Iterator[Finding]]

FACTS: dict[str, Any] = {
    "optimizers": 1, "parameters": 4, "names": ["a.weight", "a.bias", "b.weight", "b.bias"], "foreign": 0, "held": 4,
    "held and asking": 4, "not held": [], "frozen": [], "at rate 0": [], "by mode": [], "dropouts in training": [],
    "frozen norms that move": [],
}  # fmt: skip


def noisy(level: Callable[[int], float] | float, steps: int, noise: float = 0.05, seed: int = 0) -> list[float]:
    """One loss a step: the level times 1 + noise · N(0, 1)."""
    draw = random.Random(seed)
    return [(level(i) if callable(level) else level) * (1 + noise * draw.gauss(0, 1)) for i in range(steps)]


def falling(start: float = 2.3, end: float = 0.3, over: float = 100.0) -> Callable[[int], float]:
    return lambda step: end + (start - end) * math.exp(-step / over)


def after(
    losses: Sequence[float], *, began: int = 0, rate: float | Sequence[float] = 0.1, facts: Mapping[str, Any] | None = None,
    counts: Mapping[str, int] | None = None,
) -> History:  # fmt: skip
    """A run with these losses, told in packets of 20. rate: of every step, or one for all."""
    history = History()
    for start in range(0, len(losses), 20):
        history.goes_on_at(began + start)
        history.add_losses(list(losses[start : start + 20]), 1.0)
    rates = [rate] if isinstance(rate, (int, float)) else rate
    changed = [(began + i, (r,)) for i, r in enumerate(rates) if i == 0 or r != rates[i - 1]]
    history.add_rates(changed)
    history.facts = {**FACTS, **(facts or {})}
    history.counts = Counter({"step": len(losses), "gradient, training": len(losses), **(counts or {})})
    return history


def read(history: History, times: int = 8, **numbers: Any) -> History:
    """The same numbers in so many readings. numbers: what was read, by layer or parameter; a list is one number a reading."""
    for i in range(times):
        row = {(name, what): pick(value, i) for what, each in numbers.items() for name, value in each.items()}
        history.add_read(10 * i, row)
    return history


def pick(value: float | Sequence[float], place: int) -> float:
    return float(value) if isinstance(value, (int, float)) else float(value[place])


def epochs(history: History, every: int = 50, **columns: Sequence[float]) -> History:
    """Epochs told with these numbers, one entry of each column an epoch."""
    for i, values in enumerate(zip(*columns.values(), strict=True)):
        row = dict(zip(columns, values, strict=True))
        history.epochs.append({**row, "epoch": i, "step": every * (i + 1)})
    return history


def said(judge: Judge, history: History) -> dict[str, Finding]:
    """By cause; the gravest of each."""
    rank = ("note", "warning", "fault")
    found: dict[str, Finding] = {}
    for one in judge(history):
        if one.cause not in found or rank.index(one.severity) > rank.index(found[one.cause].severity):
            found[one.cause] = one
    return found


def severities(judge: Judge, history: History) -> dict[str, str]:
    return {cause: one.severity for cause, one in said(judge, history).items()}
