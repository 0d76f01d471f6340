"""The figures of `depth`: what was learned by depth, the curves behind it, and what came back before training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from runtrue.lab.experiment import Experiment, Judgement, Row
from runtrue.lab.page import part_section
from runtrue.lab.text import percent
from runtrue.report.blocks import Block, Chart, Prose, Section, Table
from runtrue.report.numbers import count, is_finite
from runtrue.report.rate_charts import HEIGHT, label_layers, placed
from runtrue.report.theme import BLUE, GREY, NUMBERS, ORANGE, RED, Spec, log_axis

COLOURS = {"plain": ORANGE, "residual": BLUE}
OF_DEPTHS = ("#2a9d7c", BLUE, "#8f6fc9", ORANGE, RED, "#b08a1e", GREY)
"""By depth, the shallowest first; they begin again where there are more depths."""
HEADINGS = {
    "depth": "layers",
    "train_loss": "train loss",
    "val_loss": "val loss",
    "train_error": "train error",
    "val_error": "val error",
    "arrives": "gradient",
    "arrives_bare": "no norm",
    "agreement": "agreement",
}
"""Columns of the tables: key of a row, and its heading."""
PAPER_STEPS = 64_000
"""He et al. 2015, section 4.2."""
HEADS = {
    "N5a": "Plain networks",
    "N5b": "Residual networks",
    "N5c": "The size of the gradient",
    "N5d": "What batches agree on",
    "N5e": "Too deep",
}


@dataclass(frozen=True)
class Line:
    """Values at each x: one a seed. What is not finite is left out."""

    name: str
    colour: str
    points: Sequence[tuple[float, Sequence[float]]]
    dashed: bool = False
    named: bool = True

    def rows(self) -> list[Spec]:
        """x, the mean of the seeds, and the lowest and highest of them."""
        kept = [(x, [value for value in values if is_finite(value)]) for x, values in self.points]
        return [
            {"x": x, "value": fmean(values), "low": min(values), "high": max(values), "line": self.name}
            for x, values in kept
            if values
        ]


def depth_blocks(experiment: Experiment) -> list[Block]:
    """What was learned by depth, the curves, then a section for each part of the claim, what came back, and the tables."""
    series, settings = experiment.series, experiment.settings
    steps = settings["epochs"] * (settings["images"] // settings["batch_size"])
    learned = Chart(
        by_depth(series),
        f"The training loss after {count(settings['epochs'], 'epoch')} of {count(settings['images'], 'image')}, which is "
        f"{count(steps, 'step')}, by the number of layers. Line: the mean of {count(settings['seeds'], 'seed')}; band: from the "
        f"lowest to the highest. The paper trains for {PAPER_STEPS:,} steps: far fewer show how soon a network begins to learn, "
        "not where it ends.",
        f"The training loss ends {'; '.join(in_words(kind, rows) for kind, rows in series.items())}.",
    )
    return [
        learned,
        *(training(experiment, kind) for kind in series),
        *map(section, experiment.judgements),
        Section("What comes back before training", came_back(experiment), id="back"),
        Section("The numbers", tables(experiment), id="numbers"),
    ]


def in_words(kind: str, rows: Sequence[Row]) -> str:
    first, last = rows[0], rows[-1]
    return (
        f"in {kind} networks at {first['train_loss']:.2g} with {first['depth']} layers and at {last['train_loss']:.2g} with "
        f"{last['depth']}"
    )


def by_depth(series: Mapping[str, Sequence[Row]]) -> Spec:
    lines = [
        Line(kind, COLOURS[kind], [(row["depth"], row["train_loss_by_seed"]) for row in rows])
        for kind, rows in series.items()
    ]
    depths = [row["depth"] for row in next(iter(series.values()))]
    return drawn(lines, x_axis("layers", depths, log=True), y_axis("training loss at the end", lines), dots=True)


def training(experiment: Experiment, kind: str) -> Chart:
    """Errors over the epochs, as the paper draws them: training dashed, validation solid."""
    rows, curves = experiment.series[kind], experiment.curves
    lines = [
        Line(
            f"{row['depth']}", colour, by_epoch(curves[f"{kind}-{row['depth']} {part}"]), part == "train", part == "val"
        )
        for row, colour in zip(rows, coloured(rows))
        for part in ("train", "val")
    ]
    every = [  # one axis for both kinds, that they can be compared
        Line("", "", by_epoch(errors)) for name, errors in curves.items() if name.endswith((" train", " val"))
    ]
    epochs = list(range(1, experiment.settings["epochs"] + 1))
    shares = {**y_axis("error", every), "axis": {"format": "%", "tickCount": 5}}
    ends = [f"{row['val_error']:.0%} with {row['depth']} layers" for row in rows]
    return Chart(
        drawn(lines, x_axis("epoch", epochs if len(epochs) <= 12 else []), shares, bands=False),
        f"{kind.capitalize()} networks: the share of images that are classified wrongly, dashed those trained on, solid the "
        "validation images, each line named by its layers; means of the seeds.",
        f"The error of {kind} networks on the validation images ends at {', '.join(ends)}.",
    )


def coloured(rows: Sequence[Row]) -> list[str]:
    return [OF_DEPTHS[place % len(OF_DEPTHS)] for place in range(len(rows))]


def by_epoch(curves: Sequence[Sequence[float]]) -> list[tuple[float, list[float]]]:
    longest = max(map(len, curves))
    return [(epoch + 1.0, [curve[epoch] for curve in curves if epoch < len(curve)]) for epoch in range(longest)]


def came_back(experiment: Experiment) -> list[Block]:
    """By block, backwards from the last one: the size of the gradient, and what batches agree on."""
    deepest = experiment.series["plain"][-1]["depth"]
    sizes = [
        Line(
            f"{kind}{' without norm' * (how != 'gradient')}", colour, backwards(curves, scaled=True), how != "gradient"
        )
        for kind, colour in COLOURS.items()
        for how in ("gradient", "gradient without norm")
        if (curves := experiment.curves[f"{kind}-{deepest} {how}"])
    ]
    agreed = [
        Line(kind, colour, backwards(experiment.curves[f"{kind}-{deepest} agreement"]))
        for kind, colour in COLOURS.items()
    ]
    x = x_axis("blocks on the way back", [])
    return [
        Prose(
            f"Networks of {deepest} layers as they are drawn, before any step. The way back begins at the last block, at the "
            "left, and ends at the first."
        ),
        Chart(
            drawn(sizes, x, y_axis("gradient over that of the last block", sizes, log=True)),
            "The size of the gradient with respect to the input of each block, over that of the last block. Dashed: the same "
            "networks without batch normalisation.",
            f"At the first block it is {', '.join(f'{fmean(line.points[-1][1]):.2g} ({line.name})' for line in sizes)}.",
        ),
        Chart(
            drawn(agreed, x, y_axis("mean cosine", agreed)),
            "How well the gradients of a block's weights agree between batches: 1, all want the same; 0, each wants something "
            "else. A gradient may be large and still be noise.",
            f"At the first block it is {', '.join(f'{fmean(line.points[-1][1]):.2g} ({line.name})' for line in agreed)}.",
        ),
    ]


def backwards(curves: Sequence[Sequence[float]], scaled: bool = False) -> list[tuple[float, list[float]]]:
    """From the last block to the first; `scaled`: over the last."""
    back = [[value / (curve[-1] or math.nan) if scaled else value for value in reversed(curve)] for curve in curves]
    return [(float(place), list(values)) for place, values in enumerate(zip(*back, strict=True))]


def tables(experiment: Experiment) -> list[Block]:
    words = Prose(
        f"Means of {count(experiment.settings['seeds'], 'seed')}. Loss and error: at the end of training. The others are of the "
        "untrained networks. Gradient: at the first block, over that at the last; no norm: the same without batch "
        "normalisation. Agreement: mean cosine between batches."
    )
    return [words, *(numbers(kind, rows) for kind, rows in experiment.series.items())]


def numbers(kind: str, rows: Sequence[Row]) -> Table:
    cells = [[as_cell(key, row[key]) for key in HEADINGS] for row in rows]
    return Table(list(HEADINGS.values()), cells, caption=kind.capitalize())


def as_cell(key: str, value: Any) -> Any:
    return percent(value, 1) if key.endswith("error") and is_finite(value) else value


def section(part: Judgement) -> Section:
    return part_section(part, HEADS.get(part.code, part.code), part.claim)


# -- lines


def drawn(lines: Sequence[Line], x: Spec, y: Spec, dots: bool = False, bands: bool = True) -> Spec:
    """The means of the seeds, the span of the seeds behind them, and each line's name where it ends."""
    told = [(line, line.rows()) for line in lines]
    told = [(line, rows) for line, rows in told if rows]
    ends = [(line.name, line.colour, rows[-1]["value"]) for line, rows in told if line.named]
    return {
        "height": HEIGHT,
        "layer": [
            *(band(line, rows, x, y) for line, rows in told if bands),
            *(stroke(line, rows, x, y, dots) for line, rows in told),
            *label_layers(placed(ends, y)),
        ],
    }


