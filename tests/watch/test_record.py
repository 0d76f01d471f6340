"""The record: small however long the run, read while it is written, gone on with, and thinned without a loss that matters."""

from __future__ import annotations

import math
import random
import sqlite3
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runtrue.watch import record_of
from runtrue.watch.entries import cut
from runtrue.watch.opening import recorder_of
from runtrue.watch.record import FILE, Histogram, Reading, Record, Recorder, joined, stretch
from runtrue.watch.recorder import MOST_HISTOGRAMS, MOST_RATES, MOST_READINGS, MOST_STRETCHES, Kept

LAYERS = [f"encoder.layers.{i}.feed_forward.dense.weight" for i in range(100)]
WHAT = [f"number_{i}" for i in range(10)]
NAMES = [(layer, what) for layer in LAYERS for what in WHAT]


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path / FILE)


def reading(step: int, value: float = 0.5, names: Any = None) -> Reading:
    return Reading(step, 0.1 * step, dict.fromkeys(names or [("a", "std"), ("b", "std")], value))


def read_back(recorder: Recorder) -> Record:
    recorder.flush()
    return Record(recorder.path)


def test_a_million_steps_are_a_small_file(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    steps, every, packet = 1_000_000, 250, 500
    noise = random.Random(0)
    losses = [noise.gauss(1.0, 0.1) for _ in range(packet)]
    total = math.fsum(loss + 1e-6 * first for first in range(0, steps, packet) for loss in losses)
    seconds = [0.01] * packet
    numbers = {name: noise.random() for name in NAMES}
    began = time.perf_counter()
    for first in range(0, steps, packet):
        recorder.losses(first, [loss + 1e-6 * first for loss in losses], seconds)
        recorder.rates([(first + i, (1e-3 / (1 + first + i), 0.1)) for i in range(0, packet, 50)])
        for step in range(first, first + packet, every):
            recorder.reading(Reading(step, 0.01 * step, numbers))
        if first % (8 * every) == 0:
            recorder.histograms([Histogram(layer, first, 0.0, 1.0, (7,) * 24) for layer in LAYERS])
        recorder.flush()
    written = time.perf_counter() - began
    recorder.close()
    size = recorder.path.stat().st_size
    began = time.perf_counter()
    record = record_of(recorder.path.parent)
    parts, readings, rates = record.steps(), list(record.readings()), record.rates()
    shown = (
        f"1 000 000 steps: {size / 1e6:.1f} MB, written in {written:.1f} s, read in {time.perf_counter() - began:.2f} s"
    )
    with capsys.disabled():
        print(f"\n{shown}")  # noqa: T201 a number to look at, on a machine with nothing else to do
    assert size < 30e6 and len(list(recorder.path.parent.iterdir())) == 1
    assert (
        MOST_STRETCHES / 4 <= len(parts) <= MOST_STRETCHES and MOST_READINGS / 2 <= len(readings) <= MOST_READINGS + 1
    )
    assert MOST_RATES / 2 <= len(rates[0]) <= MOST_RATES + 1
    assert MOST_HISTOGRAMS / 2 <= len({one.step for one in record.histograms()}) <= MOST_HISTOGRAMS + 1
    assert parts[0].first == 0 and parts[-1].last == steps - 1
    assert sum(part.count for part in parts) == steps
    assert math.fsum(part.mean * part.count for part in parts if part.mean is not None) == pytest.approx(
        total, rel=1e-12
    )
    assert sum(part.seconds for part in parts) == pytest.approx(0.01 * steps)
    assert all(a.last + 1 == b.first for a, b in pairwise(parts))
    assert readings[0].step == 0 and readings[-1].step == steps - every and rates[0][-1][0] == steps - 50
    gaps = {b.step - a.step for a, b in pairwise(readings[:-1])}
    assert len(gaps) == 1, "readings are spread evenly over the whole run"


@pytest.mark.parametrize("most", [4, 5, 8])
@pytest.mark.parametrize("count", [1, 4, 5, 6, 9, 50, 333, 1000])
def test_what_is_kept_is_spread_evenly_with_the_first_and_the_last(most: int, count: int) -> None:
    kept = Kept(most)
    there: set[int] = set()
    for step in range(count):
        there.add(step)
        there -= set(kept.add(step))
        assert sorted(there) == kept.steps and len(there) <= most
        assert kept.steps[0] == 0 and kept.steps[-1] == step
        assert {b - a for a, b in pairwise(kept.steps[:-1])} <= {kept.gap}
        assert len(kept.steps) < 3 or kept.steps[-1] - kept.steps[-2] <= kept.gap
        assert step < most or len(there) >= most // 2


def test_stretches_hold_the_band_and_the_losses_that_are_none() -> None:
    part = stretch(10, [1.0, math.nan, 3.0, None, math.inf], 0.5)
    assert part[:8] == (10, 14, 2, 2.0, 1.0, 3.0, 10.0, 2) and part.std == 1.0
    whole = joined(part, stretch(15, [5.0], 0.1))
    assert whole[:8] == (10, 15, 3, 3.0, 1.0, 5.0, 35.0, 2) and whole.seconds == pytest.approx(0.6)
    assert joined(stretch(0, [math.nan], 0.0), stretch(1, [2.0], 0.0))[:6] == (0, 1, 1, 2.0, 2.0, 2.0)
    assert joined(stretch(0, [2.0], 0.0), stretch(1, [None], 0.0))[:8] == (0, 1, 1, 2.0, 2.0, 2.0, 4.0, 0)


def test_it_is_read_while_it_is_written(recorder: Recorder) -> None:
    recorder.flush()
    record = Record(recorder.path)
    for step in range(0, 50, 10):
        recorder.losses(step, [1.0] * 10, [0.1] * 10)
        recorder.reading(reading(step))
        seen = len(record.steps())
        recorder.flush()
        assert len(record.steps()) == seen + 10 and [r.step for r in record.readings()] == list(range(0, step + 1, 10))
    assert [part.first for part in record.steps(since=44)] == [45, 46, 47, 48, 49]
    assert [one.step for one in record.readings(since=20)] == [30, 40]
    recorder.close()


def test_a_reader_in_the_middle_of_reading_holds_nobody_up(recorder: Recorder) -> None:
    for step in range(10):
        recorder.reading(reading(step))
    recorder.flush()
    db = sqlite3.connect(recorder.path)
    rows = db.execute("select step from readings order by step")
    assert rows.fetchone() == (0,)
    recorder.reading(reading(10))
    recorder.flush()
    recorder.close()
    assert len(rows.fetchall()) == 9
    db.close()
    assert len(list(Record(recorder.path).readings())) == 11


def test_readings_come_in_order_with_their_own_names(recorder: Recorder) -> None:
    order = [5, 1, 9, 3]
    for step in order:
        recorder.reading(reading(step, step / 8, [("layer", f"what {step % 3}"), ("", "clipped")]))
    found = list(read_back(recorder).readings())
    assert [one.step for one in found] == sorted(order)
    assert all(
        one.numbers == {("layer", f"what {one.step % 3}"): one.step / 8, ("", "clipped"): one.step / 8} for one in found
    )
    recorder.close()


def test_numbers_that_float32_cannot_hold_are_infinite(recorder: Recorder) -> None:
    numbers = {("a", "x"): 1e300, ("a", "y"): -1e300, ("a", "z"): math.nan, ("a", "w"): 0.1}
    recorder.reading(Reading(0, 0.0, numbers))
    x, y, z, w = next(read_back(recorder).readings()).numbers.values()
    assert (x, y) == (math.inf, -math.inf) and math.isnan(z) and w == pytest.approx(0.1)
    recorder.close()


def test_a_network_whose_layers_are_drawn_anew_in_each_step_fills_no_disk(recorder: Recorder) -> None:
    noise = random.Random(0)
    for step in range(4000):
        recorder.reading(reading(step, names=noise.sample(NAMES, 20)))
    recorder.close()
    assert recorder.path.stat().st_size < 2e6
    assert all(len(one.numbers) == 20 for one in Record(recorder.path).readings())


def fill(recorder: Recorder, first: int, last: int, loss: float = 1.0) -> None:
    for step in range(first, last):
        recorder.losses(step, [loss], [0.1])
        recorder.rates([(step, (0.1 / (step + 1),))])
        if step % 5 == 0:
            recorder.reading(reading(step, loss))
            recorder.histograms([Histogram("a", step, 0.0, 1.0, (1, 2))])
        if step % 10 == 9:
            recorder.epoch(recorder.epochs_so_far + (step - first) // 10, step + 1, {"val_accuracy": loss})
        if step % 20 == 0:
            recorder.verdict(step, {"cause": f"of step {step}"})
            recorder.event(step, "kind", f"at {step}")


def test_a_run_that_is_gone_on_with_forgets_what_lay_behind(tmp_path: Path) -> None:
    recorder = recorder_of(tmp_path / FILE, 0, {})
    fill(recorder, 0, 100)
    recorder.close()
    recorder = recorder_of(tmp_path / FILE, 50, {"model": "Net"})
    record = read_back(recorder)
    assert record.steps()[-1].last == 49 and [one.step for one in record.readings()][-1] == 45
    assert [row["epoch"] for row in record.epochs()] == [0, 1, 2, 3, 4] and record.rates()[0][-1][0] == 49
    assert [one["step"] for one in record.verdicts()] == [0, 20, 40] and record.histograms()[-1].step == 45
    assert record.events()[-1][:2] == (50, "resumed")
    fill(recorder, 50, 70, loss=2.0)
    record = read_back(recorder)
    assert [part.mean for part in record.steps()] == [1.0] * 50 + [2.0] * 20
    assert [row["epoch"] for row in record.epochs()] == list(range(7)) and record.meta["model"] == "Net"
    recorder.close()


def test_a_run_begun_anew_in_the_same_folder_forgets_everything(tmp_path: Path) -> None:
    recorder = recorder_of(tmp_path / FILE, 0, {})
    fill(recorder, 0, 100)
    recorder.close()
    recorder = recorder_of(tmp_path / FILE, 0, {})
    record = read_back(recorder)
    assert not any(
        (record.steps(), list(record.readings()), record.epochs(), record.rates(), record.verdicts(), record.events())
    )
    recorder.close()


def test_of_a_stretch_that_reaches_across_the_resume_the_beginning_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr("runtrue.watch.recorder.MOST_STRETCHES", 16)
    monkeypatch.setattr("runtrue.watch.recorder.MOST_READINGS", 16)
    recorder = recorder_of(tmp_path / FILE, 0, {})
    fill(recorder, 0, 1000)
    width = recorder.width
    recorder.close()
    assert width == 64
    recorder = recorder_of(tmp_path / FILE, 700, {})
    last = read_back(recorder).steps()[-1]
    assert (last.first, last.last, last.count, last.mean, last.std) == (640, 699, 60, 1.0, 0.0)
    assert last.seconds == pytest.approx(6.0) and recorder.width == width and recorder.kept["readings"].gap == 16
    fill(recorder, 700, 1000)
    parts = read_back(recorder).steps()
    assert sum(part.count for part in parts) == 1000 and len(parts) <= 17
    recorder.close()


def test_a_stretch_is_cut_as_if_its_steps_were_alike() -> None:
    part = cut(stretch(0, [1.0, 3.0, 1.0, 3.0], 4.0), 1)
    assert part[:8] == (0, 1, 2, 2.0, 1.0, 3.0, 10.0, 0) and part.seconds == 2.0 and part.std == 1.0
    assert cut(stretch(0, [math.nan] * 4, 4.0), 0)[:8] == (0, 0, 0, None, None, None, None, 1)


def test_a_finished_record_is_one_plain_file_that_reading_leaves_alone(recorder: Recorder) -> None:
    fill(recorder, 0, 10)
    recorder.close()
    before = recorder.path.read_bytes()
    assert len(Record(recorder.path).steps()) == 10
    assert [file.name for file in recorder.path.parent.iterdir()] == [FILE] and recorder.path.read_bytes() == before


def test_a_file_copied_away_from_a_run_that_goes_on_can_be_read(recorder: Recorder, tmp_path: Path) -> None:
    fill(recorder, 0, 10)
    recorder.flush()
    recorder.db.execute("commit")
    recorder.db.execute("pragma wal_checkpoint(truncate)")
    copy = tmp_path / "elsewhere" / "run.sqlite"
    copy.parent.mkdir()
    copy.write_bytes(recorder.path.read_bytes())
    assert len(record_of(copy).steps()) == 10
    recorder.close()


def test_no_file_and_another_schema_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        record_of(tmp_path / "nothing.sqlite")
    recorder = Recorder(tmp_path / FILE)
    recorder.tell(schema=7)
    recorder.close()
    with pytest.raises(ValueError, match="has schema 7; this version of runtrue reads 1"):
        record_of(tmp_path)
    with pytest.raises(sqlite3.DatabaseError, match="has schema 7, this version writes 1"):
        Recorder(tmp_path / FILE)
