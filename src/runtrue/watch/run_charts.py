"""Figures of a record: the loss with its band, what each layer did over time, and several runs in one figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from runtrue.report.theme import BLUE, GREY, NUMBERS, ORANGE, Spec, spans_decades
from runtrue.watch.record import Reading, Stretch, thinned

MOST_POINTS = 600  # stretches in a figure: more than a screen has room for
MOST_COLUMNS = 80  # readings in a map
COLOURS = (BLUE, ORANGE, "#3b9c6d", "#8a63c9", "#d1495b", "#7c8594")


def fewer(parts: Sequence[Stretch], most: int = MOST_POINTS) -> list[Stretch]:
    """The same curve in at most so many stretches."""
    if len(parts) <= most:
        return list(parts)
    return list(thinned(parts, math.ceil((parts[-1].last - parts[0].first + 1) / most)))


def loss_rows(parts: Sequence[Stretch], **told: Any) -> list[Spec]:
    return [
        {"step": (p.first + p.last) / 2, "loss": p.mean, "low": p.low, "high": p.high, **told}
        for p in fewer(parts)
        if p.mean is not None
    ]


def loss_band(parts: Sequence[Stretch], marks: Sequence[Mapping[str, Any]] = ()) -> Spec:
    """Mean of the loss, over the band from the lowest to the highest of each stretch (N3.2); a rule where a verdict arose."""
    rows = loss_rows(parts)
    log = spans_decades([row["loss"] for row in rows]) and all(row["low"] > 0 for row in rows)
    scale = {"type": "log"} if log else {"zero": False}
    y = {"type": "quantitative", "scale": scale, "axis": NUMBERS}
    layers: list[Spec] = [
        {
            "mark": {"type": "area", "color": BLUE, "opacity": 0.22},
            "encoding": {"y": {**y, "field": "low", "title": "loss"}, "y2": {"field": "high"}},
        },
        {
            "mark": {"type": "line", "color": BLUE, "strokeWidth": 2},
            "encoding": {
                "y": {**y, "field": "loss"},
                "tooltip": [{"field": key, "format": ".5~g"} for key in ("step", "loss", "low", "high")],
            },
        },
    ]
    if marks:
        layers.append({
            "data": {"values": [{"step": m["step"], "cause": m["cause"]} for m in marks]},
            "mark": {"type": "rule", "color": ORANGE, "strokeWidth": 2, "strokeDash": [4, 3]},
            "encoding": {"tooltip": [{"field": "cause"}, {"field": "step"}]},
        })  # fmt: skip
    return {"height": 260, "data": {"values": rows}, "encoding": {"x": step_axis()}, "layer": layers}


def step_axis() -> Spec:
    return {"field": "step", "type": "quantitative", "title": "step", "axis": {"format": "~s", "grid": False}}


def losses_of(runs: Mapping[str, Sequence[Stretch]]) -> Spec:
    """Mean losses of several runs."""
    rows = [row for name, parts in runs.items() for row in loss_rows(parts, run=name)]
    log = spans_decades([row["loss"] for row in rows])
    return lines(rows, "loss", "run", list(runs), scale={"type": "log"} if log else {"zero": False})


def lines(rows: Sequence[Spec], y: str, by: str, names: Sequence[str], *, scale: Spec, title: str | None = None,
          x: Spec | None = None) -> Spec:  # fmt: skip
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    return {
        "height": 240,
        "data": {"values": list(rows)},
        "mark": {"type": "line", "strokeWidth": 2, "point": len(rows) < 40},
        "encoding": {
            "x": x or step_axis(),
            "y": {"field": y, "type": "quantitative", "title": title or y, "scale": scale, "axis": NUMBERS},
            "color": {
                "field": by,
                "type": "nominal",
                "title": None,
                "scale": {"domain": list(names), "range": colours},
            },
            "tooltip": [{"field": by}, {"field": (x or step_axis())["field"]}, {"field": y, "format": ".5~g"}],
        },
    }


def epoch_axis() -> Spec:
    whole = {"tickMinStep": 1, "format": "d", "grid": False}
    return {
        "field": "epoch",
        "type": "quantitative",
        "title": "epoch",
        "axis": whole,
        "scale": {"nice": False, "zero": False},
    }


def by_epoch(epochs: Sequence[Mapping[str, Any]], what: str) -> Spec | None:
    """Training and validation, of "accuracy" or "loss"; None if neither was told."""
    rows = [
        {"epoch": row["epoch"] + 1, what: row[f"{side}_{what}"], "set": name}
        for row in epochs
        for side, name in (("val", "validation"), ("train", "training"))
        if isinstance(row.get(f"{side}_{what}"), (int, float))
    ]
    return lines(rows, what, "set", ["validation", "training"], scale={"zero": False}, x=epoch_axis()) if rows else None


def rates(found: Mapping[int, Sequence[tuple[int, float]]], last: int) -> Spec:
    """Learning rates of the parameter groups; a rate holds until it changes."""
    names = [f"group {part}" for part in found]
    rows: list[Spec] = []
    for part, changes in found.items():
        kept = changes[:: max(1, len(changes) // MOST_POINTS)]
        rows += [
            {"step": step, "rate": rate, "group": f"group {part}"} for step, rate in [*kept, (last, changes[-1][1])]
        ]
    spec = lines(rows, "rate", "group", names, scale={"zero": True}, title="learning rate")
    return {**spec, "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2}, "height": 140}


def layer_map(readings: Sequence[Reading], what: str, title: str, *, share: bool = False) -> Spec | None:
    """One statistic of each layer (down) over the steps (across). share: from 0 to 1; else on a logarithmic scale of colour."""
    columns = readings[:: max(1, math.ceil(len(readings) / MOST_COLUMNS))]
    names = list(dict.fromkeys(name for read in columns for name, kind in read.numbers if kind == what))
    rows = []
    for at, read in enumerate(columns):
        until = (
            columns[at + 1].step
            if at + 1 < len(columns)
            else read.step + max(1, (read.step - columns[0].step) // max(1, at))
        )
        for name in names:
            number = read.numbers.get((name, what))
            if number is not None and math.isfinite(number) and (share or number > 0):
                rows.append({"step": read.step, "until": until, "layer": name, "value": number})
    if not rows:
        return None
    scale: Spec = {"scheme": "viridis"} | ({"domain": [0, 1]} if share else {"type": "log"})
    legend = {
        "title": None,
        "orient": "right",
        "gradientLength": min(160, 18 * max(4, len(names))),
        "format": ".0%" if share else "~e",
    }
    return {
        "height": max(60, min(560, 16 * len(names))),
        "data": {"values": rows},
        "mark": {"type": "rect"},
        "encoding": {
            "x": {**step_axis(), "field": "step"},
            "x2": {"field": "until"},
            "y": {
                "field": "layer",
                "type": "nominal",
                "sort": names,
                "title": None,
                "axis": {"labelLimit": 170, "labelOverlap": True},
            },
            "color": {"field": "value", "type": "quantitative", "scale": scale, "legend": legend},
            "tooltip": [{"field": "layer"}, {"field": "step"}, {"field": "value", "title": title, "format": ".4~g"}],
        },
    }


def seconds(parts: Sequence[Stretch]) -> Spec:
    """Time of a step over the run."""
    rows = [{"step": (p.first + p.last) / 2, "ms": 1e3 * p.seconds / (p.last - p.first + 1)} for p in fewer(parts)]
    return {
        "height": 120,
        "data": {"values": rows},
        "mark": {"type": "line", "color": GREY, "strokeWidth": 1.5},
        "encoding": {
            "x": step_axis(),
            "y": {"field": "ms", "type": "quantitative", "title": "ms a step", "axis": NUMBERS},
        },
    }
