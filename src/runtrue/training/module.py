"""The training as Lightning runs it: loss, optimizer, schedule, and what is counted on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from runtrue.keeping import seed_all
from runtrue.training import distribution

COUNTED = 3  # what a set is counted by: sum of the losses, right answers, examples
COUNTS = "runtrue_train_counts"  # in a checkpoint: of the epoch that it lies in
STRIDE = 1_000_003  # a prime: seeds of neighbouring runs share no step's random numbers for as many steps


Row = dict[str, Any]
"""What is known at the end of an epoch: epoch, step, losses and accuracies of both sets, lr, seconds."""


class Penalty(Protocol):
    def attach(self, model: nn.Module, optimizer: Optimizer) -> Any: ...


class Batches(Protocol):
    """What a loader has to be: batches that follow from the epoch and their number alone."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...
    def set_epoch(self, epoch: int) -> None: ...
    def start_at(self, batch: int) -> None: ...


@dataclass(frozen=True)
class Recipe:
    """How the weights move. optimizer: model -> Optimizer; schedule: optimizer -> scheduler that is stepped once a step."""

    optimizer: Callable[[nn.Module], Optimizer]
    schedule: Callable[[Optimizer], LRScheduler]
    penalties: Sequence[Penalty] = ()
    seed: int = 0
    compile: bool = False


class Training(pl.LightningModule):
    """Cross-entropy of the network's raw outputs (B, classes) against labels (B,).

    The random numbers of a step (dropout) follow from the seed and the number of the step, so that a resumed run draws what the
    uninterrupted one does. Losses are summed on the device and read once an epoch.
    """

    def __init__(self, net: nn.Module, recipe: Recipe, told: Callable[[Row], None] | None = None) -> None:
        super().__init__()
        self.net, self.recipe, self.told = net, recipe, told
        self.began, self.sharded = 0.0, False
        self.passes: Callable[[Tensor], Tensor] = torch.compile(net) if recipe.compile else net.__call__
        self.train_counts, self.val_counts = (torch.zeros(COUNTED, dtype=torch.float64) for _ in range(2))

    def on_fit_start(self) -> None:
        """Each process counts its own share: as buffers they would be made alike by DDP."""
        self.train_counts, self.val_counts = self.train_counts.to(self.device), self.val_counts.to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[COUNTS] = self._summed(self.train_counts).cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.is_global_zero:
            self.train_counts = checkpoint[COUNTS]

    def forward(self, inputs: Tensor) -> Any:
        return self.net(inputs)

    def configure_model(self) -> None:
        """Called by Lightning in every process, once it is known how many there are."""
        if isinstance(self.trainer.strategy, ModelParallelStrategy) and not self.sharded:
            assert self.device_mesh is not None
            distribution.shard(self.net, self.device_mesh["data_parallel"])
            self.sharded = True

    def configure_optimizers(self) -> Any:
        optimizer = self.recipe.optimizer(self.net)
        for penalty in self.recipe.penalties:
            penalty.attach(self.net, optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.recipe.schedule(optimizer), "interval": "step"},
        }

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        seed_all(self.recipe.seed * STRIDE + self.global_step * self.trainer.world_size + self.global_rank)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, labels = batch
        outputs = self.passes(inputs).float()
        loss = F.cross_entropy(outputs, labels)
        count(self.train_counts, loss, outputs, labels)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        inputs, labels = batch
        if len(labels):  # a process may be left without any of the last, smaller batch
            outputs = self.net(inputs).float()
            count(self.val_counts, F.cross_entropy(outputs, labels), outputs, labels)

    def on_validation_epoch_start(self) -> None:
        self.val_counts.zero_()

    def on_train_epoch_start(self) -> None:
        self.began = time.monotonic()

    def on_train_epoch_end(self) -> None:
        """Behind the validation: one row of numbers, for the loggers and for the run's history."""
        row = {"lr": float(self.trainer.optimizers[0].param_groups[0]["lr"])}
        for name, counts in (("train", self.train_counts), ("val", self.val_counts)):
            total, right, examples = self._summed(counts).tolist()
            row |= {f"{name}_loss": total / examples, f"{name}_accuracy": right / examples}
        self.log_dict(row, prog_bar=True)
        if not math.isfinite(row["train_loss"]):
            self.trainer.should_stop = True  # no step from here leads back to numbers
        self.train_counts.zero_()
        if self.told is not None and self.trainer.is_global_zero:
            where = {"epoch": self.current_epoch, "step": self.global_step}
            self.told({**where, **row, "seconds": time.monotonic() - self.began})

    def _summed(self, counts: Tensor) -> Tensor:
        """Over all processes."""
        total = self.trainer.strategy.reduce(counts.clone(), reduce_op="sum")
        assert isinstance(total, Tensor)
        return total


def count(counts: Tensor, loss: Tensor, outputs: Tensor, labels: Tensor) -> None:
    """Add a batch to the counts, without waiting for the device. loss: mean of the batch."""
    with torch.no_grad():
        counts[0] += loss.double() * len(labels)
        counts[1] += (outputs.argmax(1) == labels).sum()
        counts[2] += len(labels)


class Resumable:
    """A loader as Lightning asks for it: every epoch its own batches, and after a resume the rest of the epoch that was cut.

    Where an epoch goes on follows from the number of steps taken. Lightning holds on to the state of a loader only if it has
    one: here there is nothing to hold.
    """

    def __init__(self, loader: Batches, module: Training) -> None:
        self.loader, self.module = loader, module

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, batch = divmod(self.module.global_step, len(self.loader))
        self.loader.set_epoch(epoch)
        self.loader.start_at(batch)
        yield from self.loader

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
