"""All experiments, one after the other, on one page: the project's gallery."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtrue import lab
from runtrue.lab.experiment import Experiment
from runtrue.report.blocks import Block


@dataclass(frozen=True)
class Entry:
    """What came of one experiment: `experiment` and the `blocks` of its page, or, if it failed, `error` in a line and the
    `trace` to it."""

    name: str
    seconds: float
    experiment: Experiment | None = None
    blocks: tuple[Block, ...] = ()
    error: str = ""
    trace: str = ""

    @property
    def held(self) -> bool:
        """True if it ran and every part of its claim held."""
        return self.experiment is not None and self.experiment.held

    @property
    def outcome(self) -> str:
        """In a few words: `held`, the parts that did not hold, or that it failed."""
        if self.experiment is None:
            return "failed"
        return "held" if self.held else "does not hold: " + ", ".join(not_held(self.experiment))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: what the experiment tells, its "seconds", and "error", which is null if it ran."""
        told = self.experiment.to_dict() if self.experiment else {"experiment": self.name, "held": False}
        return {**told, "seconds": round(self.seconds, 3), "error": self.error or None}

    def __str__(self) -> str:
        column = max(map(len, lab.EXPERIMENTS))
        failure = f": {self.error}" if self.error else ""
        return f"{self.name:{column}}  {self.seconds:6.1f} s  {self.outcome}{failure}"


@dataclass(frozen=True)
class Gallery:
    """The entries in the order in which they ran. `names`: of all that were to run, so that a part says what it lacks."""

    entries: tuple[Entry, ...]
    names: tuple[str, ...]

    @property
    def failed(self) -> tuple[Entry, ...]:
        """The experiments that ended with an error."""
        return tuple(entry for entry in self.entries if entry.experiment is None)

    @property
    def missing(self) -> tuple[str, ...]:
        """The experiments that have not run yet."""
        ended = {entry.name for entry in self.entries}
        return tuple(name for name in self.names if name not in ended)

    @property
    def held(self) -> bool:
        """True if all ran and every claim held."""
        return not self.missing and all(entry.held for entry in self.entries)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: "schema", "held" of all, and "experiments", see `Entry.to_dict`."""
        return {"schema": 1, "held": self.held, "experiments": [entry.to_dict() for entry in self.entries]}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_html(self, path: str | Path) -> Path:
        """Write one self-contained page (offline, light and dark) and return where it lies."""
        from runtrue.lab.gallery_page import write_page

        return write_page(self, Path(path))

    def __str__(self) -> str:
        return "\n".join(map(str, self.entries))


def gallery(names: Iterable[str], settings: Mapping[str, Any]) -> Gallery:
    """All of these experiments. Raises TypeError as `each` does."""
    return Gallery(tuple(each(names, settings)), tuple(names))


def each(names: Iterable[str], settings: Mapping[str, Any]) -> Iterator[Entry]:
    """The experiments one by one as they end.

    Raises TypeError at once, before any of them runs, for a setting that one of them does not have, and ValueError for fewer than
    one seed.
    """
    names = tuple(names)
    ensure_known(names, settings)
    return (ended(name, settings) for name in names)


def ensure_known(names: Iterable[str], settings: Mapping[str, Any]) -> None:
    known = {name: lab.settings_of(name) for name in names} if settings else {}
    for setting in settings:
        if strangers := [name for name, has in known.items() if setting not in has]:
            raise TypeError(
                f"{setting} is no setting of {', '.join(strangers)}; all of them would get it: leave it out, or run by name "
                "the experiments that have it"
            )
    seeds = settings.get("seeds", 1)
    if not isinstance(seeds, int) or seeds < 1:
        raise ValueError(f"seeds must be a whole number of at least 1, got {seeds!r}")


def ended(name: str, settings: Mapping[str, Any]) -> Entry:
    """Run one experiment; whatever it raises is its entry."""
    start = time.perf_counter()
    try:
        experiment = lab.run(name, **settings)
        blocks = tuple(experiment.draw(experiment))
    except Exception as error:  # noqa: BLE001  the other experiments are to run still
        told = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Entry(name, time.perf_counter() - start, error=told, trace=traceback.format_exc())
    return Entry(name, time.perf_counter() - start, experiment, blocks)


def not_held(experiment: Experiment) -> list[str]:
    """The codes of the parts that did not hold."""
    return [part.code for part in experiment.judgements if not part.held]
