"""A record in the forms of others: CSV, JSON, TensorBoard's event files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtrue.findings import plain
from runtrue.watch.record import Record

Row = tuple[int, str, str, float]
"""step, layer or parameter ("" for the run itself), what, number."""


def rows(record: Record) -> Iterator[Row]:
    """Every number of a record, the run's own first."""
    for part in record.steps():
        if part.mean is not None and part.low is not None and part.high is not None:
            yield part.last, "", "loss", part.mean
            yield part.last, "", "loss_low", part.low
            yield part.last, "", "loss_high", part.high
        yield part.last, "", "seconds_a_step", part.seconds / (part.last - part.first + 1)
    for group, changes in record.rates().items():
        yield from ((step, f"group {group}", "lr", rate) for step, rate in changes)
    for epoch in record.epochs():
        numbers = {k: v for k, v in epoch.items() if k not in ("epoch", "step") and isinstance(v, (int, float))}
        yield from ((epoch["step"], "", name, float(number)) for name, number in numbers.items())
    for reading in record.readings():
        yield from ((reading.step, name, what, number) for (name, what), number in reading.numbers.items())


def as_dict(record: Record) -> dict[str, Any]:
    """Everything, as JSON can hold it. Versioned: "schema" is that of the record."""
    return {
        **record.meta,
        "steps": [part._asdict() for part in record.steps()],
        "rates": {f"group {group}": changes for group, changes in record.rates().items()},
        "epochs": record.epochs(),
        "verdicts": record.verdicts(),
        "events": [{"step": step, "kind": kind, "told": told} for step, kind, told in record.events()],
        "readings": [
            {"step": r.step, "numbers": [[name, what, x] for (name, what), x in r.numbers.items()]}
            for r in record.readings()
        ],
    }


def to_json(record: Record, path: Path) -> Path:
    path.write_text(json.dumps(plain(as_dict(record)), indent=1) + "\n", encoding="utf-8")
    return path


def to_csv(record: Record, path: Path) -> Path:
    """Columns step, layer, what, value."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("step", "layer", "what", "value"))
        writer.writerows(rows(record))
    return path


def to_tensorboard(record: Record, folder: Path) -> Path:
    """Event files, a scalar for each number. Raises ImportError if tensorboard is not installed."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:  # type: ignore[no-untyped-call]
        for step, name, what, number in rows(record):
            writer.add_scalar(f"{what}/{name}" if name else what, number, step)  # type: ignore[no-untyped-call]
    return folder
