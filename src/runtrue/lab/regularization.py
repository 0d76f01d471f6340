"""The experiment `regularization`: what L1, L2, both and max-norm make of the weights, and of the gap (N2.1).

One network that overfits is trained without a penalty and with each at many strengths, from the same weights and on the same
batches. Beside the real inputs stand some of pure noise, by which examples can be learned by heart. The penalties are steps
beside the loss, as `runtrue train` takes them: L1 pulls weights to exactly 0, L2 decays them, max-norm projects every unit. How
a penalty in the loss changes its first value is the experiment `penalty`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import torch

from runtrue.lab import EXPERIMENTS
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.regularization_judge import harmless, judge
from runtrue.lab.regularization_measure import NOISE, Outcome, Plan, timings, trained
from runtrue.lab.runs import side_by_side
from runtrue.lab.training import GOOD, validate

if TYPE_CHECKING:
    from runtrue.report.blocks import Block

BY_KIND = {
    "l1": (1e-4, 3.2e-4, 1e-3, 3.2e-3, 1e-2, 3.2e-2, 1e-1),
    "l2": (1e-3, 3.2e-3, 1e-2, 3.2e-2, 1e-1, 3.2e-1, 1.0),
    "elastic-net": (1e-4, 3.2e-4, 1e-3, 3.2e-3, 1e-2, 3.2e-2, 1e-1),
    "max-norm": (2.0, 1.5, 1.0, 0.7, 0.5, 0.3, 0.2),
}
"""λ half a decade apart, and limits of max-norm, the weakest first: from where it is not felt to where it does harm."""
NONE = Plan()
PLAN = {"epochs": 20, "width": 100}
FULL = {"epochs": 60, "width": 500}
"""The larger setting."""
MOST_EPOCHS = 1000
SPAN = 0.2
"""How far the histogram of the weights reaches: torch draws them up to 0.036 (images) and 0.1 wide, and few grow beyond."""


def run(
    *,
    data: str = "fashion-mnist",
    seeds: int = 3,
    seed: int = 0,
    depth: int = 2,
    width: int | None = None,
    batch_size: int = 50,
    epochs: int | None = None,
    full: bool = False,
) -> Experiment:
    """Train without a penalty and with each at every strength, read the weights and the gap, and judge the claims.

    A network of `depth` tanh layers of `width` units is trained for `epochs` epochs at its good learning rate on `data`:
    Fashion-MNIST images, or unit Gaussians labelled by a linear teacher. `full`: 500 units instead of 100, and 60 epochs instead
    of 20. Raises ValueError for a setting out of its limits.
    """
    given = {key: value for key, value in (("width", width), ("epochs", epochs)) if value is not None}
    settings: dict[str, Any] = {"data": data, "seeds": seeds, "seed": seed, "depth": depth, **(FULL if full else PLAN)}
    settings |= {**given, "batch_size": batch_size, "momentum": 0.9, "full": full}
    validate(settings)
    number = settings["epochs"]
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MOST_EPOCHS:
        raise ValueError(f"epochs must be a whole number from 1 to {MOST_EPOCHS}, got {number!r}")
    settings |= {"rate": GOOD[data], "noise inputs": NOISE}
    series, histograms = measured(settings)
    return Experiment(
        experiment="regularization",
        title="Penalties on the weights, and the gap",
        claim=EXPERIMENTS["regularization"],
        judgements=judge(series),
        settings={**settings, "optimizer": "SGD", "on": "weights, not biases", "torch": torch.__version__},
        series=series,
        histograms=histograms,
        draw=blocks,
    )


def measured(settings: Mapping[str, Any]) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """The rows of every part, and the histograms of the weights of the first seed, each at its strongest harmless strength."""
    plans = {kind: [NONE, *(Plan(kind, strength) for strength in BY_KIND[kind])] for kind in BY_KIND}
    found = train_all(settings, [plan for each in plans.values() for plan in each])
    by_kind = {kind: [row(found[plan], strength=plan.strength) for plan in each] for kind, each in plans.items()}
    strong = {kind: Plan(kind, harmless(rows)["strength"]) for kind, rows in by_kind.items()}
    series = {**by_kind, "time": timings({"none": NONE, **strong}, settings)}
    histograms = {
        kind: [{"layer": 1, "counts": list(found[plan][0].counts), "edges": list(found[plan][0].edges)}]
        for kind, plan in {"none": NONE, **strong}.items()
    }
    return series, histograms


def train_all(settings: Mapping[str, Any], wanted: Iterable[Plan]) -> dict[Plan, list[Outcome]]:
    """Every training with every seed, side by side."""
    seeds = range(settings["seed"], settings["seed"] + settings["seeds"])
    plan = [(one, seed) for one in dict.fromkeys(wanted) for seed in seeds]
    done = side_by_side([partial(trained, one, seed, settings, SPAN) for one, seed in plan])
    found: dict[Plan, list[Outcome]] = {}
    for (one, _), outcome in zip(plan, done, strict=True):
        found.setdefault(one, []).append(outcome)
    return found


def row(outcomes: Sequence[Outcome], **what: Any) -> Row:
    """Of one setting: means over the seeds, and the spreads that the judges need. A run that was lost guesses."""
    vals, tests = [one.val for one in outcomes], [one.test for one in outcomes]
    gaps = [one.train - one.test for one in outcomes]
    return {
        **what,
        "train_fraction": fmean(one.train for one in outcomes),
        "val_fraction": fmean(vals),
        "val_spread": pstdev(vals),
        "test_fraction": fmean(tests),
        "test_spread": pstdev(tests),
        "gap_fraction": fmean(gaps),
        "gap_spread": pstdev(gaps),
        "zero_fraction": fmean(one.zero for one in outcomes),
        "noise_zero_fraction": fmean(one.noise_zero for one in outcomes),
        "largest_norm": max(one.largest_norm for one in outcomes),
        "mean_weight": fmean(one.mean_weight for one in outcomes),
    }


def blocks(experiment: Experiment) -> list[Block]:
    """The figures and tables of the page."""
    from runtrue.lab.regularization_figure import regularization_blocks

    return regularization_blocks(experiment)
