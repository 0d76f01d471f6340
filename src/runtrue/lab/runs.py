"""Training as the experiments do it: a plain loop over real images, epoch by epoch, several runs side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from runtrue import workers
from runtrue.keeping import keep_random_state

K = TypeVar("K")
T = TypeVar("T")
Examples = tuple[Tensor, Tensor]
"""Inputs (N, ...) and labels (N,)."""

AT_ONCE = 1000  # examples in one pass without gradients


@dataclass(frozen=True)
class Epoch:
    """What is known after one epoch. Losses in nats an example, accuracies from 0 to 1."""

    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True)
class Run:
    """One training: the loss of every batch, and what was evaluated after each epoch."""

    losses: tuple[float, ...]
    epochs: tuple[Epoch, ...]

    @property
    def diverged(self) -> bool:
        return not all(map(math.isfinite, self.losses))


def fit(
    net: nn.Module,
    train: Examples,
    val: Examples,
    *,
    epochs: int,
    batch_size: int,
    optimizer: Optimizer,
    schedule: LRScheduler | None = None,
    seed: int = 0,
    on_epoch: Callable[[int], None] | None = None,
) -> Run:
    """Train by cross-entropy for `epochs` epochs and evaluate after each, on the training set as well, in evaluation mode.

    The order of the examples follows from the seed and the epoch. `schedule` steps once an epoch. Penalties hang on the
    optimizer (`penalties.L1(...).attach`). Stops early where the loss is not finite.
    """
    losses: list[float] = []
    told: list[Epoch] = []
    for epoch in range(epochs):
        net.train()
        step_losses: list[Tensor] = []
        order = torch.randperm(len(train[1]), generator=Generator().manual_seed(seed * 10_007 + epoch))
        for places in order.split(batch_size):
            if len(places) < batch_size and len(places) < len(order):
                continue  # a last batch of another size would be a step of another noise
            loss = F.cross_entropy(net(train[0][places]), train[1][places])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step_losses.append(loss.detach())
        losses += torch.stack(step_losses).tolist()
        if schedule is not None:
            schedule.step()
        told.append(Epoch(*evaluate(net, train), *evaluate(net, val)))
        if on_epoch is not None:
            on_epoch(epoch)
        if not math.isfinite(losses[-1]):
            break
    return Run(tuple(losses), tuple(told))


@torch.no_grad()
def evaluate(net: nn.Module, examples: Examples) -> tuple[float, float]:
    """Mean cross-entropy and accuracy in evaluation mode; the mode is put back."""
    mode = net.training
    net.eval()
    loss, right = 0.0, 0
    for inputs, labels in zip(examples[0].split(AT_ONCE), examples[1].split(AT_ONCE), strict=True):
        outputs = net(inputs)
        loss += F.cross_entropy(outputs, labels, reduction="sum").item()
        right += int((outputs.argmax(1) == labels).sum())
    net.train(mode)
    return loss / len(examples[1]), right / len(examples[1])


def seed_by_seed(work: Callable[[K, int], T], kinds: Iterable[K], numbers: Sequence[int]) -> dict[K, list[T]]:
    """What `work` gives for each kind, a result a seed, all of them side by side."""
    kinds = list(kinds)
    found = side_by_side([partial(work, kind, number) for kind in kinds for number in numbers])
    count = len(numbers)
    return {kind: found[place * count : (place + 1) * count] for place, kind in enumerate(kinds)}


def side_by_side(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """The results of all jobs, in order: on as many cores as there are, one thread each, so that the numbers of a run do not
    depend on the company it had. A job seeds whatever it draws; the random state of this process is left as it is."""
    found: dict[int, Any] = dict(workers.forked(jobs))
    for number, job in enumerate(jobs):
        if isinstance(failure := found.get(number), workers.Failure):
            raise failure.error
        if number not in found:
            with alone():
                found[number] = job()
    return [found[number] for number in range(len(jobs))]


@contextmanager
def alone() -> Iterator[None]:
    """One thread, as in a worker process; number of threads and random state are put back."""
    threads, restore = torch.get_num_threads(), keep_random_state()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        restore()
