"""A sound small network and the same with one bug planted, each as the parts from which it is trained and checked (N3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim import SGD, Optimizer

from runtrue import nets
from runtrue.lab.runs import Examples
from runtrue.lab.training import CLASSES, INPUTS
from runtrue.task import Task

PIXELS = INPUTS["fashion-mnist"]
RATE = 0.02
"""Of SGD with momentum 0.9: in the middle of the rates at which the sound network memorises."""


@dataclass(frozen=True)
class Case:
    """`named`: the fault that `runtrue check` names, or nothing; `noted`: it says so in a note only."""

    words: str
    named: str
    net: Callable[[int], nn.Module]
    """From the width of its layers."""
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    labels: Callable[[Tensor], Tensor]
    noted: bool

    def built(self, width: int) -> nn.Module:
        return self.net(width).float()  # whatever the process has as its default type

    def task(self, width: int, train: Examples, val: Examples, *, epochs: int, batch_size: int) -> Task:
        """What `runtrue check` is given."""
        return Task(
            partial(self.built, width),
            train=(train[0], self.labels(train[1])),
            val=val,
            loss=nn.CrossEntropyLoss(),
            optimizer=self.optimizer,
            epochs=epochs,
            batch_size=batch_size,
        )


# -- networks


def sound(width: int) -> nn.Sequential:
    return nets.mlp([PIXELS, width, width, CLASSES])


class Wrong(nn.Module):
    """Changes the images of a batch before a sound network gets them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = sound(width)


class Shuffling(Wrong):
    """Shuffles them while training, and not their labels."""

    def forward(self, x: Tensor) -> Any:
        return self.net(x[torch.randperm(len(x), device=x.device)] if self.training else x)


class Mixing(Wrong):
    """Means to turn the axes of the batch and only cuts its pixels anew: every row gets some of many images."""

    def forward(self, x: Tensor) -> Any:
        return self.net(x.t().reshape(x.shape))


class HeadOnly(Wrong):
    """Detaches what comes to the last layer."""

    def forward(self, x: Tensor) -> Any:
        return self.net[-1](self.net[:-1](x).detach())


def zeroed(width: int) -> nn.Module:
    net = sound(width)
    with torch.no_grad():
        for weight in net.parameters():
            weight.zero_()
    return net


def with_softmax(width: int) -> nn.Module:
    return nn.Sequential(*sound(width), nn.Softmax(dim=1))


def two_units(width: int) -> nn.Module:
    return nets.mlp([PIXELS, 2, CLASSES])


def with_dropout(width: int) -> nn.Module:
    return nets.mlp([PIXELS, width, width, CLASSES], dropout=0.9)


def without_activation(width: int) -> nn.Module:
    return nets.mlp([PIXELS, width, width, CLASSES], "identity")


# -- optimizers and labels


def sgd(parameters: Iterable[nn.Parameter], rate: float = RATE) -> Optimizer:
    return SGD(parameters, lr=rate, momentum=0.9)


def of_a_copy(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return sgd([nn.Parameter(weight.detach().clone()) for weight in parameters])


class NeverCleared(SGD):
    """Gradients pile up from step to step."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        pass


def never_cleared(parameters: Iterable[nn.Parameter]) -> Optimizer:
    return NeverCleared(parameters, lr=RATE, momentum=0.9)


def as_they_are(labels: Tensor) -> Tensor:
    return labels


def shuffled(labels: Tensor) -> Tensor:
    return labels[torch.randperm(len(labels), generator=Generator().manual_seed(0))]


def case(
    words: str,
    named: str = "",
    net: Callable[[int], nn.Module] = sound,
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = sgd,
    labels: Callable[[Tensor], Tensor] = as_they_are,
    noted: bool = False,
) -> Case:
    return Case(words, named, net, optimizer, labels, noted)


SOUND = "no bug"
HINDERING = {
    "batches-shuffled": case("each batch's images are shuffled, its labels not", "", Shuffling),
    "images-mixed": case("a reshape mixes the images of a batch", "", Mixing),
    "wrong-parameters": case("the optimizer holds another model's", "parameters-not-optimized", optimizer=of_a_copy),
    "zero-weights": case("all weights start at 0", "init-symmetric", zeroed),
    "head-only": case("all but the head is detached", "graph-detached", HeadOnly),
    "softmax-twice": case("softmax before the cross-entropy", "softmax-before-cross-entropy", with_softmax, noted=True),
    "two-units": case("a hidden layer of two units", "", two_units),
    "not-cleared": case("zero_grad does nothing", "learning-rate-too-high", optimizer=never_cleared),
    "rate-too-high": case("learning rate 1", "learning-rate-too-high", optimizer=partial(sgd, rate=1.0)),
    "rate-too-low": case("learning rate 0.00001", "learning-rate-too-low", optimizer=partial(sgd, rate=1e-5)),
    "dropout-left-on": case("dropout of 0.9 is left on", "dropout-too-strong", with_dropout),
}
"""Bugs that stand in the way of learning."""
PASSING = {
    "labels-shuffled": case("the labels are shuffled once", "labels-unrelated", labels=shuffled),
    "no-activation": case("no activation between the layers", "missing-nonlinearity", without_activation, noted=True),
}
"""Bugs that leave enough to memorise with: what is memorised is wrong, or no more than a linear network can."""
CASES = {SOUND: case("nothing is wrong"), **HINDERING, **PASSING}
