"""All judges, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

from runtrue.findings import Finding
from runtrue.watch.curve_judges import judge_curve, judge_epochs
from runtrue.watch.history import History
from runtrue.watch.layer_judges import judge_layers
from runtrue.watch.loop_judges import judge_loop


def judge(history: History) -> Iterator[Finding]:
    """What can be said now. The same is said again as long as it holds: who tells it tells it once."""
    yield from judge_loop(history)
    yield from judge_curve(history)
    yield from judge_epochs(history)
    yield from judge_layers(history)
