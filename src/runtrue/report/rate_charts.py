"""The figure of N3.2: the loss at several learning rates, each line named where it ends, by its rate and its verdict."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from runtrue.rates import JudgedCurve
from runtrue.report.charts import curve_rows, loss_axis, loss_curves, step_axis, step_reader, until_lost
from runtrue.report.theme import BLUE, GREY, ORANGE, RED, Spec, spans_decades

HEIGHT = 300
COLOURS = {"very high": RED, "high": ORANGE, "good": BLUE, "low": "#8f6fc9", "unclear": GREY}
NO_LEARNING = "constant guess"
ABOVE = 1.3
"""The frame ends at this many times the loss at the start: what rises further leaves it, as in the course's figure."""
HEADROOM = 0.12
"""And at least at this share of its height above the start, for the names of those that leave."""
SMOOTH = 0.05
"""Share of the steps over whose losses the bold line is the mean; the thin band behind it is every loss."""
MOST_BANDS = 4
"""With more lines than this, bands would hide each other and only the means are drawn."""
LINE, LEADER = 16, 14
"""Pixels from one label to the next, and of the stroke that leads from a line's end to its label."""
MOST_NAMED = 4
"""Rates named in the label of those that leave the frame."""


@dataclass(frozen=True)
class Line:
    """One line of the figure. `losses`: while they are finite."""

    name: str
    colour: str
    losses: list[float]
    lost: bool

    @cached_property
    def mean(self) -> list[float]:
        """A moving mean, over fewer steps at the start, where a loss falls fastest."""
        half = round(SMOOTH * len(self.losses) / 2)
        reach = [min(step, half) for step in range(len(self.losses))]
        return [fmean(self.losses[step - wide : step + wide + 1]) for step, wide in enumerate(reach)]


def rate_curves(judged: Sequence[JudgedCurve], constant: float | None = None) -> Spec:
    """The loss by step at every rate.

    constant: the loss of the best constant guess, where it is known. The axis is logarithmic where the losses span more
    than two decades. Curves that rise leave the frame at its top, and are named there.
    """
    return loss_bands([line_of(curve) for curve in judged], constant)


def loss_bands(lines: Sequence[Line], constant: float | None = None) -> Spec:
    """The same for lines of any name: the moving mean of each, and every loss as a thin band behind it."""
    lines = [line for line in lines if line.losses]
    guess = [constant] if constant is not None and math.isfinite(constant) else []
    y = frame(lines, guess)
    leaving = [line for line in lines if exit_of(line, y) is not None]
    ends = [(line.name, line.colour, line.mean[-1]) for line in lines if line not in leaving]
    keyed = [(f"c{place}", line) for place, line in enumerate(lines)]
    banded = keyed if len(lines) <= MOST_BANDS else []
    curves = [(key, line.name, line.mean) for key, line in keyed]
    curves += [(f"{key}_all", line.name, line.losses) for key, line in banded]
    return {
        "height": HEIGHT,
        "data": {"values": curve_rows(curves)},
        "encoding": {"x": step_axis(curves)},
        "layer": [
            *(drawn(f"{key}_all", line, y, band=True) for key, line in banded),
            *(drawn(key, line, y) for key, line in keyed),
            *(rule(value, y) for value in guess),
            *label_layers(placed([*ends, *((NO_LEARNING, GREY, value) for value in guess)], y)),
            *top_label(leaving, y, max((len(line.losses) for line in lines), default=0)),
            step_reader([(key, line.name) for key, line in keyed]),
        ],
    }


def checked_curve(curve: JudgedCurve, again: Sequence[float], constant: float | None = None) -> Spec:
    """The curve of the rate that was suggested, and the longer run on other batches that checked it."""
    names = (f"{rate_shown(curve.rate)} in the sweep", "in a longer run")
    return loss_curves(curve.losses, again, constant, names=names)


def line_of(curve: JudgedCurve) -> Line:
    kept = until_lost(curve.losses)
    name = f"{rate_shown(curve.rate)} {curve.verdict}"
    return Line(name, COLOURS[curve.verdict], kept, lost=len(kept) < len(curve.losses))


def rate_shown(rate: float) -> str:
    """0.02, 0.0005, 3e5: as short as can be, and without commas."""
    return re.sub(r"e([+-])0?", lambda sign: "e" + sign[1].replace("+", ""), f"{rate:.3g}")


def frame(lines: Sequence[Line], guess: Sequence[float]) -> Spec:
    """The loss axis, a little beyond the losses; it ends a little above the start, whatever rises further."""
    smooth = [value for line in lines for value in line.mean] + list(guess)
    low, high = min(smooth, default=0.0), max(smooth, default=1.0)
    start = max([*(line.losses[0] for line in lines), *guess], default=1.0)
    if spans_decades([low, min(high, start)]):
        return loss_axis([low, min(high, start * (start / low) ** HEADROOM)])
    top = min(high, start + max((ABOVE - 1) * abs(start), HEADROOM * (start - low)))
    axis = loss_axis([low, top])
    low, high = axis["scale"]["domain"]
    margin = 0.03 * (high - low)
    below = 0.0 if 0 <= low < 0.3 * high else low - margin
    return {**axis, "scale": {"type": "linear", "zero": False, "nice": False, "domain": [below, high + margin]}}


