"""The record of a run: one SQLite file that can be read while it is written (WAL mode), and that does not grow without end.

meta       what the run is: schema, model, versions, when it started, and when it ended (if it was closed); key -> JSON
steps      stretches of neighbouring steps `first` to `last`: of the `count` losses that are numbers the mean, low, high and sum
           of squares; `lost`: losses that are no numbers; seconds that the steps took
rates      the learning rate of each parameter group (`part`), a row where it changed
names      layer or parameter, and what is read of it: ("layers.0.weight", "grad_norm")
layouts    ids of names as a blob of uint32: what the numbers of a reading are, in that order
readings   statistics of layers and parameters at one step, `at` seconds from the start: a blob of float32, as `layout` tells
histograms a sample of one layer's outputs at one step: counts (uint32) in bins of equal width from low to high
epochs     what the user told at the end of an epoch, as JSON; never thinned
verdicts   what was judged, with its evidence, as JSON; never thinned
events     what happened beside, and what could not be seen: a resume, a compiled model, the end of the watching; never thinned

All blobs are in the byte order of the machine. Stretches are joined by twos, and of readings, histograms and rates every other
one is left out, whenever there are more than `MOST_…`; from then on stretches are twice as wide, and every other new one is kept.
The first and the last always stay. So the file of a run of any length is small. Schema 1.
"""

from __future__ import annotations

import json
import sqlite3
from array import array
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtrue.watch.entries import FILE, SCHEMA, Histogram, Reading, Stretch, joined, stretch, thinned
from runtrue.watch.recorder import Recorder

__all__ = [
    "FILE", "SCHEMA", "Histogram", "Reading", "Record", "Recorder", "Stretch", "joined", "record_of", "stretch", "thinned",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Record:
    """What a run wrote so far. Opens the file to read only; a run that is going on is not disturbed."""

    path: Path

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path} does not exist: `runtrue.watch(model, optimizer, run=FOLDER)` writes it"
            )
        schema = self.meta.get("schema")
        if schema != SCHEMA:
            raise ValueError(f"{self.path} has schema {schema}; this version of runtrue reads {SCHEMA}")

    def _rows(self, query: str, *values: Any) -> list[Any]:
        """Raises ValueError for a file that is something else, or damaged."""
        try:
            return self._tried(query, values)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.path} is no record of a run: {error}") from None

    def _tried(self, query: str, values: tuple[Any, ...]) -> list[Any]:
        try:
            return self._asked("mode=ro", query, values)
        except sqlite3.OperationalError as error:
            if "unable to open" not in str(error) and "readonly" not in str(error):
                raise
            # a medium on which SQLite cannot put its own file beside it
            return self._asked("mode=ro&immutable=1", query, values)

    def _asked(self, how: str, query: str, values: tuple[Any, ...]) -> list[Any]:
        with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?{how}", uri=True, timeout=5.0)) as db:
            return db.execute(query, values).fetchall()

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
        """In the order of their steps, those behind the step `since`; no more than `most`, evenly spread over the steps."""
        steps = [row[0] for row in self._rows("select step from readings where step > ? order by step", since)]
        if most is not None and len(steps) > most:
            steps = spread(steps, most)
            asked = f"select * from readings where step in ({', '.join('?' * len(steps))}) order by step"
            rows = self._rows(asked, *steps)
        else:
            rows = self._rows("select * from readings where step > ? order by step", since)
        names = {key: (name, what) for key, name, what in self._rows("select id, name, what from names")}
        layouts = {key: [names[i] for i in array("I", ids)] for key, ids in self._rows("select id, names from layouts")}
        for step, at, layout, blob in rows:
            yield Reading(step, at, dict(zip(layouts[layout], array("f", blob), strict=True)))

    def histograms(self) -> list[Histogram]:
        rows = self._rows("select layer, step, low, high, counts from histograms order by layer, step")
        return [Histogram(layer, step, low, high, tuple(array("I", blob))) for layer, step, low, high, blob in rows]

    def epochs(self) -> list[dict[str, Any]]:
        """What was told of each, from 0 on; "epoch" is -1 for what was told before the first step. "step": how many were done."""
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
