"""The figures, as Vega-Lite specifications: the same dict is drawn on the page, in a notebook and into a file.

Plain dicts, so that no plotting session of the user's (a theme, a renderer, a row limit) can change a report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runtrue.findings import plain
from runtrue.report.layer_charts import by_layer, histograms_by_layer, mean_and_spread
from runtrue.report.numbers import is_finite, shown
from runtrue.report.theme import BLUE, GREY, NUMBERS, ORANGE, Spec, log_axis, ready, spans_decades

__all__ = ["Spec", "by_layer", "histograms_by_layer", "inline_svg", "loss_curves", "mean_and_spread", "ready", "save"]

MOST_POINTS = 600
"""Points of a curve that are drawn: more than a screen has columns to show them in."""
FLAT = 0.1
"""The least range of a loss axis, as a share of its values: a loss that only trembles should look flat."""
FILE_WIDTH = 640
GUESS = "best constant guess"


def loss_curves(
    before: Sequence[float],
    after: Sequence[float] = (),
    baseline: float | None = None,
    *,
    names: tuple[str, str] = ("untreated", "treated"),
) -> Spec:
    """Loss by step without and with a treatment; dashed, the loss of the best constant guess.

    A line stops where its loss is no longer finite, and a cross stands there.
    """
    both = zip("ab", names, (before, after), strict=True)
    curves = [(key, name, list(curve)) for key, name, curve in both if len(curve)]
    guess = [baseline] if baseline is not None and math.isfinite(baseline) else []
    y = loss_axis([*guess, *(value for _, _, curve in curves for value in until_lost(curve))])
    palette = (ORANGE, BLUE) if len(curves) > 1 else (BLUE,)
    colours = {name: colour for (_, name, _), colour in zip(curves, palette, strict=False)}
    layers = [curve_line(key, name, y) for key, name, _ in curves]
    layers += [lost_mark(name, curve, y) for _, name, curve in curves if len(until_lost(curve)) < len(curve)]
    layers += [baseline_rule(value, y) for value in guess]
    layers.append(step_reader([(key, name) for key, name, _ in curves]))
    return {
        "height": 240,
        "data": {"values": curve_rows(curves)},
        "encoding": {
            "x": step_axis(curves),
            **named_lines({**colours, **({GUESS: GREY} if guess else {})}),
        },
        "layer": layers,
    }


def until_lost(curve: Sequence[float]) -> list[float]:
    """The losses up to the first one that is not finite."""
    lost = next((step for step, value in enumerate(curve) if not is_finite(value)), len(curve))
    return list(curve[:lost])


def curve_rows(curves: Sequence[tuple[str, str, Sequence[float]]]) -> list[Spec]:
    """One row a step with every curve's loss while it is finite; long curves are thinned, their last steps stay."""
    kept = {key: until_lost(curve) for key, _, curve in curves}
    length = max((len(curve) for _, _, curve in curves), default=0)
    stride = max(1, math.ceil(length / MOST_POINTS))
    ends = {len(curve) - 1 for curve in kept.values() if curve}
    steps = sorted({*range(0, length, stride), *ends})
    return [{"step": step, **{key: c[step] for key, c in kept.items() if step < len(c)}} for step in steps]


def step_axis(curves: Sequence[tuple[str, str, Sequence[float]]]) -> Spec:
    """From the first step to the last, whether or not a loss was still a number there."""
    last = max((len(curve) for _, _, curve in curves), default=0) - 1
    scale = {"domain": [0, max(1, last)], "nice": False}
    axis = {"grid": False, "tickMinStep": 1, "tickCount": 8}
    return {"field": "step", "type": "quantitative", "title": "step", "scale": scale, "axis": axis}


def loss_axis(losses: Sequence[float]) -> Spec:
    """Logarithmic above two decades; else linear, and never so narrow that noise fills the chart."""
    y: Spec = {"type": "quantitative", "title": "loss"}
    if spans_decades(losses):
        scale, axis = log_axis(min(losses) / 1.2, max(losses) * 1.2)
        return {**y, "scale": scale, "axis": axis}
    low, high = min(losses, default=0.0), max(losses, default=1.0)
    missing = max(0.0, FLAT * max(abs(low), abs(high)) - (high - low)) / 2
    scale = {"type": "linear", "zero": False, "nice": True, "domain": [low - missing, high + missing]}
    return {**y, "scale": scale, "axis": NUMBERS}