def exit_of(line: Line, y: Spec) -> int | None:
    """The last step inside the frame of a line that leaves it at the top and does not come back; None for the others."""
    inside = [step for step, value in enumerate(line.mean) if value <= y["scale"]["domain"][1]]
    last = inside[-1] if inside else 0
    return last if line.lost or last < len(line.mean) - 1 else None


def drawn(key: str, line: Line, y: Spec, band: bool = False) -> Spec:
    look = {"strokeWidth": 1, "opacity": 0.28} if band else {"strokeWidth": 2.25, "strokeJoin": "round"}
    mark = {"type": "line", "clip": True, "color": line.colour, **look}
    return {"mark": mark, "encoding": {"y": {"field": key, **y}}}


def rule(value: float, y: Spec) -> Spec:
    mark = {"type": "rule", "strokeWidth": 1.5, "strokeDash": [5, 4], "color": GREY}
    across = {"x": {"value": 0}, "x2": {"value": "width"}, "y": {"datum": value, **y}}
    return {"data": {"values": [{}]}, "mark": mark, "encoding": across}


# -- labels, in pixels from the top


def placed(ends: Sequence[tuple[str, str, float]], y: Spec) -> list[Spec]:
    """Where each line ends and where its label stands: as near as can be, and at least a line's height apart."""
    ordered = sorted((pixel(value, y), name, colour) for name, colour, value in ends)
    places = spread([at for at, _, _ in ordered])
    return [{"name": n, "colour": c, "from": at, "to": to} for (at, n, c), to in zip(ordered, places)]


def pixel(value: float, y: Spec) -> float:
    low, high = y["scale"]["domain"]
    scale = math.log if y["scale"]["type"] == "log" else float
    inside = min(high, max(low, value))
    return HEIGHT * (scale(high) - scale(inside)) / ((scale(high) - scale(low)) or 1.0)


def spread(places: Sequence[float]) -> list[float]:
    """Places in their order, at least LINE apart: pushed down where they meet, then up from the bottom edge."""
    found: list[float] = []
    for place in places:
        found.append(max(place, found[-1] + LINE) if found else place)
    edge = float(HEIGHT)
    for index in reversed(range(len(found))):
        found[index] = min(found[index], edge)
        edge = found[index] - LINE
    return found


def label_layers(labels: Sequence[Spec]) -> list[Spec]:
    """Beside the plot: a stroke from where each line ends to its name."""
    if not labels:
        return []
    at = {"type": "quantitative", "scale": None, "axis": None}
    colour = {"field": "colour", "type": "nominal", "scale": None, "legend": None}
    right = {"value": {"expr": "width"}}
    beside = {"value": {"expr": f"width + {LEADER}"}}
    data = {"values": list(labels)}
    text = {"type": "text", "align": "left", "baseline": "middle", "dx": 4, "fontSize": 12}
    return [
        {
            "data": data,
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": {
                "x": right,
                "x2": beside,
                "y": {"field": "from", **at},
                "y2": {"field": "to"},
                "color": colour,
            },
        },
        {
            "data": data,
            "mark": text,
            "encoding": {"x": beside, "y": {"field": "to", **at}, "text": {"field": "name"}, "color": colour},
        },
    ]


def top_label(leaving: Sequence[Line], y: Spec, steps: int) -> list[Spec]:
    """At the upper edge, the names of the lines that leave the frame there, beside the last of them."""
    if not leaving:
        return []
    last = max(exit_of(line, y) or 0 for line in leaving)
    names = [line.name for line in leaving]
    if len(names) > 1 and len({line.colour for line in leaving}) == 1:
        rates = [name.split(" ", 1)[0] for name in names]
        shown = rates if len(rates) <= MOST_NAMED else [*rates[: MOST_NAMED - 2], "…", rates[-1]]
        names = [f"{', '.join(shown)} {names[0].split(' ', 1)[1]}"]
    left = last < steps / 2
    mark = {
        "type": "text",
        "align": "left" if left else "right",
        "baseline": "top",
        "dx": 6 if left else -6,
        "fontSize": 12,
    }
    row = {"step": last, "name": ", ".join(names)}
    encoding = {
        "x": {"field": "step", "type": "quantitative"},
        "y": {"value": 2},
        "text": {"field": "name"},
        "color": {"value": leaving[-1].colour},
    }
    return [{"data": {"values": [row]}, "mark": mark, "encoding": encoding}]
