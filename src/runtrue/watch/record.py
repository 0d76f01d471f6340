"""The record of a run: one SQLite file that can be read while it is written (WAL mode), and that does not grow without end.

meta       what the run is: schema, model, versions, when it started, and when it ended (if it was closed)
steps      stretches of neighbouring steps: the band of the loss (mean, low, high, sum of squares), seconds, what came of it
rates      the learning rate of each parameter group, a row where it changed
readings   statistics of layers and parameters at one step: a blob of float32, in the order that `layouts` tells
histograms counts of one layer's outputs at one step
epochs     what the user told at the end of an epoch
verdicts   what was judged, with its evidence; never thinned
events     what happened beside: a resume, a pause of the recording; never thinned

Stretches are joined by twos, and every other reading is left out, whenever there are more than `MOST_…`: the file of a run of
any length stays small. Schema 1.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import time
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from runtrue.findings import plain

SCHEMA = 1
FILE = "watch.sqlite"
MOST_STRETCHES, MOST_READINGS, MOST_HISTOGRAMS, MOST_RATES = 4096, 1024, 64, 4096
"""Of 100 layers with ten numbers each, 1024 readings are 4 MB; stretches are 300 kB; of histograms the limit is a layer's."""

TABLES = """
create table if not exists meta (key text primary key, value text not null);
create table if not exists steps (
    first integer primary key, last integer not null, count integer not null, mean real, low real, high real,
    squares real, lost integer not null, seconds real not null);
create table if not exists rates (step integer, part integer, rate real, primary key (step, part)) without rowid;
create table if not exists layouts (id integer primary key, names text not null unique);
create table if not exists readings (step integer primary key, at real not null, layout integer not null, numbers blob not null);
create table if not exists histograms (
    layer text, step integer, low real, high real, counts blob not null, primary key (layer, step)) without rowid;
create table if not exists epochs (epoch integer primary key, step integer not null, numbers text not null);
create table if not exists verdicts (id integer primary key, step integer not null, finding text not null);
create table if not exists events (id integer primary key, step integer not null, kind text not null, told text not null);
"""


class Stretch(NamedTuple):
    """Neighbouring steps. Losses that are no numbers are counted in `lost` and in nothing else."""

    first: int
    last: int
    count: int
    mean: float | None
    low: float | None
    high: float | None
    squares: float | None
    lost: int
    seconds: float

    @property
    def std(self) -> float:
        """Standard deviation of the losses within."""
        if self.mean is None or self.squares is None or self.count < 2:
            return 0.0
        return float(max(0.0, self.squares / self.count - self.mean**2) ** 0.5)


def stretch(first: int, losses: Sequence[float], seconds: float) -> Stretch:
    """What is kept of these losses, one a step from `first` on."""
    real = [loss for loss in losses if abs(loss) < 1e38]
    last = first + len(losses) - 1
    if not real:
        return Stretch(first, last, 0, None, None, None, None, len(losses), seconds)
    return Stretch(
        first, last, len(real), sum(real) / len(real), min(real), max(real), sum(x * x for x in real),
        len(losses) - len(real), seconds,
    )  # fmt: skip


def joined(a: Stretch, b: Stretch) -> Stretch:
    """Two neighbours as one."""
    if a.mean is None or b.mean is None:
        kept = b if a.mean is None else a
        return kept._replace(first=a.first, last=b.last, lost=a.lost + b.lost, seconds=a.seconds + b.seconds)
    assert a.low is not None and b.low is not None and a.high is not None and b.high is not None
    assert a.squares is not None and b.squares is not None
    count = a.count + b.count
    mean = (a.mean * a.count + b.mean * b.count) / count
    return Stretch(
        a.first, b.last, count, mean, min(a.low, b.low), max(a.high, b.high), a.squares + b.squares,
        a.lost + b.lost, a.seconds + b.seconds,
    )  # fmt: skip


def thinned(parts: Iterable[Stretch], width: int) -> Iterator[Stretch]:
    """Neighbours joined, up to `width` steps each."""
    kept: Stretch | None = None
    for part in parts:
        if kept is not None and part.last - kept.first < width:
            kept = joined(kept, part)
        else:
            if kept is not None:
                yield kept
            kept = part
    if kept is not None:
        yield kept


class Reading(NamedTuple):
    """Numbers read at one step, by (layer or parameter, what)."""

    step: int
    at: float
    numbers: dict[tuple[str, str], float]


class Histogram(NamedTuple):
    layer: str
    step: int
    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(eq=False)
