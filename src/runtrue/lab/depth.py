"""The experiment `depth`: do networks get worse with depth, and what does a bridge around the layers change? (N5)

Plain and residual networks of He et al. 2015 are trained by that paper's recipe at several depths, on the same images in the
same order. Before that, what the loss sends back to each block is looked at, without training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from runtrue import nets
from runtrue.lab import EXPERIMENTS, runs
from runtrue.lab.depth_judge import judge
from runtrue.lab.depth_measure import Back, sent_back
from runtrue.lab.experiment import Experiment, Row, within
from runtrue.nets.parts import Norm
from runtrue.nets.resnet import Shortcut, blocks_per_stage

if TYPE_CHECKING:
    from runtrue.report.blocks import Block

KINDS: dict[str, Shortcut] = {"plain": None, "residual": "A"}
"""Both have the same number of parameters at the same depth."""
RATE, MOMENTUM, DECAY = 0.1 / 128, 0.9, 1e-4
"""The paper's, section 4.2: a rate of 0.1 for batches of 128, so that much for each image of a batch (Goyal et al. 2017, section
2.1). With 0.1 for batches of 32, deep residual networks are still worse off in the first hundreds of steps."""
WARM = 0.1
"""Factor on the rate in the first of many epochs: the paper does so for 110 layers, lest they do not begin to learn."""
SMALL: dict[str, Any] = {"depths": (8, 20, 32, 44, 56), "images": 512, "epochs": 5, "batch_size": 32}
FULL: dict[str, Any] = {"depths": (8, 20, 32, 44, 56, 110, 1202), "images": 48_000, "epochs": 20, "batch_size": 128}
"""The settings: for three minutes on two cores, and for hours on a GPU."""
LIMITS = {
    "images": (16, 48_000),
    "epochs": (1, 1000),
    "batch_size": (2, 3000),
    "seeds": (1, 100),
    "seed": (0, 2**31 - 200),
}
VALIDATION = 300
"""Images to validate with, from the embedded subset; no more than there are to train with."""
BATCHES, LOOKED_AT = 4, 64
"""Batches whose gradients are compared before training, and images in each of them, if there are so many."""


@dataclass(frozen=True)
class Outcome:
    """One network of one seed: what came back at the start, with normalisation and without, and its training."""

    back: Back
    back_without_norm: Back
    run: runs.Run


def run(
    *,
    seeds: int = 3,
    seed: int = 0,
    depths: Sequence[int] | None = None,
    images: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    full: bool = False,
) -> Experiment:
    """Train plain and residual networks at every depth, and judge the claims.

    Fashion-MNIST images, averaged to 14 by 14 pixels: `images` of the embedded subset to train with and 500 others to validate
    with. `full` takes the whole set at 28 by 28 pixels and adds 110 and 1202 layers: for a GPU. What is None is as `full`
    says. Each seed, from `seed` on, draws other weights and another order of the images. Raises ValueError for a setting out
    of its limits, or a depth that is no 6n + 2.
    """
    given = {"depths": depths, "images": images, "epochs": epochs, "batch_size": batch_size}
    settings = {**(FULL if full else SMALL), **{name: value for name, value in given.items() if value is not None}}
    settings |= {"seeds": seeds, "seed": seed, "full": full}
    settings["depths"] = tuple(sorted(settings["depths"]))
    validate(settings)
    kinds = [(kind, depth) for kind in KINDS for depth in settings["depths"]]
    jobs = [partial(outcome, settings, *one, number) for one in kinds for number in range(seed, seed + seeds)]
    found = in_order(jobs, full)
    outcomes = {one: found[place * seeds : (place + 1) * seeds] for place, one in enumerate(kinds)}
    series = {kind: [row(depth, outcomes[kind, depth]) for depth in settings["depths"]] for kind in KINDS}
    told = {
        "rate": RATE * settings["batch_size"],
        "momentum": MOMENTUM,
        "weight_decay": DECAY,
        "optimizer": "SGD",
        "torch": torch.__version__,
    }
    return Experiment(
        experiment="depth",
        title="Deeper networks, with a bridge and without",
        claim=EXPERIMENTS["depth"],
        judgements=judge(series),
        settings={**settings, "data": "fashion-mnist", "norm": "batch", **told},
        series=series,
        curves=curves(outcomes),
        draw=blocks,
    )


def validate(settings: Mapping[str, Any]) -> None:
    """Raises ValueError that says which setting is wrong, and its limits."""
    within(settings, LIMITS)
    if not settings["full"] and settings["images"] > 3000:
        raise ValueError(f"images must be at most 3000 without full, got {settings['images']}")
    if settings["batch_size"] > settings["images"]:
        raise ValueError(f"batch_size must be at most images, {settings['images']}, got {settings['batch_size']}")
    if len(set(settings["depths"])) < max(2, len(settings["depths"])):
        raise ValueError(f"depths must be at least two different ones, got {list(settings['depths'])}")
    for depth in settings["depths"]:
        blocks_per_stage(depth)


def in_order(jobs: Sequence[Any], full: bool) -> list[Outcome]:
    """The results of the jobs: side by side on the cores, or on the GPU one after the other."""
    if full and torch.cuda.is_available():
        with runs.alone():
            return [job() for job in jobs]
    return runs.side_by_side(jobs)


@torch.enable_grad()
def outcome(settings: Mapping[str, Any], kind: str, depth: int, seed: int) -> Outcome:
    """Look at what comes back to the untrained network, then train it."""
    device = torch.device("cuda" if settings["full"] and torch.cuda.is_available() else "cpu")
    train, val = (on(device, part) for part in examples(settings))
    size = min(LOOKED_AT, len(train[1]) // BATCHES)
    batches = list(zip(train[0].split(size), train[1].split(size)))[:BATCHES]
    bare = sent_back(network(kind, depth, seed, device, norm=None), batches)
    net = network(kind, depth, seed, device, norm="batch")
    back = sent_back(net, batches)
    net = network(kind, depth, seed, device, norm="batch")  # whose running statistics are those of no batch yet
    rate = RATE * settings["batch_size"]
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=DECAY)
    schedule = LambdaLR(optimizer, partial(factor, epochs=settings["epochs"]))
    fitted = runs.fit(
        net,
        train,
        val,
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        optimizer=optimizer,
        schedule=schedule,
        seed=seed,
    )
    return Outcome(back, bare, fitted)


def network(kind: str, depth: int, seed: int, device: torch.device, norm: Norm) -> nn.Module:
    torch.manual_seed(seed)
    net = nets.resnet(depth, in_channels=1, shortcut=KINDS[kind], norm=norm).float()
    return net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def factor(epoch: int, epochs: int) -> float:
    """On the rate: a tenth from half of the epochs on, a hundredth from three quarters on (the paper's, section 4.2)."""
    if epoch == 0 and epochs >= 10:
        return WARM
    return 1.0 if epoch < epochs / 2 else 0.1 if epoch < 3 * epochs / 4 else 0.01


def examples(settings: Mapping[str, Any]) -> tuple[runs.Examples, runs.Examples]:
    """Images (N, 1, H, H) with mean 0 and spread about 1, and labels: to train and to validate with."""
    if settings["full"]:
        from runtrue import datasets

        found = datasets.load("fashion-mnist")
        return scaled(found.train, found, settings["images"]), scaled(found.val, found)
    from runtrue.datasets import fashion_mnist

    count = settings["images"]
    train, val = fashion_mnist(limit=count), fashion_mnist("test", limit=min(VALIDATION, count))
    return (F.avg_pool2d(train[0], 2), train[1]), (F.avg_pool2d(val[0], 2), val[1])


def scaled(split: Any, found: Any, limit: int | None = None) -> runs.Examples:
    pixels: Tensor = split.images[:limit]
    return (pixels.float() / 255 - found.mean[0]) / found.std[0], split.labels[:limit]


def on(device: torch.device, part: runs.Examples) -> runs.Examples:
    return part[0].to(device=device, memory_format=torch.channels_last), part[1].to(device)


def row(depth: int, found: Sequence[Outcome]) -> Row:
    """Means over the seeds, and the numbers of each seed."""
    ends = [one.run.epochs[-1] for one in found]
    by_seed = {
        "train_loss": [end.train_loss for end in ends],
        "val_loss": [end.val_loss for end in ends],
        "train_error": [1 - end.train_accuracy for end in ends],
        "val_error": [1 - end.val_accuracy for end in ends],
        "arrives": [one.back.arrives for one in found],
        "arrives_bare": [one.back_without_norm.arrives for one in found],
        "agreement": [one.back.agreement for one in found],
    }
    means = {name: fmean(values) for name, values in by_seed.items()}
    return {"depth": depth, **means, **{f"{name}_by_seed": values for name, values in by_seed.items()}}


def curves(outcomes: Mapping[tuple[str, int], Sequence[Outcome]]) -> dict[str, list[list[float]]]:
    """By epoch the errors in training and validation; by block, from the first on, what came back at the start."""
    told: dict[str, list[list[float]]] = {}
    for (kind, depth), found in outcomes.items():
        name = f"{kind}-{depth}"
        told[f"{name} train"] = [[1 - epoch.train_accuracy for epoch in one.run.epochs] for one in found]
        told[f"{name} val"] = [[1 - epoch.val_accuracy for epoch in one.run.epochs] for one in found]
        told[f"{name} train loss"] = [[epoch.train_loss for epoch in one.run.epochs] for one in found]
        told[f"{name} gradient"] = [list(one.back.sizes) for one in found]
        told[f"{name} gradient without norm"] = [list(one.back_without_norm.sizes) for one in found]
        told[f"{name} agreement"] = [list(one.back.agreements) for one in found]
    return told


def blocks(experiment: Experiment) -> list[Block]:
    """The figures and tables of the page."""
    from runtrue.lab.depth_figure import depth_blocks

    return depth_blocks(experiment)
