"""What chance achieves: remedies drawn at random, each trained for the whole plan, the best kept (ICST 2023 found random search
comparable with published repair tools, so a claim of repair needs this beside it)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import torch

from diagnosis import loop, oracle
from diagnosis.parts import Arm
from runtrue import Task, TaskError
from runtrue.findings import Finding, Remedy
from runtrue.measure import Measurements, measure_data, measure_start
from runtrue.remedies import REMEDIES, remedies_for
from runtrue.sandbox import sandbox


def best(build: Callable[[], Arm], seconds: float, seed: int) -> tuple[float, int]:
    """The best metric of the untreated task and of random treatments of it, one after the other until the seconds are used
    up (at least one), and how many there were. Choosing by the metric itself favours chance."""
    arm = build()
    choices = proposals(arm.task, seed)
    draw = random.Random(seed)
    found, tries, end = -float("inf"), 0, time.monotonic() + seconds
    while choices and (tries == 0 or time.monotonic() < end):
        remedy = draw.choice(draw.choice(choices))
        value = treated(build(), remedy, seed)
        found, tries = max(found, value if value == value else -float("inf")), tries + 1
    return (found if tries and found > -float("inf") else float("nan")), tries


def treated(arm: Arm, remedy: Remedy, seed: int) -> float:
    """The metric of the task with one remedy, after the planned epochs; NaN if the remedy does not fit or the run is lost."""
    try:
        task = remedy.apply(arm.task)
        torch.manual_seed(seed)
        return loop.judge(loop.fit(task, arm.task.epochs), arm)
    except (TaskError, AssertionError, AttributeError, KeyError, *oracle.STOPS):
        return float("nan")


def proposals(task: Task, seed: int) -> list[list[Remedy]]:
    """For each cause that has any: its remedies for this task, whether the cause is there or not."""
    found = []
    try:
        with sandbox(task, seed) as box:
            measured = Measurements(measure_data(box), measure_start(box), rate=rate_of(box.optimizer(box.start())))
            box.start()
            for cause in REMEDIES:
                finding = Finding(cause, "warning", "train inputs", "drawn at random", {"frozen": [], "layers": []})
                try:
                    found.append(remedies_for(finding, measured, box))
                except (TaskError, AttributeError, KeyError, AssertionError, *oracle.STOPS):
                    box.start()
    except TaskError:
        return []
    return [remedies for remedies in found if remedies]


def rate_of(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])
