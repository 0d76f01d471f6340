"""The figures of `penalty`: what is learned, and what becomes of the weights, by the strength of the penalty."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from runtrue.lab.experiment import Experiment, Judgement, Row
from runtrue.lab.page import part_section
from runtrue.lab.penalty_judge import NAMES, ZERO
from runtrue.lab.text import percent
from runtrue.lab.training import CONSTANT
from runtrue.report.blocks import Block, Chart, Prose, Section, Table
from runtrue.report.numbers import count, is_finite
from runtrue.report.rate_charts import NO_LEARNING, label_layers, placed
from runtrue.report.theme import BLUE, GREY, NUMBERS, ORANGE, Spec

COLOURS = {"l1": ORANGE, "l2": BLUE, "elastic-net": "#8f6fc9"}
HEADINGS = {
    "strength": "λ",
    "by_hand": "added",
    "start": "start",
    "end": "end",
    "data_end": "data's part",
    "data_end_spread": "spread",
    "removed_fraction": "removed",
    "gone_fraction": "gone",
}
"""Columns of the tables: key of a row, and its heading."""


HEADS = {
    "N3.2e": "The first loss",
    "N3.2f": "A little",
    "N2.1a": "Truncation",
    "N2.1b": "Shrinkage",
    "N2.1c": "Too much",
}


def penalty_blocks(experiment: Experiment) -> list[Block]:
    """What is learned by strength, the weights, then a section for each part of the claim and a table for each penalty."""
    series = experiment.series
    seeds = experiment.settings["seeds"]
    learned = Chart(
        by_strength(series, "data_end", "loss of the data at the end", guides(series)),
        f"The data's part of the loss after {experiment.settings['steps']} steps, without the penalty itself, by its strength λ; "
        f"means of {count(seeds, 'seed')}. A little does no harm; from some strength on nothing is learned.",
        alt(series),
    )
    gone = Chart(
        by_strength(series, "gone_fraction", f"share of weights below {ZERO:g}", [], share=True),
        "Weights that are as good as gone. L1 pulls each with the same force, so that most go to 0; L2 pulls small ones "
        "little. Where one step's pull is larger than that, L1 throws weights to and fro across 0 instead.",
        alt(series),
    )
    words = Prose(
        f"Means of {count(seeds, 'seed')}. Added: λ times the sum over the weights at the start, by hand. Start and end: the "
        "loss with the penalty. The data's part: of the end, its spread over the seeds. Removed: of a constant guess's loss, by "
        f"the data's part. Gone: weights below {ZERO:g}."
    )
    tables = [numbers(key, rows) for key, rows in series.items()]
    return [
        learned,
        *map(section, experiment.judgements),
        Section("The weights", [gone], id="weights"),
        Section("The numbers", [words, *tables], id="numbers"),
    ]


def guides(series: Mapping[str, Sequence[Row]]) -> list[tuple[str, float]]:
    """Level lines: without a penalty, and without learning."""
    return [("no penalty", next(iter(series.values()))[0]["data_end"]), (NO_LEARNING, CONSTANT)]


def by_strength(
    series: Mapping[str, Sequence[Row]],
    reading: str,
    title: str,
    level: Sequence[tuple[str, float]],
    share: bool = False,
) -> Spec:
    """A line a penalty over a logarithmic λ, named where it ends."""
    points = [
        {"strength": row["strength"], "value": row[reading], "penalty": key}
        for key, rows in series.items()
        for row in rows
        if row["strength"] > 0 and is_finite(row[reading])
    ]
    values = [point["value"] for point in points] + [value for _, value in level]
    scale = {"type": "linear", "domain": [0.0, 1.0 if share else 1.08 * max(values, default=1.0)], "nice": False}
    y = {"type": "quantitative", "title": title, "scale": scale, "axis": {"format": "%"} if share else NUMBERS}
    strengths = sorted({point["strength"] for point in points}) or [1.0]
    ends = [
        (NAMES[key].removeprefix("the "), COLOURS[key], last["value"])
        for key in series
        if (last := next((p for p in reversed(points) if p["penalty"] == key), None))
    ]
    return {
        "height": 300,
        "data": {"values": points},
        "layer": [
            lines(y, strengths),
            *(level_line(value, y) for _, value in level),
            *label_layers(placed([*ends, *((name, GREY, value) for name, value in level)], y)),
        ],
    }


def lines(y: Spec, strengths: Sequence[float]) -> Spec:
    axis = {"values": list(strengths), "grid": False, **{k: v for k, v in NUMBERS.items() if k == "labelExpr"}}
    ends = [strengths[0] * 0.8, strengths[-1]]
    x = {
        "type": "quantitative",
        "title": "strength λ",
        "scale": {"type": "log", "domain": ends, "nice": False},
        "axis": axis,
    }
    colours = {"domain": list(COLOURS), "range": list(COLOURS.values())}
    told = [{"field": "penalty"}, {"field": "strength", "format": "~g"}, {"field": "value", "format": ".3~g"}]
    return {
        "mark": {"type": "line", "strokeWidth": 2.25, "point": {"size": 45, "filled": True, "opacity": 1}},
        "encoding": {
            "x": {"field": "strength", **x},
            "y": {"field": "value", **y},
            "color": {"field": "penalty", "type": "nominal", "scale": colours, "legend": None},
            "tooltip": told,
        },
    }


def level_line(value: float, y: Spec) -> Spec:
    mark = {"type": "rule", "strokeWidth": 1.5, "strokeDash": [5, 4], "color": GREY}
    across = {"x": {"value": 0}, "x2": {"value": "width"}, "y": {"datum": value, **y}}
    return {"data": {"values": [{}]}, "mark": mark, "encoding": across}


def numbers(key: str, rows: Sequence[Row]) -> Table:
    return Table(
        list(HEADINGS.values()), [[as_cell(name, row[name]) for name in HEADINGS] for row in rows], caption=titled(key)
    )


def titled(key: str) -> str:
    name = NAMES[key].removeprefix("the ")
    return name[:1].upper() + name[1:]


def as_cell(name: str, value: Any) -> Any:
    return percent(value, 0) if name.endswith("fraction") and is_finite(value) else value


def section(part: Judgement) -> Section:
    return part_section(part, HEADS.get(part.code, part.code), part.claim)


def alt(series: Mapping[str, Sequence[Row]]) -> str:
    """What the figures show, in words."""
    told = [
        f"with {NAMES[key]} from {rows[1]['data_end']:.2g} at {rows[1]['strength']:g} to {rows[-1]['data_end']:.2g} at "
        f"{rows[-1]['strength']:g}"
        for key, rows in series.items()
        if not math.isnan(rows[1]["data_end"])
    ]
    return f"The data's loss ends {'; '.join(told)}."
