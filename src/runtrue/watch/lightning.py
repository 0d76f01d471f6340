"""The watch as a callback of pytorch-lightning.

    from runtrue.watch.lightning import Watch
    Trainer(callbacks=[Watch()])                       # the record goes to the trainer's own folder
    Trainer(callbacks=[Watch("runs/a", every=20)])

Verdicts are printed, written to the record and, where the trainer has loggers, counted there as "runtrue/verdicts".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from runtrue.findings import Finding
from runtrue.watch.watching import Watch as Watching


class Watch(pl.Callback):
    """run: the folder of the record; None: that of the trainer, False: no record. every, say: as for `runtrue.watch`. model:
    the path of the part to watch ("net"), where `training_step` calls it as a whole: then the origin of a NaN can be sought in
    it. None: everything.

    The numbers of an epoch are those that the module logs: what is called train_… or val_… (val_acc, val_accuracy, val/loss).
    """

    def __init__(
        self, run: str | Path | bool | None = None, *, every: int | None = None, say: Callable[[str], None] | None = None,
        model: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.run, self.every, self.say, self.model = run, every, say, model
        self.watching: Watching | None = None
        self._verdicts: tuple[Finding, ...] = ()

    @property
    def verdicts(self) -> tuple[Finding, ...]:
        return self.watching.verdicts if self.watching is not None else self._verdicts

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        folder: Path | None = None
        if self.run is not False:
            folder = (
                Path(trainer.log_dir or trainer.default_root_dir) if self.run in (None, True) else Path(str(self.run))
            )
        self._end()
        watched = module if self.model is None else module.get_submodule(self.model)
        self.watching = Watching(
            watched, trainer.optimizers, folder, self.every, self.say, None, None, trainer.global_step,
            together=trainer.world_size > 1, by_hand=self.model is None,
        )  # fmt: skip

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if self.watching is not None and self.model is None:
            self.watching.forward_begins(batch)

    def on_before_backward(self, trainer: pl.Trainer, module: pl.LightningModule, loss: Tensor) -> None:
        if self.watching is not None:
            self.watching.forward_ends()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.watching is not None:
            self.watching.step(loss_of(outputs))

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.watching is not None:
            self.watching.epoch(**told(trainer.callback_metrics))

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._end()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self._end()

    def _end(self) -> None:
        if self.watching is not None:
            self._verdicts = self.watching.verdicts
            self.watching.close()
            self.watching = None


def loss_of(outputs: Any) -> Tensor | None:
    """What `training_step` returned, or its "loss"."""
    found = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return found.detach() if isinstance(found, Tensor) else None


def told(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    """Losses and accuracies of both sets, by the names that `Watch.epoch` knows. Read once an epoch."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        parts = name.lower().replace("/", "_").replace("-", "_").split("_")
        side = (
            "train"
            if "train" in parts or "training" in parts
            else "val"
            if parts[0] in ("val", "valid", "validation")
            else ""
        )
        what = "loss" if "loss" in parts else "accuracy" if {"acc", "accuracy"} & set(parts) else ""
        if side and what and not {"step"} & set(parts):
            found[f"{side}_{what}"] = float(torch.as_tensor(value))
    return found