class Recorder:
    """Writes one file, from one thread. Every method may raise sqlite3.Error or OSError; `flush` makes what came before last."""

    path: Path

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(self.path, timeout=5.0, check_same_thread=False, isolation_level=None)
        self.db.execute("pragma journal_mode=wal")
        self.db.execute("pragma synchronous=normal")
        self.db.executescript(TABLES)
        self.db.execute("begin")
        known = dict(self.db.execute("select key, value from meta"))
        if known and json.loads(known.get("schema", "0")) != SCHEMA:
            raise sqlite3.DatabaseError(f"{self.path} has schema {known.get('schema')}, this version writes {SCHEMA}")
        self.layouts: dict[str, int] = {names: key for key, names in self.db.execute("select id, names from layouts")}
        self.width, self.gap = self._width(), 1
        self.tell(schema=SCHEMA)
        self.db.execute("delete from meta where key = 'ended'")

    def _width(self) -> int:
        """Steps in one stretch, as a file that is gone on with has them."""
        return max([1, *(last - first + 1 for first, last in self.db.execute("select first, last from steps"))])

    def tell(self, **facts: Any) -> None:
        rows = [(key, json.dumps(plain(value))) for key, value in facts.items()]
        self.db.executemany("insert or replace into meta values (?, ?)", rows)

    def forget_from(self, step: int) -> None:
        """A run resumed at this step: what a run that was cut off wrote from there on is not its own any more."""
        for table, key in (
            ("steps", "last"), ("rates", "step"), ("readings", "step"), ("histograms", "step"), ("epochs", "step"),
            ("verdicts", "step"),
        ):  # fmt: skip
            self.db.execute(f"delete from {table} where {key} >= ?", (step,))

    def losses(self, first: int, losses: Sequence[float], seconds: Sequence[float]) -> None:
        """Losses of neighbouring steps, and how long each took."""
        for start in range(0, len(losses), self.width):
            part = stretch(first + start, losses[start : start + self.width], sum(seconds[start : start + self.width]))
            self._add(part)
        if self.db.execute("select count(*) from steps").fetchone()[0] > MOST_STRETCHES:
            self._thin_steps()

    def _add(self, part: Stretch) -> None:
        """Beside the last one, or joined to it while there is room in it."""
        row = self.db.execute("select * from steps order by first desc limit 1").fetchone()
        last = Stretch(*row) if row else None
        if last and last.last < part.first and part.last - last.first < self.width:
            part = joined(last, part)
        self.db.execute(f"insert or replace into steps values ({', '.join('?' * len(part))})", part)

    def _thin_steps(self) -> None:
        self.width *= 2
        rows = [Stretch(*row) for row in self.db.execute("select * from steps order by first")]
        self.db.execute("delete from steps")
        self.db.executemany(f"insert into steps values ({', '.join('?' * 9)})", thinned(rows, self.width))

    def rates(self, step: int, rates: Sequence[float]) -> None:
        self.db.executemany(
            "insert or replace into rates values (?, ?, ?)", [(step, i, r) for i, r in enumerate(rates)]
        )
        self._thin("rates", "distinct step", MOST_RATES)

    def reading(self, reading: Reading) -> None:
        names = json.dumps([list(name) for name in reading.numbers])
        layout = self.layouts.get(names)
        if layout is None:
            layout = self.layouts[names] = len(self.layouts) + 1
            self.db.execute("insert or ignore into layouts values (?, ?)", (layout, names))
        numbers = array("f", [_float32(x) for x in reading.numbers.values()]).tobytes()
        self.db.execute(
            "insert or replace into readings values (?, ?, ?, ?)", (reading.step, reading.at, layout, numbers)
        )
        self._thin("readings", "step", MOST_READINGS)

    def histograms(self, found: Sequence[Histogram]) -> None:
        rows = [(h.layer, h.step, h.low, h.high, struct.pack(f"{len(h.counts)}I", *h.counts)) for h in found]
        self.db.executemany("insert or replace into histograms values (?, ?, ?, ?, ?)", rows)
        self._thin("histograms", "distinct step", MOST_HISTOGRAMS)

    def _thin(self, table: str, what: str, most: int) -> None:
        """Leave out every other step but the last, once there are more than `most`."""
        if self.db.execute(f"select count({what}) from {table}").fetchone()[0] <= most:
            return
        steps = [row[0] for row in self.db.execute(f"select distinct step from {table} order by step")]
        self.db.executemany(f"delete from {table} where step = ?", [(step,) for step in steps[1:-1:2]])

    def epoch(self, epoch: int, step: int, numbers: Mapping[str, Any]) -> None:
        self.db.execute("insert or replace into epochs values (?, ?, ?)", (epoch, step, json.dumps(plain(numbers))))

    def verdict(self, step: int, finding: Mapping[str, Any]) -> None:
        self.db.execute("insert into verdicts (step, finding) values (?, ?)", (step, json.dumps(plain(finding))))

    def event(self, step: int, kind: str, told: str) -> None:
        self.db.execute("insert into events (step, kind, told) values (?, ?, ?)", (step, kind, told))

    def flush(self) -> None:
        self.db.execute("commit")
        self.db.execute("begin")

    def close(self) -> None:
        try:
            self.tell(ended=time.time())
            if self.db.in_transaction:
                self.db.execute("commit")
            self.db.execute("pragma wal_checkpoint(truncate)")
        finally:
            self.db.close()


