"""The plain training loop of the bench, as a user would write it. It knows nothing of how runtrue judges."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from diagnosis.parts import Arm
from runtrue import Task

USUAL_EPOCHS = 10


def fit(task: Task, epochs: int | None = None) -> nn.Module:
    """Train the task for its epochs and return the model in evaluation mode. The task's own objects are trained.

    Stops after an epoch whose last loss is no finite number: nothing can come of it.
    """
    task = task.built()
    model, make = task.model, task.optimizer
    assert isinstance(model, nn.Module)
    if make is None:
        optimizer: torch.optim.Optimizer = torch.optim.Adam(model.parameters())
    else:
        optimizer = make if isinstance(make, torch.optim.Optimizer) else make(model.parameters())
    each = epochs_of(task.train, task.batch_size)
    model.train()
    for _ in range(epochs or task.epochs or USUAL_EPOCHS):
        last = math.nan
        for batch in each():
            optimizer.zero_grad()
            loss = loss_of(task, model, batch)
            loss.backward()
            optimizer.step()
            last = float(loss.detach())
        if not math.isfinite(last):
            break
    return model.eval()


def loss_of(task: Task, model: nn.Module, batch: Any) -> Tensor:
    if task.step is not None:
        return task.step(model, batch)
    assert task.loss is not None
    *inputs, targets = batch
    return task.loss(model(*inputs), targets)


def epochs_of(train: Any, batch_size: int) -> Callable[[], Iterable[Any]]:
    """A function that gives the batches of one more epoch, for every form of training data that a task may have."""
    if is_pair(train):
        return lambda: shuffled(train, batch_size)
    if isinstance(train, Dataset):
        return lambda: DataLoader(train, batch_size, shuffle=True)
    if callable(train) and not isinstance(train, Iterable):
        return train  # type: ignore[no-any-return]
    if isinstance(train, Iterator):
        kept = list(train)
        return lambda: kept
    return lambda: train


def is_pair(train: Any) -> bool:
    return isinstance(train, (tuple, list)) and len(train) == 2 and all(isinstance(part, Tensor) for part in train)


def shuffled(pair: tuple[Tensor, Tensor], size: int) -> Iterator[tuple[Tensor, Tensor]]:
    inputs, targets = pair
    for rows in torch.randperm(len(inputs)).split(size):
        yield inputs[rows], targets[rows]


def judge(model: nn.Module, arm: Arm) -> float:
    """The arm's metric of a trained model, on raw inputs in evaluation mode."""
    inputs, targets = arm.examination
    model.eval()
    with torch.no_grad():
        outputs = torch.cat([model(*several(part)) for part in slices(inputs)])
    return arm.metric(outputs, targets)


SLICE = 1024  # examples that are evaluated at once


def slices(inputs: Any) -> Iterator[Any]:
    if isinstance(inputs, (tuple, list)):
        yield from zip(*(part.split(SLICE) for part in inputs))
    else:
        yield from inputs.split(SLICE)


def several(part: Any) -> tuple[Any, ...]:
    return tuple(part) if isinstance(part, (tuple, list)) else (part,)
