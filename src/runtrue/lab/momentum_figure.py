"""The figures of `momentum`: three paths down a ravine, and where each optimizer ends on images, by its rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from runtrue.lab.experiment import Experiment, Judgement, Row
from runtrue.lab.momentum_judge import NAMES, best_row, said
from runtrue.lab.momentum_ravine import KINDS, START, STEEP
from runtrue.lab.page import part_section
from runtrue.lab.text import percent
from runtrue.report.blocks import Block, Chart, Prose, Section, Table
from runtrue.report.numbers import count, is_finite
from runtrue.report.rate_charts import label_layers, placed
from runtrue.report.theme import BLUE, GREY, NUMBERS, ORANGE, Spec

COLOURS = {"sgd": ORANGE, "momentum": BLUE, "nesterov": "#2a9d7c"}
HEADS = {
    "N4.1a": "Slowly",
    "N4.1b": "Momentum, in a ravine",
    "N4.1c": "Nesterov momentum, in a ravine",
    "N4.1d": "Momentum on images, at the same rate",
    "N4.1e": "Momentum on images, each at its best rate",
    "N4.1f": "Nesterov momentum on images",
}
FRAME = {"x": (-10.5, 8.5), "y": (-2.7, 2.7)}
LEVELS = (0.1, 1.0, 4.0, 12.0, 30.0, 70.0, 140.0)
"""Losses whose level lines are drawn."""
CORNERS = 90
"""Points of a level line."""


def momentum_blocks(experiment: Experiment) -> list[Block]:
    """The paths, the sections of the claim, then rates and curves of the images and the numbers."""
    images = experiment.series["images"]
    seeds = count(experiment.settings["seeds"], "seed")
    rates = Chart(
        by_rate(images),
        f"The loss of the batches at the end, by the learning rate; means of {seeds}, and from the lowest to the highest. "
        "Those of the two momenta are about the line of SGD, a decade to the left.",
        alt_of_rates(images),
    )
    epochs = Chart(
        by_epoch(experiment),
        f"The loss of the whole training set after each epoch, means of {seeds}: solid each at its best rate, dashed all at the "
        "smallest.",
        alt_of_rates(images),
    )
    return [
        ravine_chart(experiment),
        *map(section, experiment.judgements),
        Section("On images", [rates, epochs], id="images"),
        Section("The numbers", numbers(experiment), id="numbers"),
    ]


def section(part: Judgement) -> Section:
    return part_section(part, HEADS.get(part.code, part.code), part.claim)


# -- the ravine


def ravine_chart(experiment: Experiment) -> Chart:
    rows = {row["optimizer"]: row for row in experiment.series["ravine"] if row["steepness"] == STEEP}
    took = [f"{NAMES[kind]} takes {said(rows[kind]['steps'])} steps (at {rows[kind]['rate']:.2g})" for kind in KINDS]
    drawn = len(experiment.curves[f"path {KINDS[0]}"][0]) - 1
    caption = (
        f"The first {drawn} steps down a ravine whose walls are {STEEP:g} times as steep as its floor, each at the rate that is "
        f"best for it; the level lines are of equal loss, the cross is the bottom. {', '.join(took)}."
    )
    return Chart(paths(experiment), caption, f"Paths down a ravine: {'; '.join(took)}.")


def paths(experiment: Experiment) -> Spec:
    """All paths on one set of level lines, steps as dots."""
    points = [
        {"optimizer": NAMES[kind], "step": step, "x": x, "y": y}
        for kind in KINDS
        for step, (x, y) in enumerate(zip(*experiment.curves[f"path {kind}"], strict=True))
    ]
    axes = {axis: frame(axis) for axis in ("x", "y")}
    colour = {
        "field": "optimizer",
        "type": "nominal",
        "scale": {"domain": [NAMES[kind] for kind in KINDS], "range": [COLOURS[kind] for kind in KINDS]},
        "legend": {},
    }
    told = [{"field": "optimizer"}, {"field": "step"}, *({"field": axis, "format": ".3~g"} for axis in "xy")]
    line = {"type": "line", "clip": True, "strokeWidth": 1.75, "opacity": 0.85, "point": {"size": 16, "filled": True}}
    bottom = {"type": "point", "shape": "cross", "filled": True, "size": 90, "color": GREY, "opacity": 1}
    return {
        "height": 300,
        "layer": [
            *level_lines(axes),
            {
                "data": {"values": points},
                "mark": line,
                "encoding": {**axes, "order": {"field": "step"}, "color": colour, "tooltip": told},
            },
            {"data": {"values": [{"x": 0, "y": 0}]}, "mark": bottom, "encoding": axes},
        ],
    }


def frame(axis: str) -> Spec:
    scale = {"domain": list(FRAME[axis]), "nice": False, "zero": False}
    name = "along the floor" if axis == "x" else "across"
    return {
        "field": axis,
        "type": "quantitative",
        "title": name,
        "scale": scale,
        "axis": {"grid": False, "tickCount": 5},
    }


def level_lines(axes: Spec) -> list[Spec]:
    """Ellipses (x² + κ y²) / 2 = c."""
    corners = [2 * math.pi * corner / CORNERS for corner in range(CORNERS + 1)]
    points = [
        {
            "level": level,
            "corner": place,
            "x": math.sqrt(2 * level) * math.cos(turn),
            "y": math.sqrt(2 * level / STEEP) * math.sin(turn),
        }
        for level in LEVELS
        for place, turn in enumerate(corners)
    ]
    mark = {"type": "line", "clip": True, "strokeWidth": 1, "color": GREY, "opacity": 0.4}
    order, detail = {"field": "corner"}, {"field": "level", "type": "nominal"}
    return [{"data": {"values": points}, "mark": mark, "encoding": {**axes, "order": order, "detail": detail}}]


# -- the images


def by_rate(images: Sequence[Row]) -> Spec:
    """A line an optimizer over a logarithmic rate, with the range of its seeds, named where it ends."""
    kept = [row for row in images if is_finite(row["end"])]
    points = [
        {
            "optimizer": NAMES[row["optimizer"]],
            "rate": row["rate"],
            "end": row["end"],
            "low": min(row["end_by_seed"]),
            "high": max(row["end_by_seed"]),
        }
        for row in kept
    ]
    top = 1.08 * max((point["high"] for point in points), default=1.0)
    y = axis_of("loss at the end", top)
    rates = sorted({row["rate"] for row in images})
    x = {
        "field": "rate",
        "type": "quantitative",
        "title": "learning rate",
        "scale": {"type": "log", "domain": [rates[0] * 0.8, rates[-1] * 1.2], "nice": False},
        "axis": {"values": rates, "grid": False, "labelExpr": NUMBERS["labelExpr"]},
    }
    names = {"domain": list(NAMES.values()), "range": [COLOURS[kind] for kind in NAMES]}
    colour = {"field": "optimizer", "type": "nominal", "scale": names}
    told = [{"field": "optimizer"}, {"field": "rate", "format": "~g"}, {"field": "end", "format": ".3~g"}]
    mark = {"type": "line", "strokeWidth": 2.25, "point": {"size": 45, "filled": True, "opacity": 1}}
    ends = {"y": {"field": "low", **y}, "y2": {"field": "high"}}
    return {
        "height": 300,
        "data": {"values": points},
        "encoding": {"x": x},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 5, "opacity": 0.3},
                "encoding": {**ends, "color": {**colour, "legend": {}}},
            },
            {
                "mark": mark,
                "encoding": {"y": {"field": "end", **y}, "color": {**colour, "legend": {}}, "tooltip": told},
            },
        ],
    }


def axis_of(title: str, top: float) -> Spec:
    scale = {"type": "linear", "domain": [0.0, top], "nice": False}
    return {"type": "quantitative", "title": title, "scale": scale, "axis": dict(NUMBERS)}


def by_epoch(experiment: Experiment) -> Spec:
    """The training loss by epoch: solid at the best rate, dashed at the smallest."""
    images = experiment.series["images"]
    points, labels = [], []
    for kind in KINDS:
        own = [row for row in images if row["optimizer"] == kind]
        best = best_row(images, kind)
        for row, how in ((best, "best"), (own[0], "smallest")):
            means = mean_curve(experiment.curves[f"{kind} {row['rate']:g}"])
            points += [
                {
                    "line": f"{kind} {how}",
                    "how": how,
                    "optimizer": kind,
                    "rate": row["rate"],
                    "epoch": epoch,
                    "loss": loss,
                }
                for epoch, loss in enumerate(means, start=1)
            ]
            if means:
                labels.append((f"{NAMES[kind].split()[0]} {row['rate']:g}", COLOURS[kind], means[-1]))
    y = axis_of("loss of the training set", 1.05 * max((point["loss"] for point in points), default=1.0))
    epochs = max((point["epoch"] for point in points), default=1)
    x = {
        "field": "epoch",
        "type": "quantitative",
        "scale": {"domain": [1, max(2, epochs)], "nice": False},
        "axis": {"grid": False, "tickMinStep": 1},
    }
    colour = {
        "field": "optimizer",
        "type": "nominal",
        "scale": {"domain": list(COLOURS), "range": list(COLOURS.values())},
        "legend": None,
    }
    dash = {"field": "how", "type": "nominal", "scale": {"domain": ["best", "smallest"], "range": [[1, 0], [6, 4]]}}
    told = [{"field": name} for name in ("optimizer", "rate", "epoch")] + [{"field": "loss", "format": ".3~g"}]
    line = {
        "mark": {"type": "line", "strokeWidth": 2.25},
        "encoding": {
            "x": x,
            "y": {"field": "loss", **y},
            "color": colour,
            "strokeDash": {**dash, "legend": None},
            "detail": {"field": "line"},
            "tooltip": told,
        },
    }
    return {"height": 300, "data": {"values": points}, "layer": [line, *label_layers(placed(labels, y))]}


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean over the seeds, as long as all have a finite loss."""
    means = [sum(values) / len(values) for values in zip(*curves)]
    return [mean for mean in means if math.isfinite(mean)]