def band(line: Line, rows: list[Spec], x: Spec, y: Spec) -> Spec:
    mark = {"type": "area", "color": line.colour, "opacity": 0.15, "clip": True}
    ends = {"y": {"field": "low", **y}, "y2": {"field": "high"}}
    return {"data": {"values": rows}, "mark": mark, "encoding": {"x": {"field": "x", **x}, **ends}}


def stroke(line: Line, rows: list[Spec], x: Spec, y: Spec, dots: bool) -> Spec:
    look: Spec = {"strokeDash": [4, 4], "strokeWidth": 1.5} if line.dashed else {"strokeWidth": 2.25}
    if dots:
        look["point"] = {"size": 45, "filled": True, "opacity": 1, "color": line.colour}
    return {
        "data": {"values": rows},
        "mark": {"type": "line", "color": line.colour, "clip": True, **look},
        "encoding": {
            "x": {"field": "x", **x},
            "y": {"field": "value", **y},
            "tooltip": [{"field": "line"}, {"field": "x", "title": x["title"]}, {"field": "value", "format": ".3~g"}],
        },
    }


def x_axis(title: str, values: Sequence[float], log: bool = False) -> Spec:
    """A level axis; `values`: where its numbers stand."""
    axis: Spec = {"grid": False, "labelFlush": False, **({"values": list(values)} if values else {})}
    scale: Spec = {"type": "log", "nice": False} if log else {"type": "linear", "nice": False, "zero": False}
    return {"type": "quantitative", "title": title, "scale": scale, "axis": {**axis, "format": "d"}}


def y_axis(title: str, lines: Sequence[Line], log: bool = False) -> Spec:
    """From 0, or from below the lowest value, to above the highest."""
    values = [row[end] for line in lines for row in line.rows() for end in ("low", "high")]
    low, high = min(values, default=0.1), max(values, default=1.0)
    if log and low > 0:
        scale, axis = log_axis(low / 1.5, high * 1.5)
    else:
        scale, axis = {"type": "linear", "domain": [min(0.0, 1.1 * low), 1.05 * high], "nice": False}, NUMBERS
    return {"type": "quantitative", "title": title, "scale": scale, "axis": axis}
