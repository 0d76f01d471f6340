"""`learning-rates` on a task of the user's: its curves at rates around its own, judged, and the rate to take with its proof.

A range test alone misleads, so the rate that is suggested was run again, longer and on other batches (see `runtrue.sweep`).
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from runtrue.baselines import baseline
from runtrue.curves import end
from runtrue.lab.experiment import Experiment, Judgement, Row
from runtrue.lab.page import part_section
from runtrue.rates import JudgedCurve
from runtrue.report.blocks import Block, Chart, Facts, Section, Table
from runtrue.report.rate_charts import checked_curve, rate_curves, rate_shown
from runtrue.sandbox import Sandbox, sandbox
from runtrue.sweep import STEPS, Sweep, sweep
from runtrue.tape import LossCalls
from runtrue.task import Task

CODE = "N3.2"
CLAIM = (
    "One of these rates fits the task: the loss falls fast, reaches the bottom, and does so in a longer run as well."
)


def run(task: Task, *, name: str = "task", budget: float = 60.0, steps: int = STEPS, seed: int = 0) -> Experiment:
    """Train `task` at rates around its own for `steps` steps each, judge the curves, suggest a rate, and check it.

    budget: seconds. The task is left as it was. The claim holds if a rate was found that held in the checking run.
    Raises TaskError if the task cannot be run or has no learning rate, ValueError for a budget or steps out of their limits.
    """
    if not budget > 0:
        raise ValueError(f"the budget must be more than 0 seconds, not {budget!r}")
    deadline = time.monotonic() + budget
    with sandbox(task, seed) as box:
        constant = constant_of(box)
        plan = (box.batches.per_epoch or box.batches.held) * task.epochs if task.epochs else None
        found = sweep(box, constant=constant, steps=steps, plan=plan, deadline=deadline)
    settings = {"task": name, "own rate": found.own, "steps": steps, "seed": seed, "budget": budget}
    return Experiment(
        experiment="learning-rates",
        title=f"Learning rates for {name}",
        claim=CLAIM,
        judgements=(Judgement(CODE, CLAIM, found.suggestion.rate is not None, found.suggestion.reason),),
        settings={**settings, "torch": torch.__version__},
        series={"rates": [row(curve) for curve in found.curves]} if found.curves else {},
        curves=losses_of(found),
        draw=lambda experiment: blocks(experiment, found),
    )


def constant_of(box: Sandbox) -> float | None:
    """The loss of the best constant prediction, where it can be told."""
    with torch.no_grad(), LossCalls() as recorder:
        for batch in box.evaluation_batches():
            box.loss(box.task, batch)
    box.start()
    known = baseline(recorder.calls)
    return known.constant if known is not None else None


def row(curve: JudgedCurve) -> Row:
    return {
        "rate": curve.rate,
        "verdict": curve.verdict,
        "start": curve.losses[0],
        "best": min((loss for loss in curve.losses if math.isfinite(loss)), default=math.nan),
        "end": math.nan if curve.lost_at is not None else end(curve.losses),
        "reason": curve.reason,
    }


def losses_of(found: Sweep) -> dict[str, Any]:
    curves: dict[str, Any] = {f"{curve.verdict} {rate_shown(curve.rate)}": [curve.losses] for curve in found.curves}
    rate = found.suggestion.rate
    if rate is not None and found.proof is not None:
        curves[f"checked {rate_shown(rate)}"] = [found.proof.losses]
    return curves


def blocks(experiment: Experiment, found: Sweep) -> list[Block]:
    """All curves; the one that is suggested beside the run that checked it; the numbers."""
    (part,) = experiment.judgements
    if not found.curves:
        return [part_section(part, "The rate to take", part.claim)]
    told = ", ".join(f"{rate_shown(c.rate)} {c.verdict}" for c in found.curves)
    made: list[Block] = [
        Chart(rate_curves(found.curves, found.constant), "The loss of each batch at every rate, from the same weights and on "
              "the same batches. The bold line is its moving mean.", f"Loss by step: {told}."),
        part_section(part, "The rate to take", part.claim),
    ]  # fmt: skip
    suggested = found.suggestion.curve
    if suggested is not None and found.proof is not None:
        alt = f"The longer run at {rate_shown(suggested.rate)} ends at {end(found.proof.losses):.3g}."
        caption = "The suggested rate in the sweep, and in a longer run on other batches."
        made.append(Chart(checked_curve(suggested, found.proof.losses, found.constant), caption, alt))
    shown = ("rate", "verdict", "start", "best", "end")
    rows = [[row[key] for key in shown] for row in experiment.series["rates"]]
    reasons = {f"{rate_shown(curve.rate)}, {curve.verdict}": curve.reason for curve in found.curves}
    numbers = Table(["rate", "verdict", "start", "lowest", "end"], rows, "What each rate did")
    return [*made, Section("Why", [numbers, Facts(reasons)], id="why")]
