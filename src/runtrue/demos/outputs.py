"""Specimens whose outputs, loss and targets do not fit each other, and their healthy twins."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from runtrue import nets
from runtrue.demos.basic import CLASSES, PIXELS, classify, images, small
from runtrue.demos.register import demo
from runtrue.task import Task

FOOTWEAR = (5, 7, 9)  # sandal, sneaker, ankle boot


def ending_in(activation: nn.Module, outputs: int = CLASSES) -> nn.Module:
    return nn.Sequential(nets.mlp([PIXELS, 128, 64, outputs], "relu"), activation)


@demo
def softmax_twice() -> Task:
    """A softmax as the last layer, and cross-entropy behind it."""
    return classify(lambda: ending_in(nn.Softmax(dim=1)), rate=0.01, momentum=0.0)


@demo
def relu_on_logits() -> Task:
    """A ReLU behind the last layer: what is below 0 learns no more. With Adam at a rate that kills outputs for good."""
    task = classify(lambda: ending_in(nn.ReLU()))
    return task.replace(optimizer=partial(torch.optim.Adam, lr=0.01))


@demo
def log_softmax_nll() -> Task:
    """The pair that belongs together: log-probabilities and NLLLoss."""
    return classify(lambda: ending_in(nn.LogSoftmax(dim=1)), rate=0.02).replace(loss=nn.NLLLoss())


@demo
def raw_into_nll() -> Task:
    """Raw outputs into NLLLoss."""
    return classify(small, rate=0.02).replace(loss=nn.NLLLoss())


def yes_or_no() -> tuple[Tensor, Tensor]:
    pixels, labels = images()
    return pixels, torch.isin(labels, torch.tensor(FOOTWEAR)).float()[:, None]


@demo
def footwear() -> Task:
    """Footwear or not: one logit."""
    return classify(lambda: nets.mlp([PIXELS, 64, 1], "relu"), rate=0.02).replace(
        train=yes_or_no(), val=None, loss=nn.BCEWithLogitsLoss()
    )


@demo
def sigmoid_twice() -> Task:
    """The same with a sigmoid in front of the loss that has its own."""
    return footwear().replace(model=lambda: nn.Sequential(nets.mlp([PIXELS, 64, 1], "relu"), nn.Sigmoid()))


@demo
def absolute_error_of_classes() -> Task:
    """The absolute error of one-hot labels, behind a sigmoid."""
    pixels, labels = images()
    task = classify(lambda: ending_in(nn.Sigmoid()), rate=0.02)
    return task.replace(train=(pixels, F.one_hot(labels, CLASSES).float()), val=None, loss=nn.L1Loss())


def how_bright() -> tuple[Tensor, Tensor]:
    """Brightness of each image, standardized: (3000, 784), (3000,)."""
    pixels, _ = images()
    ink = pixels.mean(1)
    return pixels, (ink - ink.mean()) / ink.std()


def brightness_of(loss: nn.Module, targets: Tensor) -> Task:
    return Task(
        model=lambda: nets.mlp([PIXELS, 64, 1], "relu"),
        train=(how_bright()[0], targets),
        loss=loss,
        optimizer=partial(SGD, lr=0.01, momentum=0.9),
        epochs=20,
        batch_size=100,
    )


@demo
def brightness() -> Task:
    """How bright is it: one number an image."""
    return brightness_of(nn.MSELoss(), how_bright()[1][:, None])


@demo
def column_against_row() -> Task:
    """Outputs (N, 1) against targets (N,)."""
    return brightness_of(nn.MSELoss(), how_bright()[1])
