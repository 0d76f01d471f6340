"""The watch as a callback of pytorch-lightning.

    from runtrue.watch.lightning import Watch
    Trainer(callbacks=[Watch()])                       # the record goes to the trainer's own folder
    Trainer(callbacks=[Watch("runs/a", every=20)])
    Trainer(callbacks=[Watch(log=True)], logger=...)   # a few numbers go to the trainer's loggers too

Verdicts are printed and written to the record. A step of the record is a batch, whether the optimizer stepped on it or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
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
    it. None: everything. log: about once a second, "runtrue/grad_norm", "runtrue/update_ratio" and others (as `log` of
    `runtrue.watch` tells), and "runtrue/verdicts", their number so far, go to the trainer's loggers.

    The numbers of an epoch are those that the module logs: what is called train_… or val_… (val_acc, val_accuracy, val/loss).
    """

    def __init__(
        self, run: str | Path | bool | None = None, *, every: int | None = None, say: Callable[[str], None] | None = None,
        model: str | None = None, log: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.run, self.every, self.say, self.model = run, every, say, model
        self._forwards = log  # the trainer puts a `log` of its own on each callback
        self.watching: Watching | None = None
        self._verdicts: tuple[Finding, ...] = ()

    @property
    def verdicts(self) -> tuple[Finding, ...]:
        return self.watching.verdicts if self.watching is not None else self._verdicts

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._end()
        watched = module if self.model is None else module.get_submodule(self.model)
        self.watching = Watching(
            watched, trainer.optimizers, self._folder(trainer), self.every, self.say,
            log=partial(self._to_loggers, trainer) if self._forwards else None, start=batches_so_far(trainer),
            together=trainer.world_size > 1, by_hand=self.model is None,
        )  # fmt: skip

    def _folder(self, trainer: pl.Trainer) -> Path | None:
        """The same in all processes: asking the trainer is one of the things that they do together."""
        if self.run is None or isinstance(self.run, bool):
            return None if self.run is False else Path(trainer.log_dir or trainer.default_root_dir)
        return Path(self.run)

    def _to_loggers(self, trainer: pl.Trainer, numbers: Mapping[str, float], step: int) -> None:
        """At the step that the trainer's own numbers of now are logged at: loggers take no earlier one."""
        named = {f"runtrue/{name}": number for name, number in numbers.items()}
        now = getattr(trainer.fit_loop.epoch_loop, "_batches_that_stepped", trainer.global_step)
        for logger in trainer.loggers:
            logger.log_metrics({**named, "runtrue/verdicts": float(self._count)}, step=now)

    @property
    def _count(self) -> int:
        """Of the verdicts, without waiting for those on their way."""
        return self.watching.so_far if self.watching is not None else len(self._verdicts)

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


def batches_so_far(trainer: pl.Trainer) -> int:
    """Of all epochs; not 0 if the training was resumed."""
    total: Any = trainer.fit_loop.epoch_loop.batch_progress.total
    return int(total.processed)


def loss_of(outputs: Any) -> Tensor | None:
    """What `training_step` returned, or its "loss"."""
    found = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return found.detach() if isinstance(found, Tensor) else None


def told(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    """Losses and accuracies of both sets, by the names that `Watch.epoch` knows. Read once an epoch."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        parts = name.lower().replace("/", "_").replace("-", "_").split("_")
        side = "train" if {"train", "training"} & set(parts) else ""
        side = "val" if parts[0] in ("val", "valid", "validation") else side
        what = "loss" if "loss" in parts else "accuracy" if {"acc", "accuracy"} & set(parts) else ""
        if side and what and not {"step"} & set(parts):
            found[f"{side}_{what}"] = float(torch.as_tensor(value))
    return found
