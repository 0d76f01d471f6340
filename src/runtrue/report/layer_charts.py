"""Figures with one mark, one point or one histogram a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from runtrue.report.numbers import is_finite, is_number, layer_names, reading, short_names, shown
from runtrue.report.theme import BLUE, NUMBERS, ORANGE, RED, Spec, log_axis, spans_decades

Layers = Sequence[Mapping[str, Any]]

TALLEST = 620
"""Height in pixels up to which a chart by layer grows with the number of layers."""
CROWDED = 15
"""Pixels a layer under which a line through each of them would be a grey field."""
SHAPES = {"domain": ["finite", "zero", "not finite"], "range": ["circle", "triangle-left", "cross"]}


def by_layer(layers: Layers, value: str = "std", *, after: Layers = (), log: bool | None = None) -> Spec:
    """One reading of every layer, the input at the top. `after`: the same layers, treated.

    `log`: None lets the range decide. On a logarithmic axis a zero is a triangle at the left edge; a reading that is
    not finite is a cross at the right edge.
    """
    series = {"untreated": layers, "treated": after} if after else {reading(value): layers}
    numbers = [layer[value] for some in series.values() for layer in some if is_finite(layer.get(value))]
    scale, axis = reading_axis(numbers, log)
    names = layer_names(max(series.values(), key=len))
    rows = [row for when, some in series.items() for row in layer_rows(some, value, when, scale)]
    colours = {"domain": list(series), "range": [ORANGE, BLUE] if after else [BLUE]}
    legend: Spec | None = {"symbolOpacity": 1} if after else None
    return {
        "height": row_height(len(names)) * max(1, len(names)),
        "data": {"values": rows},
        "encoding": {
            "x": {"field": "at", "type": "quantitative", "scale": scale, "axis": axis, "title": reading(value)},
            "y": {"field": "layer", "type": "nominal", "sort": short_names(names), "axis": name_axis(len(names))},
            "color": {"field": "when", "type": "nominal", "scale": colours, "legend": legend},
        },
        "layer": [thread(), points(value, told_when=bool(after))],
    }


def row_height(count: int) -> int:
    return max(3, min(22, TALLEST // max(1, count)))


def name_axis(count: int) -> Spec:
    roomy = row_height(count) >= CROWDED
    return {"title": None, "labelOverlap": True, "labelSeparation": 3, "labelLimit": 150, "grid": roomy}


def reading_axis(numbers: Sequence[float], log: bool | None) -> tuple[Spec, Spec]:
    """Scale and axis of a reading: logarithmic if asked for or if it spans two decades, and never below a zero."""
    positive = [number for number in numbers if number > 0]
    fits = bool(positive) and min(numbers) >= 0
    if fits and (spans_decades(positive) if log is None else log):
        return log_axis(min(positive) / 2, max(positive) * 2)
    low, high = min([0.0, *numbers]), max([0.0, *numbers])
    margin = 0.06 * (high - low) or 1.0
    return {"type": "linear", "domain": [low - margin * (low < 0), high + margin], "nice": False}, NUMBERS


def layer_rows(layers: Layers, value: str, when: str, scale: Spec) -> list[Spec]:
    """Where each layer's mark stands, and what it says. Layers without this reading are left out."""
    names = layer_names(layers)
    rows = []
    for depth, (name, short, layer) in enumerate(zip(names, short_names(names), layers, strict=True)):
        number = layer.get(value)
        if not is_number(number):
            continue
        zero = scale["type"] == "log" and number == 0
        state = "not finite" if not is_finite(number) else "zero" if zero else "finite"
        at = {"finite": number, "zero": scale["domain"][0], "not finite": scale["domain"][1]}[state]
        says = {"name": name, "shown": shown(number), "state": state, "when": when}
        rows.append({"layer": short, "depth": depth, "at": at, **says})
    return rows


def thread() -> Spec:
    """A thin line that leads the eye from layer to layer."""
    mark = {"type": "line", "strokeWidth": 1.5, "opacity": 0.45}
    finite = {"filter": {"field": "state", "equal": "finite"}}
    return {"transform": [finite], "mark": mark, "encoding": {"order": {"field": "depth", "type": "quantitative"}}}


