"""A training from its settings to its folder: check, measure, train, write down."""

from __future__ import annotations

import copy
import logging
import math
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from runtrue import diagnosis
from runtrue.datasets import Images
from runtrue.keeping import keep_random_state
from runtrue.training import distribution, weights
from runtrue.training.callbacks import Watched, checkpoints
from runtrue.training.config import Config
from runtrue.training.errors import UntrainableError
from runtrue.training.folder import RunFolder, surroundings
from runtrue.training.module import Resumable, Row, Training
from runtrue.training.pace import Pace, Way, candidates, fastest
from runtrue.training.page import write_page
from runtrue.training.parts import images_of, loaders_of, network_of, normalized, recipe_of, task_of
from runtrue.training.resume import newest_sound

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """A finished run: its folder, its network with the final weights, and a row an epoch."""

    folder: RunFolder
    net: nn.Module
    history: tuple[dict[str, Any], ...]

    @property
    def val_accuracy(self) -> float:
        """Of the last epoch, from 0 to 1."""
        return float(self.history[-1]["val_accuracy"])

    @property
    def diverged(self) -> bool:
        """True if the loss was no number any more, which ends a run early."""
        return not math.isfinite(self.history[-1]["train_loss"])

    @property
    def path(self) -> Path:
        return self.folder.path


@dataclass(frozen=True)
class Asked:
    """One call: the settings, the folder, what was handed over as objects, and whom to tell."""

    config: Config
    folder: RunFolder
    resume: bool = False
    net: Any = None
    data: Any = None
    say: Say = print
    progress: bool = True


def run(asked: Asked) -> Trained:
    """Train as asked. The random state of the process is left as it is."""
    restore = keep_random_state()
    try:
        with quiet():
            return _run(asked)
    finally:
        restore()


def _run(asked: Asked) -> Trained:
    images = images_of(asked.config, asked.data)
    net = network_of(asked.config, images, asked.net)
    first = distribution.is_first()
    if first:
        asked.say(images.describe())
        asked.say(f"{asked.config.net}: {sum(p.numel() for p in net.parameters()):,} parameters")
    os.environ[distribution.RUN] = str(asked.folder.path)  # for the processes that Lightning starts
    if asked.resume or not first:
        config = distribution.settled(asked.folder)
        checkpoint = newest_sound(asked.folder, asked.say) if asked.resume else None
    else:
        config, checkpoint = prepared(asked, images, net), None
    asked = replace(asked, config=config)
    alike = copy.deepcopy(net)
    module, trainer = fit(asked, images, net, checkpoint)
    state = distribution.whole_state(module.net) if module.sharded else module.net.to("cpu").state_dict()
    if not trainer.is_global_zero:
        raise SystemExit(0)  # this process was started to help the first one
    alike.load_state_dict(state)
    return finished(asked, images, alike.eval())


def prepared(asked: Asked, images: Images, net: nn.Module) -> Config:
    """What has to be settled before the first step: no fault in sight, and the fastest way. Written into the folder."""
    config, folder = asked.config, asked.folder
    net.to(accelerator())
    folder.write_facts(status="started", started=time.time(), seed=config.seed, **surroundings())
    if config.check:
        check(asked, images, net)
    pace = settle(config, images, net)
    asked.say(f"as {pace.describe()}")
    config = config.changed(precision=pace.way.precision, channels_last=pace.way.channels_last)
    folder.write_config(config)
    folder.write_facts(
        data=images.describe(), classes=list(images.classes), parameters=sum(p.numel() for p in net.parameters()),
        skipped=[{"path": str(one.path), "reason": one.reason} for one in images.skipped], pace=pace.seconds,
    )  # fmt: skip
    return config


