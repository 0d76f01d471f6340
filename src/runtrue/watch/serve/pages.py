"""The pages of the server: those of `runtrue report` and `runtrue compare`, with what follows a run, and the list of runs."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from runtrue.report.page import anchored, environment, has_chart
from runtrue.watch import compare, page, run_charts
from runtrue.watch.record import Record
from runtrue.watch.serve.runs import Runs, written

if TYPE_CHECKING:
    from jinja2 import Environment

UNREADABLE = (OSError, ValueError, KeyError, TypeError, sqlite3.Error)
"""What a record that is damaged, or of another version, makes of its reading."""


@dataclass(frozen=True)
class Row:
    """A run in the list."""

    name: str
    title: str
    link: str
    state: str
    steps: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    verdict: str = ""
    tone: str = "neutral"


@cache
def templates() -> Environment:
    """The templates of this folder, on top of those of the reports."""
    from jinja2 import ChoiceLoader, PackageLoader

    reports = environment()
    own = PackageLoader("runtrue.watch.serve", "templates")
    assert reports.loader is not None
    return reports.overlay(loader=ChoiceLoader([own, reports.loader]))


def query(names: Sequence[str], **more: str) -> str:
    return urlencode([*(("run", name) for name in names), *more.items()], errors="replace")


def run_page(runs: Runs, name: str, mark: str) -> str:
    """Raises FileNotFoundError if there is no such run."""
    file = runs.file(name)
    if file is None:
        raise FileNotFoundError(name)
    title = runs.title(name)
    try:
        record = Record(file)
        found = page.content(record, title)
        told = page.state(record.meta, written(file), time.time())
    except UNREADABLE as error:
        said = f"This record cannot be read (yet): {type(error).__name__}: {error}"
        found, told = page.Content(title, "", "neutral", said, "", []), "not readable"
    found = replace(found, subtitle=", ".join(part for part in (found.subtitle, told) if part))
    return shown(found, [("All runs", "./")], query([name], seen=mark))


def comparison(runs: Runs, names: Sequence[str], mark: str) -> str:
    """Raises FileNotFoundError if one of the runs is not there, or cannot be read."""
    records: dict[str, Record] = {}
    for name in names:
        file = runs.file(name)
        if file is None:
            raise FileNotFoundError(name)
        try:
            records[runs.title(name)] = Record(file)
        except UNREADABLE as error:
            raise FileNotFoundError(f"{name}: {error}") from None
    links = [("All runs", "./"), *((runs.title(name), f"run?{query([name])}") for name in names)]
    return shown(compare.content(records), links, query(names, seen=mark))


def shown(found: page.Content, links: Sequence[tuple[str, str]], follow: str) -> str:
    return templates().get_template("live.html.j2").render(
        title=found.title, subtitle=found.subtitle, status=found.tone, status_text=found.said, status_detail=found.detail,
        blocks=found.blocks, contents=anchored(found.blocks), links=links, follow=follow, charts=has_chart(found.blocks),
    )  # fmt: skip


def list_page(runs: Runs, names: Sequence[str], known: dict[str, tuple[str, Row]], mark: str) -> str:
    """known: rows that were read before, with the mark of their record; filled here."""
    found = [row(runs, name, known) for name in names]
    return templates().get_template("runs.html.j2").render(
        title=runs.root.name or str(runs.root), subtitle=f"{len(found):,} run{'s' * (len(found) != 1)} below {runs.root}",
        status="neutral", status_text="", status_detail="", blocks=[], contents=[], links=[], rows=found,
        follow=query([], seen=mark), charts=False,
    )  # fmt: skip


def row(runs: Runs, name: str, known: dict[str, tuple[str, Row]]) -> Row:
    """A row is read anew when its record has changed; its state may change without."""
    file, mark = runs.file(name), runs.mark([name])
    if name in known and known[name][0] == mark and known[name][1].state == "ended":
        return known[name][1]
    known[name] = (mark, read_row(runs, name, file))
    return known[name][1]


def read_row(runs: Runs, name: str, file: Any) -> Row:
    bare = Row(name, runs.title(name), f"run?{query([name])}", "not readable")
    try:
        record = Record(file)
        steps, epochs, verdicts = record.steps(), record.epochs(), record.verdicts()
        tone, said, _ = page.headline(steps, page.in_order(verdicts))
        return replace(
            bare, state=page.state(record.meta, written(file), time.time()).partition(",")[0],
            steps=steps[-1].last + 1 if steps else 0,
            loss=page.last_loss(steps), accuracy=run_charts.last_told(epochs, "val_accuracy"), verdict=said, tone=tone,
        )  # fmt: skip
    except UNREADABLE:
        return bare
