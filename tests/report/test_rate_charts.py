"""The figure of several learning rates: valid, drawn without a browser, every line named, no two names in one place."""

from __future__ import annotations

import json
import math
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtrue.findings import plain
from runtrue.rates import JudgedCurve, RateCurve, judge
from runtrue.report import charts
from runtrue.report.rate_charts import (
    COLOURS,
    HEIGHT,
    LINE,
    Line,
    checked_curve,
    frame,
    pixel,
    placed,
    rate_curves,
    spread,
)
from runtrue.report.theme import ready


def curve(rate: float, *losses: float) -> RateCurve:
    return RateCurve(rate, losses)


def falling(rate: float, to: float, steps: int = 60) -> RateCurve:
    return RateCurve(rate, tuple(to + (2.3 - to) * 0.9**step for step in range(steps)))


FOUR = judge(
    [falling(0.001, 1.9), falling(0.02, 0.2), falling(0.15, 0.8), curve(1.0, *(2.3 + t for t in range(60)))], 2.3
)
MANY = judge([falling(10.0**power, 1.9 + 0.01 * power) for power in range(-5, 4)], 2.3)
LOST = judge([falling(0.01, 0.2), *(curve(rate, 2.3, 1e9, math.nan) for rate in (1.0, 10.0, 100.0, 1e3, 1e4, 1e5))])
DECADES = judge([falling(0.1, 1e-6, 200), falling(0.001, 1.0, 200), curve(9.0, *(2.3 * 1.2**t for t in range(200)))])
FIGURES = {
    "four": rate_curves(FOUR, 2.3),
    "constant not known": rate_curves(FOUR),
    "many": rate_curves(MANY, 2.3),
    "lost": rate_curves(LOST, 2.3),
    "all lost at once": rate_curves([JudgedCurve(0.1, (math.nan,), "very high", "")]),
    "decades": rate_curves(DECADES, 2.3),
    "negative": rate_curves(judge([curve(0.1, *(-float(t) for t in range(30))), curve(0.2, *[0.0] * 30)])),
    "check": checked_curve(FOUR[1], falling(0.02, 0.1, 180).losses, 2.3),
}


@pytest.mark.parametrize("name", FIGURES)
def test_valid_and_drawn_without_a_browser(name: str, vega_lite: Any) -> None:
    vega_lite.validate(json.loads(json.dumps(plain(ready(FIGURES[name], "words")), allow_nan=False)))
    svg = charts.inline_svg(FIGURES[name])
    assert svg.startswith("<svg") and "<script" not in svg
    assert not [shape for shape in re.findall(r' (?:d|x2|y2|transform)="([^"]*)"', svg) if "NaN" in shape]


def texts(spec: dict[str, Any]) -> list[str]:
    rows = [row for layer in spec["layer"] for row in layer.get("data", {}).get("values", [])]
    return list(dict.fromkeys(row["name"] for row in rows if "name" in row))


def test_every_line_is_named_by_rate_and_verdict() -> None:
    assert texts(FIGURES["four"]) == ["constant guess", "0.001 low", "0.15 high", "0.02 good", "1 very high"]
    assert "constant guess" not in texts(FIGURES["constant not known"])
    assert texts(FIGURES["lost"])[-1] == "1, 10, …, 1e5 very high"
    drawn = charts.inline_svg(FIGURES["four"])
    assert all(f">{name}<" in drawn for name in texts(FIGURES["four"]))


def test_a_line_has_the_colour_of_its_verdict() -> None:
    bold = [layer["mark"] for layer in FIGURES["four"]["layer"] if layer["mark"].get("strokeWidth") == 2.25]
    assert [mark["color"] for mark in bold] == [COLOURS[kind] for kind in ("low", "good", "high", "very high")]
    assert all(mark["clip"] for mark in bold)


def test_bands_only_where_they_do_not_hide_each_other() -> None:
    def bands(name: str) -> int:
        return sum(layer["mark"].get("opacity") == 0.28 for layer in FIGURES[name]["layer"])

    assert (bands("four"), bands("many")) == (4, 0)


def scale(name: str) -> dict[str, Any]:
    y = next(layer["encoding"]["y"] for layer in FIGURES[name]["layer"] if "field" in layer["encoding"]["y"])
    return dict(y["scale"])


def test_what_rises_leaves_the_frame_and_the_others_fill_it() -> None:
    low, high = scale("four")["domain"]
    assert low == 0 and 2.3 * 1.2 < high < 2.3 * 1.5
    assert scale("decades")["type"] == "log" and scale("four")["type"] == "linear"
    low, high = scale("decades")["domain"]
    assert low < 1e-6 and 2.3 < high < 2.3e2


def test_a_mean_starts_where_the_loss_does() -> None:
    line = Line("x", "#000", [8.0, 4.0, 2.0, *[1.0] * 97], lost=False)
    assert line.mean[0] == 8.0 and line.mean[1] == pytest.approx(14 / 3) and line.mean[50] == 1.0
    assert len(line.mean) == 100


@given(st.lists(st.floats(0, HEIGHT), max_size=15))
def test_names_stand_apart_and_in_order(ends: list[float]) -> None:
    found = spread(sorted(ends))
    assert all(low - high >= LINE - 1e-9 for high, low in pairwise(found))
    assert all(place <= HEIGHT + 1e-9 for place in found)


def test_a_name_alone_stands_at_its_line() -> None:
    y = frame([Line("x", "#000", [2.0, 1.0], lost=False)], [])
    (label,) = placed([("x", "#000", 1.0)], y)
    assert label["from"] == label["to"] == pytest.approx(pixel(1.0, y))
    low, high = y["scale"]["domain"]
    assert pixel(high, y) == 0 and pixel(low, y) == HEIGHT and pixel(1e9, y) == 0


def test_the_check_stands_beside_the_curve_it_checks() -> None:
    rows = FIGURES["check"]["data"]["values"]
    assert rows[59].keys() == {"step", "a", "b"} and rows[-1].keys() == {"step", "b"} and rows[-1]["step"] == 179
    assert "0.02 in the sweep" in charts.inline_svg(FIGURES["check"])
