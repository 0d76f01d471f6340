"""The experiment `learning-rates`: four rates, four curves (N3.2).

One network, the same weights and the same batches at each of four rates: very high, high, good and low. Every curve is judged
by the judge that `runtrue check` uses, and the claims by numbers of their own, over several seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import torch

from runtrue import optimizers, trials
from runtrue.curves import end
from runtrue.lab import EXPERIMENTS
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.rates_judge import KINDS, judge
from runtrue.lab.training import CONSTANT, RATES, task_for, validate
from runtrue.rates import JudgedCurve, RateCurve
from runtrue.rates import judge as judge_curves
from runtrue.sandbox import sandbox
from runtrue.task import Task

if TYPE_CHECKING:
    from runtrue.report.blocks import Block

DIGITS = 5
"""Of a loss in the JSON."""

Run = tuple[JudgedCurve, ...]
"""The curves of one seed, in the order of KINDS."""


def run(
    *,
    data: str = "fashion-mnist",
    seeds: int = 3,
    seed: int = 0,
    steps: int = 600,
    depth: int = 2,
    width: int = 100,
    batch_size: int = 50,
) -> Experiment:
    """Train at the four rates, judge each curve, and judge the claims.

    A network of `depth` tanh layers of `width` units is trained for `steps` steps on `data`: Fashion-MNIST images, or unit
    Gaussians labelled by a linear teacher. Each seed, from `seed` on, draws other weights and another order of the batches.
    Raises ValueError for a setting out of its limits.
    """
    settings = {"data": data, "seeds": seeds, "seed": seed, "steps": steps, "depth": depth, "width": width}
    settings |= {"batch_size": batch_size, "momentum": 0.9}
    validate(settings)
    runs = [curves_of(settings, number) for number in range(seed, seed + seeds)]
    return Experiment(
        experiment="learning-rates",
        title="Four learning rates, four curves",
        claim=EXPERIMENTS["learning-rates"],
        judgements=judge(runs),
        settings={**settings, "optimizer": "SGD", "torch": torch.__version__},
        series={"rates": [row(kind, [curves[place] for curves in runs]) for place, kind in enumerate(KINDS)]},
        curves={
            f"{kind} {runs[0][place].rate:g}": [rounded(curves[place].losses) for curves in runs]
            for place, kind in enumerate(KINDS)
        },
        draw=blocks,
    )


def curves_of(settings: dict[str, Any], seed: int) -> Run:
    """The judged curves of one seed. The random state and the number of threads are put back by the sandbox."""
    rates = RATES[settings["data"]]
    with sandbox(task_for(settings, seed, rates[0]), seed) as box:
        torch.set_num_threads(1)  # a step is too short to be shared
        found = [RateCurve(rate, trials.run(box, at(rate), steps=settings["steps"]).losses) for rate in rates]
    judged = {curve.rate: curve for curve in judge_curves(found, CONSTANT)}
    return tuple(judged[rate] for rate in rates)


def at(rate: float) -> Callable[[Task], Task]:
    def treat(task: Task) -> Task:
        assert task.optimizer is not None
        return task.replace(optimizer=optimizers.at_rate(task.optimizer, rate))

    return treat


def row(kind: str, curves: Sequence[JudgedCurve]) -> Row:
    """What the seeds say of one rate: means, and the spread of the end."""
    ends = [math.nan if curve.lost_at is not None else end(curve.losses) for curve in curves]
    verdicts = dict.fromkeys(curve.verdict for curve in curves)
    return {
        "rate": curves[0].rate,
        "claimed": kind,
        "verdict": ", ".join(verdicts),
        "start": fmean(curve.losses[0] for curve in curves),
        "best": fmean(min(loss for loss in curve.losses if math.isfinite(loss)) for curve in curves),
        "end": fmean(ends),
        "end_spread": pstdev(ends) if all(map(math.isfinite, ends)) else math.nan,
        "removed_fraction": (CONSTANT - fmean(ends)) / CONSTANT,
        "end_by_seed": ends,
    }


def rounded(losses: Sequence[float]) -> list[float]:
    return [float(f"{loss:.{DIGITS}g}") for loss in losses]


def blocks(experiment: Experiment) -> list[Block]:
    """The figures and tables of the page."""
    from runtrue.lab.rates_figure import rates_blocks

    return rates_blocks(experiment)