def check(asked: Asked, images: Images, net: nn.Module) -> None:
    """N3.1, N3.2: a short check of this very training. Raises UntrainableError if it finds a fault."""
    report = diagnosis.check(
        task_of(asked.config, images, net, accelerator()),
        budget=asked.config.check_seconds,
        seed=asked.config.seed,
        name=asked.config.net,
    )
    asked.folder.check.write_text(report.to_json() + "\n", encoding="utf-8")
    if not report.ok:
        asked.folder.write_facts(status=f"not started: {report.faults[0].cause}")
        raise UntrainableError(report, asked.folder)
    for warning in report.warnings:
        asked.say(f"warning, {warning.cause}: {warning.message}")
    asked.say(f"checked in {report.seconds:.0f} s: no fault")


def settle(config: Config, images: Images, net: nn.Module) -> Pace:
    """The fastest way among those that the settings leave open."""
    inputs, labels = (part.to(accelerator()) for part in normalized(images.train, images, config.batch_size))
    return fastest(net, (inputs, labels), candidates(net, config.precision, config.channels_last))


def accelerator() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def fit(asked: Asked, images: Images, net: nn.Module, checkpoint: Path | None) -> tuple[Training, pl.Trainer]:
    config, folder = asked.config, asked.folder
    way = Way(config.precision, bool(config.channels_last))
    if way.channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    watch = Watched(folder.path, model="net", say=asked.say) if config.watch else None
    trainer = pl.Trainer(
        default_root_dir=folder.path,
        max_epochs=config.epochs,
        accelerator="gpu" if accelerator() == "cuda" else "cpu",
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=distribution.strategy(config),
        precision="bf16-mixed" if way.precision == "bf16" else "32-true",
        gradient_clip_val=config.clip,
        sync_batchnorm=config.devices * config.nodes > 1 and accelerator() == "cuda",
        callbacks=[*checkpoints(folder, config.checkpoint_every), *([watch] if watch else [])],
        logger=logger(config, folder),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_progress_bar=asked.progress,
    )
    train, val = loaders_of(
        config, images, rank=int(trainer.global_rank), world=config.devices * config.nodes,
        channels_last=way.channels_last, device=trainer.strategy.root_device,
    )  # fmt: skip

    def told(row: Row) -> None:
        folder.add_epoch(row)
        if watch is not None:
            watch.tell(row)

    module = Training(net, recipe_of(config, len(train)), told)
    with interruptible(trainer):
        trainer.fit(module, Resumable(train, module), val, ckpt_path=checkpoint, weights_only=True)
    return module, trainer


@contextmanager
def interruptible(trainer: pl.Trainer) -> Iterator[None]:
    """Ctrl-C stays a KeyboardInterrupt: Lightning ends the program, and has later ones ignored."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from None


def logger(config: Config, folder: RunFolder) -> Any:
    """Lightning's own, beside the run's epochs.jsonl, which is always written."""
    if config.logger == "tensorboard":
        from pytorch_lightning.loggers import TensorBoardLogger

        return TensorBoardLogger(folder.path, name="logs", version="")
    if config.logger == "wandb":
        from pytorch_lightning.loggers import WandbLogger

        return WandbLogger(
            save_dir=folder.path, project="runtrue", name=folder.path.name, id=folder.path.name, resume="allow"
        )
    if config.logger == "csv":
        from pytorch_lightning.loggers import CSVLogger

        return CSVLogger(folder.path, name="logs", version="")
    return False


def finished(asked: Asked, images: Images, net: nn.Module) -> Trained:
    folder, history = asked.folder, asked.folder.history()
    weights.save(folder.weights, net, asked.config, images)
    trained = Trained(folder, net, tuple(history))
    folder.write_facts(status="diverged" if trained.diverged else "finished", finished=time.time(), last=history[-1])
    write_page(folder, asked.config, images.describe())
    return trained


def again(asked: Asked) -> Trained:
    """What a finished run left in its folder."""
    state, told = weights.load(asked.folder.weights)
    return Trained(asked.folder, weights.network(state, told, weights.of_target(told)), tuple(asked.folder.history()))


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's advice about things that are so on purpose is left out; its errors are not."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric)\..*")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
