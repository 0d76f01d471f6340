"""The figures of `regularization`: accuracies by strength, the weights that are gone, and histograms of what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runtrue.lab.experiment import Experiment, Judgement, Row
from runtrue.lab.figure import INSIDE, PANEL, POWERS, panels_of
from runtrue.lab.page import part_section
from runtrue.lab.penalty_figure import COLOURS as PENALTIES
from runtrue.lab.penalty_figure import titled
from runtrue.lab.regularization_judge import KINDS, NAMES, harmless, shown
from runtrue.lab.text import percent
from runtrue.report.blocks import Block, Chart, Fold, Section, Table
from runtrue.report.numbers import count, is_finite
from runtrue.report.theme import BLUE, GREY, Spec

COLOURS = {**PENALTIES, "max-norm": "#2a9d7c"}
LAMBDAS = tuple(PENALTIES)
"""The penalties that a λ sets."""
HEADS = {
    "N2.1a": "Truncation",
    "N2.1b": "Shrinkage",
    "N2.1c": "One more thing to choose",
    "N2.1d": "Max-norm",
    "N2.1e": "The gap",
    "N2.1f": "The cost of a step",
}
HEADINGS = {
    "penalty": "penalty",
    "strength": "strength",
    "train_fraction": "training",
    "val_fraction": "validation",
    "test_fraction": "test",
    "test_spread": "its spread",
    "gap_fraction": "gap",
    "gap_spread": "its spread",
    "zero_fraction": "exactly 0",
    "noise_zero_fraction": "of noise",
    "largest_norm": "largest norm",
    "step_ms": "ms",
    "ratio": "ratio",
}
"""Columns of the tables: key of a row, and its heading. Others are left to the JSON."""
HEADROOM = 0.15
"""Room above 100 % for the number on its grid line, as a share of the axis."""
ACCURACIES = {"train_fraction": "training accuracy", "val_fraction": "validation accuracy"}
ZEROS = {"zero_fraction": "exactly 0, of all weights", "noise_zero_fraction": "of those on noise"}


def regularization_blocks(experiment: Experiment) -> list[Block]:
    """Accuracies by λ, then a section for each part of the claim, then the numbers."""
    series, seeds = experiment.series, count(experiment.settings["seeds"], "seed")
    first = Chart(
        panels({kind: series[kind] for kind in LAMBDAS}, "strength λ", ACCURACIES),
        f"Accuracies after {experiment.settings['epochs']} epochs by the strength λ, means over {seeds}; grey, without one. "
        "A strength is worth its while where the right panel rises, not where the left one falls.",
        alt(experiment.judgements, "N2.1c"),
    )
    inside: dict[str, list[Block]] = {
        "N2.1a": [zeros(experiment)],
        "N2.1b": [histograms(experiment)],
        "N2.1d": [max_norm(experiment)],
        "N2.1f": [table(series["time"], "Medians of steps in turn, in milliseconds of one processor core")],
    }
    numbers = [
        table(series[kind], titled(kind) if kind in LAMBDAS else "Max-norm (strength: the limit)") for kind in KINDS
    ]
    return [
        first,
        *(section(part, inside.get(part.code, [])) for part in experiment.judgements),
        Section("The numbers", [Fold(f"Means over {seeds}", numbers)], id="numbers"),
    ]


def section(part: Judgement, blocks: Sequence[Block]) -> Section:
    made = part_section(part, HEADS[part.code], part.claim)
    return Section(made.heading, [*made.blocks, *blocks], made.id, made.kicker, made.tags, made.tone)


def alt(parts: Sequence[Judgement], code: str) -> str:
    """What a figure shows, in words."""
    words = next(part.words for part in parts if part.code == code)
    return f"{words[:1].upper()}{words[1:]}"


def panels(
    series: Mapping[str, Sequence[Row]], title: str, readings: Mapping[str, str], *, tighter: bool = False
) -> Spec:
    """A panel a reading: a line a penalty over a logarithmic strength, and a level line without any.

    tighter: a smaller number is the stronger penalty, and stands at the right as it does elsewhere.
    """
    without = next(iter(series.values()))[0]
    points = [
        {
            "strength": row["strength"],
            "panel": panel,
            "value": row[key],
            "penalty": name_of(kind),
            "without": without[key],
        }
        for kind, rows in series.items()
        for row in rows[1:]
        for key, panel in readings.items()
    ]
    strengths = sorted({point["strength"] for point in points})
    low = min(min(point["value"], point["without"]) for point in points)
    y: Spec = {
        "type": "quantitative",
        "title": None,
        "scale": {"domain": [low - 0.05 * (1 - low), 1.0 + HEADROOM * (1 - low)], "nice": False},
        "axis": {**INSIDE, "format": "%", "tickCount": 5},
    }
    x: Spec = {
        "field": "strength",
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log", "domain": [strengths[0] / 2.2, strengths[-1] * 2], "nice": False, "reverse": tighter},
        "axis": {"grid": False, **POWERS, "values": ticks(strengths)},
    }  # fmt: skip
    if tighter:
        x["scale"]["domain"] = [strengths[0] / 1.35, strengths[-1] * 1.6]
    names = {name_of(kind): COLOURS[kind] for kind in series}
    colour: Spec = {
        "field": "penalty",
        "type": "nominal",
        "scale": {"domain": list(names), "range": list(names.values())},
        "legend": {} if len(names) > 1 else None,
    }
    told = [{"field": "penalty"}, {"field": "strength", "format": "~g"}, {"field": "value", "format": ".1%"}]
    level = {"type": "line", "strokeWidth": 1.5, "strokeDash": [5, 4], "color": GREY}
    return {
        **panels_of(points, list(readings.values())),
        "spec": {
            "width": PANEL,
            "height": 230,
            "layer": [
                {"mark": level, "encoding": {"x": x, "y": {"field": "without", "aggregate": "mean", **y}}},
                {
                    "mark": {"type": "line", "strokeWidth": 2.25, "point": {"size": 36, "filled": True, "opacity": 1}},
                    "encoding": {
                        "x": x,
                        "y": {"field": "value", **y},
                        "color": colour,
                        "tooltip": told,
                    },
                },
            ],
        },
    }


def name_of(kind: str) -> str:
    return NAMES[kind].removeprefix("the ")


def ticks(strengths: Sequence[float]) -> list[float]:
    """Whole powers of ten where there are some, else all."""
    powers = [value for value in strengths if f"{value:.1e}".startswith("1.0")]
    return powers if len(powers) > 1 else list(strengths)


def zeros(experiment: Experiment) -> Chart:
    rows = {kind: experiment.series[kind] for kind in LAMBDAS}
    return Chart(
        panels(rows, "strength λ", ZEROS),
        "Weights that are exactly 0 after training, by strength: of all, and of those on inputs of pure noise. L1's step pulls "
        "each to 0 by as much and leaves it there: sign(w) max(|w| - αλ, 0).",
        alt(experiment.judgements, "N2.1a"),
    )


def max_norm(experiment: Experiment) -> Chart:
    return Chart(
        panels({"max-norm": experiment.series["max-norm"]}, "limit of the norm", ACCURACIES, tighter=True),
        "Accuracies by the limit, the tightest at the right; grey, without one.",
        alt(experiment.judgements, "N2.1d"),
    )


def histograms(experiment: Experiment) -> Chart:
    """One histogram a penalty, as high as its fullest bin; heights go with the square root, since 0 would hide the rest."""
    rows = {kind: found[0] for kind, found in experiment.histograms.items()}
    names = {kind: f"{name_of(kind)}{at(experiment, kind)}" for kind in rows}
    bars = [bar for kind, row in rows.items() for bar in bars_of(names[kind], row)]
    low, high = next(iter(rows.values()))["edges"][0], next(iter(rows.values()))["edges"][-1]
    x = {
        "field": "from",
        "type": "quantitative",
        "bin": {"binned": True},
        "title": None,
        "scale": {"domain": [low, high]},
        "axis": {"values": [low, 0, high], "grid": False, "format": ".2~g", "labelPadding": 3},
    }
    told = [{"field": "from", "format": ".2~g"}, {"field": "to", "format": ".2~g"}, {"field": "share", "format": ".2%"}]
    spec = {
        **panels_of(bars, list(names.values())),
        "columns": 3,
        "resolve": {"scale": {"y": "independent"}},
        "spec": {
            "width": 180,
            "height": 90,
            "mark": {"type": "bar", "color": BLUE, "binSpacing": 0},
            "encoding": {
                "x": x,
                "x2": {"field": "to"},
                "y": {"field": "share", "type": "quantitative", "axis": None, "stack": None, "scale": {"type": "sqrt"}},
                "tooltip": told,
            },
        },
    }
    caption = (
        f"All weights after training, seed {experiment.settings['seed']}, each penalty at its strongest without harm. Heights "
        "go with the square root of the share; weights beyond an edge stand in the bar there."
    )
    return Chart(spec, caption, alt(experiment.judgements, "N2.1b"))


def at(experiment: Experiment, kind: str) -> str:
    if kind == "none":
        return ""
    return f", {'c' if kind == 'max-norm' else 'λ'} = {shown(harmless(experiment.series[kind]))}"


def bars_of(name: str, row: Row) -> list[Row]:
    edges, total = row["edges"], sum(row["counts"]) or 1
    spans = zip(edges, edges[1:], row["counts"], strict=False)
    return [{"panel": name, "from": low, "to": high, "share": number / total} for low, high, number in spans]


def table(rows: Sequence[Row], caption: str = "") -> Table:
    headings = {key: heading for key, heading in HEADINGS.items() if key in rows[0]}
    return Table(list(headings.values()), [[as_cell(key, row[key]) for key in headings] for row in rows], caption)


def as_cell(key: str, value: Any) -> Any:
    if key == "penalty":
        return NAMES[value].replace(" ", "\u00a0")
    return percent(value, 1) if key.endswith("fraction") and is_finite(value) else value