def alt_of_rates(images: Sequence[Row]) -> str:
    told = [
        f"{NAMES[kind]} ends lowest at {best_row(images, kind)['end']:.2g}, with a rate of {best_row(images, kind)['rate']:g}"
        for kind in KINDS
    ]
    return f"{'; '.join(told)}."


# -- tables


RAVINE = {
    "steepness": "walls to floor",
    "optimizer": "optimizer",
    "rate": "best rate",
    "steps": "steps",
    "small_rate": "small rate",
    "small_steps": "steps",
    "rises": "rises",
    "highest_rate": "highest rate",
}
IMAGES = {
    "optimizer": "optimizer",
    "rate": "rate",
    "end": "end",
    "end_spread": "spread",
    "rises": "rises",
    "accuracy": "right",
    "accuracy_spread": "spread",
}


def numbers(experiment: Experiment) -> list[Block]:
    words = Prose(
        f"In the ravine, from {START}: the best rate, and the steps it takes; the steps at a small rate, and how many of them "
        "the loss rises; the highest rate with which it arrives. On images: the mean loss of the last fifth of the batches, and "
        "its spread over the seeds; in how many epochs the loss of the training set rises (the worst seed); the share of the "
        "test images that are right."
    )
    return [
        words,
        table(experiment.series["ravine"], RAVINE, "The ravine"),
        table(experiment.series["images"], IMAGES, "Images"),
    ]


def table(rows: Sequence[Row], columns: dict[str, str], caption: str) -> Table:
    return Table(list(columns.values()), [[cell(key, row[key]) for key in columns] for row in rows], caption=caption)


def cell(key: str, value: Any) -> Any:
    if key == "optimizer":
        return NAMES[value]
    return percent(value, 1) if key.startswith("accuracy") and is_finite(value) else value
