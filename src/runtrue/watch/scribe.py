"""The thread beside the training: takes packets, keeps the history, judges it, writes the record. It never holds the training up:
what it cannot write is given up with one warning, and what it cannot take in time is dropped and counted."""

from __future__ import annotations

import math
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from runtrue.findings import Finding
from runtrue.watch.history import History
from runtrue.watch.judging import GRAVITY, judge
from runtrue.watch.packets import Packet, Sent
from runtrue.watch.ranks import Ranks
from runtrue.watch.record import Histogram, Reading, Recorder

WAITING = 64  # packets that may wait; each holds a second of training or 512 steps
JUDGING = 0.02  # share of the time that judging may take
BINS = 24

Say = Callable[[str], None]
Tell = Callable[[int, Finding], None]


class Scribe:
    """opens: makes the recorder, on the scribe's own thread; None to keep no record. told: is given each new verdict."""

    def __init__(
        self, opens: Callable[[], Recorder] | None, told: Tell, say: Say, sizes: Mapping[str, int], ranks: Ranks | None = None
    ) -> None:  # fmt: skip
        self.opens, self.told, self.say, self.sizes, self.ranks = opens, told, say, sizes, ranks
        self.history = History()
        self.verdicts: list[Finding] = []
        self.dropped = 0
        self._recorder: Recorder | None = None
        self._queue: queue.Queue[Packet | None] = queue.Queue(WAITING)
        self._ready = 0.0
        self._epoch_base: Counter[str] = Counter()
        self._last_mark = math.nan
        self._thread = threading.Thread(target=self._run, name="runtrue-watch", daemon=True)
        self._thread.start()

    def take(self, packet: Packet) -> None:
        """Never waits."""
        try:
            self._queue.put_nowait(packet)
        except queue.Full:
            self.dropped += 1

    def settle(self) -> None:
        """Wait until everything that was taken is judged and written."""
        self._queue.join()

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        self._try(self._open)
        while (packet := self._queue.get()) is not None:
            try:
                self._take_in(packet)
            except Exception as error:  # noqa: BLE001 the training goes on, whatever happens here
                self.say(f"runtrue: {type(error).__name__} while watching step {packet.first}: {error}")
            self._queue.task_done()
        self._try(lambda: self._judge(final=True))
        self._try(self._close)
        self._queue.task_done()

    def _open(self) -> None:
        if self.opens is not None:
            self._recorder = self.opens()

    def _close(self) -> None:
        if self._recorder is not None:
            self._recorder.close()

    def _try(self, act: Callable[[], None]) -> None:
        """A full disk, a folder that cannot be written, a file that is no database: recording stops, the rest goes on."""
        try:
            act()
        except (sqlite3.Error, OSError) as error:
            self._recorder, where = None, getattr(self._recorder, "path", "the record")
            self.say(
                f"runtrue: recording stopped, {where} cannot be written ({error}); the training goes on and is judged still"
            )
        except Exception as error:  # noqa: BLE001 the training goes on, whatever happens here
            self.say(f"runtrue: {type(error).__name__} while watching: {error}; the training goes on")

    def _take_in(self, packet: Packet) -> None:
        history, losses = self.history, packet.losses()
        start = time.thread_time()
        history.goes_on_at(packet.first)
        history.add_losses(losses, sum(packet.seconds))
        self._note_batches(packet.alike())
        history.stale.extend(value > 0.5 for value in packet.stale())
        history.counts = packet.counts
        history.add_rates(packet.rates)
        history.origin = history.origin or packet.origin
        readings = [self._read(sent) for sent in packet.readings]
        if packet.epoch is not None:
            history.epochs.append({**packet.epoch[2], "epoch": packet.epoch[0], "step": packet.epoch[1]})
            history.epoch_counts.append(packet.counts - self._epoch_base)
            self._epoch_base = Counter(packet.counts)
        self._try(lambda: self._write(packet, losses, readings))
        if time.monotonic() >= self._ready or packet.epoch is not None or packet.origin:
            self._judge()
            self._ready = time.monotonic() + (time.thread_time() - start) / JUDGING
        if packet.epoch is not None:
            history.alike = 0

    def _note_batches(self, alike: list[float]) -> None:
        for mark in alike:
            again = mark == self._last_mark
            self.history.alike = self.history.alike + 1 if again else 0
            self.history.same = self.history.same + 1 if again else 0
            self._last_mark = mark

    def _read(self, sent: Sent) -> Reading:
        numbers = dict(zip(sent.names, sent.numbers(), strict=True))
        if self.ranks is not None:
            try:
                self.history.apart = self.ranks.apart(numbers)
                numbers = self.ranks.together(numbers)
            except RuntimeError as error:
                self.say(f"runtrue: numbers are this process's own from step {sent.step} on: {error}")
                self.ranks = None
        numbers = derived(numbers, self.sizes)
        self.history.add_read(sent.step, numbers)
        self.history.facts = dict(sent.facts)
        return Reading(sent.step, sent.at, numbers)

    def _write(self, packet: Packet, losses: list[float], readings: list[Reading]) -> None:
        recorder = self._recorder
        if recorder is None:
            return
        if losses:
            recorder.losses(packet.first, losses, packet.seconds)
        for step, rates in packet.rates:
            recorder.rates(step, rates)
        for sent, reading in zip(packet.readings, readings, strict=True):
            recorder.reading(reading)
            if sent.samples:
                recorder.histograms([counted(name, sent.step, take().tolist()) for name, take in sent.samples.items()])
        for event in packet.events:
            recorder.event(*event)
        if packet.epoch is not None:
            recorder.epoch(*packet.epoch)
        recorder.flush()

    def _judge(self, final: bool = False) -> None:
        known = {(one.cause, one.where): GRAVITY[one.severity] for one in self.verdicts}
        for finding in judge(self.history):
            if GRAVITY[finding.severity] <= known.get((finding.cause, finding.where), -1):
                continue
            self.verdicts.append(finding)
            if self._recorder is not None:
                self._recorder.verdict(self.history.steps, finding.to_dict())
                self._recorder.flush()
            self.told(self.history.steps, finding)