def named_lines(colours: Mapping[str, str]) -> Spec:
    """Colour and dash of each named line, with one legend for both; none for a single line."""
    names = list(colours)
    legend: Spec | None = {} if len(names) > 1 else None
    dashes = [[5, 4] if name == GUESS else [1, 0] for name in names]
    return {
        "color": {"type": "nominal", "scale": {"domain": names, "range": list(colours.values())}, "legend": legend},
        "strokeDash": {"type": "nominal", "scale": {"domain": names, "range": dashes}, "legend": legend},
    }


def curve_line(key: str, name: str, y: Spec) -> Spec:
    mark = {"type": "line", "strokeWidth": 2.25, "strokeJoin": "round", "strokeCap": "round"}
    return {"mark": mark, "encoding": {"y": {"field": key, **y}, **line_named(name)}}


def line_named(name: str) -> Spec:
    return {"color": {"datum": name}, "strokeDash": {"datum": name}}


def baseline_rule(baseline: float, y: Spec) -> Spec:
    """A dashed line from edge to edge."""
    across = {"x": {"value": 0}, "x2": {"value": "width"}, "y": {"datum": baseline, **y}}
    mark = {"type": "rule", "strokeWidth": 1.5, "tooltip": f"{GUESS}: {shown(baseline)}"}
    return {"data": {"values": [{}]}, "mark": mark, "encoding": {**across, **line_named(GUESS)}}


def lost_mark(name: str, curve: Sequence[float], y: Spec) -> Spec:
    """A cross where a loss stopped being a finite number."""
    kept = until_lost(curve)
    end = kept[-1] if kept else y["scale"]["domain"][1]
    what = f"{name}: {shown(curve[len(kept)])} from step {len(kept)} on"
    mark = {"type": "point", "shape": "cross", "angle": 45, "size": 160, "filled": True, "opacity": 1}
    encoding = {"y": {"field": "loss", **y}, "color": {"datum": name}, "tooltip": {"field": "what", "title": "lost"}}
    row = {"step": max(0, len(kept) - 1), "loss": end, "what": what}
    return {"data": {"values": [row]}, "mark": mark, "encoding": encoding}


def step_reader(curves: Sequence[tuple[str, str]]) -> Spec:
    """An upright line under the pointer with the losses of that step."""
    pick = {"type": "point", "on": "pointerover", "clear": "pointerout", "nearest": True, "encodings": ["x"]}
    losses = [{"field": key, "type": "quantitative", "format": ".4~g", "title": name} for key, name in curves]
    over = {"param": "pointed", "empty": False, "value": 0.6}
    return {
        "mark": {"type": "rule", "color": GREY, "strokeWidth": 1},
        "params": [{"name": "pointed", "select": pick}],
        "encoding": {
            "opacity": {"condition": over, "value": 0},
            "tooltip": [{"field": "step", "type": "quantitative"}, *losses],
            "color": {"value": GREY},
            "strokeDash": {"value": [1, 0]},
        },
    }


def inline_svg(spec: Mapping[str, Any], description: str = "", width: int = FILE_WIDTH) -> str:
    """The chart as one SVG element, drawn without a browser."""
    import vl_convert

    drawn: Spec = plain(ready(spec, description))
    if drawn.get("width") == "container":
        drawn["width"] = width
    return vl_convert.vegalite_to_svg(drawn)


def save(spec: Mapping[str, Any], path: str | Path) -> Path:
    """Draw the chart into `path`: a `.png` at twice the screen's resolution, or an `.svg`. No browser is needed."""
    import vl_convert

    target = Path(path)
    if target.suffix not in (".png", ".svg"):
        raise ValueError(f"a chart is saved as .png or .svg, not as {target.name!r}")
    svg = inline_svg({**spec, "background": "white"})
    if target.suffix == ".svg":
        target.write_text(svg, encoding="utf-8")
    else:
        target.write_bytes(vl_convert.svg_to_png(svg, scale=2))
    return target
