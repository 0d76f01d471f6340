"""The figures of `init`: per initialisation the mean and the spread by layer and a histogram a layer, as in the notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.init_measure import SCHEMES
from runtrue.report.blocks import Block, Chart, Fold, Prose, Section, Table, Tag
from runtrue.report.numbers import label
from runtrue.report.theme import BLUE, NUMBERS, ORANGE, RED

Spec = dict[str, Any]

COLOURS = {
    "small": ORANGE,
    "large": RED,
    "xavier": BLUE,
    "xavier-relu": "#b08a1e",
    "he": "#2a9d7c",
    "batchnorm": "#8f6fc9",
}
PARTS = {"small": "N1.2", "large": "N1.3", "xavier": "N1.4", "xavier-relu": "N1.5", "he": "N1.5", "batchnorm": "N1.6c"}
"""Which part of the claim a series shows."""
PANEL, STRIP = 284, 50
"""Least width in pixels of a line chart, of which two stand side by side on a page, and of a histogram, of which ten do."""
INSIDE = {"labelAlign": "left", "labelBaseline": "bottom", "labelPadding": 0, "labelOffset": -1, "tickSize": 0}
"""Numbers of an upright axis on its grid lines, inside the plot: panels then fill the page's width exactly."""
MARGIN = 0.13
"""Room for these numbers, as a share of the layers."""
HEADROOM = 1.25
"""Upper end of a linear axis over its largest value: the number on the topmost grid line stays below the panel's name."""
POWERS = {
    "tickCount": 5,
    "labelExpr": "datum.value >= 0.01 && datum.value <= 1000 ? format(datum.value, '~g')"
    " : replace(format(datum.value, '~e'), '+', '')",
}
"""How a logarithmic axis over many decades writes its numbers: 1e-6, 0.01, 1, 1e4."""


def init_blocks(experiment: Experiment) -> list[Block]:
    """The overview, then a section for each initialisation."""
    last = len(next(iter(experiment.series.values()))) - 1
    caption = (
        f"Left: the standard deviation of each layer's outputs, from the input (0) to layer {last}. Right: the norm of the "
        "loss's gradient with respect to them. Both on the same logarithmic axis. A network whose line stays level in both lets "
        "the signal and the gradient through."
    )
    overview = Chart(overview_spec(experiment.series), caption, overview_alt(experiment.series))
    told: set[str] = set()
    return [overview, *(section(experiment, key, told) for key in experiment.series)]


def section(experiment: Experiment, key: str, told: set[str]) -> Section:
    """`told`: the parts of the claim that a section before has spelt out; this one's is added."""
    rows, scheme = experiment.series[key], SCHEMES[key]
    part = next(part for part in experiment.judgements if part.code == PARTS[key])
    words = alt(rows) if part.code in told else f"{part.claim}\n\nMeasured: {part.words}"
    told.add(part.code)
    lines = Chart(
        mean_and_spread(rows), "Mean (blue) and spread (red) of each layer's outputs; layer 0 is the input.", alt(rows)
    )
    bars = Chart(
        histogram_strip(experiment.histograms[key], scheme.activation), histogram_caption(scheme.activation), alt(rows)
    )
    normalized = ", batch normalisation, " if scheme.normalized else ", "
    return Section(
        scheme.title,
        [Prose(words), lines, bars, Fold("The numbers", [numbers(rows)])],
        id=key,
        kicker=f"{part.code}: weights {scheme.weights}{normalized}{scheme.activation}",
        tags=[Tag("held", "good") if part.held else Tag("not held", "bad")],
        tone="good" if part.held else "bad",
    )


def overview_spec(series: Mapping[str, Sequence[Row]]) -> Spec:
    """Spread and gradient by layer, a line an initialisation. A zero has no place on a logarithmic axis and is left out."""
    panels = {"std": "spread of the outputs", "grad_norm": "norm of the gradient"}
    rows = [
        {"layer": row["layer"], "panel": panel, "value": row[reading], "weights": key}
        for key, found in series.items()
        for row in found
        for reading, panel in panels.items()
        if row[reading] > 0
    ]
    colour = {
        "field": "weights",
        "type": "nominal",
        "scale": {"domain": list(COLOURS), "range": list(COLOURS.values())},
    }
    y = {
        "field": "value",
        "type": "quantitative",
        "title": None,
        "scale": {"type": "log", "nice": False, "padding": 30},
        "axis": {**INSIDE, **POWERS},
    }
    return {
        **panels_of(rows, list(panels.values())),
        "spec": {
            "width": PANEL,
            "height": 230,
            "mark": {"type": "line", "strokeWidth": 2.25, "point": {"size": 30, "filled": True, "opacity": 1}},
            "encoding": {
                "x": layer_axis(rows),
                "y": y,
                "color": {**colour, "legend": {}},
                "tooltip": [{"field": "weights"}, {"field": "layer"}, {"field": "value", "format": ".3~g"}],
            },
        },
    }


