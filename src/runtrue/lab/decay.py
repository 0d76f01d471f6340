"""The experiment `decay`: a learning rate that falls by steps, exponentially or as 1/t, against one that stays (N4.2).

The rates are read off torch's schedulers as they run, and compared with the formulas by hand. Then one network is trained under
each of them, at first rates half a decade apart, from the same weights and on the same batches, over several seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from runtrue import optimizers, schedules
from runtrue.curves import end
from runtrue.datasets import fashion_mnist
from runtrue.lab import EXPERIMENTS
from runtrue.lab.decay_judge import judge
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.runs import Run, fit, side_by_side
from runtrue.lab.training import network, validate

if TYPE_CHECKING:
    from runtrue.report.blocks import Block

RATES = (0.006, 0.02, 0.06)
"""First rates: half decades, from one that is low for so many epochs to one at which the loss stays up without a decay."""
MOMENTUM = 0.9
SETTLED = 5
"""Epochs at the end whose mean accuracy counts: that of a single epoch jumps at a high rate."""
DEFAULTS = {False: (3, 60), True: (10, 120)}
"""Seeds and epochs, for `full` or not. 60 epochs are the fewest in which the notes' step, every 20 epochs, is taken twice."""
DIGITS = 5
"""Of a loss in the JSON."""


def run(
    *,
    seeds: int | None = None,
    seed: int = 0,
    epochs: int | None = None,
    depth: int = 2,
    width: int = 100,
    batch_size: int = 100,
    full: bool = False,
) -> Experiment:
    """Follow every schedule, train under each at every first rate, and judge the claims.

    A network of `depth` tanh layers of `width` units is trained for `epochs` epochs (60, or 120 if `full`) by SGD with momentum
    on the 3,000 images of Fashion-MNIST that ship with runtrue; the rate changes once an epoch. Each seed (of 3, or 10 if
    `full`), from `seed` on, draws other weights and another order of the batches. Raises ValueError for a setting out of its
    limits.
    """
    usual = DEFAULTS[full]
    settings: dict[str, Any] = {"data": "fashion-mnist", "seeds": usual[0] if seeds is None else seeds, "seed": seed}
    settings |= {"epochs": usual[1] if epochs is None else epochs, "depth": depth, "width": width}
    settings |= {"batch_size": batch_size, "momentum": MOMENTUM}
    validate(settings)
    numbers = range(seed, seed + settings["seeds"])
    places = [(decay, rate) for decay in schedules.DECAYS for rate in RATES]
    runs = side_by_side([partial(train, settings, *place, number) for place in places for number in numbers])
    count = settings["seeds"]
    by_place = {place: runs[start : start + count] for place, start in zip(places, range(0, len(runs), count))}
    series = {
        "schedules": [schedule_row(decay, settings["epochs"]) for decay in schedules.DECAYS],
        "images": [row(decay, rate, of) for (decay, rate), of in by_place.items()],
    }
    followed = {f"rate {decay}": [rates_of(decay, settings["epochs"])] for decay in schedules.DECAYS}
    return Experiment(
        experiment="decay",
        title="A learning rate that decays",
        claim=EXPERIMENTS["decay"],
        judgements=judge(series),
        settings={**settings, "optimizer": "SGD", "torch": torch.__version__},
        series=series,
        curves={
            **followed,
            **{f"{decay} {rate:g}": [curve(one) for one in of] for (decay, rate), of in by_place.items()},
        },
        draw=blocks,
    )


def train(settings: dict[str, Any], decay: str, rate: float, seed: int) -> Run:
    """One training. The weights and the order of the batches follow from the seed alone."""
    torch.manual_seed(seed)
    net = network(settings)
    optimizer = optimizers.named("momentum", net.parameters(), lr=rate, momentum=settings["momentum"])
    schedule = schedules.scheduler(
        optimizer, decay, epochs=settings["epochs"], steps_per_epoch=1
    )  # `fit` steps by epochs
    train, test = fashion_mnist(flat=True), fashion_mnist("test", flat=True)
    size, epochs = settings["batch_size"], settings["epochs"]
    return fit(net, train, test, epochs=epochs, batch_size=size, optimizer=optimizer, schedule=schedule, seed=seed)


def rates_of(decay: str, epochs: int) -> list[float]:
    """The rate in each epoch, and after the last, as torch's scheduler sets it; the first one is 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = schedules.scheduler(optimizer, decay, epochs=epochs, steps_per_epoch=1)
    found = []
    for _ in range(epochs + 1):
        found.append(optimizers.rate(optimizer))
        optimizer.step()
        schedule.step()
    return found


def by_hand(decay: str, epochs: int) -> list[float]:
    """The same without the code that is under test: each rate from the one before, where the formula allows it."""
    k = schedules.default_k(decay, epochs)
    found = [1.0]
    for t in range(1, epochs + 1):
        before = found[-1]
        found.append(
            {
                "none": before,
                "step": before * 0.8 if t % 20 == 0 else before,
                "exp": before / math.e**k,
                "inverse": 1 / (1 / before + k),
                "cosine": math.cos(math.pi * t / epochs / 2) ** 2,
            }[decay]
        )
    return found


def schedule_row(decay: str, epochs: int) -> Row:
    """What a schedule does to a first rate of 1."""
    found, wanted = rates_of(decay, epochs), by_hand(decay, epochs)
    return {
        "decay": decay,
        "k": schedules.default_k(decay, epochs),
        "third": found[epochs // 3],
        "two_thirds": found[2 * epochs // 3],
        "last": found[-1],
        "difference": max(abs(a - b) for a, b in zip(found, wanted, strict=True)),
    }


def row(decay: str, rate: float, runs: Sequence[Run]) -> Row:
    """What the seeds say of one schedule at one first rate. `end` is of the loss of the batches."""
    ends = [math.nan if one.diverged else end(one.losses) for one in runs]
    accuracies = [math.nan if one.diverged else fmean(e.val_accuracy for e in one.epochs[-SETTLED:]) for one in runs]
    return {
        "decay": decay,
        "rate": rate,
        "end": fmean(ends),
        "end_spread": spread(ends),
        "val_loss": fmean(math.nan if one.diverged else one.epochs[-1].val_loss for one in runs),
        "accuracy": fmean(accuracies),
        "accuracy_spread": spread(accuracies),
        "end_by_seed": ends,
        "accuracy_by_seed": accuracies,
    }


def spread(values: Sequence[float]) -> float:
    return pstdev(values) if all(map(math.isfinite, values)) else math.nan


def curve(run: Run) -> list[float]:
    """The loss on the whole training set after each epoch."""
    return [float(f"{epoch.train_loss:.{DIGITS}g}") for epoch in run.epochs]


def blocks(experiment: Experiment) -> list[Block]:
    """The figures and tables of the page."""
    from runtrue.lab.decay_figure import decay_blocks

    return decay_blocks(experiment)
