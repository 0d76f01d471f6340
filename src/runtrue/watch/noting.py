"""What is noted at every step, until a packet takes it to the scribe."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from runtrue.watch.packets import BEFORE, Packet, Sent, fetch

FLUSH = 1.0  # seconds from one packet to the next: what a killed run loses at most
HELD = 512  # steps after which a packet goes whatever the time
READ = 16  # readings, the same
NOTHING = torch.tensor(float("nan"))
NO = 0.0


class Notes:
    """steps: so far, in the whole run. epoch: the number of the next one that is told. The lists are of the steps since the last
    packet."""

    def __init__(self, start: int) -> None:
        self.steps = start
        self.epoch = BEFORE
        self.mark: Tensor | float | None = None
        """Of the batch of this step, as far as it was seen."""
        self._known: set[tuple[str, str]] = set()
        self._rates_now: tuple[float, ...] = ()
        self._stepped = time.perf_counter()
        self._fresh()

    def _fresh(self) -> None:
        self.losses: list[Tensor] = []
        self.told: list[bool] = []
        self.marks: list[Tensor | float] = []
        self.stale: list[Tensor | float] = []
        self.seconds: list[float] = []
        self.rates: list[tuple[int, tuple[float, ...]]] = []
        self.readings: list[Sent] = []
        self.events: list[tuple[int, str, str]] = []
        self.origin = ""
        self.flushed = time.perf_counter()

    def step(self, loss: Tensor | float | None, optimizers: Iterable[Optimizer]) -> float:
        """One more. Returns the seconds since the one before."""
        now = time.perf_counter()
        seconds, self._stepped = now - self._stepped, now
        number = scalar(loss)
        self.losses.append(number)
        self.told.append(loss is not None)
        self.seconds.append(seconds)
        self.marks.append(NOTHING if self.mark is None else self.mark)
        self.mark = None
        self._note_rates(optimizers)
        self.steps += 1
        return seconds

    def event(self, kind: str, told: str) -> None:
        """Noted once."""
        if (kind, told) not in self._known:
            self._known.add((kind, told))
            self.events.append((self.steps, kind, told))

    def pause_ends(self) -> None:
        """What the training did since its last step, an evaluation, is no part of the next one."""
        self._stepped = time.perf_counter()

    def _note_rates(self, optimizers: Iterable[Optimizer]) -> None:
        rates = rates_of(optimizers)
        if rates != self._rates_now:
            self._rates_now = rates
            self.rates.append((self.steps, rates))

    @property
    def due(self) -> bool:
        return len(self.losses) >= HELD or len(self.readings) >= READ or time.perf_counter() - self.flushed > FLUSH

    def packet(self, counts: Counter[str], epoch: tuple[int, int, dict[str, Any]] | None = None) -> Packet:
        packet = Packet(
            first=self.steps - len(self.losses), losses=fetch(self.losses), told=self.told, alike=fetch(self.marks),
            stale=fetch(self.stale), seconds=self.seconds, rates=self.rates, readings=self.readings,
            counts=counts.copy(), epoch=epoch, origin=self.origin, events=self.events,
        )  # fmt: skip
        self._fresh()
        return packet


def scalar(loss: Tensor | float | None) -> Tensor:
    """One number, on the device where it is: not waited for."""
    if not isinstance(loss, Tensor):
        return NOTHING if loss is None else torch.tensor(float(loss), dtype=torch.float64)
    to_local = getattr(loss, "to_local", None)
    loss = (loss if to_local is None else to_local()).detach()
    return loss.clone() if loss.numel() == 1 else loss.float().mean()


def rates_of(optimizers: Iterable[Optimizer]) -> tuple[float, ...]:
    """Of all parameter groups. One that lies on another device is left out: it would have to be waited for."""
    return tuple(
        float(group["lr"]) for one in optimizers for group in one.param_groups
        if not isinstance(group["lr"], Tensor) or group["lr"].device.type == "cpu"
    )  # fmt: skip


def mark_of(batch: Tensor) -> Tensor | float:
    """A number that two batches share only if they are the same: of the first example, and of the last."""
    if batch.dim() == 0 or batch.is_complex() or batch.layout is not torch.strided or hasattr(batch, "to_local"):
        return NOTHING
    if not len(batch):
        return NOTHING
    if batch.device.type == "cpu" and batch.dtype != torch.bfloat16:
        numbers = batch.detach().numpy()
        return float(np.add.reduce(numbers[0], None, np.float64) + 0.7 * np.add.reduce(numbers[-1], None, np.float64))
    with torch.no_grad():
        wide = torch.float32 if batch.device.type == "mps" else torch.float64
        return batch[0].sum(dtype=wide) + 0.7 * batch[-1].sum(dtype=wide)
