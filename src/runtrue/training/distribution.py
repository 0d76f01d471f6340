"""Several processes: who is who, and how they agree on one run. The strategies are Lightning's (DDP, FSDP)."""

from __future__ import annotations

import os
import time
from typing import Any

import pytorch_lightning as pl
import torch

from runtrue.training.config import Config, ConfigError
from runtrue.training.folder import RunFolder

RUN = "RUNTRUE_RUN"  # the folder, handed to the processes that Lightning starts by running the command again
RANKS = ("RANK", "SLURM_PROCID")  # of torchrun and of SLURM; in the processes that Lightning starts it is LOCAL_RANK
PATIENCE = 1800.0  # seconds that the other nodes wait for the first one's check and measurement


def is_first() -> bool:
    """True in the process that checks, measures, and writes the folder."""
    for name in (*RANKS, "LOCAL_RANK"):
        if (said := os.environ.get(name)) is not None and said.isdigit():
            return int(said) == 0 and os.environ.get("NODE_RANK", "0") == "0"
    return os.environ.get("NODE_RANK", "0") == "0"


def rank(trainer: pl.Trainer) -> int:
    return int(trainer.global_rank)


def settled(folder: RunFolder) -> Config:
    """The settings that the first process wrote, as soon as they are there."""
    until = time.monotonic() + PATIENCE
    while not folder.config.is_file() and not is_first() and time.monotonic() < until:
        time.sleep(0.2)
    return folder.read_config()


def strategy(config: Config) -> Any:
    world = config.devices * config.nodes
    if world == 1 and config.strategy != "fsdp":
        return "auto"
    if config.strategy == "fsdp":
        if not torch.cuda.is_available():
            raise ConfigError(
                "strategy fsdp needs GPUs: PyTorch Lightning shards parameters on them alone; take ddp on CPUs"
            )
        return "fsdp"
    return "ddp"
