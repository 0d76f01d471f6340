"""Which number format and memory layout is fastest for this network on this machine: measured, not guessed."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue.keeping import keep_random_state

WORTH = 0.95  # of the time of the plain way, at most: less gain than that is noise, and another format is another run
ROUNDS = 5  # the quickest step counts: what else runs on the machine only makes steps longer
HOPELESS = 3.0  # times the first step of the quickest: bf16 takes ten times as long where the processor has none
SECONDS = 20.0  # for all of it: a slow network is not measured to the end


@dataclass(frozen=True)
class Way:
    """precision: "32" or "bf16"; channels_last: (N, H, W, C) in memory."""

    precision: str
    channels_last: bool

    def __str__(self) -> str:
        return (
            f"{'bfloat16' if self.precision == 'bf16' else 'float32'}{', channels last' if self.channels_last else ''}"
        )


@dataclass(frozen=True)
class Pace:
    """The way that is taken, and the seconds a step of each way that was measured."""

    way: Way
    seconds: dict[str, float]

    def describe(self) -> str:
        told = ", ".join(f"{way} {1000 * seconds:.0f} ms" for way, seconds in self.seconds.items())
        return f"{self.way}" + (f" (a step: {told})" if told else "")


def candidates(net: nn.Module, precision: str, channels_last: bool | None) -> list[Way]:
    """The plain way first. Memory layout matters to convolutions alone."""
    formats = ["32", "bf16"] if precision == "auto" else [precision]
    convolves = any(isinstance(layer, nn.Conv2d) for layer in net.modules())
    layouts = [False, True] if convolves and channels_last is None else [bool(channels_last)]
    return [Way(form, layout) for form in formats for layout in layouts]


def fastest(net: nn.Module, batch: tuple[Tensor, Tensor], ways: Sequence[Way]) -> Pace:
    """The fastest way by the quickest of a few steps of each in turn, on copies; the first one unless another is clearly faster.

    Network and random state are left as they are.
    """
    if len(ways) == 1:
        return Pace(ways[0], {})
    restore = keep_random_state()
    try:
        took = measured(net, batch, ways)
    finally:
        restore()
    best = min(ways, key=lambda way: took[way])
    way = best if took[best] < WORTH * took[ways[0]] else ways[0]
    return Pace(way, {str(one): seconds for one, seconds in took.items()})


def measured(net: nn.Module, batch: tuple[Tensor, Tensor], ways: Sequence[Way]) -> dict[Way, float]:
    began = time.monotonic()
    copies = {way: prepared(copy.deepcopy(net), way) for way in ways}
    first = {
        way: step_seconds(copies[way], batch, way) for way in ways
    }  # pays for memory, and for kernels that are chosen
    promising = [way for way in ways if first[way] < HOPELESS * min(first.values())]
    times: dict[Way, list[float]] = {way: [] if way in promising else [first[way]] for way in ways}
    for _ in range(ROUNDS):
        for way in promising:
            times[way].append(step_seconds(copies[way], batch, way))
        if time.monotonic() - began > SECONDS:
            break
    return {way: min(found) for way, found in times.items()}


def prepared(net: nn.Module, way: Way) -> nn.Module:
    net.train()
    return net.to(memory_format=torch.channels_last) if way.channels_last else net  # type: ignore[call-overload]


def step_seconds(net: nn.Module, batch: tuple[Tensor, Tensor], way: Way) -> float:
    """Forward and backward pass; the optimizer's step is the same in every way."""
    inputs, labels = batch
    if way.channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    wait(inputs.device)
    began = time.perf_counter()
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=way.precision == "bf16"):
        outputs = net(inputs)
    F.cross_entropy(outputs.float(), labels).backward()
    wait(inputs.device)
    taken = time.perf_counter() - began
    net.zero_grad(set_to_none=True)
    return taken


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
