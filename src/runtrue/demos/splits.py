"""Specimens whose fault lies in the rows: labels that belong to others, order, copies, splits that do not match."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from runtrue import datasets
from runtrue.demos.basic import CLASSES, PIXELS, classify, images, small
from runtrue.demos.register import demo
from runtrue.nets import mlp
from runtrue.task import Task

SHIRT = 6
BATCH = 100


@demo
def shuffled_labels() -> Task:
    """Every image has the label of some other image."""
    pixels, labels = images()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(5))
    return classify(small, rate=0.02).replace(train=(pixels, labels[order]), val=None)


@demo
def labels_off_by_one() -> Task:
    """Every image has the label of the image after it."""
    pixels, labels = images()
    return classify(small, rate=0.02).replace(train=(pixels, labels.roll(-1)), val=None)


def _few_shirts() -> tuple[Tensor, Tensor]:
    """30 shirts among the 2,700 images of other things: (2730, 784), and whether it is a shirt."""
    pixels, labels = images()
    shirts = (labels == SHIRT).nonzero()[:, 0]
    rows = torch.cat([(labels != SHIRT).nonzero()[:, 0], shirts[:30]])
    return pixels[rows], (labels[rows] == SHIRT).long()


def _find_shirts(loss: nn.Module) -> Task:
    return Task(
        model=lambda: mlp([PIXELS, 64, 2], "relu"),
        train=_few_shirts(),
        loss=loss,
        optimizer=partial(torch.optim.SGD, lr=0.001, momentum=0.9),
        epochs=5,
        batch_size=BATCH,
    )


@demo
def rare_class() -> Task:
    """Is it a shirt? One in ninety is, and the network answers no to all."""
    return _find_shirts(nn.CrossEntropyLoss())


@demo
def rare_class_weighted() -> Task:
    """The same with errors on shirts weighted as much as all others together: healthy."""
    return _find_shirts(nn.CrossEntropyLoss(weight=torch.tensor([0.5 * 2730 / 2700, 0.5 * 2730 / 30])))


def _sorted() -> tuple[Tensor, Tensor]:
    """The images, class after class."""
    pixels, labels = images()
    order = labels.argsort(stable=True)
    return pixels[order], labels[order]


def _loaded(shuffle: bool) -> Task:
    return classify(small, rate=0.02).replace(
        train=DataLoader(TensorDataset(*_sorted()), BATCH, shuffle=shuffle), val=None
    )


@demo
def sorted_batches() -> Task:
    """The set is sorted by class, and the loader goes through it in order."""
    return _loaded(shuffle=False)


@demo
def shuffled_batches() -> Task:
    """The same set behind a loader that shuffles: healthy."""
    return _loaded(shuffle=True)


class Images(Dataset[Any]):
    """The images, of which only the first `pool` are ever given: an index that wraps too early."""

    def __init__(self, pool: int) -> None:
        self.pixels, self.labels = images()
        self.pool = pool

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pixels[index % self.pool], self.labels[index]


@demo
def repeated_images() -> Task:
    """Thirty images for three thousand labels."""
    return classify(small, rate=0.02).replace(train=Images(30), val=None)


@demo
def every_image_once() -> Task:
    """The same class with an index that is right: healthy."""
    return classify(small, rate=0.02).replace(train=Images(3000), val=None)


@demo
def val_is_train() -> Task:
    return classify(small, rate=0.02).replace(val=images())


@demo
def sorted_split() -> Task:
    """Sorted by class, then cut: the last two classes are validated and never trained on."""
    pixels, labels = _sorted()
    cut = len(labels) * (CLASSES - 2) // CLASSES
    return classify(small, rate=0.02).replace(train=(pixels[:cut], labels[:cut]), val=(pixels[cut:], labels[cut:]))


@demo
def val_scaled_twice() -> Task:
    """Training images are standardised; grey levels to validate on were divided by 255 twice."""
    pixels, labels = datasets.fashion_mnist("test", flat=True, normalize=False)
    return classify(small, rate=0.02).replace(val=(pixels / 255, labels))
