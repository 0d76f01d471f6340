"""The experiment `dropout`: what it does to the gap, and the average over many networks that it stands for (N2.2).

One network is trained at several probabilities p of switching a hidden unit off, from the same weights and on the same
batches. Afterwards many networks are sampled from each, by the masks of training, and their mean is compared with the one
pass without masks that evaluation makes (Srivastava et al. 2014, sections 1 and 7.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from runtrue import nets
from runtrue.datasets import fashion_mnist
from runtrue.lab import EXPERIMENTS
from runtrue.lab.dropout_judge import TYPICAL, judge
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.runs import fit, seed_by_seed
from runtrue.lab.training import CLASSES, INPUTS, chosen, validate

if TYPE_CHECKING:
    from runtrue.report.blocks import Block

ORDINARY = {"epochs": 20, "depth": 2, "width": 200}
LARGER = {"epochs": 100, "depth": 3, "width": 1000}
PROBABILITIES = (0.0, 0.25, 0.5, 0.75, 0.9)
LARGER_PROBABILITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SAMPLES = 100
SIZES = (1, 2, 5, 10, 20, 50, 100)
"""How many sampled networks are averaged."""
RATE = 1e-3  # of Adam
GAP = ("p", "train_accuracy", "val_accuracy", "gap", "val_loss")
AVERAGE = ("p", "single_accuracy", "mean_accuracy", "one_pass_accuracy", "agreement")
"""Readings of a row, by series."""


def run(
    *,
    seeds: int = 3,
    seed: int = 0,
    full: bool = False,
    epochs: int | None = None,
    depth: int | None = None,
    width: int | None = None,
    batch_size: int = 50,
) -> Experiment:
    """Train at every p, average sampled networks, and judge the claims.

    A network of `depth` ReLU layers of `width` units, 2 of 200 by default, is trained for 20 epochs on Fashion-MNIST images;
    with `full` 3 of 1000 for 100 epochs, at more values of p. Each seed, from `seed` on, draws other weights and another
    order of the batches. Raises ValueError for a setting out of its limits.
    """
    sizes = chosen({"epochs": epochs, "depth": depth, "width": width}, ORDINARY, LARGER, full)
    settings: dict[str, Any] = {
        "data": "fashion-mnist",
        "seeds": seeds,
        "seed": seed,
        **sizes,
        "batch_size": batch_size,
    }
    validate(settings)
    probabilities = LARGER_PROBABILITIES if full else PROBABILITIES
    by_p = list(seed_by_seed(partial(measured, settings), probabilities, range(seed, seed + seeds)).values())
    series = {
        "gap": [averaged(rows, ("p", "train_accuracy", "val_accuracy", "gap", "val_loss")) for rows in by_p],
        "average": [
            averaged(rows, ("p", "one_pass_accuracy", "mean_accuracy", "single_accuracy", "agreement"))
            for rows in by_p[1:]
        ],
        "samples": samples_of(next(rows for rows in by_p if rows[0]["p"] == TYPICAL)),
    }
    return Experiment(
        experiment="dropout",
        title="Dropout: no memorising, and many networks in one",
        claim=EXPERIMENTS["dropout"],
        judgements=judge(series),
        settings={**settings, "optimizer": f"Adam, {RATE:g}", "samples": SAMPLES, "torch": torch.__version__},
        series=series,
        draw=blocks,
    )


def measured(settings: Mapping[str, Any], p: float, seed: int) -> Row:
    """One run: accuracies at its end, and those of networks sampled from it, on the validation images."""
    torch.manual_seed(seed)
    sizes = [INPUTS["fashion-mnist"], *[settings["width"]] * settings["depth"], CLASSES]
    net = nets.mlp(sizes, dropout=p).float()
    train, val = fashion_mnist(flat=True), fashion_mnist("test", flat=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    last = fit(
        net,
        train,
        val,
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        optimizer=optimizer,
        seed=seed,
    ).epochs[-1]
    row = {"p": p, "train_accuracy": last.train_accuracy, "val_accuracy": last.val_accuracy, "val_loss": last.val_loss}
    return {**row, "gap": last.train_accuracy - last.val_accuracy, **average_of(net, val[0], val[1])}


def average_of(net: nn.Module, inputs: Tensor, labels: Tensor) -> Row:
    """Accuracies: of one pass without masks, of the mean over many sampled networks, of single ones; how often the first two
    say the same; and "by_size", the accuracy of the mean over k samples for every k of SIZES."""
    each = sampled(net, inputs, SAMPLES)  # (K, N, C)
    net.eval()
    with torch.no_grad():
        one_pass = net(inputs).argmax(1)
    mean = each.mean(0).argmax(1)
    by_size = [fmean(right(group.mean(0), labels) for group in groups(each, size)) for size in SIZES]
    return {
        "one_pass_accuracy": float((one_pass == labels).double().mean()),
        "mean_accuracy": float((mean == labels).double().mean()),
        "single_accuracy": by_size[0],
        "agreement": float((mean == one_pass).double().mean()),
        "by_size": by_size,
    }


@torch.no_grad()
def sampled(net: nn.Module, inputs: Tensor, count: int) -> Tensor:
    """(K, N, C): the probabilities that `count` networks give, each with units switched off as in training."""
    net.train()
    return torch.stack([net(inputs).softmax(1) for _ in range(count)])


def groups(each: Tensor, size: int) -> list[Tensor]:
    """The samples in groups of so many, none in two of them."""
    return [group for group in each.split(size) if len(group) == size]


def right(probabilities: Tensor, labels: Tensor) -> float:
    return float((probabilities.argmax(1) == labels).double().mean())


def averaged(rows: Sequence[Row], keys: Sequence[str]) -> Row:
    """Means over the seeds, and for each but p the spread and the single values."""
    told: Row = {}
    for key in keys:
        values = [row[key] for row in rows]
        told[key] = fmean(values)
        if key != "p":
            told |= {f"{key}_spread": pstdev(values), f"{key}_by_seed": values}
    return told


def samples_of(rows: Sequence[Row]) -> list[Row]:
    """For every number of sampled networks the accuracy of their mean."""
    columns = [[row["by_size"][place] for row in rows] for place in range(len(SIZES))]
    return [
        {"samples": size, "accuracy": fmean(column), "accuracy_spread": pstdev(column), "accuracy_by_seed": column}
        for size, column in zip(SIZES, columns, strict=True)
    ]


def blocks(experiment: Experiment) -> list[Block]:
    """The figures and tables of the page."""
    from runtrue.lab.dropout_figure import dropout_blocks

    return dropout_blocks(experiment)
