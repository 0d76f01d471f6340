"""Figures of the layers: a statistic of each over the steps, as a map, and what the outputs looked like, early and late."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtrue.report.layer_charts import histograms_by_layer
from runtrue.report.numbers import layer_names, short_names
from runtrue.report.theme import GREY, NUMBERS, RED, Spec
from runtrue.watch.record import Histogram, Reading
from runtrue.watch.run_charts import STEPS, figure, step_axis, told

MOST_COLUMNS = 80  # readings in a map
MOST_ROWS = 120  # layers in a map: of more, some are left out
TALLEST = 560  # pixels of a map, whole ones a row: else lines show between the rows
MOST_SHAPES = 12  # layers whose outputs are shown over the steps
MOST_TIMES = 24  # histograms of a layer in such a figure
MOST_CELLS, LEAST_COLUMNS = 4800, 30
"""Of a map: with more layers it has fewer columns, so that a deep network's page is drawn in a few seconds."""
MOST_SVG = 2500
"""Rectangles in one figure above which it is painted as one picture: a page with as many elements scrolls badly."""
LOST, NOTHING = -1.0, 0.0
"""What stands in a map for a number that is none, and for a zero, which has no place on a logarithmic scale."""
UNALIKE = 50.0  # times the widest range of outputs is the narrowest: beyond, each layer has an axis of its own

Key = tuple[str, str]


def rows_of(readings: Sequence[Reading], what: str) -> list[str]:
    """Layers or parameters that have this statistic, in the order of the model; of very many, some, evenly spread.

    Gradients arrive from the last layer to the first: the order is that of the outputs where both tell of the same layers.
    """
    names = list(dict.fromkeys(name for read in readings for name, kind in read.numbers if kind == what))
    order = {name: i for i, name in enumerate(n for r in readings[-1:] for n, kind in r.numbers if kind == "std")}
    if set(names) <= set(order):
        names.sort(key=order.__getitem__)
    if len(names) > MOST_ROWS:
        matrices = {name for read in readings for name, kind in read.numbers if kind == "grad_mean"}
        names = [name for name in names if name in matrices] or names
    return evenly(names, MOST_ROWS)


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def ends(steps: Sequence[int], last: int) -> list[int]:
    """Where the column of each reading ends: where the next begins, and that of the last one with the run."""
    return [*steps[1:], max(last, steps[-1]) + 1]


