"""Writes the record of a run; `record` says what stands in it, and reads it."""

from __future__ import annotations

import json
import sqlite3
import struct
import time
from array import array
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtrue.findings import plain
from runtrue.watch.entries import SCHEMA, TABLES, Histogram, Reading, Stretch, cut, joined, stretch, thinned
from runtrue.watch.packets import BEFORE

MOST_STRETCHES, MOST_READINGS, MOST_HISTOGRAMS, MOST_RATES = 4096, 1024, 64, 4096
"""Of 100 layers with ten numbers each, 1024 readings are 4 MB; stretches are 300 kB; of histograms the limit is a layer's."""


@dataclass(eq=False)
class Kept:
    """Which steps of a table are kept: all, until there are more than `most`; then every other one, then every fourth, … The
    last one is always there: between two that stay it is replaced by the next."""

    most: int
    steps: list[int] = field(default_factory=list)
    gap: int = 1
    _since: int = 0
    """How many came since the last one that stays."""

    def add(self, step: int) -> list[int]:
        """Keep this one too. Returns the steps that are to go."""
        gone = [self.steps.pop()] if self._since and self.steps else []
        self._since = (self._since + 1) % self.gap if self.steps else 0
        self.steps.append(step)
        return [*gone, *self._halve()] if len(self.steps) > self.most else gone

    def _halve(self) -> list[int]:
        stay = len(self.steps) - (1 if self._since else 0)  # the last one may only be passing
        if not self._since and stay % 2 == 0:
            self._since = self.gap
        elif stay % 2 == 0:
            self._since += self.gap
        self.gap *= 2
        gone = self.steps[1:-1:2]
        self.steps = [step for i, step in enumerate(self.steps) if i % 2 == 0 or i == len(self.steps) - 1]
        return gone