def points(value: str, told_when: bool) -> Spec:
    told = [{"field": "name", "title": "layer"}, {"field": "shown", "title": reading(value)}]
    told += [{"field": "when", "title": "network"}] if told_when else []
    shape = {"field": "state", "type": "nominal", "scale": SHAPES, "legend": None}
    mark = {"type": "point", "size": 75, "filled": True, "opacity": 1}
    return {"mark": mark, "encoding": {"tooltip": told, "shape": shape}}


def mean_and_spread(layers: Layers) -> Spec:
    """Mean (blue) and standard deviation (red) of every layer's outputs, from the input to the output."""
    kinds = {"mean": "mean", "std": "spread (std)"}
    rows = [
        {"depth": depth, "layer": name, "reading": kind, "value": layer[key], "shown": shown(layer[key])}
        for depth, (name, layer) in enumerate(zip(layer_names(layers), layers, strict=True), start=1)
        for key, kind in kinds.items()
        if is_finite(layer.get(key))
    ]
    across: Spec = {"grid": False, "tickMinStep": 1, "format": "d"}
    if len(layers) <= 12:  # few enough for a tick each; else tickMinStep may still fall between two layers
        across["values"] = list(range(1, len(layers) + 1))
    ends = {"nice": False, "zero": False}
    colours = {"domain": list(kinds.values()), "range": [BLUE, RED]}
    x = {"field": "depth", "type": "quantitative", "title": "layer, from input to output", "scale": ends}
    return {
        "height": 220,
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": 2.25, "point": {"size": 55, "filled": True, "opacity": 1}},
        "encoding": {
            "x": {**x, "axis": across},
            "y": {"field": "value", "type": "quantitative", "title": "output of the layer", "axis": NUMBERS},
            "color": {"field": "reading", "type": "nominal", "scale": colours, "legend": {}},
            "tooltip": [{"field": "layer"}, {"field": "reading"}, {"field": "shown", "title": "value"}],
        },
    }


def histograms_by_layer(layers: Layers, *, title: str = "value", columns: int = 4) -> Spec:
    """Small multiples, one histogram a layer, all on one scale of values.

    Each layer: "layer" (its name), "counts" (n numbers) and "edges" (n + 1 numbers), as `torch.histogram` returns them.
    """
    names = layer_names(layers)
    rows = [row for name, layer in zip(names, layers, strict=True) for row in histogram_rows(name, layer)]
    x = {"field": "from", "type": "quantitative", "bin": {"binned": True}, "title": title}
    formats = {"from": ".3~g", "to": ".3~g", "share": ".1%"}
    told = [{"field": key, "type": "quantitative", "format": form} for key, form in formats.items()]
    return {
        "data": {"values": rows},
        "columns": columns,
        "facet": {"field": "layer", "type": "nominal", "sort": names, "title": None},
        "spacing": 18,
        "spec": {
            "width": 140,
            "height": 90,
            "mark": {"type": "bar", "color": BLUE, "binSpacing": 0},
            "encoding": {
                "x": {**x, "axis": {"tickCount": 3, "grid": False, "format": "~g"}},
                "x2": {"field": "to"},
                "y": {"field": "share", "type": "quantitative", "axis": None, "stack": None},
                "tooltip": [{"field": "layer"}, *told],
            },
        },
        "resolve": {"scale": {"y": "independent"}},
    }


def histogram_rows(name: str, layer: Mapping[str, Any]) -> list[Spec]:
    """One row a bar. The share is of the layer's own values."""
    counts, edges = list(map(float, layer["counts"])), list(map(float, layer["edges"]))
    if len(edges) != len(counts) + 1:
        raise ValueError(f"layer {name!r}: {len(counts)} counts need {len(counts) + 1} edges, not {len(edges)}")
    total = sum(counts) or 1.0
    bins = zip(pairwise(edges), counts, strict=True)
    return [{"layer": name, "from": low, "to": high, "share": number / total} for (low, high), number in bins]