def mean_and_spread(rows: Sequence[Row]) -> Spec:
    """Two panels on one scale, so that the noise of a mean near 0 looks as small as it is."""
    panels = {"mean": "mean", "std": "spread"}
    high = max(row[key] for row in rows for key in panels)
    low = min(0.0, *(row["mean"] for row in rows))
    scale = {"domain": [low, HEADROOM * high], "nice": False}
    points = [{"layer": row["layer"], "panel": panels[key], "value": row[key]} for key in panels for row in rows]
    colour = {
        "field": "panel",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": list(panels.values()), "range": [BLUE, RED]},
    }
    return {
        **panels_of(points, list(panels.values())),
        "spec": {
            "width": PANEL,
            "height": 100,
            "mark": {"type": "line", "strokeWidth": 2.25, "point": {"size": 36, "filled": True, "opacity": 1}},
            "encoding": {
                "x": layer_axis(points),
                "y": {
                    "field": "value",
                    "type": "quantitative",
                    "title": None,
                    "scale": scale,
                    "axis": {**INSIDE, **NUMBERS, "tickCount": 3},
                },
                "color": colour,
                "tooltip": [{"field": "layer"}, {"field": "value", "title": "value", "format": ".4~g"}],
            },
        },
    }


def panels_of(rows: Sequence[Row], names: Sequence[str]) -> Spec:
    """Panels side by side; the page puts them one under the other where the screen is narrow."""
    header = {"title": None, "labelFontSize": 13, "labelFontWeight": 600, "labelAnchor": "start"}
    return {
        "data": {"values": list(rows)},
        "columns": len(names),
        "facet": {"field": "panel", "type": "nominal", "sort": list(names), "title": None, "header": header},
        "spacing": 34,
    }


def layer_axis(rows: Sequence[Row]) -> Spec:
    last = max(row["layer"] for row in rows)
    axis = {"grid": False, "values": list(range(0, last + 1, 1 + last // 12)), "labelFlush": False, "format": "d"}
    scale = {"domain": [-MARGIN * last, 1.03 * last], "nice": False}
    return {"field": "layer", "type": "quantitative", "title": "layer", "scale": scale, "axis": axis}


def histogram_strip(layers: Sequence[Row], activation: str) -> Spec:
    """One small histogram a layer, each as high as its fullest bin; a ReLU's zeros would hide the rest on a linear scale."""
    scale = {"type": "sqrt"} if activation == "relu" else {}
    names = [f"layer {layer['layer']}" for layer in layers]
    bars = [bar for name, layer in zip(names, layers, strict=True) for bar in bars_of(name, layer)]
    low, high = layers[0]["edges"][0], layers[0]["edges"][-1]
    x = {
        "field": "from",
        "type": "quantitative",
        "bin": {"binned": True},
        "title": None,
        "scale": {"domain": [low, high]},
    }
    told = [
        {"field": "layer"},
        {"field": "from", "format": ".2~f"},
        {"field": "to", "format": ".2~f"},
        {"field": "share", "format": ".1%"},
    ]
    return {
        "data": {"values": bars},
        "columns": 10,
        "facet": {"field": "layer", "type": "nominal", "sort": names, "title": None, "header": {"labelFontSize": 11}},
        "spacing": 20,
        "resolve": {"scale": {"y": "independent"}},
        "spec": {
            "width": STRIP,
            "height": 64,
            "mark": {"type": "bar", "color": BLUE, "binSpacing": 0},
            "encoding": {
                "x": {
                    **x,
                    "axis": {
                        "values": [low, high],
                        "grid": False,
                        "format": "~g",
                        "labelFontSize": 10,
                        "labelPadding": 3,
                    },
                },
                "x2": {"field": "to"},
                "y": {"field": "share", "type": "quantitative", "axis": None, "stack": None, "scale": scale},
                "tooltip": told,
            },
        },
    }


def bars_of(name: str, layer: Row) -> list[Row]:
    edges, total = layer["edges"], sum(layer["counts"]) + layer["above"]
    spans = zip(edges, edges[1:], layer["counts"], strict=False)
    return [{"layer": name, "from": low, "to": high, "share": count / total} for low, high, count in spans]


def histogram_caption(activation: str) -> str:
    if activation == "relu":
        return (
            "The outputs of each layer, from 0 to 3; the zeros stand in the bar at the left. Every histogram is scaled to its "
            "fullest bin, and heights go with the square root of the share, so that the rest can be seen beside the zeros."
        )
    return "The outputs of each layer, from -1 to 1. Every histogram is scaled to its fullest bin."


def numbers(rows: Sequence[Row]) -> Table:
    keys = [key for key in rows[0] if key not in ("std_by_seed", "std_large_weights")]
    return Table([label(key) for key in keys], [[row.get(key) for key in keys] for row in rows])


def alt(rows: Sequence[Row]) -> str:
    """What the figure shows, in words: where the spread begins and ends."""
    first, last = rows[1], rows[-1]
    return (
        f"From layer 1 to layer {last['layer']} the mean goes from {first['mean']:.2g} to {last['mean']:.2g} and the spread "
        f"from {first['std']:.3g} to {last['std']:.3g}."
    )


def overview_alt(series: Mapping[str, Sequence[Row]]) -> str:
    ends = [f"{key} {rows[-1]['std']:.2g} and {rows[0]['grad_norm']:.2g}" for key, rows in series.items()]
    return "Spread at the last layer, and gradient at the input: " + "; ".join(ends) + "."
