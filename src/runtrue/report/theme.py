"""The look of the figures: few lines, and colours that colour-blind readers tell apart on white and on black alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from runtrue.report.numbers import one_line

Spec = dict[str, Any]

BLUE = "#2f86d1"
ORANGE = "#dd6b20"
RED = "#d1495b"
GREY = "#7c8594"
FAINT = "#8b949e33"
FONT = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"

LOG_ABOVE = 100.0
"""An axis is logarithmic if the largest value is this many times the smallest: more would vanish on a linear one."""
MOST_TICKS = 6
NUMBERS: Spec = {
    "tickCount": 5,
    "labelExpr": "datum.value != 0 && (abs(datum.value) < 0.001 || abs(datum.value) >= 1e5)"
    " ? format(datum.value, '~e') : format(datum.value, '~g')",
}
"""How an axis writes its numbers: 0.001, 1e-4."""


def theme() -> Spec:
    """A Vega-Lite config. Ink is a grey that reads on either ground; the page's style sheet sets it exactly."""
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            "labelColor": GREY,
            "titleColor": GREY,
            "gridColor": FAINT,
            "domain": False,
            "ticks": False,
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": 500,
            "labelPadding": 8,
            "titlePadding": 10,
        },
        "legend": {
            "orient": "top",
            "title": None,
            "labelColor": GREY,
            "labelFontSize": 13,
            "symbolType": "stroke",
            "symbolStrokeWidth": 3,
            "symbolSize": 220,
            "columnPadding": 20,
            "offset": 6,
        },
        "header": {"labelColor": GREY, "titleColor": GREY, "labelFontSize": 12, "labelFontWeight": 500},
        "text": {"fontSize": 12},
    }


def ready(spec: Mapping[str, Any], description: str = "") -> Spec:
    """`spec` with the house's theme, its description, and a width that follows its container."""
    single = not {"facet", "concat", "hconcat", "vconcat", "repeat"} & set(spec)
    fluid = {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}} if single else {}
    return {**fluid, "config": theme(), "description": one_line(description), **spec}


def spans_decades(values: Sequence[float]) -> bool:
    """True if these values are all positive and too far apart for a linear axis."""
    return bool(values) and min(values) > 0 and max(values) > LOG_ABOVE * min(values)


def log_axis(low: float, high: float) -> tuple[Spec, Spec]:
    """Scale and axis from `low` to `high`, with a line at whole powers of ten and few enough of them to be read."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    stride = max(1, math.ceil((last - first + 1) / MOST_TICKS))
    powers = [10.0**power for power in range(first, last + 1, stride)]
    return {"type": "log", "domain": [low, high], "nice": False}, {**NUMBERS, "values": powers}