def layer_map(readings: Sequence[Reading], what: str, title: str, last: int, *, share: bool = False) -> Spec | None:
    """One statistic of each layer (down) over the steps (across), up to `last`. share: colours from 0 to 1; else logarithmic.

    A row of data is a layer with all of its numbers: so that a page of many layers stays small.
    """
    names = rows_of(readings, what)
    if not names:
        return None
    readings = evenly(readings, max(LEAST_COLUMNS, min(MOST_COLUMNS, MOST_CELLS // len(names))))
    until = dict(zip((r.step for r in readings), ends([r.step for r in readings], last)))
    rows: list[Spec] = []
    for name, short in zip(names, short_names(layer_names([{"layer": name} for name in names]))):
        found = [(r.step, r.numbers[name, what]) for r in readings if (name, what) in r.numbers]
        if what == "update_ratio":  # a parameter that was 0 has no size to be compared with
            found = [(step, x) for step, x in found if x != math.inf]
        values = [round_off(x) if math.isfinite(x) and x >= 0 else LOST for _, x in found]
        rows.append(
            {
                "layer": short,
                "name": name,
                "step": [s for s, _ in found],
                "until": [until[s] for s, _ in found],
                "value": values,
            }
        )
    tips = [
        {"field": "name", "title": "layer"},
        told("step", "step", ","),
        told(title, "value", ".2%" if share else ".3~g"),
    ]
    y = {"field": "layer", "type": "nominal", "sort": [row["layer"] for row in rows], "title": None}
    encoding = {
        "x": {**step_axis(), "title": None},
        "x2": {"field": "until"},
        "y": {**y, "axis": {"labelOverlap": True, "grid": False}},
    }
    spec = figure(
        max(50, len(rows) * max(4, min(17, TALLEST // len(rows)))), {"rows": rows},
        data={"name": "rows"}, transform=[{"flatten": ["step", "until", "value"]}],
        encoding=encoding, layer=map_layers(rows, tips, share),
    )  # fmt: skip
    return painted(spec, sum(len(row["value"]) for row in rows))


def map_layers(rows: Sequence[Spec], tips: Sequence[Spec], share: bool) -> list[Spec]:
    """Cells with a number by its colour; grey: exactly 0 (where the scale has no place for it); red: NaN or infinite."""
    values = [x for row in rows for x in row["value"]]
    fine = {"filter": "datum.value >= 0" if share else "datum.value > 0"}
    mark = {"type": "rect", "strokeWidth": 0, "aria": False, "x2Offset": 0.7}  # or lines show between the columns
    layers: list[Spec] = []
    if any(x > 0 or (share and x == 0) for x in values):
        layers.append({"transform": [fine], "mark": mark, "encoding": {"color": colour(share), "tooltip": list(tips)}})
    if not share and NOTHING in values:
        zero = {"filter": f"datum.value == {NOTHING:g}"}
        layers.append({"transform": [zero], "mark": {**mark, "color": GREY}, "encoding": {"tooltip": list(tips)}})
    if LOST in values:
        lost = {"filter": f"datum.value == {LOST:g}"}
        at = [tip for tip in tips if tip["field"] != "value"]
        layers.append({"transform": [lost], "mark": {**mark, "color": RED}, "encoding": {"tooltip": at}})
    return layers


def colour(share: bool) -> Spec:
    scale: Spec = {"scheme": "viridis", "domain": [0, 1]} if share else {"scheme": "viridis", "type": "log"}
    legend = {
        "title": None, "orient": "top", "gradientLength": 220, "gradientThickness": 9, "tickCount": 4,
        **({"format": ".0%"} if share else {"labelExpr": NUMBERS["labelExpr"]}), "labelOverlap": True,
    }  # fmt: skip
    return {"field": "value", "type": "quantitative", "scale": scale, "legend": legend}


def painted(spec: Spec, cells: int, axis: int = 0) -> Spec:
    """A figure of very many marks is drawn on a canvas. axis: pixels beside each of several multiples (page.js)."""
    told = {"axis": axis} if axis else {}
    return {**spec, "usermeta": told | ({"embedOptions": {"renderer": "canvas"}} if cells > MOST_SVG else {})}


def round_off(x: float) -> float:
    return float(f"{x:.4g}")


# Outputs


def in_order(found: Sequence[Histogram], order: Iterable[str]) -> dict[str, list[Histogram]]:
    """By layer, in this order, those that counted something."""
    place = {name: i for i, name in enumerate(order)}
    by_layer: dict[str, list[Histogram]] = {}
    for one in sorted(found, key=lambda one: (place.get(one.layer, len(place)), one.step)):
        if sum(one.counts):
            by_layer.setdefault(one.layer, []).append(one)
    return by_layer


def over_depth(by_layer: Mapping[str, Sequence[Histogram]], step: int, most: int) -> Spec | None:
    """One histogram a layer, from the input to the output, at this step; axes of their own where ranges are far apart."""
    shown = evenly([one for found in by_layer.values() for one in found if one.step == step], most)
    if not shown:
        return None
    names = short_names(layer_names([{"layer": one.layer} for one in shown]))
    spec = histograms_by_layer([{**edges(one), "layer": name} for one, name in zip(shown, names)], title="output")
    spec["spec"]["encoding"]["x"]["axis"] = {"tickCount": 3, "grid": False, "labelExpr": NUMBERS["labelExpr"]}
    spec["facet"]["header"] = {"labelLimit": spec["spec"]["width"]}
    widths = [one.high - one.low for one in shown if one.high > one.low]
    if widths and max(widths) > UNALIKE * min(widths):
        spec["resolve"]["scale"]["x"] = "independent"
    told_by_name = {"datasets": {"rows": spec["data"]["values"]}, "data": {"name": "rows"}}
    return {**spec, **told_by_name, "usermeta": {"axis": 8}}


def edges(one: Histogram) -> dict[str, Any]:
    bins = len(one.counts)
    width = (one.high - one.low) or 1.0
    return {"layer": one.layer, "counts": one.counts, "edges": [one.low + width * i / bins for i in range(bins + 1)]}


def over_time(by_layer: Mapping[str, Sequence[Histogram]], last: int) -> Spec | None:
    """Small multiples, a layer each: the outputs (up) over the steps (across), darker where more of them lie."""
    layers = {name: found for name, found in by_layer.items() if len(found) > 1}
    rows: list[Spec] = []
    names = evenly(list(layers), MOST_SHAPES)
    for name, short in zip(names, short_names(layer_names([{"layer": name} for name in names]))):
        found = evenly(layers[name], MOST_TIMES)
        rows += [
            shape(short, one, until) for one, until in zip(found, ends([one.step for one in found], last))
        ]  # fmt: skip
    if not rows:
        return None
    told_of = [
        {"field": "layer"}, told("step", "step", ","), told("from", "from", ".3~g"), told("to", "to", ".3~g"),
        told("share", "share", ".1%"),
    ]  # fmt: skip
    spec = {
        "datasets": {"rows": rows},
        "data": {"name": "rows"},
        "transform": [
            {"flatten": ["share", "bin"]},
            {"filter": "datum.share > 0"},
            {"calculate": "datum.low + datum.width * datum.bin", "as": "from"},
            {"calculate": "datum.low + datum.width * (datum.bin + 1)", "as": "to"},
        ],
        "columns": 3,
        "facet": {"field": "layer", "type": "nominal", "sort": [row["layer"] for row in rows], "title": None,
                  "header": {"labelLimit": 190}},
        "spacing": 22,
        "spec": {
            "width": 190,
            "height": 110,
            "mark": {"type": "rect", "strokeWidth": 0, "aria": False, "x2Offset": 0.7, "yOffset": 0.7},
            "encoding": {
                "x": {**step_axis(), "title": None, "axis": {"labelExpr": STEPS, "grid": False, "tickCount": 3}},
                "x2": {"field": "until"},
                "y": {"field": "from", "type": "quantitative", "title": None, "scale": {"zero": False, "nice": False},
                      "axis": {"tickCount": 4, "format": ".2~g", "grid": False, "labelLimit": 40}},
                "y2": {"field": "to"},
                "color": {"field": "share", "type": "quantitative", "legend": None,
                          "scale": {"scheme": "viridis", "type": "sqrt", "domain": [0, 0.5], "clamp": True}},
                "tooltip": told_of,
            },
        },
        "resolve": {"scale": {"y": "independent"}},
    }  # fmt: skip
    return painted(spec, sum(len(row["share"]) for row in rows), axis=48)


def shape(name: str, one: Histogram, until: int) -> Spec:
    total = sum(one.counts)
    bins = len(one.counts)
    width = (one.high - one.low) / bins or max(1e-9, abs(one.low) * 1e-3) / bins
    share = [round(count / total, 4) for count in one.counts]
    return {
        "layer": name, "step": one.step, "until": until, "low": one.low, "width": width, "share": share, "bin": list(range(bins)),
    }  # fmt: skip
