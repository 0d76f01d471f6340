"""The experiment `momentum`: SGD, momentum and Nesterov momentum down a ravine, and on a real task (N4.1).

The ravine is a quadratic, followed without noise, so that every number is exact. The real task is a perceptron on images,
trained by each optimizer at rates half a decade apart, from the same weights and on the same batches, over several seeds: a
comparison at one rate tells how far each gets with it, and one at the rate that is best for each tells what it is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import torch

from runtrue import optimizers
from runtrue.curves import end
from runtrue.datasets import fashion_mnist
from runtrue.lab import EXPERIMENTS
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.momentum_judge import judge
from runtrue.lab.momentum_ravine import KINDS, STEEP, STEEPNESS, path_row, ravine_row
from runtrue.lab.runs import Run, fit, side_by_side
from runtrue.lab.training import network, validate

if TYPE_CHECKING:
    from runtrue.report.blocks import Block

MOMENTUM = 0.9  # N4.1
RATES: dict[str, tuple[float, ...]] = {
    "sgd": (0.002, 0.006, 0.02, 0.06, 0.2, 0.6),
    "momentum": (0.002, 0.006, 0.02, 0.06),
    "nesterov": (0.002, 0.006, 0.02, 0.06),
}
"""Half decades. With μ = 0.9 a step that goes on in its direction becomes 1 / (1 - μ) = 10 times as long: the rates of the two
momenta end a decade below those of SGD, and around the best of each there are both a lower and a higher one."""
DEFAULTS = {False: (3, 8), True: (10, 30)}
"""Seeds and epochs, for `full` or not."""


def run(
    *,
    seeds: int | None = None,
    seed: int = 0,
    epochs: int | None = None,
    depth: int = 2,
    width: int = 100,
    batch_size: int = 50,
    full: bool = False,
) -> Experiment:
    """Go down the ravine, train at every rate, and judge the claims.

    A network of `depth` tanh layers of `width` units is trained for `epochs` epochs (8, or 30 if `full`) on the 3,000 images of
    Fashion-MNIST that ship with runtrue. Each seed (of 3, or 10 if `full`), from `seed` on, draws other weights and another
    order of the batches. Raises ValueError for a setting out of its limits.
    """
    usual = DEFAULTS[full]
    settings: dict[str, Any] = {"data": "fashion-mnist", "seeds": usual[0] if seeds is None else seeds, "seed": seed}
    settings |= {"epochs": usual[1] if epochs is None else epochs, "depth": depth, "width": width}
    settings |= {"batch_size": batch_size, "momentum": MOMENTUM}
    validate(settings)
    ravines = [partial(ravine_row, kind, steepness) for steepness in STEEPNESS for kind in KINDS]
    numbers = range(seed, seed + settings["seeds"])
    places = [(kind, rate) for kind in KINDS for rate in RATES[kind]]
    trainings = [partial(train, settings, kind, rate, number) for kind, rate in places for number in numbers]
    found: list[Any] = side_by_side([*ravines, *trainings])
    rows, runs = found[: len(ravines)], found[len(ravines) :]
    count = settings["seeds"]
    by_place = {place: runs[start : start + count] for place, start in zip(places, range(0, len(runs), count))}
    series = {
        "ravine": rows,
        "images": [row(kind, rate, of) for (kind, rate), of in by_place.items()],
        "path": [point for kind in KINDS for point in path_row(kind, best_of(rows, kind))],
    }
    shown = {f"{kind} {rate:g}": [curve(one) for one in of] for (kind, rate), of in by_place.items()}
    return Experiment(
        experiment="momentum",
        title="Momentum, down a ravine and on images",
        claim=EXPERIMENTS["momentum"],
        judgements=judge(series),
        settings={**settings, "torch": torch.__version__},
        series={name: series[name] for name in ("ravine", "images")},
        curves={**shown, **{f"path {kind}": path(series["path"], kind) for kind in KINDS}},
        draw=blocks,
    )


def train(settings: dict[str, Any], kind: str, rate: float, seed: int) -> Run:
    """One training. The weights and the order of the batches follow from the seed alone."""
    torch.manual_seed(seed)
    net = network(settings)
    optimizer = optimizers.named(kind, net.parameters(), lr=rate, momentum=settings["momentum"])
    train, test = fashion_mnist(flat=True), fashion_mnist("test", flat=True)
    size, epochs = settings["batch_size"], settings["epochs"]
    return fit(net, train, test, epochs=epochs, batch_size=size, optimizer=optimizer, seed=seed)


def row(kind: str, rate: float, runs: Sequence[Run]) -> Row:
    """What the seeds say of one optimizer at one rate: means and spreads. `end` is of the loss of the batches."""
    ends = [math.nan if one.diverged else end(one.losses) for one in runs]
    accuracies = [math.nan if one.diverged else one.epochs[-1].val_accuracy for one in runs]
    losses = [[epoch.train_loss for epoch in one.epochs] for one in runs]
    return {
        "optimizer": kind,
        "rate": rate,
        "end": fmean(ends),
        "end_spread": pstdev(ends) if all(map(math.isfinite, ends)) else math.nan,
        "rises": max(sum(after >= before for before, after in pairwise(one)) for one in losses),
        "accuracy": fmean(accuracies),
        "accuracy_spread": pstdev(accuracies) if all(map(math.isfinite, accuracies)) else math.nan,
        "end_by_seed": ends,
    }


def curve(run: Run) -> list[float]:
    """The loss on the whole training set after each epoch."""
    return [float(f"{epoch.train_loss:.5g}") for epoch in run.epochs]


def best_of(rows: Sequence[Row], kind: str) -> float:
    """The rate with which this optimizer is quickest down the ravine that is drawn."""
    return next(float(row["rate"]) for row in rows if row["optimizer"] == kind and row["steepness"] == STEEP)


def path(points: Sequence[Row], kind: str) -> list[list[float]]:
    own = [point for point in points if point["optimizer"] == kind]
    return [[float(f"{point[axis]:.5g}") for point in own] for axis in ("x", "y")]


def blocks(experiment: Experiment) -> list[Block]:
    """The figures and tables of the page."""
    from runtrue.lab.momentum_figure import momentum_blocks

    return momentum_blocks(experiment)
