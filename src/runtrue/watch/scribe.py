"""The thread beside the training: takes packets, keeps the history, judges it, writes the record. It never holds the training up:
what it cannot write is given up with one warning, and what it cannot take in time is dropped and counted."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtrue.findings import Finding
from runtrue.watch.history import History
from runtrue.watch.judging import GRAVITY, judge
from runtrue.watch.packets import BEFORE, Key, Packet, Sent
from runtrue.watch.ranks import Ranks
from runtrue.watch.record import Histogram, Reading, Recorder
from runtrue.watch.voice import Voice

WAITING = 64  # packets that may wait; each holds a second of training or 512 steps
JUDGING = 0.02  # share of the time that judging may take
BINS = 24
Array = NDArray[Any]
NO_PARTS: Mapping[str, float] = {}

Tell = Callable[[int, Finding], None]


class Scribe:
    """opens: makes the recorder, on the scribe's own thread; None to keep no record. told: is given each new verdict."""

    def __init__(
        self, opens: Callable[[], Recorder] | None, told: Tell, say: Voice, start: int = 0, ranks: Ranks | None = None
    ) -> None:  # fmt: skip
        self.opens, self.told, self.say, self.ranks = opens, told, say, ranks
        self._group = ranks  # kept when their numbers are not brought together any more
        self.history = History(steps=start)
        self.verdicts: list[Finding] = []
        self.dropped = 0
        self._recorder: Recorder | None = None
        self._queue: queue.SimpleQueue[Packet | threading.Event | None] = queue.SimpleQueue()
        self._summaries: queue.SimpleQueue[tuple[dict[str, float], int]] = queue.SimpleQueue()
        self._ready = 0.0
        self._epochs_before = 0
        self._epoch_base: Counter[str] = Counter()
        self._last_mark = math.nan
        self._thread = threading.Thread(target=self._run, name="runtrue-watch", daemon=True)
        self._thread.start()

    # On the thread of the training

    def take(self, packet: Packet) -> None:
        """Never waits."""
        if self._queue.qsize() >= WAITING:
            self.dropped += 1
        else:
            self._queue.put(packet)

    def settle(self) -> None:
        """Wait until everything that was taken is judged and written."""
        reached = threading.Event()
        self._queue.put(reached)
        while self._thread.is_alive() and not reached.wait(0.05):
            pass

    def close(self) -> None:
        self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()
            if self._group is not None:
                self._group.close()
                self.ranks = self._group = None

    def summaries(self) -> Iterator[tuple[dict[str, float], int]]:
        """What has arrived since the last call: a few numbers, and the step that they reach to."""
        while not self._summaries.empty():
            yield self._summaries.get_nowait()

    # On its own thread

    def _run(self) -> None:
        self._write(self._open)
        while (item := self._queue.get()) is not None:
            if isinstance(item, Packet):
                self._safely("taking in what was seen", partial(self._take_in, item))
            else:
                item.set()
        self._safely("judging", self._judge)
        self._write(self._close)

    def _safely(self, doing: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 the training goes on, whatever happens here
            self.say.once(doing, f"runtrue: {type(error).__name__} in {doing}: {error}; the training goes on")

    def _write(self, act: Callable[[], None]) -> None:
        """A full disk, a folder that cannot be written, a file that is no database: recording stops, the rest goes on."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 see above
            recorder, self._recorder = self._recorder, None
            self.say.once(
                "record",
                f"runtrue: recording stopped, the record cannot be written ({error}); the training goes on and is judged still",
            )  # fmt: skip
            if recorder is not None:
                recorder.abandon()

    def _open(self) -> None:
        if self.opens is not None:
            self._recorder = self.opens()
            self._epochs_before, self.history.known = self._recorder.epochs_so_far, self._recorder.known

    def _close(self) -> None:
        if self._recorder is not None:
            if self.dropped:
                told = f"{self.dropped} packets of steps came faster than they could be written, and are missing"
                self._recorder.event(self.history.steps, "not recorded", told)
            self._recorder.close()

    def _take_in(self, packet: Packet) -> None:
        start = time.thread_time()
        losses = [loss if told else None for loss, told in zip(packet.losses(), packet.told, strict=True)]
        self._remember(packet, losses)
        self._write(lambda: self._record(packet, losses))
        found: dict[str, float] = {}
        for sent in packet.readings:
            reading = self._read(sent)
            found = totals(reading.numbers)
            self._write(partial(self._record_reading, sent, reading))
        self._write(self._flush)
        self._summarize(packet, losses, found)
        if time.monotonic() >= self._ready or packet.epoch is not None or packet.origin:
            self._safely("judging", self._judge)
            self._ready = time.monotonic() + (time.thread_time() - start) / JUDGING
        if packet.epoch is not None:
            self.history.alike = 0

    def _remember(self, packet: Packet, losses: list[float | None]) -> None:
        history = self.history
        history.goes_on_at(packet.first)
        history.add_losses([math.nan if loss is None else loss for loss in losses], sum(packet.seconds))
        self._note_batches(packet.alike())
        history.stale.extend(value > 0.5 for value in packet.stale())
        history.counts = packet.counts
        history.add_rates(packet.rates)
        history.origin = history.origin or packet.origin
        if packet.epoch is not None:
            epoch, step, numbers = packet.epoch
            row = {**numbers, "epoch": self._epochs_before + epoch, "step": step}
            if epoch == BEFORE:
                history.known = row
            else:
                history.epochs.append(row)
                history.epoch_counts.append(packet.counts - self._epoch_base)
            self._epoch_base = Counter(packet.counts)

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
                self.ranks.agree(sent.step, numbers)
                self.history.apart = self.ranks.apart(numbers)
                numbers = self.ranks.together(numbers)
            except RuntimeError as error:
                self.say(f"runtrue: numbers are this process's own from step {sent.step} on: {error}")
                self.ranks = None
        numbers = derived(numbers, sent.sizes, sent.parts)
        self.history.add_read(sent.step, numbers)
        self.history.facts = dict(sent.facts)
        return Reading(sent.step, sent.at, numbers)

    def _summarize(self, packet: Packet, losses: list[float | None], read: dict[str, float]) -> None:
        told = [loss for loss in losses if loss is not None]
        found = {"loss": sum(told) / len(told)} if told else {}
        if packet.seconds:
            found["seconds"] = sum(packet.seconds) / len(packet.seconds)
        if self.history.rates and self.history.rates[-1][1]:
            found["lr"] = self.history.rate
        if losses and self._summaries.qsize() < WAITING:
            self._summaries.put((found | read, packet.first + len(losses) - 1))

    def _record(self, packet: Packet, losses: list[float | None]) -> None:
        recorder = self._recorder
        if recorder is None:
            return
        recorder.losses(packet.first, losses, packet.seconds)
        recorder.rates(packet.rates)
        for event in packet.events:
            recorder.event(*event)
        if packet.epoch is not None:
            epoch, step, numbers = packet.epoch
            recorder.epoch(self._epochs_before + epoch, step, numbers)

    def _record_reading(self, sent: Sent, reading: Reading) -> None:
        if self._recorder is not None:
            self._recorder.reading(reading)
            if sent.samples:
                found = [counted(name, sent.step, take().double().numpy()) for name, take in sent.samples.items()]
                self._recorder.histograms(found)

    def _flush(self) -> None:
        if self._recorder is not None:
            self._recorder.flush()

    def _judge(self) -> None:
        known = {(one.cause, one.where): GRAVITY[one.severity] for one in self.verdicts}
        for finding in judge(self.history):
            if GRAVITY[finding.severity] <= known.get((finding.cause, finding.where), -1):
                continue
            self.verdicts.append(finding)
            self._write(partial(self._record_verdict, finding))
            self._safely("telling a verdict", partial(self.told, self.history.steps, finding))

    def _record_verdict(self, finding: Finding) -> None:
        if self._recorder is not None:
            self._recorder.verdict(self.history.steps, finding.to_dict())
            self._recorder.flush()


def derived(
    numbers: dict[Key, float], sizes: Mapping[str, int], parts: Mapping[str, float] = NO_PARTS
) -> dict[Key, float]:  # fmt: skip
    """Norms of whole parameters from those of the parts that were followed, standard deviations from norms and means,
    std² = ‖x‖²/n − mean², and relative changes from what moved."""
    for name, what in list(numbers):
        if what == "moved_from":
            size, moved = numbers.pop((name, "moved_from")), numbers.pop((name, "moved"), None)
            numbers[name, "weight_norm"] = size * math.sqrt(parts.get(name, 1.0))
            if moved is not None:
                numbers[name, "update_ratio"] = moved / size if size else (math.inf if moved else 0.0)
    for name, size in sizes.items():
        for kind in ("grad", "weight"):
            if (name, f"{kind}_mean") in numbers:
                square = numbers[name, f"{kind}_norm"] ** 2 / size - numbers[name, f"{kind}_mean"] ** 2
                numbers[name, f"{kind}_std"] = math.sqrt(square) if square > 0 else (0.0 if square <= 0 else math.nan)
    return numbers


def totals(numbers: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """The norm of the whole gradient, and the median of the relative changes."""
    squares = [x * x for (_, what), x in numbers.items() if what == "grad_norm"]
    moved = [x for (_, what), x in numbers.items() if what == "update_ratio"]
    found = {"grad_norm": math.sqrt(sum(squares))} if squares else {}
    return found | ({"update_ratio": median(moved)} if moved else {})


def counted(layer: str, step: int, sample: Array) -> Histogram:
    """A histogram over the range of the sample; what is no number is left out."""
    real = sample[np.abs(sample) < 1e38]
    if not len(real):
        return Histogram(layer, step, 0.0, 0.0, ())
    low, high = float(real.min()), float(real.max())
    counts = np.histogram(real, BINS, (low, high) if low < high else (low, low + 1.0))[0]
    return Histogram(layer, step, low, high, tuple(counts.tolist()))


def finding_as_told(step: int, finding: Finding) -> str:
    return f"runtrue: step {step}, {finding.severity} {finding.cause} in {finding.where}: {finding.message}"
