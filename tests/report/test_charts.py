"""The figures: valid Vega-Lite, the right marks in the right places, drawn without a browser."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import report_samples as samples

from runtrue.findings import plain
from runtrue.report import charts
from runtrue.report.numbers import layer_names, short_names
from runtrue.report.theme import ready

HISTOGRAMS = [{"layer": f"tanh {n}", "counts": [1, 2, 1], "edges": [-1.0, -0.5, 0.5, 1.0]} for n in range(3)]
ODD = samples.broken().measured.layers
FIGURES = {
    "two losses": charts.loss_curves(samples.flat(), samples.falling(), 2.302),
    "one loss": charts.loss_curves(samples.falling()),
    "a lost loss": charts.loss_curves(samples.broken().measured.curve, samples.falling(), 2.302),
    "no finite loss": charts.loss_curves((math.nan, math.nan), (math.inf,)),
    "negative losses": charts.loss_curves((-1.0, -2.0), (-1.0, -300.0), -1.5),
    "empty": charts.loss_curves(()),
    "layers": charts.by_layer(samples.layers()),
    "layers before and after": charts.by_layer(samples.layers(), after=samples.layers(shrink=0.9)),
    "odd layers": charts.by_layer(ODD),
    "odd gradients": charts.by_layer(ODD, "grad_norm"),
    "no layers": charts.by_layer(()),
    "mean and spread": charts.mean_and_spread(samples.layers()),
    "histograms": charts.histograms_by_layer(HISTOGRAMS),
    "hostile": charts.by_layer(samples.hostile().measured.layers),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_valid_vega_lite(name: str, vega_lite: Any) -> None:
    spec = json.loads(json.dumps(plain(ready(FIGURES[name], "words")), allow_nan=False))
    vega_lite.validate(spec)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_without_a_browser(name: str) -> None:
    svg = charts.inline_svg(FIGURES[name])
    assert svg.startswith("<svg") and "<script" not in svg
    assert not [shape for shape in re.findall(r' (?:d|x2|y2|transform)="([^"]*)"', svg) if "NaN" in shape]
    assert ' id="' not in svg, "an id would clash when a notebook shows two reports"


def test_a_loss_axis_is_logarithmic_above_two_decades_only() -> None:
    def scale(*losses: float) -> str:
        return str(charts.loss_axis(losses)["scale"]["type"])

    assert (scale(1.0, 99.0), scale(1.0, 101.0), scale(-1.0, 101.0), scale()) == ("linear", "log", "linear", "linear")


def test_a_trembling_loss_looks_flat() -> None:
    low, high = charts.loss_axis([2.3, 2.301])["scale"]["domain"]
    assert high - low == pytest.approx(0.1 * 2.301)


def test_the_line_stops_and_a_cross_stands_where_the_loss_was_lost() -> None:
    spec = charts.loss_curves((1.0, 2.0, math.nan, 3.0), (1.0, 0.5, 0.4, 0.3))
    assert [row.get("a") for row in spec["data"]["values"]] == [1.0, 2.0, None, None]
    (cross,) = [layer for layer in spec["layer"] if layer["mark"].get("shape") == "cross"]
    assert cross["data"]["values"] == [{"step": 1, "loss": 2.0, "what": "untreated: nan from step 2 on"}]


def test_long_curves_are_thinned_and_keep_their_end() -> None:
    rows = charts.loss_curves(tuple(float(step) for step in range(10_000)))["data"]["values"]
    assert len(rows) <= charts.MOST_POINTS + 1
    assert rows[-1] == {"step": 9999, "a": 9999.0}


def test_zeros_and_what_is_not_finite_stand_at_the_edges() -> None:
    spec = charts.by_layer(ODD)
    low, high = spec["encoding"]["x"]["scale"]["domain"]
    marks = {row["name"]: (row["state"], row["at"], row["shown"]) for row in spec["data"]["values"]}
    assert marks == {
        "conv1": ("finite", 1.0, "1"),
        "conv2": ("zero", low, "0"),
        "conv2 (2)": ("not finite", high, "nan"),
        "fc": ("finite", 1e8, "1e+8"),
    }


def test_layers_come_in_depth_order_and_are_told_apart() -> None:
    twice = [{"layer": "b"}, {"layer": "a"}, {"layer": "b"}]
    assert layer_names(twice) == ["b", "a", "b (2)"]
    assert charts.by_layer(samples.layers())["encoding"]["y"]["sort"][:2] == ["net.0", "net.2"]


def test_long_names_lose_what_they_share() -> None:
    names = ["backbone.layer1.0.conv1.weight", "backbone.layer1.1.conv1.weight"]
    assert short_names(names) == ["0", "1"]
    assert short_names(["net.0", "net.2"]) == ["net.0", "net.2"]
    assert short_names(["a" * 40, "a" * 39 + "b"], 10) == ["aaaa…aaaaa", "aaaa…aaaab"]


def test_a_histogram_counts_shares_of_its_own_layer() -> None:
    rows = charts.histograms_by_layer(HISTOGRAMS)["data"]["values"]
    assert [row["share"] for row in rows[:3]] == [0.25, 0.5, 0.25]
    with pytest.raises(ValueError, match="3 counts need 4 edges, not 3"):
        charts.histograms_by_layer([{"layer": "x", "counts": [1, 1, 1], "edges": [0, 1, 2]}])


def test_a_chart_is_saved_as_png_or_svg(tmp_path: Path) -> None:
    png = charts.save(FIGURES["two losses"], tmp_path / "loss.png").read_bytes()
    assert png.startswith(b"\x89PNG") and int.from_bytes(png[16:20], "big") > 1000
    assert charts.save(FIGURES["layers"], tmp_path / "layers.svg").read_text(encoding="utf-8").startswith("<svg")
    with pytest.raises(ValueError, match=r"as \.png or \.svg, not as 'loss.pdf'"):
        charts.save(FIGURES["layers"], tmp_path / "loss.pdf")
