"""Several processes, one record: the numbers of all ranks brought together, off the training path.

A process group of its own, on the CPU, is used by the scribes' threads alone: no collective of the training can be mixed up with
one of these, and a rank that is gone delays nobody but the record.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from runtrue.watch.loop import unwrapped
from runtrue.watch.packets import Key
from runtrue.watch.record import FILE
from runtrue.watch.stepping import shards

PATIENCE = timedelta(seconds=60)
NORMS = ("grad_norm", "moved", "moved_from")
"""Of a sharded parameter these are of the shard: squares add up."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """The group, the parameters that are sharded over it (with the number of copies that there are of each shard), and which
    of the group's processes this is."""

    group: Any
    sharded: Mapping[str, int]
    rank: int
    world: int

    def agree(self, step: int, names: Iterable[Key]) -> None:
        """Raises RuntimeError, in every rank, unless all have read the same of the same step. To be called before the numbers are
        brought together: messages of different lengths break a process group."""
        told = "\n".join([str(step), *(f"{name}\t{what}" for name, what in names)])
        own = float(zlib.crc32(told.encode()))
        ends = torch.tensor([own, -own], dtype=torch.float64)
        dist.all_reduce(ends, dist.ReduceOp.MAX, group=self.group)
        if ends[0] != -ends[1]:
            raise RuntimeError(f"the ranks read different layers or other steps (rank {self.rank}: step {step})")

    def together(self, numbers: Mapping[Key, float]) -> dict[Key, float]:
        """The norm of a sharded parameter over all its shards; of everything else the mean over the ranks.

        Raises RuntimeError if a rank does not answer.
        """
        squared = {name for name in numbers if name[1] in NORMS and name[0] in self.sharded}
        own = [x * x if name in squared else x / self.world for name, x in numbers.items()]
        packed = torch.tensor(own, dtype=torch.float64)
        dist.all_reduce(packed, group=self.group)
        return {
            name: math.sqrt(total / self.sharded[name[0]]) if name in squared and total >= 0 else total
            for name, total in zip(numbers, packed.tolist())
        }

    def apart(self, numbers: Mapping[Key, float]) -> list[str]:
        """Parameters that every rank holds whole and that differ between the ranks."""
        names = [name for name, what in numbers if what == "moved_from" and name not in self.sharded]
        own = torch.tensor([numbers[name, "moved_from"] for name in names], dtype=torch.float64)
        ends = torch.cat([own, -own])
        dist.all_reduce(ends, dist.ReduceOp.MAX, group=self.group)
        high, low = ends[: len(names)], -ends[len(names) :]
        return [name for name, differs in zip(names, (high > low).tolist()) if differs]

    def close(self) -> None:
        """Ends the threads of the group: those that still run when the interpreter ends can take the process down with them."""
        if dist.is_initialized():
            with suppress(AssertionError, KeyError, RuntimeError, ValueError):  # the user has ended it, or begun anew
                dist.destroy_process_group(self.group)


def ranks(model: nn.Module) -> Ranks | None:
    """To be called by every process of a distributed training; None in any other."""
    if rank() is None or dist.get_world_size() == 1:
        return None
    world = dist.get_world_size()
    named = unwrapped(model).named_parameters()
    sharded = {name: max(1, world // shards(p)) for name, p in named if hasattr(p, "to_local")}
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    return Ranks(group, sharded, dist.get_rank(), world)


def rank() -> int | None:
    """Of this process; None if it is the only one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else None


def place(run: Path, group: Ranks | None) -> Path:
    """The file of a run's record. Processes that are not watched together do not write into the same one."""
    own = rank() if group is None else None
    return run / (f"watch-rank{own}.sqlite" if own else FILE)
