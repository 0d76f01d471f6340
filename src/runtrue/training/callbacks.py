"""Checkpoints that a resume can trust, at the end of each epoch and within one; and the watch."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from runtrue.training.folder import RunFolder
from runtrue.training.module import Row
from runtrue.watch.lightning import Watch

KEPT = 2  # checkpoints of each kind: if the newest is damaged, the one before it is there


class WithinEpoch(ModelCheckpoint):
    """Not behind the last batch of an epoch: the checkpoint that follows the validation stands for that."""

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *args, **kwargs)


def checkpoints(folder: RunFolder, every: int | None) -> list[ModelCheckpoint]:
    """At the end of each epoch, and every so many steps. Lightning writes each whole or not at all."""
    kept: dict[str, Any] = {"dirpath": folder.checkpoints, "monitor": "step", "mode": "max", "save_top_k": KEPT}
    made = [ModelCheckpoint(filename="epoch-{step}", every_n_epochs=1, save_on_train_epoch_end=True, **kept)]
    if every is not None:
        made.append(WithinEpoch(filename="within-{step}", every_n_train_steps=every, **kept))
    return made


class Watched(Watch):
    """The watch of a run: its epochs are told by the training itself, behind the validation."""

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """`tell` does it."""

    def tell(self, row: Row) -> None:
        if self.watching is not None:
            self.watching.epoch(**{name: row[name] for name in TOLD})


TOLD = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
