"""The experiment `overfit`: a sound network memorises a few hundred images, and one with a bug does not (N3.1).

500 images, no regularization. The same small network is trained as it is and with each of a list of planted bugs, from the
same seeds and on the same batches, and what counts is the share of the training images that it gets wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import torch

from runtrue.datasets import fashion_mnist
from runtrue.lab import EXPERIMENTS
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.overfit_bugs import CASES, RATE
from runtrue.lab.overfit_judge import judge
from runtrue.lab.runs import Run, fit, seed_by_seed
from runtrue.lab.training import chosen, validate

if TYPE_CHECKING:
    from runtrue.report.blocks import Block

ORDINARY = {"epochs": 80, "width": 100}
LARGER = {"epochs": 400, "width": 500}
IMAGES = 500
"""As in the notes."""


def run(
    *,
    seeds: int = 3,
    seed: int = 0,
    full: bool = False,
    epochs: int | None = None,
    width: int | None = None,
    batch_size: int = 50,
) -> Experiment:
    """Train on 500 images without a bug and with each, and judge the claims.

    A network of two ReLU layers of `width` units, 100 by default, is trained for 80 epochs; with `full`, of 500 units for
    400. Each seed, from `seed` on, draws other weights and another order of the batches. Raises ValueError for a setting out
    of its limits.
    """
    sizes = chosen({"epochs": epochs, "width": width}, ORDINARY, LARGER, full)
    settings: dict[str, Any] = {"data": "fashion-mnist", "images": IMAGES, "seeds": seeds, "seed": seed, **sizes}
    settings |= {"batch_size": batch_size}
    validate(settings)
    runs = seed_by_seed(partial(trained, settings), CASES, range(seed, seed + seeds))
    series = {"bugs": [row(key, of_key) for key, of_key in runs.items()]}
    return Experiment(
        experiment="overfit",
        title="Overfit a small set first",
        claim=EXPERIMENTS["overfit"],
        judgements=judge(series),
        settings={**settings, "optimizer": f"SGD, {RATE:g}, momentum 0.9", "torch": torch.__version__},
        series=series,
        curves={key: [errors(one) for one in of_key] for key, of_key in runs.items()},
        draw=blocks,
    )


def trained(settings: Mapping[str, Any], key: str, seed: int) -> Run:
    """One run of one case. Everything random in it follows from the seed, so that the cases differ in the bug alone."""
    torch.manual_seed(seed)
    case = CASES[key]
    images, labels = fashion_mnist(flat=True, limit=IMAGES)
    net = case.built(settings["width"])
    return fit(
        net,
        (images, case.labels(labels)),
        fashion_mnist("test", flat=True, limit=IMAGES),
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        optimizer=case.optimizer(net.parameters()),
        seed=seed,
    )


def errors(one: Run) -> list[float]:
    """Share of the training images that it gets wrong, by epoch."""
    return [round(1.0 - epoch.train_accuracy, 4) for epoch in one.epochs]


def row(key: str, runs: Sequence[Run]) -> Row:
    """What the seeds say of one case: the error at the end, the lowest there was, and when all were right."""
    ends = [errors(one)[-1] for one in runs]
    firsts = [next((epoch + 1 for epoch, error in enumerate(errors(one)) if error == 0), None) for one in runs]
    return {
        "bug": key,
        "error": fmean(ends),
        "error_spread": pstdev(ends),
        "error_by_seed": ends,
        "lowest_error": min(min(errors(one)) for one in runs),
        "all_right_after": max((first for first in firsts if first), default=None) if all(firsts) else None,
        "val_accuracy": fmean(one.epochs[-1].val_accuracy for one in runs),
        "named": CASES[key].named or None,
        "noted": CASES[key].noted,
    }


def blocks(experiment: Experiment) -> list[Block]:
    """The figures and tables of the page."""
    from runtrue.lab.overfit_figure import overfit_blocks

    return overfit_blocks(experiment)