@dataclass(eq=False)
class Recorder:
    """Writes one file, from one thread. Every method may raise sqlite3.Error or OSError; `flush` makes what came before last.

    Raises sqlite3.DatabaseError for a file that is something else, which is left as it is.
    """

    path: Path

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(self.path, timeout=5.0, check_same_thread=False, isolation_level=None)
        try:
            self._refuse_others()
            self.db.execute("pragma journal_mode=wal")
            self.db.execute("pragma synchronous=normal")
            self.db.execute("pragma cache_size=-512")  # kB of memory
            self.db.executescript(TABLES)
            self.db.execute("begin")
            self._look_up()
            self.tell(schema=SCHEMA)
            self.db.execute("delete from meta where key = 'ended'")
        except BaseException:
            self.db.close()
            raise

    def _refuse_others(self) -> None:
        tables = {row[0] for row in self.db.execute("select name from sqlite_master where type = 'table'")}
        if tables and "meta" not in tables:
            raise sqlite3.DatabaseError(f"{self.path} is a database of something else")
        found = self.db.execute("select value from meta where key = 'schema'").fetchone() if tables else None
        if found is not None and json.loads(found[0]) != SCHEMA:
            raise sqlite3.DatabaseError(f"{self.path} has schema {found[0]}, this version writes {SCHEMA}")

    def _look_up(self) -> None:
        """What a file that is gone on with holds."""
        told = {key: json.loads(value) for key, value in self.db.execute("select key, value from meta")}
        self.names = {(name, what): key for key, name, what in self.db.execute("select id, name, what from names")}
        self.layouts: dict[bytes, int] = {ids: key for key, ids in self.db.execute("select id, names from layouts")}
        rows = self.db.execute("select first, last from steps").fetchall()
        self.stretches, self.width = len(rows), max([1, *(last - first + 1 for first, last in rows)])
        self.kept = {
            table: Kept(most, self._steps(table), told.get(f"{table} gap", 1))
            for table, most in (("readings", MOST_READINGS), ("histograms", MOST_HISTOGRAMS), ("rates", MOST_RATES))
        }
        self.epochs_so_far = self.db.execute("select coalesce(max(epoch) + 1, 0) from epochs").fetchone()[0]
        before = self.db.execute("select numbers from epochs where epoch = ?", (BEFORE,)).fetchone()
        self.known: dict[str, Any] = json.loads(before[0]) if before is not None else {}

    def _steps(self, table: str) -> list[int]:
        return [row[0] for row in self.db.execute(f"select distinct step from {table} order by step")]

    def tell(self, **facts: Any) -> None:
        rows = [(key, json.dumps(plain(value))) for key, value in facts.items()]
        self.db.executemany("insert or replace into meta values (?, ?)", rows)

    def forget_from(self, step: int) -> None:
        """A run resumed at this step: what a run that was cut off wrote from there on is not its own any more. Of a stretch that
        reaches across, the beginning stays."""
        across = [
            Stretch(*row) for row in self.db.execute("select * from steps where first < ? and last >= ?", (step, step))
        ]
        self.db.execute("delete from steps where last >= ?", (step,))
        for part in across:
            self._put(cut(part, step - 1))
        for table in ("rates", "readings", "histograms"):
            self.db.execute(f"delete from {table} where step >= ?", (step,))
        for table in ("epochs", "verdicts", "events"):  # their step is a number of steps that were done
            self.db.execute(f"delete from {table} where step > ? or ? = 0", (step, step))
        if step == 0:
            self.db.execute("delete from meta where key like '% gap'")
        self._look_up()

    def losses(self, first: int, losses: Sequence[float | None], seconds: Sequence[float]) -> None:
        """Losses of neighbouring steps, and how long each took."""
        for start in range(0, len(losses), self.width):
            part = stretch(first + start, losses[start : start + self.width], sum(seconds[start : start + self.width]))
            self._add(part)
        if self.stretches > MOST_STRETCHES:
            self._thin_steps()

    def _add(self, part: Stretch) -> None:
        """Beside the last one, or joined to it while there is room in it."""
        row = self.db.execute("select * from steps order by first desc limit 1").fetchone()
        last = Stretch(*row) if row else None
        if last and last.last < part.first and part.last - last.first < self.width:
            self._put(joined(last, part))
        else:
            self._put(part)
            self.stretches += 1

    def _put(self, part: Stretch) -> None:
        self.db.execute(f"insert or replace into steps values ({', '.join('?' * len(part))})", part)

    def _thin_steps(self) -> None:
        self.width *= 2
        rows = [Stretch(*row) for row in self.db.execute("select * from steps order by first")]
        self.db.execute("delete from steps")
        kept = list(thinned(rows, self.width))
        self.db.executemany(f"insert into steps values ({', '.join('?' * 9)})", kept)
        self.stretches = len(kept)

    def rates(self, found: Sequence[tuple[int, Sequence[float]]]) -> None:
        """(step, learning rate of each group), where they changed."""
        rows = [(step, part, rate) for step, rates in found for part, rate in enumerate(rates)]
        self.db.executemany("insert or replace into rates values (?, ?, ?)", rows)
        for step, _ in found:
            self._keep("rates", step)

    def reading(self, reading: Reading) -> None:
        layout = self._layout(reading.numbers)
        numbers = array("f", [_float32(x) for x in reading.numbers.values()]).tobytes()
        self.db.execute(
            "insert or replace into readings values (?, ?, ?, ?)", (reading.step, reading.at, layout, numbers)
        )
        self._keep("readings", reading.step)
        if len(self.layouts) > MOST_READINGS + 64:
            self._drop_layouts()

    def _layout(self, names: Mapping[tuple[str, str], float]) -> int:
        for name in names:
            if name not in self.names:
                self.names[name] = max(self.names.values(), default=0) + 1
                self.db.execute("insert into names values (?, ?, ?)", (self.names[name], *name))
        ids = array("I", [self.names[name] for name in names]).tobytes()
        if ids not in self.layouts:
            self.layouts[ids] = max(self.layouts.values(), default=0) + 1
            self.db.execute("insert into layouts values (?, ?)", (self.layouts[ids], ids))
        return self.layouts[ids]

    def _drop_layouts(self) -> None:
        """Those of no reading that is left: a network whose layers are drawn anew in each step has one a reading."""
        self.db.execute("delete from layouts where id not in (select layout from readings)")
        self.layouts = {ids: key for key, ids in self.db.execute("select id, names from layouts")}

    def histograms(self, found: Sequence[Histogram]) -> None:
        """Of the layers at one step."""
        rows = [(h.layer, h.step, h.low, h.high, struct.pack(f"{len(h.counts)}I", *h.counts)) for h in found]
        self.db.executemany("insert or replace into histograms values (?, ?, ?, ?, ?)", rows)
        for step in {h.step for h in found}:
            self._keep("histograms", step)

    def _keep(self, table: str, step: int) -> None:
        kept = self.kept[table]
        gap, gone = kept.gap, kept.add(step)
        self.db.executemany(f"delete from {table} where step = ?", [(one,) for one in gone])
        if kept.gap != gap:
            self.tell(**{f"{table} gap": kept.gap})

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
        """One plain file is left, which can be read anywhere: unless somebody is reading, who needs what stands beside it."""
        try:
            self.tell(ended=time.time())
            if self.db.in_transaction:
                self.db.execute("commit")
            self.db.execute("pragma busy_timeout = 200")
            self.db.execute("pragma wal_checkpoint(truncate)")
            with suppress(sqlite3.OperationalError):
                self.db.execute("pragma journal_mode = delete")
        finally:
            self.db.close()

    def abandon(self) -> None:
        """Close without writing anything more: something went wrong, and what was flushed stays."""
        with suppress(sqlite3.Error):
            self.db.close()


def _float32(x: float) -> float:
    """What float32 cannot hold is infinite there, and no error."""
    return x if abs(x) <= 3.4028234e38 or x != x else float("inf") if x > 0 else float("-inf")
