"""Several processes: who is who, and how they agree on one run. The strategies are Lightning's (DDP, FSDP)."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from torch import nn

from runtrue.training.config import Config
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


def settled(folder: RunFolder) -> Config:
    """The settings that the first process wrote, as soon as they are there."""
    until = time.monotonic() + PATIENCE
    while not folder.config.is_file() and not is_first() and time.monotonic() < until:
        time.sleep(0.2)
    return folder.read_config()


def strategy(config: Config) -> Any:
    """Lightning's strategy for these settings: `fsdp` is FSDP2 (fully_shard), on GPUs and on CPUs."""
    world = config.devices * config.nodes
    if config.strategy == "fsdp":
        from pytorch_lightning.strategies import ModelParallelStrategy

        return ModelParallelStrategy(
            data_parallel_size=world, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    return "auto" if world == 1 else "ddp"


def shard(net: nn.Module, mesh: Any) -> None:
    """Each process holds its share of every parameter: block by block, so that one block at a time is gathered."""
    from torch.distributed.fsdp import fully_shard

    for layer in net.modules():
        inner = [child for child in layer.children() if list(child.parameters())]
        if inner and not any(list(child.children()) for child in inner) and layer is not net:
            fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh)


def whole_state(net: nn.Module) -> dict[str, Any]:
    """The state of a network, gathered where it is spread over processes: to be called in all of them."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(net, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def helped() -> bool:
    """True in a process that Lightning started beside the first one, by running the command again."""
    return "LOCAL_RANK" in os.environ and RUN in os.environ


def by_command() -> bool:
    """True where running this process's command again starts the same training: `runtrue train`, torchrun, SLURM."""
    ran = Path(sys.argv[0])
    return ran.name.startswith("runtrue") or ran.parent.name == "runtrue" or any(name in os.environ for name in RANKS)
