"""The figures of `batchnorm`: the end of the loss by rate and by scale, gradients by depth, gaps, and the race by the clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtrue.lab.batchnorm_judge import NAMES, WORKS, worth_in_words
from runtrue.lab.experiment import Experiment, Judgement, Row
from runtrue.lab.figure import INSIDE, POWERS, layer_axis, panels_of
from runtrue.lab.page import part_section
from runtrue.lab.penalty_figure import level_line
from runtrue.lab.text import percent
from runtrue.lab.training import CONSTANT
from runtrue.report.blocks import Block, Chart, Fold, Section, Table
from runtrue.report.numbers import count, is_finite
from runtrue.report.rate_charts import NO_LEARNING, label_layers, placed
from runtrue.report.theme import BLUE, GREY, NUMBERS, ORANGE, Spec

WITHOUT, WITH = "without", "normalized"
COLOURS = {WITHOUT: ORANGE, WITH: BLUE}
TOP = 1.2
"""The frame ends at this many times the loss of a constant guess: what rises further leaves it."""
HEADS = {
    "N1.6a": "The gradient by depth",
    "N1.6b": "Learning rates",
    "N1.6c": "First weights",
    "N1.6d": "Instead of dropout",
    "N1.6e": "The time of a step",
    "N1.6f": "Is it worth it",
}
HEADINGS = {
    "rate": "rate",
    "scale": "factor",
    "end": "end",
    "end_spread": "spread",
    "removed_fraction": "removed",
    "network": "network",
    "norm": "normalization",
    "kind": "with",
    "train_fraction": "training",
    "val_fraction": "validation",
    "val_spread": "its spread",
    "gap_fraction": "gap",
    "gap_spread": "its spread",
    "without_ms": "without, ms",
    "with_ms": "with, ms",
    "ratio": "ratio",
    "steps": "steps",
    "by_step": "by steps",
    "by_second": "by the clock",
    "least": "least",
    "most": "most",
    "verdict": "verdict",
}
"""Columns of the tables: key of a row, and its heading. Others are left to the JSON."""


def batchnorm_blocks(experiment: Experiment) -> list[Block]:
    """Where the loss ends at every rate, then a section for each part of the claim."""
    series, seeds = experiment.series, count(experiment.settings["seeds"], "seed")
    first = Chart(
        by_setting(series["rates"], series["rates-norm"], "rate", "learning rate"),
        f"The loss of the batches at the end of {experiment.settings['epochs']} epochs by the learning rate, means over {seeds}. "
        f"A rate works where {WORKS:.0%} of a constant guess's loss is removed. A line that stops was lost at the next rate.",
        alt(experiment.judgements, "N1.6b"),
    )
    inside: dict[str, list[Block]] = {
        "N1.6a": [gradient_chart(experiment), Fold("The numbers", [table(series["gradients"])])],
        "N1.6b": [Fold("The numbers", both(series["rates"], series["rates-norm"]))],
        "N1.6c": [scale_chart(experiment), Fold("The numbers", both(series["scales"], series["scales-norm"]))],
        "N1.6d": [gap_chart(experiment), Fold("The numbers", [table(series["dropout"])])],
        "N1.6e": [table(series["time"], "Medians of steps in turn, in milliseconds of one processor core")],
        "N1.6f": [
            table(series["worth"], "Times as fast to the loss where both get, with normalization over without"),
            *races(experiment),
            Fold("The numbers", [table(series["long"])]),
        ],
    }
    return [first, *(section(part, inside[part.code]) for part in experiment.judgements)]


def section(part: Judgement, blocks: Sequence[Block]) -> Section:
    made = part_section(part, HEADS[part.code], part.claim)
    return Section(made.heading, [*made.blocks, *blocks], made.id, made.kicker, made.tags, made.tone)


def alt(parts: Sequence[Judgement], code: str) -> str:
    """What a figure shows, in words."""
    words = next(part.words for part in parts if part.code == code)
    return f"{words[:1].upper()}{words[1:]}"


# -- a setting along the axis


def by_setting(without: Sequence[Row], normed: Sequence[Row], key: str, title: str) -> Spec:
    """Where the loss ended over a logarithmic axis: a line without, and one with."""
    points = [
        {"setting": row[key], "value": row["end"], "network": name}
        for name, rows in ((WITHOUT, without), (WITH, normed))
        for row in rows
        if is_finite(row["end"])
    ]
    y = {
        "type": "quantitative",
        "title": "loss at the end",
        "scale": {"type": "linear", "domain": [0.0, TOP * CONSTANT], "nice": False},
        "axis": NUMBERS,
    }
    levels = [(NO_LEARNING, CONSTANT), (f"{WORKS:.0%} removed", (1 - WORKS) * CONSTANT)]
    settings = [row[key] for row in without]
    x = {
        "field": "setting",
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log", "domain": [settings[0] * 0.8, settings[-1] * 1.25], "nice": False},
        "axis": {"grid": False, **POWERS, "values": decades(settings)},
    }
    told = [{"field": "network"}, {"field": "setting", "format": "~g"}, {"field": "value", "format": ".3~g"}]
    return {
        "height": 300,
        "data": {"values": points},
        "resolve": {
            "legend": {"color": "independent"},
            "scale": {"color": "independent"},
        },  # the labels beside have no legend
        "layer": [
            *(level_line(value, y) for _, value in levels),
            {
                "mark": {"type": "line", "clip": True, "strokeWidth": 2.25, "point": POINT},
                "encoding": {"x": x, "y": {"field": "value", **y}, "color": colour("network"), "tooltip": told},
            },
            *label_layers(placed([(name, GREY, value) for name, value in levels], y)),
        ],
    }


POINT = {"size": 45, "filled": True, "opacity": 1}


def decades(settings: Sequence[float]) -> list[float]:
    """Every second setting, which are half a decade apart."""
    whole = [value for value in settings if f"{value:.1e}".startswith("1.0")]
    return whole or list(settings)


def colour(field: str) -> Spec:
    scale = {"domain": list(COLOURS), "range": list(COLOURS.values())}
    return {"field": field, "type": "nominal", "scale": scale, "legend": {}}


def scale_chart(experiment: Experiment) -> Chart:
    series = experiment.series
    return Chart(
        by_setting(series["scales"], series["scales-norm"], "scale", "factor of He's weights"),
        f"The same by the scale of the first weights, each network at the rate that is best for it at 1; "
        f"{count(experiment.settings['seeds'], 'seed')}.",
        alt(experiment.judgements, "N1.6c"),
    )


# -- the others


def gradient_chart(experiment: Experiment) -> Chart:
    """A panel for each kind of first weights."""
    rows = experiment.series["gradients"]
    names = {key: name.removeprefix("with ") for key, name in NAMES.items()}
    points = [
        {"layer": row["layer"], "panel": name, "value": row[key + suffix], "network": network}
        for key, name in names.items()
        for suffix, network in (("", WITHOUT), ("_norm", WITH))
        for row in rows
        if row[key + suffix] > 0
    ]
    y = {
        "field": "value",
        "type": "quantitative",
        "title": None,
        "scale": {"type": "log", "nice": False, "padding": 30},
        "axis": {**INSIDE, **POWERS},
    }
    told = [{"field": "network"}, {"field": "layer"}, {"field": "value", "format": ".3~g"}]
    spec = {
        **panels_of(points, list(names.values())),
        "spec": {
            "width": 180,
            "height": 190,
            "mark": {"type": "line", "strokeWidth": 2.25, "point": {**POINT, "size": 30}},
            "encoding": {"x": layer_axis(points), "y": y, "color": colour("network"), "tooltip": told},
        },
    }
    caption = (
        "The norm of the loss's gradient with respect to the outputs of every layer, before training, on one logarithmic axis: a "
        "line that stays level lets the gradient through to the first layer."
    )
    return Chart(spec, caption, alt(experiment.judgements, "N1.6a"))


def gap_chart(experiment: Experiment) -> Chart:
    """A stroke from validation to training for every network."""
    rows = [
        {
            "name": f"{row['network']}, {SHORT[row['kind']]}",
            "train": row["train_fraction"],
            "val": row["val_fraction"],
        }
        for row in experiment.series["dropout"]
    ]
    low = min(row["val"] for row in rows)
    x: Spec = {
        "type": "quantitative",
        "title": "accuracy",
        "scale": {"domain": [low - 0.1 * (1 - low), 1.0], "nice": False},
        "axis": {"format": "%", "tickCount": 5},
    }
    y = {"field": "name", "type": "nominal", "sort": [row["name"] for row in rows], "title": None}
    stroke: Spec = {"x": {"field": "val", **x}, "x2": {"field": "train"}}
    spec = {
        "height": 28 * len(rows),
        "data": {"values": rows},
        "encoding": {"y": y},
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2, "color": GREY}, "encoding": stroke},
            accuracy_points("val", "validation", x),
            accuracy_points("train", "training", x),
        ],
    }
    caption = (
        f"Accuracies after {experiment.settings['long']} epochs, means over {count(experiment.settings['seeds'], 'seed')}: the "
        "stroke between them is the gap."
    )
    return Chart(spec, caption, alt(experiment.judgements, "N1.6d"))


def accuracy_points(key: str, name: str, x: Spec) -> Spec:
    colours = {"domain": ["validation", "training"], "range": [BLUE, ORANGE]}
    legend = {"symbolType": "circle", "symbolSize": 90}
    return {
        "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
        "encoding": {
            "x": {"field": key, **x},
            "color": {"datum": name, "type": "nominal", "scale": colours, "legend": legend},
            "tooltip": [{"field": "name"}, {"field": key, "format": ".1%", "title": name}],
        },
    }


SHORT = {"none": "neither", "norm": "batch norm.", "dropout": "dropout", "both": "both"}


def races(experiment: Experiment) -> list[Chart]:
    """For each network its loss with and without, by steps and by the clock."""
    steps = max(row["steps"] for row in experiment.series["long"])
    return [race(experiment, row, steps) for row in experiment.series["worth"]]


def race(experiment: Experiment, row: Row, steps: int) -> Chart:
    name = row["network"]
    panels = {"by steps": 1.0, "by the clock": row["ratio"]}
    points = [
        {"panel": panel, "at": length * steps * (place + 0.5) / len(losses), "loss": loss, "network": network}
        for panel, cost in panels.items()
        for network, losses, length in (
            (WITHOUT, experiment.curves[name][0], 1.0),
            (WITH, experiment.curves[f"{name}, normalized"][0], cost),
        )
        for place, loss in enumerate(losses)
        if is_finite(loss)
    ]
    y = {
        "field": "loss",
        "type": "quantitative",
        "title": None,
        "scale": {"domain": [0.0, TOP * CONSTANT], "nice": False},
        "axis": {**INSIDE, "tickCount": 4},
    }
    x = {
        "field": "at",
        "type": "quantitative",
        "title": "steps of the network without",
        "axis": {"grid": False, "tickCount": 4},
        "scale": {"domain": [0, max((point["at"] for point in points), default=1)], "nice": False},
    }
    spec = {
        **panels_of(points, list(panels)),
        "spec": {
            "width": 284,
            "height": 170,
            "mark": {"type": "line", "clip": True, "strokeWidth": 2},
            "encoding": {"x": x, "y": y, "color": colour("network")},
        },
    }
    words = f"{name}: {worth_in_words(row)}."
    seed = experiment.settings["seed"]
    return Chart(spec, f"{name}: the loss of the batches of seed {seed}, at the best rate of each.", words)


# -- tables


def both(without: Sequence[Row], normed: Sequence[Row]) -> list[Block]:
    return [table(without, "Without"), table(normed, "With batch normalization")]


def table(rows: Sequence[Row], caption: str = "") -> Table:
    layered = [key for key in rows[0] if "layer" in rows[0]]
    headings = {
        key: HEADINGS.get(key, key.replace("_norm", ", normalized"))
        for key in rows[0]
        if key in HEADINGS or key in layered
    }
    return Table(list(headings.values()), [[as_cell(key, row[key]) for key in headings] for row in rows], caption)


def as_cell(key: str, value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(" ", "\u00a0")
    if key.endswith("fraction") and is_finite(value):
        return percent(value, 1)
    return float(f"{value:.3g}") if isinstance(value, float) else value
