"""What goes from the training to the scribe: numbers still on the device, on their way to the host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Key = tuple[str, str]
"""(layer or parameter, what was read): ("layers.0", "std"), ("layers.0.weight", "grad_norm")."""
BEFORE = -1  # the number of the epoch that was told before the first step
Fetch = Callable[[], list[float]]
"""Waits for the transfer, on the scribe's thread alone."""


def fetch(values: Sequence[Tensor | float]) -> Fetch:
    """One-element tensors as floats: those on the CPU at once, others packed on each device, sent without waiting, read when
    asked."""
    if not values:
        return list
    found, by_device = [0.0] * len(values), dict[torch.device, list[int]]()
    for place, value in enumerate(values):
        if isinstance(value, Tensor) and value.device.type != "cpu":
            by_device.setdefault(value.device, []).append(place)
        else:
            found[place] = float(value)
    sent = {device: _sent(torch.stack([_number(values[i]) for i in places])) for device, places in by_device.items()}

    def read() -> list[float]:
        for device, places in by_device.items():
            for place, number in zip(places, sent[device]().tolist(), strict=True):
                found[place] = number
        return found

    return read


def _number(value: Tensor | float) -> Tensor:
    """Shape () and float32, or float64: of most it is the tensor itself."""
    assert isinstance(value, Tensor)
    wide = torch.float64 if value.dtype == torch.float64 else torch.float32
    if value.dim() == 0 and value.dtype == wide and not value.requires_grad:
        return value
    return value.detach().reshape(()).to(wide)


def fetch_whole(tensor: Tensor) -> Callable[[], Tensor]:
    """A tensor on the host, the same way."""
    return _sent(tensor.detach())


def _sent(packed: Tensor) -> Callable[[], Tensor]:
    if packed.device.type != "cuda":
        host = packed.clone() if packed.device.type == "cpu" else packed.cpu()
        return lambda: host
    pinned = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True)
    pinned.copy_(packed, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def wait() -> Tensor:
        arrived.synchronize()
        return pinned

    return wait


@dataclass(frozen=True, eq=False)
class Sent:
    """A reading: names in the order of the numbers, and a few outputs of each layer if histograms are wanted."""

    step: int
    at: float
    names: tuple[Key, ...]
    numbers: Fetch
    samples: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Numbers in each parameter whose mean was read."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """How many times as many numbers a parameter has as were followed, where not all were."""


@dataclass(frozen=True, eq=False)
class Packet:
    """Steps since the packet before: all that the scribe learns."""

    first: int
    losses: Fetch = list
    told: Sequence[bool] = ()
    """Per step: the user gave a loss."""
    alike: Fetch = list
    """Per step, what tells its batch from another; NaN where it was not seen."""
    stale: Fetch = list
    """Per optimizer step, 1 if the gradient held parts of older batches."""
    seconds: Sequence[float] = ()
    rates: Sequence[tuple[int, tuple[float, ...]]] = ()
    readings: Sequence[Sent] = ()
    counts: Counter[str] = field(default_factory=Counter)
    epoch: tuple[int, int, dict[str, Any]] | None = None
    """(epoch, step, numbers told by the user), if one ended."""
    origin: str = ""
    events: Sequence[tuple[int, str, str]] = ()
