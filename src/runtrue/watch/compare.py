"""Several records beside each other: what each came to, in what they differ, and their curves in the same figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runtrue.report.blocks import Block, Chart, Prose, Section, Table, Tag
from runtrue.report.numbers import is_number
from runtrue.report.page import render_page
from runtrue.watch import run_charts
from runtrue.watch.page import Content, grade, last_loss, step_ms
from runtrue.watch.record import Record, Stretch

SETTINGS, FACTS = "config.yaml", "run.json"
LARGEST = 2**20  # bytes of a file of settings that are read
UNTOLD = ("started", "ended", "finished", "status", "last", "schema", "skipped", "command", "seconds", "pace")
"""Keys that differ between any two runs, or that tell what came of it and not what was asked for."""
EPOCHS = {
    "val_accuracy": "Validation accuracy by epoch (N3.3).", "val_loss": "Validation loss by epoch.",
    "train_accuracy": "Training accuracy by epoch.", "train_loss": "Training loss by epoch.",
}  # fmt: skip


def comparison(records: Mapping[str, Record]) -> str:
    """The page."""
    found = content(records)
    return render_page(found.title, subtitle=found.subtitle, blocks=found.blocks)


def content(records: Mapping[str, Record]) -> Content:
    steps = {name: record.steps() for name, record in records.items()}
    epochs = {name: record.epochs() for name, record in records.items()}
    found: list[Block] = [
        Table(HEAD, [row(name, record, steps[name], epochs[name]) for name, record in records.items()]),
        Section(
            "What differs", differences({name: settings(record) for name, record in records.items()}), id="differs"
        ),
        Section("Curves", curves(records, steps, epochs), id="curves"),
    ]
    names = list(records)
    title = " and ".join(names) if len(names) < 4 else f"{len(names)} runs"
    return Content(title, "runs beside each other", "neutral", "", "", found)


HEAD = ["run", "faults", "warnings", "steps", "last loss", "validation", "ms a step", "model", "parameters"]


def row(name: str, record: Record, steps: Sequence[Stretch], epochs: Sequence[Mapping[str, Any]]) -> list[Any]:
    meta, verdicts = record.meta, record.verdicts()
    accuracy = run_charts.last_told(epochs, "val_accuracy")
    share = f"{accuracy:.2%}" if accuracy is not None and 0 <= accuracy <= 1 else accuracy
    causes = [causes_of(verdicts, kind) for kind in ("fault", "warning")]
    return [
        name, *causes, steps[-1].last + 1 if steps else 0, last_loss(steps), share, step_ms(steps) if steps else None,
        meta.get("model"), meta.get("parameters"),
    ]  # fmt: skip


def causes_of(verdicts: Sequence[Mapping[str, Any]], kind: str) -> str | Tag:
    causes = dict.fromkeys(str(one["cause"]) for one in verdicts if grade(one) == kind)
    return Tag(", ".join(causes), "bad" if kind == "fault" else "neutral") if causes else "none"


# What differs


def settings(record: Record) -> dict[str, Any]:
    """By dotted key: what the record knows, and what `runtrue train` wrote beside it."""
    known = {key: value for key, value in record.meta.items() if key not in UNTOLD}
    rates = [rate for changes in record.rates().values() for _, rate in changes if run_charts.finite(rate)]
    known["largest learning rate"] = max(rates, default=None)
    folder = record.path.parent
    return known | flat(facts_of(folder / FACTS)) | flat(settings_of(folder / SETTINGS))


def facts_of(file: Path) -> Any:
    try:
        return json.loads(text_of(file))
    except ValueError:
        return {}


def settings_of(file: Path) -> Any:
    """Without PyYAML, which comes with `runtrue[train]`, there are no settings to read."""
    try:
        import yaml
    except ImportError:
        return {}
    try:
        return yaml.safe_load(text_of(file))
    except yaml.YAMLError:
        return {}


def text_of(file: Path) -> str:
    """Empty if there is no such file (a link counts as none), if it is too large or cannot be read."""
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > LARGEST:
            return ""
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def flat(value: Any, within: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    if not isinstance(value, Mapping):
        return {within: value} if within else {}
    found: dict[str, Any] = {}
    for key, item in value.items():
        if str(key) not in UNTOLD:
            found |= flat(item, f"{within}.{key}" if within else str(key))
    return found


def differences(found: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    """What two runs that know it know differently. What one run alone tells of itself is no difference."""
    keys = dict.fromkeys(key for one in found.values() for key in one)
    rows = [
        [key, *(cell(one.get(key)) for one in found.values())]
        for key in keys
        if len({repr(one[key]) for one in found.values() if one.get(key) is not None}) > 1
    ]
    if not rows:
        return [Prose("Nothing that is known of these runs differs: neither the records nor the settings beside them.")]
    return [Table(["setting", *found], rows)]


def cell(value: Any) -> Any:
    return value if value is None or is_number(value) else str(value)


# Curves


def curves(
    records: Mapping[str, Record],
    steps: Mapping[str, Sequence[Stretch]],
    epochs: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[Block]:
    found: list[Block] = []
    if any(last_loss(parts) is not None for parts in steps.values()):
        alt = f"the losses of {len(records)} runs"
        cut = " A loss far above all that the runs began with is drawn at the edge." if run_charts.is_cut(steps) else ""
        by_time = "The same by the time that the training took."
        found += [
            Chart(run_charts.losses_of(steps), f"Mean loss by step (N3.2).{cut}", alt, "loss"),
            Chart(run_charts.losses_by_time(steps), by_time, f"{alt} by time", "loss-by-time"),
        ]
    for key, caption in EPOCHS.items():
        spec = run_charts.epochs_of(epochs, key)
        if spec is not None:
            found.append(Chart(spec, caption, f"{key} of {len(records)} runs", key))
    rates = {name: record.rates() for name, record in records.items()}
    spec = run_charts.rates_of(rates, {name: parts[-1].last if parts else 0 for name, parts in steps.items()})
    if spec is not None:
        found.append(Chart(spec, "Learning rate of the first parameter group.", "learning rates by step", "rates"))
    return found or [Prose("Nothing is recorded yet.")]
