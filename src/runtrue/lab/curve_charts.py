"""Lines over epochs or over a setting, each with the band that its seeds span, and named where it ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from runtrue.lab.experiment import Row
from runtrue.lab.text import SHARES, percent
from runtrue.report.blocks import Table
from runtrue.report.numbers import is_finite
from runtrue.report.rate_charts import HEIGHT, label_layers, placed, rule
from runtrue.report.theme import GREY, NUMBERS, Spec

PURPLE = "#8f6fc9"
GREEN = "#2a9d7c"
OLIVE = "#b08a1e"
TALL = 0.15
"""Accuracies that span more than this get an axis in steps of 10 %, others in steps of 2 %."""


@dataclass(frozen=True)
class SeedLine:
    """One line: for each x the values of the seeds. What is not finite is left out."""

    name: str
    colour: str
    points: Sequence[tuple[float, Sequence[float]]]
    dashed: bool = False

    def rows(self, key: str) -> list[Spec]:
        kept = [(x, [value for value in values if is_finite(value)]) for x, values in self.points]
        return [
            {"x": x, "line": self.name, f"{key}": fmean(values), f"{key}_low": min(values), f"{key}_high": max(values)}
            for x, values in kept
            if values
        ]


def by_epoch(name: str, colour: str, curves: Sequence[Sequence[float]], dashed: bool = False) -> SeedLine:
    """A line over the epochs, from 1 on, of one curve a seed; it ends with the longest of them."""
    longest = max(map(len, curves), default=0)
    points = [(epoch + 1.0, [curve[epoch] for curve in curves if epoch < len(curve)]) for epoch in range(longest)]
    return SeedLine(name, colour, points, dashed)


def span(title: str, lines: Sequence[SeedLine], levels: Sequence[float] = ()) -> Spec:
    """An upright axis of accuracies, from the step below the lowest to the step above the highest."""
    values = [value for line in lines for _, found in line.points for value in found if is_finite(value)]
    low, high = min([*values, *levels], default=0.0), max([*values, *levels], default=1.0)
    step = 0.1 if high - low > TALL else 0.02
    ends = [math.floor(low / step) * step, math.ceil(high / step) * step]
    scale = {"type": "linear", "domain": [round(end, 2) for end in ends], "nice": False}
    return {"type": "quantitative", "title": title, "scale": scale, "axis": {"format": ".0%", "tickCount": 6}}


def number_axis(title: str, low: float, high: float, log: bool = False) -> Spec:
    scale = {"type": "log" if log else "linear", "domain": [low, high], "nice": False}
    return {"type": "quantitative", "title": title, "scale": scale, "axis": dict(NUMBERS)}


def x_axis(title: str, values: Sequence[float] | None = None, log: bool = False) -> Spec:
    """A level axis; `values`: where it has its numbers, and from the first of them to the last it goes."""
    axis: Spec = {"grid": False, "labelFlush": False}
    scale: Spec = {"type": "log", "nice": False} if log else {"type": "linear", "nice": False, "zero": False}
    if values:
        axis |= {"values": list(values), "labelExpr": "format(datum.value, '~g')"}
        scale |= {"domain": [values[0], values[-1]]}
    return {"type": "quantitative", "title": title, "scale": scale, "axis": axis}


def seed_lines(
    lines: Sequence[SeedLine], x: Spec, y: Spec, levels: Sequence[tuple[str, float]] = (), dots: bool = False
) -> Spec:
    """The means of the seeds as lines, the span from the lowest seed to the highest as a band behind each.

    levels: dashed level lines by name. dots: mark each x, where there are few.
    """
    keyed = {f"v{place}": line for place, line in enumerate(lines)}
    rows = {key: line.rows(key) for key, line in keyed.items()}
    ends = [(line.name, line.colour, rows[key][-1][key]) for key, line in keyed.items() if rows[key]]
    named = [*ends, *((name, GREY, value) for name, value in levels)]
    return {
        "height": HEIGHT,
        "data": {"values": [row for found in rows.values() for row in found]},
        "encoding": {"x": {"field": "x", **x}},
        "layer": [
            *(band(key, line, y) for key, line in keyed.items()),
            *(drawn(key, line, y, dots, x["title"]) for key, line in keyed.items()),
            *(rule(value, y) for _, value in levels),
            *label_layers(placed(named, y)),
        ],
    }


def of_line(line: SeedLine) -> list[Mapping[str, object]]:
    return [{"filter": {"field": "line", "equal": line.name}}]


def band(key: str, line: SeedLine, y: Spec) -> Spec:
    mark = {"type": "area", "color": line.colour, "opacity": 0.16, "clip": True}
    edges = {"y": {"field": f"{key}_low", **y}, "y2": {"field": f"{key}_high"}}
    return {"transform": of_line(line), "mark": mark, "encoding": edges}


def drawn(key: str, line: SeedLine, y: Spec, dots: bool, title: str) -> Spec:
    dash = {"strokeDash": [6, 4]} if line.dashed else {}
    point = {"point": {"size": 40, "filled": True, "opacity": 1, "color": line.colour}} if dots else {}
    shown = ".1%" if y["axis"].get("format") == ".0%" else ".4~g"
    told = [
        {"field": "line"},
        {"field": "x", "title": title, "format": "~g"},
        {"field": key, "title": "mean", "format": shown},
        {"field": f"{key}_low", "title": "lowest seed", "format": shown},
        {"field": f"{key}_high", "title": "highest seed", "format": shown},
    ]
    mark = {"type": "line", "color": line.colour, "strokeWidth": 2.25, "clip": not dots, **dash, **point}
    return {"transform": of_line(line), "mark": mark, "encoding": {"y": {"field": key, **y}, "tooltip": told}}


def table(headings: Mapping[str, str], rows: Sequence[Row], caption: str = "") -> Table:
    """The columns under `headings` (key of a row: its heading); accuracies and other shares as percentages."""
    return Table(
        list(headings.values()), [[as_cell(key, row[key]) for key in headings] for row in rows], caption=caption
    )


def as_cell(key: str, value: Any) -> Any:
    share = key.removesuffix("_spread").endswith(SHARES)
    return percent(value, 1) if share and is_finite(value) else value
