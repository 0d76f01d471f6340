"""Several processes, one record: the numbers of all ranks brought together, off the training path.

A process group of its own, on the CPU, is used by the scribes' threads alone: no collective of the training can be mixed up with
one of these, and a rank that is gone delays nobody but the record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

Key = tuple[str, str]
PATIENCE = timedelta(seconds=60)
NORMS = ("grad_norm", "weight_norm", "moved", "moved_from")
"""Of a sharded parameter these are of the shard: squares add up."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """The group, which parameters are sharded over it, and which of the group's processes this is."""

    group: Any
    sharded: frozenset[str]
    rank: int
    world: int

    def together(self, numbers: Mapping[Key, float]) -> dict[Key, float]:
        """The norm of a sharded parameter over all its shards; of everything else the mean over the ranks.

        Raises RuntimeError if a rank does not answer, or has read something else.
        """
        names = list(numbers)
        squares = [what in NORMS and name in self.sharded for name, what in names]
        own = [x * x if squared else x / self.world for x, squared in zip(numbers.values(), squares)]
        packed = torch.tensor([float(len(names)), *own], dtype=torch.float64)
        dist.all_reduce(packed, group=self.group)
        if packed[0] != self.world * len(names):
            raise RuntimeError(f"the ranks read different layers: rank {self.rank} read {len(names)} numbers")
        sums = packed[1:].tolist()
        return {
            name: math.sqrt(total) if squared and total >= 0 else total
            for name, total, squared in zip(names, sums, squares)
        }

    def apart(self, numbers: Mapping[Key, float]) -> list[str]:
        """Parameters that every rank holds whole and that differ between the ranks."""
        names = [name for name, what in numbers if what == "weight_norm" and name not in self.sharded]
        own = torch.tensor([numbers[name, "weight_norm"] for name in names], dtype=torch.float64)
        ends = torch.cat([own, -own])
        dist.all_reduce(ends, dist.ReduceOp.MAX, group=self.group)
        high, low = ends[: len(names)], -ends[len(names) :]
        return [name for name, differs in zip(names, (high != low).tolist()) if differs]


def ranks(model: nn.Module) -> Ranks | None:
    """To be called by every process of a distributed training; None in any other."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    sharded = frozenset(name for name, p in model.named_parameters() if hasattr(p, "to_local"))
    group = dist.new_group(backend="gloo", timeout=PATIENCE)
    return Ranks(group, sharded, dist.get_rank(), dist.get_world_size())
