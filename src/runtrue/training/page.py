"""The page of a run: both curves of loss and accuracy (N3.3), the settings, and with what it ran."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from runtrue.report.blocks import Block, Chart, Facts, Fold, Section, Stat, Stats, Table
from runtrue.report.html import save_page
from runtrue.report.page import render_page
from runtrue.report.theme import BLUE, NUMBERS, ORANGE, Spec
from runtrue.training.config import Config
from runtrue.training.folder import RunFolder
from runtrue.watch.page import in_order, judged, layer_section
from runtrue.watch.record import record_of

SETS = {"train": ("training", ORANGE), "val": ("validation", BLUE)}
HEADS = {
    "epoch": "epoch", "train_loss": "train loss", "val_loss": "val loss", "train_accuracy": "train right",
    "val_accuracy": "val right", "lr": "rate", "seconds": "seconds",
}  # fmt: skip
SHOWN = 50  # rows of the table, the last ones: the curves show the rest


def write_page(folder: RunFolder, config: Config, data: str) -> None:
    """Write report.html from what the folder holds."""
    save_page(page(folder, config, data), folder.report, "run")


def page(folder: RunFolder, config: Config, data: str) -> str:
    history, facts = folder.history(), folder.read_facts()
    share, done = history[-1]["val_accuracy"], f"{len(history)} of {config.epochs} epochs"
    return render_page(
        folder.path.name,
        subtitle=f"{config.net} on {data.splitlines()[0]}",
        status_text=f"{share:.1%} of the validation set right after {done}",
        blocks=blocks(history, config, facts, folder),
    )


def watched(folder: RunFolder) -> tuple[list[Block], list[Block]]:
    """What was seen while it ran: the verdicts, and the layers over time. Nothing where no record was kept."""
    try:
        record = record_of(folder.path)
    except (OSError, ValueError):
        return [], []
    maps = layer_section(record)
    return judged(in_order(record.verdicts())), [maps] if maps else []


def blocks(history: Sequence[dict[str, Any]], config: Config, facts: dict[str, Any], folder: RunFolder) -> list[Block]:
    last = history[-1]
    numbers = Stats([
        Stat("validation accuracy", f"{last['val_accuracy']:.2%}"),
        Stat("training accuracy", f"{last['train_accuracy']:.2%}"),
        Stat("seconds an epoch", f"{sum(row['seconds'] for row in history) / len(history):.3g}"),
    ])  # fmt: skip
    told = [
        Chart(
            curves(history, "accuracy"),
            "Share of right answers by epoch. That of the training set is counted while it is trained, on augmented images.",
            alt(history, "accuracy"),
        ),
        Chart(curves(history, "loss"), "Cross-entropy by epoch.", alt(history, "loss")),
    ]
    table = Table(list(HEADS.values()), [[row[key] + (key == "epoch") for key in HEADS] for row in history[-SHOWN:]])
    skipped = facts.get("skipped") or []
    left_out: list[Block] = [Table(["file", "why"], [[one["path"], one["reason"]] for one in skipped])]
    verdicts, layers = watched(folder)
    return [
        numbers,
        *verdicts,
        *told,
        *layers,
        Section("Epochs", [table], id="epochs"),
        *([Section(f"Left out: {len(skipped)} files", [Fold("the files", left_out)], id="skipped")] if skipped else []),
        Section("Settings", [Facts({name: str(value) for name, value in config.to_dict().items()})], id="settings"),
        Section("Run", [Facts(run_facts(facts))], id="run"),
    ]


def run_facts(facts: dict[str, Any]) -> dict[str, str]:
    versions = ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items())
    told = {"data": facts.get("data"), "parameters": facts.get("parameters"), "git revision": facts.get("git")}
    return {
        name: str(value)
        for name, value in {**told, "versions": versions, "system": facts.get("system")}.items()
        if value
    }


def curves(history: Sequence[dict[str, Any]], reading: str, across: str = "epoch", first: int = 1) -> Spec:
    """Training dashed, validation solid, as the paper of the residual networks draws them (N5). across: what a row is; first:
    the number that the row of epoch 0 has on the axis."""
    points = [
        {"epoch": row["epoch"] + first, "value": row[f"{key}_{reading}"], "set": name}
        for row in history
        for key, (name, _) in SETS.items()
        if math.isfinite(row[f"{key}_{reading}"])
    ]
    names = [name for name, _ in SETS.values()]
    axis = {"format": "%"} if reading == "accuracy" else NUMBERS
    whole = {"tickMinStep": 1, "format": "d", "grid": False}
    return {
        "height": 260,
        "data": {"values": points},
        "mark": {"type": "line", "strokeWidth": 2.25, "point": len(history) < 30},
        "encoding": {
            "x": {
                "field": "epoch",
                "type": "quantitative",
                "title": across,
                "axis": whole,
                "scale": {"domain": [first, first + max(1, len(history) - 1)], "nice": False},
            },
            "y": {"field": "value", "type": "quantitative", "title": reading, "axis": axis, "scale": {"zero": False}},
            "color": {
                "field": "set",
                "type": "nominal",
                "title": None,
                "scale": {"domain": names, "range": [colour for _, colour in SETS.values()]},
                "legend": {"orient": "top"},
            },
            "strokeDash": {
                "field": "set",
                "type": "nominal",
                "title": None,
                "scale": {"domain": names, "range": [[5, 4], [1, 0]]},
                "legend": {"orient": "top"},
            },
            "tooltip": [{"field": "set"}, {"field": "epoch", "title": across}, {"field": "value", "format": ".4~g"}],
        },
    }


def alt(history: Sequence[dict[str, Any]], reading: str) -> str:
    told = [
        f"{name} {reading} from {history[0][f'{key}_{reading}']:.3g} to {history[-1][f'{key}_{reading}']:.3g}"
        for key, (name, _) in SETS.items()
    ]
    return f"Over {len(history)} epochs: {'; '.join(told)}."