def derived(numbers: dict[tuple[str, str], float], sizes: Mapping[str, int]) -> dict[tuple[str, str], float]:
    """Standard deviations from norms and means, std² = ‖x‖²/n − mean², and relative changes from what moved."""
    for name, what in list(numbers):
        if what in ("grad_mean", "weight_mean") and name in sizes:
            kind = what.removesuffix("_mean")
            square = numbers[name, f"{kind}_norm"] ** 2 / sizes[name] - numbers[name, what] ** 2
            numbers[name, f"{kind}_std"] = math.sqrt(square) if square > 0 else (0.0 if square <= 0 else math.nan)
    for name, what in list(numbers):
        if what == "moved":
            moved, size = numbers.pop((name, "moved")), numbers.pop((name, "moved_from"))
            numbers[name, "update_ratio"] = moved / size if size else (math.inf if moved else 0.0)
    return numbers


def counted(layer: str, step: int, sample: list[float]) -> Histogram:
    """A histogram over the range of the sample; what is no number is left out."""
    real = [x for x in sample if abs(x) < 1e38]
    if not real:
        return Histogram(layer, step, 0.0, 0.0, ())
    low, high = min(real), max(real)
    counts, width = [0] * BINS, (high - low) / BINS
    for x in real:
        counts[min(BINS - 1, int((x - low) / width)) if width > 0 else 0] += 1
    return Histogram(layer, step, low, high, tuple(counts))


def finding_as_told(step: int, finding: Finding) -> str:
    return f"runtrue: step {step}, {finding.severity} {finding.cause} in {finding.where}: {finding.message}"


def nothing(*_: Any) -> None:
    """Nobody to tell."""