def _float32(x: float) -> float:
    """What float32 cannot hold is infinite there, and no error."""
    return x if abs(x) <= 3.4028234e38 or x != x else float("inf") if x > 0 else float("-inf")


@dataclass(frozen=True, eq=False)
class Record:
    """What a run wrote so far. Opens the file to read only; a run that is going on is not disturbed."""

    path: Path

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path} does not exist: `runtrue.watch(model, optimizer, run=FOLDER)` writes it"
            )
        try:
            schema = self.meta.get("schema")
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.path} is no record of a run: {error}") from None
        if schema != SCHEMA:
            raise ValueError(f"{self.path} has schema {schema}; this version of runtrue reads {SCHEMA}")

    def _rows(self, query: str, *values: Any) -> list[Any]:
        db = sqlite3.connect(f"{self.path.absolute().as_uri()}?{self._mode()}", uri=True, timeout=5.0)
        try:
            return db.execute(query, values).fetchall()
        finally:
            db.close()

    def _mode(self) -> str:
        """Where no process writes, nothing is locked and no file appears beside the record: it may lie on a read-only disk."""
        beside = self.path.with_name(f"{self.path.name}-wal")
        return "mode=ro" if beside.exists() and beside.stat().st_size else "mode=ro&immutable=1"

    @property
    def meta(self) -> dict[str, Any]:
        return {key: json.loads(value) for key, value in self._rows("select key, value from meta")}

    def steps(self, since: int = -1) -> list[Stretch]:
        """Stretches that end behind the step `since`."""
        return [Stretch(*row) for row in self._rows("select * from steps where last > ? order by first", since)]

    def rates(self) -> dict[int, list[tuple[int, float]]]:
        """(step, learning rate) by parameter group, where it changed."""
        found: dict[int, list[tuple[int, float]]] = {}
        for step, part, rate in self._rows("select step, part, rate from rates order by step"):
            found.setdefault(part, []).append((step, float("nan") if rate is None else rate))  # NaN is null in SQLite
        return found

    def readings(self, since: int = -1, most: int | None = None) -> Iterator[Reading]:
        """most: of a long run no more than so many, evenly spread over its steps."""
        steps = [row[0] for row in self._rows("select step from readings where step > ? order by step", since)]
        if most is not None and len(steps) > most:
            steps = spread(steps, most)
            rows = self._rows(
                f"select * from readings where step in ({', '.join('?' * len(steps))}) order by step", *steps
            )
        else:
            rows = self._rows("select * from readings where step > ? order by step", since)
        layouts = {key: [tuple(n) for n in json.loads(names)] for key, names in self._rows("select * from layouts")}
        for step, at, layout, blob in rows:
            numbers = array("f")
            numbers.frombytes(blob)
            yield Reading(step, at, dict(zip(layouts[layout], numbers, strict=True)))

    def histograms(self) -> list[Histogram]:
        rows = self._rows("select layer, step, low, high, counts from histograms order by layer, step")
        return [Histogram(*row[:4], struct.unpack(f"{len(row[4]) // 4}I", row[4])) for row in rows]

    def epochs(self) -> list[dict[str, Any]]:
        rows = self._rows("select epoch, step, numbers from epochs order by epoch")
        return [{"epoch": epoch, "step": step, **json.loads(numbers)} for epoch, step, numbers in rows]

    def verdicts(self) -> list[dict[str, Any]]:
        """Findings as dicts, with the step at which each was noticed, in that order."""
        return [
            {"step": step, **json.loads(f)} for step, f in self._rows("select step, finding from verdicts order by id")
        ]

    def events(self) -> list[tuple[int, str, str]]:
        return self._rows("select step, kind, told from events order by id")


def spread(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of these steps, the first of each stretch of equal length, and the last."""
    width = (steps[-1] - steps[0] + 1) / (most - 1)
    kept = list({int((step - steps[0]) / width): step for step in reversed(steps)}.values())[::-1]
    return kept if kept[-1] == steps[-1] else [*kept, steps[-1]]


def record_of(run: Path) -> Record:
    """The record in a run's folder, or the file itself. Raises FileNotFoundError, or ValueError if it is something else."""
    return Record(run / FILE if run.is_dir() else run)
