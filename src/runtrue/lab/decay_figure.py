"""The figures of `decay`: the rate by epoch under each schedule, and the loss that follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from runtrue.lab.decay_judge import NAMES
from runtrue.lab.experiment import Experiment, Judgement, Row
from runtrue.lab.page import part_section
from runtrue.lab.text import percent
from runtrue.report.blocks import Block, Chart, Prose, Section, Table
from runtrue.report.numbers import count, is_finite
from runtrue.report.rate_charts import label_layers, placed
from runtrue.report.theme import BLUE, GREY, NUMBERS, ORANGE, Spec, log_axis, spans_decades

COLOURS = {"none": GREY, "step": ORANGE, "exp": BLUE, "inverse": "#2a9d7c", "cosine": "#8f6fc9"}
SHORT = {**NAMES, "none": "constant"}
HEADS = {
    "N4.2a": "Step",
    "N4.2b": "Exponential",
    "N4.2c": "1/t",
    "N4.2d": "At a high first rate",
    "N4.2e": "Each at its best first rate",
}
SMOOTH = 2
"""Epochs on each side of one over which the drawn loss is a mean: at a high rate it jumps."""
SCHEDULES = {"decay": "decay", "k": "k", "third": "after 1/3", "two_thirds": "after 2/3", "last": "at the end"}
IMAGES = {
    "decay": "decay",
    "rate": "first rate",
    "end": "end",
    "end_spread": "spread",
    "val_loss": "test loss",
    "accuracy": "right",
    "accuracy_spread": "spread",
}


def decay_blocks(experiment: Experiment) -> list[Block]:
    """The rates, the sections of the claim, then the losses and the numbers."""
    epochs = experiment.settings["epochs"]
    rates = Chart(
        lines({decay: experiment.curves[f"rate {decay}"][0] for decay in COLOURS}, "rate over the first rate", first=0),
        f"The learning rate over the first one, epoch by epoch, as torch's schedulers set it in a run of {epochs} epochs.",
        alt_of_rates(experiment.series["schedules"]),
    )
    return [
        rates,
        *map(section, experiment.judgements),
        Section("The losses", [losses_at(experiment, rate) for rate in rates_of(experiment)], id="losses"),
        Section("The numbers", numbers(experiment), id="numbers"),
    ]


def section(part: Judgement) -> Section:
    return part_section(part, HEADS.get(part.code, part.code), part.claim)


def rates_of(experiment: Experiment) -> list[float]:
    """The first rates, the highest first: there the decay is felt most."""
    return sorted({float(row["rate"]) for row in experiment.series["images"]}, reverse=True)


def losses_at(experiment: Experiment, rate: float) -> Chart:
    seeds = count(experiment.settings["seeds"], "seed")
    rows = [row for row in experiment.series["images"] if row["rate"] == rate]
    ends = [f"{SHORT[row['decay']]} {row['end']:.2g}" for row in rows]
    curves = {decay: smooth(mean_curve(experiment.curves[f"{decay} {rate:g}"])) for decay in COLOURS}
    caption = (
        f"The loss of the whole training set, epoch by epoch, from a first rate of {rate:g}; means of {seeds}, smoothed over "
        f"{2 * SMOOTH + 1} epochs."
    )
    return Chart(
        lines(curves, "loss of the training set", first=1, log=True), caption, f"It ends at: {', '.join(ends)}."
    )


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean over the seeds, as long as all have a finite loss."""
    means = [sum(values) / len(values) for values in zip(*curves)]
    return [mean for mean in means if math.isfinite(mean)]


def smooth(losses: Sequence[float]) -> list[float]:
    """A moving mean, over fewer epochs at both ends."""
    found = []
    for place in range(len(losses)):
        wide = min(place, len(losses) - 1 - place, SMOOTH)
        near = losses[place - wide : place + wide + 1]
        found.append(sum(near) / len(near))
    return found


def lines(curves: Mapping[str, Sequence[float]], title: str, first: int, log: bool = False) -> Spec:
    """A line a schedule over the epochs, named where it ends. `first`: the number of the first epoch. `log`: of losses, on a
    logarithmic axis where they span decades; rates are held for an epoch."""
    points: list[dict[str, Any]] = [
        {"decay": SHORT[decay], "epoch": epoch, "value": value}
        for decay, values in curves.items()
        for epoch, value in enumerate(values, start=first)
        if value > 0 or not log
    ]
    values = [point["value"] for point in points] or [1.0]
    if log and spans_decades(values):
        scale, axis = log_axis(0.8 * min(values), 1.2 * max(values))
    else:
        scale, axis = {"type": "linear", "domain": [0.0, 1.05 * max(values)], "nice": False}, dict(NUMBERS)
    y = {"type": "quantitative", "title": title, "scale": scale, "axis": axis}
    last = max((point["epoch"] for point in points), default=1)
    x = {
        "field": "epoch",
        "type": "quantitative",
        "scale": {"domain": [first, max(first + 1, last)], "nice": False},
        "axis": {"grid": False, "tickMinStep": 1},
    }
    names = {"domain": [SHORT[decay] for decay in COLOURS], "range": list(COLOURS.values())}
    colour = {"field": "decay", "type": "nominal", "scale": names, "legend": None}
    told = [{"field": "decay"}, {"field": "epoch"}, {"field": "value", "title": title, "format": ".3~g"}]
    line = {
        "mark": {"type": "line", "strokeWidth": 2.25, "interpolate": "linear" if log else "step-after"},
        "encoding": {"x": x, "y": {"field": "value", **y}, "color": colour, "tooltip": told},
    }
    ends = [(SHORT[decay], COLOURS[decay], values[-1]) for decay, values in curves.items() if values]
    return {"height": 300, "data": {"values": points}, "layer": [line, *label_layers(placed(ends, y))]}


def alt_of_rates(rows: Sequence[Row]) -> str:
    return (
        "The rate ends "
        + ", ".join(f"with {SHORT[row['decay']]} at {row['last']:.2g}" for row in rows)
        + " of the first."
    )


def numbers(experiment: Experiment) -> list[Block]:
    words = Prose(
        "The rate over the first one. On images: the mean loss of the last fifth of the batches, and its spread over the seeds; "
        "the loss of the test images after the last epoch; the share of them that is right, a mean of the last epochs."
    )
    return [
        words,
        table(experiment.series["schedules"], SCHEDULES, "The rates"),
        table(experiment.series["images"], IMAGES, "Images"),
    ]


def table(rows: Sequence[Row], columns: Mapping[str, str], caption: str) -> Table:
    return Table(list(columns.values()), [[cell(key, row[key]) for key in columns] for row in rows], caption=caption)


def cell(key: str, value: Any) -> Any:
    if key == "decay":
        return SHORT[value]
    return percent(value, 1) if key.startswith("accuracy") and is_finite(value) else value
