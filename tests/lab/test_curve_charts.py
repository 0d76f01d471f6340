"""Lines with the band of their seeds: means, bands, and what is left out."""

from __future__ import annotations

import math

from runtrue.lab.curve_charts import SeedLine, as_cell, by_epoch, seed_lines, span, x_axis


def test_rows_are_means_with_the_span_of_the_seeds() -> None:
    line = SeedLine("a", "#000", [(1.0, [0.2, 0.4]), (2.0, [math.nan, 0.5]), (3.0, [math.nan])])
    assert line.rows("v") == [
        {"x": 1.0, "line": "a", "v": 0.30000000000000004, "v_low": 0.2, "v_high": 0.4},
        {"x": 2.0, "line": "a", "v": 0.5, "v_low": 0.5, "v_high": 0.5},
    ]


def test_a_run_that_stopped_early_ends_its_part_of_the_line() -> None:
    line = by_epoch("a", "#000", [[0.1, 0.2, 0.3], [0.3]])
    assert line.points == [(1.0, [0.1, 0.3]), (2.0, [0.2]), (3.0, [0.3])]
    assert by_epoch("none", "#000", []).points == []


def test_the_axis_holds_all_there_is() -> None:
    def domain(values: list[float], levels: tuple[float, ...] = ()) -> list[float]:
        found: list[float] = span("accuracy", [SeedLine("a", "#000", [(1, values)])], levels)["scale"]["domain"]
        return found

    assert domain([0.12, 0.97]) == [0.1, 1.0] and domain([0.811, 0.829]) == [0.8, 0.84]
    assert domain([0.811, 0.829], (0.79,)) == [0.78, 0.84]
    assert domain([]) == [0.0, 1.0]


def test_the_figure_has_a_band_and_a_line_a_name_and_a_label_each() -> None:
    lines = [SeedLine("a", "#111", [(1, [0.1]), (2, [0.2])]), SeedLine("empty", "#222", [])]
    spec = seed_lines(lines, x_axis("epoch", [1, 2]), span("accuracy", lines), [("level", 0.15)])
    assert [layer["mark"]["type"] for layer in spec["layer"]] == [
        "area",
        "area",
        "line",
        "line",
        "rule",
        "rule",
        "text",
    ]
    names = [label["name"] for label in spec["layer"][-1]["data"]["values"]]
    assert sorted(names) == ["a", "level"]


def test_cells() -> None:
    assert as_cell("val_accuracy", 0.8249) == "82.5%" and as_cell("gap_spread", 0.01) == "1.0%"
    assert as_cell("val_loss", 0.5) == 0.5 and as_cell("error", math.nan) != "nan%" and as_cell("run", "good") == "good"
