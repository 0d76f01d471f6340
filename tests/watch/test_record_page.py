"""The page of a record, and of several: what is said of known numbers, and how it looks in a browser."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import watched

from runtrue.findings import plain
from runtrue.report.blocks import Table
from runtrue.report.theme import ready
from runtrue.watch import compare, layer_maps, run_charts
from runtrue.watch.page import content, headline, page, state
from runtrue.watch.record import Histogram, Reading, Record, Recorder, Stretch, spread, stretch


def charts(html: str) -> dict[str, Any]:
    """By name, as JSON that stands in the page."""
    found = re.findall(r'data-name="([^"]+)">.*?class="spec">(.*?)</script>', html, re.DOTALL)
    return {name: json.loads(text) for name, text in found}


def shown(html: str) -> str:
    """Without the scripts that every page has."""
    return html.split("<script>")[0]


def curve(*losses: float, first: int = 0) -> list[Stretch]:
    return [stretch(first + i, [loss], 0.01) for i, loss in enumerate(losses)]


# The whole page


@pytest.mark.parametrize("make", watched.ALL)
def test_every_record_has_a_page_without_markup_of_its_names(make: Any, tmp_path: Path) -> None:
    html = shown(page(make(tmp_path), watched.HOSTILE))
    assert "<img" not in html and html.count("<script>alert") == 0 and "&lt;img src=x" in html
    assert "NaN" not in "".join(re.findall(r'class="spec">(.*?)</script>', html, re.DOTALL))
    assert len(html) < 1_500_000


@pytest.mark.parametrize("make", watched.ALL)
def test_every_figure_is_valid_vega_lite(make: Any, tmp_path: Path, vega_lite: Any) -> None:
    for name, spec in charts(page(make(tmp_path), "run")).items():
        assert not list(vega_lite.iter_errors(spec))[:1], name


def test_the_worst_verdict_comes_first_and_brings_its_evidence(tmp_path: Path) -> None:
    html = page(watched.faulty(tmp_path), "run")
    told = re.sub(r"<[^>]+>", " ", html.split("</style>")[1])
    places = [
        told.index(words) for words in ("diverging at step 40", "Step 40 · step 41", "Step 30 · first", "Loss by step")
    ]
    assert places == sorted(places), "banner, fault, warning, curves"
    assert "the first 20 of 30" in told and "dead fraction" in told and "inf" in told and "1 note" in told
    assert "The loss has been no number since step 41" in told
    assert "marks 9 losses that were no numbers" in told


def test_the_line_at_the_head() -> None:
    fault, warning, note = (watched.finding("a", kind) | {"step": 7} for kind in ("fault", "warning", "note"))
    steps = curve(1.0)
    assert headline([], [])[:2] == ("neutral", "Nothing is recorded yet")
    assert headline(steps, [])[:2] == headline(steps, [note])[:2] == ("good", "No fault so far")
    assert headline(steps, [warning, note])[:2] == ("neutral", "No fault so far, 1 warning")
    assert headline(steps, [fault, fault, warning])[:2] == ("bad", "a at step 7, and 1 more fault")


def test_how_a_run_stands() -> None:
    assert state({"ended": 5}, 0, 1e9) == "ended"
    assert state({}, 100, 130) == "going on"
    assert state({}, 100, 100 + 7200) == "silent for 2.0 h, and was not closed"


def test_an_ended_run_says_so_and_one_that_is_gone_on_with_does_not(tmp_path: Path) -> None:
    assert "ended" in watched.record(tmp_path).meta
    assert "ended" not in watched.record(tmp_path, [1.0], close=False).meta


def test_a_record_that_nobody_writes_is_read_without_a_trace(tmp_path: Path) -> None:
    made = watched.healthy(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    page(made, "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == before == ["watch.sqlite"]


def test_a_run_that_is_still_written_has_a_page(tmp_path: Path) -> None:
    made = watched.record(tmp_path, [1.0] * 20, close=False)
    assert "not yet, or the run was cut off" in page(made, "run")


# Figures


def test_the_loss_keeps_its_numbers_its_band_and_its_lost_steps() -> None:
    steps = [
        stretch(0, [3.0, 1.0], 0.1),
        stretch(2, [2.0, math.nan], 0.1),
        stretch(4, [math.nan], 0.1),
        stretch(5, [1.0], 0.1),
    ]
    spec = run_charts.loss_band(steps, [watched.finding("x") | {"step": 4}])
    data = spec["datasets"]
    assert [(r["step"], r["loss"], r["low"], r["high"]) for r in data["rows"]] == [
        (0.5, 2, 1, 3),
        (2.5, 2, 2, 2),
        (5, 1, 1, 1),
    ]
    assert data["lost"] == [{"step": 2, "until": 5, "lost": 2}]
    assert data["marks"] == [{"step": 4, "cause": "x", "causes": "x", "line": 0, "grade": "fault"}]
    assert [row["step"] for row in data["frame"]] == [0, 5]


def test_an_axis_of_losses_is_logarithmic_where_it_has_to_be() -> None:
    def scale(*losses: float) -> str:
        layers = run_charts.loss_band(curve(*losses))["layer"]
        return str(layers[0]["encoding"]["y"]["scale"].get("type", "linear"))

    assert scale(2.0, 1.0) == scale(1000.0, -1.0) == scale(0.0, 0.0) == "linear"
    assert scale(2.0, 0.01) == "log"


def test_a_flat_loss_looks_flat() -> None:
    low, high = (row["loss"] for row in run_charts.loss_band(curve(2.0, 2.0))["datasets"]["frame"])
    assert high - low == pytest.approx(0.2)


def test_names_of_verdicts_are_left_out_where_they_would_overlap() -> None:
    marks = [watched.finding(f"cause {i}") | {"step": 10 * i} for i in range(6)]
    lines = [row["line"] for row in run_charts.mark_rows(marks, 100.0)]
    assert lines == [0, 1, 2, run_charts.LINES, run_charts.LINES, 0]


def test_accuracy_shows_the_gap_of_the_epochs_that_have_both() -> None:
    epochs = [{"epoch": 0, "train_accuracy": 0.5, "val_accuracy": 0.4}, {"epoch": 1, "val_accuracy": 0.6}]
    spec = run_charts.by_epoch(epochs, "accuracy")
    assert spec is not None
    assert spec["datasets"]["gaps"] == [{"epoch": 1, "low": 0.4, "high": 0.5}]
    assert [(r["epoch"], r["value"], r["set"]) for r in spec["datasets"]["rows"]] == [
        (1, 0.5, "training"), (1, 0.4, "validation"), (2, 0.6, "validation"),
    ]  # fmt: skip
    assert run_charts.by_epoch(epochs, "loss") is None


def test_groups_with_the_same_rates_are_one_line() -> None:
    spec = run_charts.rates({0: [(0, 0.1)], 1: [(0, 0.1)], 2: [(0, 0.2), (5, 0.3)]}, 9)
    rows = [(row["step"], row["value"], row["name"]) for row in spec["datasets"]["rows"]]
    assert rows == [
        (0, 0.1, "groups 0 to 1"),
        (9, 0.1, "groups 0 to 1"),
        (0, 0.2, "group 2"),
        (5, 0.3, "group 2"),
        (9, 0.3, "group 2"),
    ]
    assert run_charts.grouped([0, 1], 2) == "all groups" and run_charts.grouped([0], 1) == "learning rate"
    assert run_charts.grouped([0, 2, 5, 6, 9], 10) == "groups 0, 2, 5 and 2 more"


def test_a_pause_does_not_press_the_times_flat() -> None:
    steps = [stretch(i, [1.0], 10.0 if i == 3 else 0.01) for i in range(9)]
    rows = run_charts.seconds(steps)["datasets"]["rows"]
    assert rows[3]["ms"] == 10_000 and rows[3]["drawn"] == pytest.approx(run_charts.LONG * 10)


def test_a_map_has_a_row_a_layer_in_the_order_of_the_model() -> None:
    def read(step: int, second: float) -> Reading:
        numbers = {("a", "std"): 1.0, ("b", "std"): 2.0, ("b", "signal_rms"): second, ("a", "signal_rms"): 0.0}
        return Reading(step, 0.0, numbers)

    spec = layer_maps.layer_map([read(0, 0.5), read(10, math.nan)], "signal_rms", "gradient", 19)
    assert spec is not None
    first, second = spec["datasets"]["rows"]
    assert (first["layer"], first["value"]) == ("a", [0.0, 0.0])
    assert (second["layer"], second["value"]) == ("b", [0.5, layer_maps.LOST])
    assert second["step"] == [0, 10] and second["until"] == [10, 20]
    assert layer_maps.layer_map([read(0, 1.0)], "dead_fraction", "dead", 1) is None


def test_a_parameter_that_was_0_has_no_relative_change() -> None:
    first, second = (
        Reading(step, 0.0, {("bias", "update_ratio"): change}) for step, change in ((0, math.inf), (10, 0.5))
    )
    spec = layer_maps.layer_map([first, second], "update_ratio", "change", 19)
    assert spec is not None
    (row,) = spec["datasets"]["rows"]
    assert (row["step"], row["value"]) == ([10], [0.5])


def test_a_deep_network_keeps_its_first_and_last_layer_and_its_weights() -> None:
    names = [f"layers.{i}" for i in range(300)]
    numbers = {(f"{name}.{part}", "grad_norm"): 1.0 for name in names for part in ("weight", "bias")}
    numbers |= {(f"{name}.weight", "grad_mean"): 0.0 for name in names}
    rows = layer_maps.rows_of([Reading(0, 0.0, numbers)], "grad_norm")
    assert len(rows) == layer_maps.MOST_ROWS and rows[0] == "layers.0.weight" and rows[-1] == "layers.299.weight"
    assert all(name.endswith("weight") for name in rows)


def test_histograms_over_depth_and_over_time() -> None:
    found = [Histogram(name, step, 0.0, 4.0, (1, 3, 0, 0)) for name in "ab" for step in (0, 8)]
    by_layer = layer_maps.in_order(found, ["b", "a"])
    assert list(by_layer) == ["b", "a"]
    over_time = layer_maps.over_time(by_layer, 9)
    assert over_time is not None
    row = over_time["datasets"]["rows"][0]
    assert (row["layer"], row["share"], row["low"], row["width"], row["until"]) == (
        "b",
        [0.25, 0.75, 0, 0],
        0.0,
        1.0,
        8,
    )
    over_depth = layer_maps.over_depth(by_layer, 8, 5)
    assert over_depth is not None
    assert [r["share"] for r in over_depth["datasets"]["rows"][:2]] == [0.25, 0.75]
    assert layer_maps.over_depth(by_layer, 3, 5) is None


def test_readings_are_spread_over_the_steps(tmp_path: Path) -> None:
    dense = [*range(0, 1000, 100), *range(1000, 1100)]
    kept = spread(dense, 12)
    assert len(kept) <= 12 and kept[0] == 0 and kept[-1] == 1099 and sum(step < 1000 for step in kept) >= 9
    made = watched.record(tmp_path, [1.0] * 100, every=1)
    assert [read.step for read in made.readings(most=5)][::4] == [0, 99]
    assert len(list(made.readings())) == 100 == len(list(made.readings(most=100)))


def test_shares_that_are_nothing_throughout_are_told_in_words(tmp_path: Path) -> None:
    made = watched.record(tmp_path, [1.0] * 20)
    recorder = Recorder(made.path)
    for step in range(20):
        recorder.reading(Reading(step, 0.0, {("a", "dead_fraction"): 0.0, ("a", "zero_fraction"): 0.5}))
    recorder.close()
    html = page(made, "run")
    assert "0 throughout: the share of dead units." in html
    assert "zero_fraction" in charts(html) and "dead_fraction" not in charts(html)


# Several runs


def test_what_differs_is_told_from_the_records_and_the_settings_beside_them(tmp_path: Path) -> None:
    records = {name: watched.healthy(tmp_path / name) for name in ("a", "b")}
    for name, rate in (("a", 0.1), ("b", 0.2)):
        (tmp_path / name / "config.yaml").write_text(f"net: resnet20\nlr: {rate}\n")
        (tmp_path / name / "run.json").write_text(
            json.dumps({"git": f"rev-{name}", "versions": {"torch": "2"}, "command": [name]})
        )
    (tmp_path / "c").mkdir()
    records["c"] = watched.record(tmp_path / "c", rates={0: [0.5]}, model="Other")
    (tmp_path / "c" / "config.yaml").symlink_to(tmp_path / "a" / "config.yaml")
    (table,) = compare.differences({name: compare.settings(one) for name, one in records.items()})
    assert isinstance(table, Table)
    told = {row[0]: row[1:] for row in table.rows}
    pytest.importorskip("yaml")
    assert told["lr"] == [0.1, 0.2, None], "a link is not followed"
    assert told["git"] == ["rev-a", "rev-b", None] and told["model"] == ["Net", "Net", "Other"]
    assert told["largest learning rate"] == [0.1, 0.1, 0.5]
    assert set(told) == {"lr", "git", "model", "largest learning rate"}, (
        "what all know alike, or one alone knows, is left out"
    )


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "a: [", "\x00", "x" * (compare.LARGEST + 1)])
def test_settings_that_cannot_be_read_are_left_out(text: str, tmp_path: Path) -> None:
    made = watched.record(tmp_path)
    for name in (compare.SETTINGS, compare.FACTS):
        (tmp_path / name).write_text(text)
    assert set(compare.settings(made)) == {"model", "parameters", "torch", "largest learning rate"}


def test_a_comparison_has_a_row_and_a_curve_for_each_run(tmp_path: Path, vega_lite: Any) -> None:
    records = {make.__name__: make(tmp_path / make.__name__) for make in watched.ALL}
    html = shown(compare.comparison({**records, watched.HOSTILE: records["hostile"]}))
    found = charts(html)
    assert {"loss", "loss-by-time", "val_accuracy", "rates"} <= set(found) and "<img" not in html
    assert {row["name"] for row in found["loss"]["datasets"]["rows"]} >= {"healthy", "faulty", "single"}
    for name, spec in found.items():
        assert not list(vega_lite.iter_errors(spec))[:1], name


def test_a_diverging_run_does_not_press_the_others_flat() -> None:
    runs = {"well": curve(2.0, 1.0), "ill": curve(2.0, 1e20)}
    assert [row["value"] for row in run_charts.losses_of(runs)["datasets"]["rows"]] == [2.0, 1.0, 2.0, 6.0]
    assert run_charts.is_cut(runs) and not run_charts.is_cut({"well": runs["well"]})


def test_a_comparison_of_nothing(tmp_path: Path) -> None:
    records: dict[str, Record] = {name: watched.empty(tmp_path / name) for name in "ab"}
    assert "Nothing is recorded yet" in compare.comparison(records)


# In a browser


@pytest.mark.slow
@pytest.mark.parametrize("make", watched.ALL)
@pytest.mark.parametrize("width", [1000, 390])
def test_charts_are_drawn_and_nothing_complains_leaves_or_sticks_out(
    make: Any, width: int, tmp_path: Path, open_page: Any
) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(make(tmp_path / "run"), watched.HOSTILE), encoding="utf-8")
    seen = open_page(path.as_uri(), viewport={"width": width, "height": 800})
    seen.page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    seen.until("[...document.querySelectorAll('.plot')].every(plot => plot.querySelector('svg, canvas'))")
    seen.page.wait_for_timeout(100)
    assert seen.complaints == [] and seen.dialogs == [] and seen.page.locator("img").count() == 0
    assert [url for url in seen.requests if not url.startswith(("file:", "data:"))] == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    wide = (
        "[...document.querySelectorAll('.plot')].filter(p => p.scrollWidth > p.clientWidth + 1).map(p => p.ariaLabel)"
    )
    assert seen.page.evaluate(wide) == []


@pytest.mark.slow
def test_the_page_can_be_used_by_keyboard(tmp_path: Path, open_page: Any) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(watched.faulty(tmp_path / "run"), "run"), encoding="utf-8")
    seen = open_page(path.as_uri())
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.className") == "skip"
    for _ in range(30):
        seen.page.keyboard.press("Tab")
        if seen.page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    seen.page.keyboard.press("Enter")
    assert seen.page.evaluate("document.activeElement.parentElement.open")


def test_content_is_what_the_page_shows(tmp_path: Path) -> None:
    found = content(watched.healthy(tmp_path), "run")
    assert found.said == "No fault so far" and found.subtitle.startswith("Net, 1,234 parameters, started 2023-11-")
    names = [chart.name for block in found.blocks for chart in getattr(block, "blocks", ()) if hasattr(chart, "spec")]
    assert len(set(names)) == len(names), "charts are told apart by their names"
    assert all(
        plain(ready(c.spec, c.alt)) for b in found.blocks for c in getattr(b, "blocks", ()) if hasattr(c, "spec")
    )
