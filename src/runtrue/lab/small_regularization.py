"""The experiment `small-regularization`: with a little of it the loss goes down, as a band that wobbles (N3.2).

One network is trained with L2, λ Σ w², at strengths from none to too much, and with a little of it on batches of several
sizes. The width of the band of batch losses is compared with how much the batches differ for one network that stands still.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, Optimizer

from runtrue import nets, penalties
from runtrue.curves import end, tail, wobble
from runtrue.datasets import fashion_mnist
from runtrue.lab import EXPERIMENTS
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.runs import Examples, fit, seed_by_seed
from runtrue.lab.small_regularization_judge import LITTLE, TOO_MUCH, judge
from runtrue.lab.training import CLASSES, CONSTANT, EXAMPLES, INPUTS, chosen, validate

if TYPE_CHECKING:
    from runtrue.report.blocks import Block

ORDINARY = {"epochs": 10, "depth": 2, "width": 100}
LARGER = {"epochs": 40, "depth": 2, "width": 500}
STRENGTHS = (0.0, LITTLE, 1e-2, 1e-1, TOO_MUCH)
BATCH_SIZES = (10, 250)
"""Beside the ordinary one."""
BATCH_SIZE = 50
RATE = 0.02
"""Of SGD with momentum 0.9: the good rate of `learning-rates`."""
LOOKED_AT = 200  # validation images: what is asked of is the loss in training
BY_STRENGTH = ("start", "end", "data_start", "data_end", "removed_fraction", "band", "rises_fraction")
BY_SIZE = ("data_end", "band", "still_band")
"""Readings of a row, by series."""
DIGITS = 5
"""Of a loss in the JSON."""


def run(
    *,
    seeds: int = 3,
    seed: int = 0,
    full: bool = False,
    epochs: int | None = None,
    depth: int | None = None,
    width: int | None = None,
) -> Experiment:
    """Train at every strength and batch size, and judge the claims.

    A network of `depth` ReLU layers of `width` units, 2 of 100 by default, is trained for 10 epochs of Fashion-MNIST images
    in batches of 50, and for as many steps in batches of 10 and 250; with `full` 2 of 500 for 40 epochs. Each seed, from `seed`
    on, draws other weights and another order of the batches. Raises ValueError for a setting out of its limits.
    """
    sizes = chosen({"epochs": epochs, "depth": depth, "width": width}, ORDINARY, LARGER, full)
    settings: dict[str, Any] = {
        "data": "fashion-mnist",
        "seeds": seeds,
        "seed": seed,
        **sizes,
        "batch_size": BATCH_SIZE,
    }
    validate(settings)
    kinds = [(strength, BATCH_SIZE) for strength in STRENGTHS] + [(LITTLE, size) for size in BATCH_SIZES]
    rows = seed_by_seed(lambda kind, number: measured(settings, *kind, number), kinds, range(seed, seed + seeds))
    by_size = sorted(size for strength, size in kinds if strength == LITTLE)
    series = {
        "strength": [averaged(rows[strength, BATCH_SIZE], BY_STRENGTH) for strength in STRENGTHS],
        "batches": [averaged(rows[LITTLE, size], BY_SIZE) for size in by_size],
    }
    return Experiment(
        experiment="small-regularization",
        title="Then a little regularization",
        claim=EXPERIMENTS["small-regularization"],
        judgements=judge(series),
        settings={**settings, "optimizer": f"SGD, {RATE:g}, momentum 0.9", "penalty": "L2", "torch": torch.__version__},
        series=series,
        curves={f"{strength:g}": [row["losses"] for row in rows[strength, BATCH_SIZE]] for strength in STRENGTHS},
        draw=blocks,
    )


def measured(settings: Mapping[str, Any], strength: float, batch_size: int, seed: int) -> Row:
    """One run: the data's part of the loss and the sum with the penalty at both ends, and the width of the band."""
    torch.manual_seed(seed)
    sizes = [INPUTS["fashion-mnist"], *[settings["width"]] * settings["depth"], CLASSES]
    net, train = nets.mlp(sizes).float(), fashion_mnist(flat=True)
    before = penalty(net, strength)
    losses = fit(
        net,
        train,
        fashion_mnist("test", flat=True, limit=LOOKED_AT),
        epochs=max(1, settings["epochs"] * batch_size // BATCH_SIZE),
        batch_size=batch_size,
        optimizer=with_decay(net, strength),
        seed=seed,
    ).losses
    last = tail(losses)
    return {
        "strength": strength,
        "batch_size": batch_size,
        "start": losses[0] + before,
        "end": end(losses) + penalty(net, strength),
        "data_start": losses[0],
        "data_end": end(losses),
        "removed_fraction": (CONSTANT - end(losses)) / CONSTANT,
        "band": wobble(last),
        "still_band": difficulty(net, train) / math.sqrt(batch_size) * math.sqrt(1 - batch_size / EXAMPLES),
        "rises_fraction": fmean(b > a for a, b in pairwise(losses)),
        "losses": [float(f"{loss:.{DIGITS}g}") for loss in losses],
    }


def penalty(net: nn.Module, strength: float) -> float:
    return float(penalties.l2(net, strength).detach())


def with_decay(net: nn.Module, strength: float) -> Optimizer:
    """Plain SGD, whose `weight_decay` of 2 λ is the gradient of λ Σ w²; on weights, not on biases."""
    weights = penalties.penalised(net)
    others = [p for p in net.parameters() if all(p is not weight for weight in weights)]
    groups = [{"params": weights, "weight_decay": 2 * strength}, {"params": others, "weight_decay": 0.0}]
    return SGD(groups, lr=RATE, momentum=0.9)


@torch.no_grad()
def difficulty(net: nn.Module, train: Examples) -> float:
    """Standard deviation of the loss from example to example, for the network as it is.

    The mean over a batch of B of N examples, drawn without putting back, then has it over √B, times √(1 − B/N).
    """
    net.eval()
    return float(F.cross_entropy(net(train[0]), train[1], reduction="none").std())


def averaged(rows: Sequence[Row], keys: Sequence[str]) -> Row:
    """Means over the seeds, spreads of where it ended and of the widths, and the single values of what the judge asks for."""
    told: Row = {key: rows[0][key] for key in (("strength",) if "start" in keys else ("batch_size",))}
    for key in keys:
        values = [row[key] for row in rows]
        told[key] = fmean(values)
        if key in ("data_end", "band", "still_band"):
            told[f"{key}_spread"] = pstdev(values)
        told[f"{key}_by_seed"] = values
    return told


def blocks(experiment: Experiment) -> list[Block]:
    """The figures and tables of the page."""
    from runtrue.lab.small_regularization_figure import small_regularization_blocks

    return small_regularization_blocks(experiment)
