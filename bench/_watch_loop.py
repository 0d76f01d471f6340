"""A training loop with every habit, good or bad, that `bench/watch_verdicts.py` needs, and what it is watched by.

What the watch's thread is handed is kept as it is (`Seen.packets`), so that the judges can be run again on the same trainings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import runtrue
from runtrue import datasets
from runtrue.watch import noting
from runtrue.watch.packets import Packet
from runtrue.watch.watching import Watch

EVERY = 10  # steps from one reading to the next
PACKET = 20  # steps from one judgement to the next
noting.FLUSH = math.inf  # packets go by the steps alone: verdicts must not depend on the clock
Loss = Callable[[Tensor, Tensor], Tensor]


class Set(NamedTuple):
    x: Tensor
    y: Tensor
    val_x: Tensor
    val_y: Tensor

    def first(self, count: int) -> Set:
        return self._replace(x=self.x[:count], y=self.y[:count])


@dataclass(eq=False)
class Seen:
    """Watches one run, possibly by several watches, and keeps what they hand on."""

    every: int = EVERY
    packets: list[list[Packet]] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)

    def watch(self, model: nn.Module, *optimizers: Optimizer, start: int = 0) -> Watch:
        watch = runtrue.watch(model, optimizers, every=self.every, say=_silent, start=start)
        kept: list[Packet] = []
        watch._scribe._take_in = lambda packet: kept.append(held(packet))  # type: ignore[method-assign]
        self.packets.append(kept)
        self.watches.append(watch)
        return watch

    def step(self, loss: Tensor | float | None, which: int = 0) -> None:
        watch = self.watches[which]
        watch.step(loss)
        if watch.steps % PACKET == 0:
            watch._flush()

    def epoch(self, **numbers: float) -> None:
        for watch in self.watches:
            watch.epoch(**numbers)

    def close(self) -> None:
        for watch in self.watches:
            watch.close()


def held(packet: Packet) -> Packet:
    """The same with its numbers read."""
    return replace(
        packet, losses=partial(list, packet.losses()), alike=partial(list, packet.alike()),
        stale=partial(list, packet.stale()), counts=packet.counts.copy(),
        readings=[replace(s, numbers=partial(list, s.numbers()), samples={}) for s in packet.readings],
    )  # fmt: skip


def _silent(text: str) -> None:
    if "stopped watching" in text:
        raise AssertionError(text)


# Data


@cache
def fashion(side: int = 14) -> Set:
    """3,000 and 1,000 real images, averaged down to 14 by 14."""
    (x, y), (val_x, val_y) = datasets.fashion_mnist(), datasets.fashion_mnist("test")
    return Set(F.adaptive_avg_pool2d(x, side), y, F.adaptive_avg_pool2d(val_x, side), val_y)


@cache
def flat() -> Set:
    images = fashion()
    return images._replace(x=images.x.flatten(1), val_x=images.val_x.flatten(1))


@cache
def rows() -> Set:
    """An image as a sequence of 14 rows."""
    images = fashion()
    return images._replace(x=images.x[:, 0], val_x=images.val_x[:, 0])


@cache
def friedman(count: int = 2000) -> Set:
    """Friedman 1991, eq. 61, with noise of standard deviation 1, scaled to mean 0 and standard deviation 1."""
    g = torch.Generator().manual_seed(7)
    x = torch.rand(count + 500, 10, generator=g)
    y = 10 * torch.sin(math.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    y = y + torch.randn(len(y), generator=g)
    x, y = (x - 0.5) / 0.289, ((y - y.mean()) / y.std())[:, None]
    return Set(x[:count], y[:count], x[count:], y[count:])


@cache
def moons(count: int = 2000, noise: float = 0.2) -> Set:
    """Two half circles, labels 0 and 1 as floats."""
    g = torch.Generator().manual_seed(8)
    angle, y = math.pi * torch.rand(count + 500, generator=g), torch.randint(2, (count + 500,), generator=g)
    x = torch.stack([torch.cos(angle) * (1 - 2 * y) + y, torch.sin(angle) * (1 - 2 * y) + 0.5 * y], 1)
    x = x + noise * torch.randn(x.shape, generator=g)
    return Set(x[:count], y[:count, None].float(), x[count:], y[count:, None].float())


@cache
def text() -> tuple[Tensor, int]:
    """The characters of this project's own README and contributing guide, as numbers, and how many kinds there are."""
    root = Path(__file__).parents[1]
    letters = "".join((root / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))
    kinds = sorted(set(letters))
    return torch.tensor([kinds.index(c) for c in letters]), len(kinds)


def lines(length: int = 32, count: int = 16, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of characters and of the characters that follow."""
    letters, _ = text()
    g = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(letters) - length - 1, (count,), generator=g)
        block = torch.stack([letters[s : s + length + 1] for s in starts.tolist()])
        yield block[:, :-1], block[:, 1:]


def shuffled(data: Set, batch: int, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches, each epoch in another order; the rest of an epoch is left out."""
    g = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(data.x), generator=g)
        for start in range(0, len(order) - batch + 1, batch):
            part = order[start : start + batch]
            yield data.x[part], data.y[part]


