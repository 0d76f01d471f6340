"""The text report: what it says, in which order, on which console."""

from __future__ import annotations

import io
from typing import Any

import pytest
import report_samples as samples
from rich.console import Console

from runtrue.report.drawing import bar, folded, fractions, sparklines, thinned
from runtrue.report.text import print_report, render


def terminal(**options: Any) -> Console:
    settings: dict[str, Any] = {"force_terminal": True, "color_system": "truecolor", "width": 80, **options}
    return Console(file=io.StringIO(), legacy_windows=False, _environ={}, **settings)


def test_the_fault_is_told_from_cause_to_proof() -> None:
    text = render(samples.faulty())
    said = [
        "1 fault: init-too-small",
        "where: net.0 to net.18",
        "The signal dies on its way",
        "std last   4.096e-7",
        "net.18  4.096e-7",
        "explains: vanishing-gradient:",
        "Cure: Kaiming initialization (safe)",
        "\nfor layer in model.modules():\n    if isinstance(layer, nn.Linear):\n",
        "Proof: cured",
        "same 60 steps on the same batches",
        "loss 2.303 -> 2.303",
        "loss 2.31 -> 0.421",
        "Warnings (suspected, not verified)",
        "class-imbalance",
        "Notes",
        "repeated-examples",
    ]
    places = [text.index(words) for words in said]
    assert places == sorted(places)


def test_a_healthy_report_shows_what_was_measured() -> None:
    text = render(samples.healthy())
    assert "No fault found" in text and "2.31 -> 0.4" in text and "net.10  0.687" in text
    assert "Cure" not in text


@pytest.mark.parametrize("make", samples.ALL)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_page(make: Any, width: int) -> None:
    code = {line for fault in make().faults for line in fault.remedy.code.splitlines()}
    lines = render(make(), width=width).splitlines()
    assert [line for line in lines if len(line) > width and line not in code] == []
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("make", samples.ALL)
def test_no_escape_character_of_a_users_string_gets_through(make: Any) -> None:
    assert "\x1b" not in render(make())


def test_a_users_string_is_never_read_as_markup() -> None:
    assert "[red]x[/]" in render(samples.hostile())
    assert "[red]x[/]" in render(samples.hostile(), terminal(color_system=None))


def test_colour_on_a_terminal_and_none_in_a_pipe_or_with_no_color() -> None:
    assert "\x1b[1;31m" in render(samples.faulty(), terminal())
    assert "\x1b[" not in render(samples.faulty(), Console(file=io.StringIO(), width=80, _environ={}))
    assert "\x1b[1;31m" not in render(samples.faulty(), terminal(no_color=True))


def test_highlighted_code_is_the_code() -> None:
    console = terminal(color_system=None)
    assert samples.CODE in render(samples.faulty(), console)


def test_a_console_without_unicode_gets_ascii() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="cp1252")
    print_report(samples.deep(), Console(file=file, width=80, _environ={}))
    file.flush()
    assert raw.getvalue().isascii() and b"####" in raw.getvalue()


def test_many_layers_are_folded_and_stay_distinct() -> None:
    rows = [line for line in render(samples.deep(), width=80).splitlines() if "conv" in line]
    assert len(rows) == 14 and len({row.split()[0] for row in rows}) == 14
    assert "36 layers more" in render(samples.deep())


def test_a_loss_that_left_the_numbers_is_marked() -> None:
    text = render(samples.broken())
    assert "×××" in text and "loss 2.3 -> nan" in text
    assert "conv2 (2)  nan" in text


def test_bars_are_proportional_or_logarithmic() -> None:
    assert fractions([1.0, 2.0, 4.0, float("nan"), None]) == [0.25, 0.5, 1.0, None, None]
    low, middle, high, zero = fractions([1e-6, 1e-3, 1.0, 0.0])
    assert low and middle and high == 1.0 and zero == 0.0
    assert high - middle == pytest.approx(middle - low)
    assert (
        bar(0.5, 4, unicode=True) == "██"
        and bar(0.3125, 4, unicode=True) == "█▎"
        and bar(1.0, 4, unicode=False) == "####"
    )


def test_sparklines_share_one_scale() -> None:
    first, second = sparklines([[0.0, 1.0], [1.0, float("inf")]], 10, unicode=True)
    assert (first, second) == ("▁█", "█×")
    assert thinned([1.0, 3.0, 5.0, 7.0], 2) == [2.0, 6.0]
    assert sparklines([[], []], 10, unicode=True) == ["", ""]


def test_folding_keeps_both_ends() -> None:
    assert [*map(list, folded(3, 14))] == [[0, 1, 2], []]
    assert [*map(list, folded(10, 5))] == [[0, 1, 2], [8, 9]]
