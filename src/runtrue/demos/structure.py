"""Specimens of structure and of regularization: what stands between layers, how wide they are, and what holds them back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD

from runtrue import nets
from runtrue.demos.basic import CLASSES, PIXELS, classify, images
from runtrue.demos.register import demo
from runtrue.task import Task

SMALL = 49  # pixels of an image of 7 by 7


def crossed() -> tuple[Tensor, Tensor]:
    """(3000, 49) small images, labelled by whether just one of two things holds: the middle is brighter than in most images; the
    left half is, compared with the right. About half are, and no line tells them apart."""
    pixels, _ = images(flat=False)
    middle = pixels[:, 0, 10:18, 10:18].mean((1, 2))
    sides = pixels[:, 0, :, :14].mean((1, 2)) - pixels[:, 0, :, 14:].mean((1, 2))
    labels = (middle > middle.median()) ^ (sides > sides.median())
    return F.avg_pool2d(pixels, 4).flatten(1), labels.long()


def tell_crossed(model: Callable[[], nn.Module], rate: float = 0.05) -> Task:
    return classify(model, rate).replace(train=crossed(), val=None)


@demo
def no_activations() -> Task:
    """Three linear layers and nothing between them, for a question that no linear network answers."""
    return tell_crossed(lambda: nn.Sequential(nn.Linear(SMALL, 128), nn.Linear(128, 64), nn.Linear(64, 2)))


@demo
def with_activations() -> Task:
    return tell_crossed(lambda: nets.mlp([SMALL, 128, 64, 2], "relu"))


@demo
def softmax_hidden() -> Task:
    """Softmax as the activation of both hidden layers."""

    def build() -> nn.Module:
        hidden = (nn.Linear(PIXELS, 128), nn.Softmax(dim=1), nn.Linear(128, 64), nn.Softmax(dim=1))
        return nn.Sequential(*hidden, nn.Linear(64, CLASSES))

    return classify(build, rate=0.02)


@demo
def one_unit() -> Task:
    """Everything must pass through a single ReLU unit."""
    return classify(lambda: nets.mlp([PIXELS, 1, 64, CLASSES], "relu"), rate=0.02)


def normalized(batch_size: int) -> Task:
    task = classify(lambda: nets.mlp([PIXELS, 128, 64, CLASSES], "relu", norm="batch"), rate=0.01)
    return task.replace(batch_size=batch_size)


@demo
def pairs_of_images() -> Task:
    """Batch normalization over two examples: each unit tells which of the two is larger, and no more."""
    return normalized(2)


@demo
def batches_with_norm() -> Task:
    return normalized(50)


@demo
def single_images() -> Task:
    """Batch normalization over one example, which torch refuses."""
    return normalized(1)


def decayed(weight_decay: float) -> Task:
    task = classify(lambda: nets.mlp([PIXELS, 128, 64, CLASSES], "relu"))
    return task.replace(optimizer=partial(SGD, lr=0.02, momentum=0.9, weight_decay=weight_decay))


@demo
def heavy_decay() -> Task:
    return decayed(1.0)


@demo
def light_decay() -> Task:
    return decayed(1e-4)


@demo
def heavy_penalty() -> Task:
    """The sum of all weights' sizes in the loss, where their mean was meant."""
    net = nets.mlp([PIXELS, 128, 64, CLASSES], "relu")

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        size = torch.stack([p.abs().sum() for p in net.parameters()]).sum()
        return F.cross_entropy(outputs, labels) + 0.05 * size

    return classify(lambda: net, rate=0.02).replace(model=net, loss=loss)


def dropped(p: float) -> Task:
    return classify(lambda: nets.mlp([PIXELS, *[128] * 4, CLASSES], "relu", dropout=p), rate=0.02)


@demo
def heavy_dropout() -> Task:
    return dropped(0.9)


@demo
def light_dropout() -> Task:
    return dropped(0.1)


@demo
def dropout_in_evaluation() -> Task:
    """`F.dropout` without `training=self.training`: predictions are drawn by lot."""

    class Restless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(PIXELS, 128), nn.Linear(128, CLASSES)

        def forward(self, x: Tensor) -> Tensor:  # (B, 784) -> (B, 10)
            return self.head(F.dropout(F.relu(self.body(x)), 0.5))  # type: ignore[no-any-return]

    return classify(Restless, rate=0.02)


class Asleep(nn.Sequential):
    """A network that leaves its normalization in evaluation mode, as one does with one that was trained before."""

    def train(self, mode: bool = True) -> Asleep:
        super().train(mode)
        for module in self:
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
        return self


def deep_normalized(kind: type[nn.Sequential]) -> Task:
    """Ten ReLU layers that need the normalization in front of them: weights as torch leaves them fade by half a layer."""

    def build() -> nn.Module:
        hidden = [part for _ in range(9) for part in (nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU())]
        first = (nn.Linear(PIXELS, 128), nn.BatchNorm1d(128), nn.ReLU())
        return kind(*first, *hidden, nn.Linear(128, CLASSES)).train()

    return classify(build, rate=0.02)


@demo
def asleep() -> Task:
    return deep_normalized(Asleep)


@demo
def awake() -> Task:
    return deep_normalized(nn.Sequential)
