"""What the experiments that train have in common: the data, the network, the settings and their limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from runtrue import nets
from runtrue.lab.experiment import within
from runtrue.task import Task

DATA = ("fashion-mnist", "gaussian")
CLASSES = 10
INPUTS = {"fashion-mnist": 784, "gaussian": 20}
EXAMPLES = 3000
CONSTANT = math.log(CLASSES)
"""Cross-entropy of the best constant guess on ten classes of one size; of the gaussian ones, which are not quite, at most."""
RATES = {
    "fashion-mnist": (0.6, 0.15, 0.02, 0.0005),
    "gaussian": (1.0, 0.3, 0.05, 0.0005),
}
"""Very high, high, good, low, as a sweep over half decades showed them for the network as it is set here."""
GOOD = {data: rates[2] for data, rates in RATES.items()}
LIMITS = {
    "depth": (1, 50),
    "width": (2, 2000),
    "steps": (20, 20_000),
    "epochs": (1, 2000),
    "batch_size": (1, 3000),
    "seeds": (1, 100),
    "seed": (0, 2**31 - 200),
}
"""Smallest and largest value of each number."""


def chosen(
    given: Mapping[str, int | None], ordinary: Mapping[str, int], larger: Mapping[str, int], full: bool
) -> dict[str, Any]:
    """What the caller gave; where that is None, the ordinary setting, or with `full` the larger one."""
    return {name: (larger if full else ordinary)[name] if value is None else value for name, value in given.items()}


def validate(settings: Mapping[str, Any]) -> None:
    """Raises ValueError that says which setting is wrong, and its limits."""
    within(settings, LIMITS)
    if settings["data"] not in DATA:
        raise ValueError(f"data must be one of {', '.join(DATA)}, got {settings['data']!r}")


def task_for(settings: Mapping[str, Any], seed: int, rate: float) -> Task:
    """A tanh network of the depth and width set, to be trained by SGD with momentum (N4.1) at this rate.

    tanh, not ReLU: at a very high rate its units saturate and the loss stays up, as the notes draw it; ReLU units die, and
    the loss comes back down to that of a constant guess.
    """
    return Task(
        partial(network, settings),
        train=examples(settings["data"], seed),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.SGD, lr=rate, momentum=settings["momentum"]),
        batch_size=settings["batch_size"],
    )


def network(settings: Mapping[str, Any]) -> nn.Module:
    sizes = [INPUTS[settings["data"]], *[settings["width"]] * settings["depth"], CLASSES]
    return nets.mlp(sizes, "tanh").float()  # whatever the process has as its default type


def examples(data: str, seed: int) -> tuple[Tensor, Tensor]:
    """(3000, inputs) and labels (3000,): the images that ship with runtrue, or unit Gaussians labelled by a random teacher.

    The teacher is linear: the label is the largest of ten random projections.
    """
    if data == "fashion-mnist":
        from runtrue.datasets import fashion_mnist

        return fashion_mnist(flat=True)
    generator = Generator().manual_seed(seed)
    inputs = torch.randn(EXAMPLES, INPUTS[data], generator=generator, dtype=torch.float32)
    return inputs, (inputs @ torch.randn(INPUTS[data], CLASSES, generator=generator, dtype=torch.float32)).argmax(1)
