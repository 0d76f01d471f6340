"""A record in the forms of others: CSV, JSON, TensorBoard's event files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtrue.findings import plain
from runtrue.report.html import replace_text
from runtrue.watch.record import Record

Row = tuple[int, str, str, float]
"""step, layer or parameter ("" for the run itself), what, number."""
SUFFIX = ".runtrue"
"""Of the event files that are written here, and that a later export replaces."""


def rows(record: Record) -> Iterator[Row]:
    """Every number of a record, the run's own first. A stretch of steps stands at its last one."""
    for part in record.steps():
        if part.mean is not None and part.low is not None and part.high is not None:
            yield part.last, "", "loss", part.mean
            yield part.last, "", "loss_low", part.low
            yield part.last, "", "loss_high", part.high
        if part.lost:
            yield part.last, "", "loss_lost", float(part.lost)
        yield part.last, "", "seconds_a_step", part.seconds / (part.last - part.first + 1)
    for group, changes in record.rates().items():
        yield from ((step, f"group {group}", "lr", rate) for step, rate in changes)
    for epoch in record.epochs():
        numbers = {k: v for k, v in epoch.items() if k not in ("epoch", "step") and isinstance(v, (int, float))}
        yield from ((epoch["step"], "", name, float(number)) for name, number in numbers.items())
    for reading in record.readings():
        yield from ((reading.step, name, what, number) for (name, what), number in reading.numbers.items())


def as_dict(record: Record) -> dict[str, Any]:
    """Everything, as JSON can hold it: a number that is not finite is null. "schema" is that of the record."""
    meta = record.meta
    return {
        "schema": meta.pop("schema"),
        "meta": meta,
        "steps": [part._asdict() for part in record.steps()],
        "rates": {str(group): changes for group, changes in record.rates().items()},
        "epochs": record.epochs(),
        "verdicts": record.verdicts(),
        "events": [{"step": step, "kind": kind, "told": told} for step, kind, told in record.events()],
        "readings": [
            {"step": r.step, "at": r.at, "numbers": [[name, what, x] for (name, what), x in r.numbers.items()]}
            for r in record.readings()
        ],
        "histograms": [one._asdict() for one in record.histograms()],
    }


def to_json(record: Record, path: Path) -> Path:
    replace_text(path, json.dumps(plain(as_dict(record)), indent=1, allow_nan=False) + "\n")
    return path


def to_csv(record: Record, path: Path) -> Path:
    """Columns step, layer, what, value. Numbers that are not finite are nan, inf, -inf."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("step", "layer", "what", "value"))
    writer.writerows(rows(record))
    replace_text(path, text.getvalue())
    return path


def to_tensorboard(record: Record, folder: Path) -> Path:
    """Event files, a scalar for each number; those of an earlier export are replaced. Raises ImportError without tensorboard."""
    from torch.utils.tensorboard import SummaryWriter

    for old in folder.glob(f"events.out.tfevents.*{SUFFIX}"):
        old.unlink()
    with SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
        for step, name, what, number in rows(record):
            writer.add_scalar(f"{what}/{name}" if name else what, number, step)
        for one in record.verdicts():
            told = f"{one['severity']} in {one['where']}: {one['message']}"
            writer.add_text(f"verdicts/{one['cause']}", told, one["step"])
    return folder