def in_order(data: Set, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        for start in range(0, len(data.x) - batch + 1, batch):
            yield data.x[start : start + batch], data.y[start : start + batch]


def score(outputs: Tensor, targets: Tensor) -> float:
    """Accuracy, or R² where the targets are numbers: 1 − mean squared error / variance."""
    if targets.dtype == torch.int64:
        return float((outputs.argmax(-1) == targets).float().mean())
    if bool(((targets == 0) | (targets == 1)).all()):
        return float(((outputs > 0).float() == targets).float().mean())
    return float(1 - (outputs - targets).square().mean() / targets.var())


# The loop


@dataclass(frozen=True)
class Habits:
    """What a loop does. The defaults are right."""

    steps: int = 400
    batch: int = 64
    schedule: Callable[[Optimizer], LRScheduler] | None = None
    scheduled_by: str = "step"  # or "epoch", or "val_loss": by epoch, told the loss
    clip: float | None = None
    accumulate: int = 1
    told: bool = True
    """Epochs are told, with accuracies and losses."""
    evaluated: bool = True
    per_epoch: int | None = None  # steps; None: one pass over the data
    clears: bool = True
    order: str = "right"  # or "step first", "clear, step, backward", "clear between"
    mode: str = "training"  # or "evaluation", "forgotten", "norms frozen", "norms frozen, statistics move"
    evaluates_in: str = "evaluation"  # or "training"
    batches: str = "shuffled"  # or "in order", "first again"
    closure: bool = False
    at_step: Callable[[int, nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    """May change the batch of a step."""
    decay_in_loss: float = 0.0
    seed: int = 0


def fit(
    seen: Seen, model: nn.Module, optimizer: Optimizer, data: Set, habits: Habits = Habits(),
    loss: Loss = F.cross_entropy, watched: tuple[Optimizer, ...] | None = None,
) -> float:  # fmt: skip
    """Train and watch. Returns the score on the training examples, in evaluation mode."""
    seen.watch(model, *(watched or (optimizer,)))
    h, schedule = habits, habits.schedule(optimizer) if habits.schedule else None
    source = in_order(data, h.batch) if h.batches == "in order" else shuffled(data, h.batch, h.seed)
    again = next(source)
    per_epoch = h.per_epoch or max(1, len(data.x) // h.batch)
    right, losses = [0.0], [0.0]
    set_mode(model, h.mode, start=True)
    for step in range(h.steps):
        value = torch.zeros(())
        for part in range(h.accumulate):
            x, y = again if h.batches == "first again" else next(source)
            if h.at_step is not None:
                x, y = h.at_step(step, model, x, y)
            last = part == h.accumulate - 1
            value, outputs = taken(model, optimizer, loss, x, y, h, clear=part == 0, step=last)
            right.append(score(outputs, y))
            losses.append(float(value))
        if schedule is not None and h.scheduled_by == "step":
            schedule.step()
        seen.step(value)
        if (step + 1) % per_epoch == 0:
            told = {"train_loss": sum(losses) / len(losses), "train_accuracy": sum(right) / len(right)}
            if h.evaluated:
                told |= evaluated(model, loss, data, h.evaluates_in)
                set_mode(model, h.mode, start=False)
            if h.told:
                seen.epoch(**{k: v for k, v in told.items() if data.y.dtype == torch.int64 or "loss" in k})
            if schedule is not None and h.scheduled_by == "epoch":
                schedule.step()
            elif schedule is not None and h.scheduled_by == "val_loss":
                schedule.step(told["val_loss"])  # type: ignore[arg-type]
            right, losses = [], []
    seen.close()
    model.eval()
    with torch.no_grad():
        return score(model(data.x), data.y)


def taken(
    model: nn.Module, optimizer: Optimizer, loss: Loss, x: Tensor, y: Tensor, h: Habits, clear: bool, step: bool
) -> tuple[Tensor, Tensor]:
    """One forward and backward pass, and a step, in the order that the habits say."""
    outputs = torch.zeros(())

    def closure() -> Tensor:
        nonlocal outputs
        if h.clears and clear and h.order != "step first":
            optimizer.zero_grad()
        outputs = model(x)
        value = loss(outputs, y) / h.accumulate
        if h.decay_in_loss:
            value = value + h.decay_in_loss * sum(p.square().sum() for p in model.parameters())
        if h.order == "step first":
            optimizer.step()
            optimizer.zero_grad()
        elif h.order == "clear, step, backward":
            optimizer.step()
        value.backward()
        if h.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), h.clip)
        return value

    if h.closure:
        stepped: Any = optimizer.step(closure)  # type: ignore[arg-type]  # torch declares that a closure returns a float
        assert isinstance(stepped, Tensor)
        return stepped.detach(), outputs.detach()
    value = closure()
    if h.order == "clear between":
        optimizer.zero_grad()
    if step and h.order in ("right", "clear between"):
        optimizer.step()
    return value.detach() * h.accumulate, outputs.detach()


def set_mode(model: nn.Module, mode: str, start: bool) -> None:
    if mode == "evaluation":
        model.eval()
    elif mode == "training" or start or mode.startswith("norms frozen"):
        model.train()
    if mode == "norms frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def evaluated(model: nn.Module, loss: Loss, data: Set, mode: str) -> dict[str, float]:
    """Over the validation examples, in a few batches."""
    model.train(mode == "training")
    with torch.no_grad():
        outputs = torch.cat([model(part) for part in data.val_x.split(250)])
    return {"val_loss": float(loss(outputs, data.val_y)), "val_accuracy": score(outputs, data.val_y)}


def parameters(model: nn.Module) -> list[Any]:
    return [p for p in model.parameters() if p.requires_grad]
