"""The page as a reader meets it: in a browser, light and dark, on a phone, with a pointer."""

from __future__ import annotations

import re
from typing import Any

import pytest
import report_samples as samples

from runtrue.report.charts import histograms_by_layer
from runtrue.report.html import page
from runtrue.report.page import Chart, render_page

pytestmark = pytest.mark.slow

INK = "getComputedStyle(document.querySelector('.plot .mark-text text')).fill"
GROUND = "getComputedStyle(document.body).backgroundColor"


def brightness(colour: str) -> float:
    """Mean of red, green and blue of a CSS colour such as rgb(1, 2, 3)."""
    red, green, blue = map(int, re.findall(r"\d+", colour)[:3])
    return (red + green + blue) / 3


@pytest.mark.parametrize("make", samples.ALL)
def test_charts_are_drawn_and_nothing_complains_or_leaves(make: Any, look: Any) -> None:
    seen = look(page(make()))
    assert seen.complaints == [] and seen.dialogs == []
    assert [url for url in seen.requests if not url.startswith(("file:", "data:"))] == []
    plots = seen.page.locator(".plot").count()
    assert plots >= 3 and seen.page.locator(".plot svg").count() == plots


def test_hostile_names_are_seen_and_do_nothing(look: Any) -> None:
    seen = look(page(samples.hostile()))
    assert samples.HOSTILE in seen.page.locator("h1").inner_text()
    assert seen.page.locator("img").count() == 0
    mark = seen.page.locator(".plot svg .mark-symbol path").first
    mark.hover()
    tip = seen.page.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    assert samples.HOSTILE in tip.inner_text() and tip.locator("script").count() == 0
    assert seen.dialogs == [] and seen.complaints == []


def test_a_tooltip_tells_both_losses_of_a_step(look: Any) -> None:
    seen = look(page(samples.faulty()))
    chart = seen.page.locator("figure", has_text="treated").locator("svg").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    for share in (0.4, 0.5):
        seen.page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
    tip = seen.page.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    assert re.search(r"step\s+\d+\s+untreated\s+2\.30\d*\s+treated\s+\d", tip.inner_text())


def test_the_page_turns_dark_while_it_is_open(look: Any) -> None:
    seen = look(page(samples.faulty()), color_scheme="light")
    assert brightness(seen.page.evaluate(GROUND)) > 230 > 130 > brightness(seen.page.evaluate(INK))
    seen.page.emulate_media(color_scheme="dark")
    assert brightness(seen.page.evaluate(GROUND)) < 40 < 130 < brightness(seen.page.evaluate(INK))


@pytest.mark.parametrize("make", samples.ALL)
def test_nothing_sticks_out_on_a_phone(make: Any, look: Any) -> None:
    seen = look(page(make()), viewport={"width": 390, "height": 800})
    seen.page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
    cut = """[...document.querySelectorAll('.plot text')].filter(text => text.textContent &&
        text.getBoundingClientRect().right > text.closest('.plot').getBoundingClientRect().right + 4).length"""
    assert seen.page.evaluate(cut) == 0
    wide = "[...document.querySelectorAll('.plot')].filter(p => p.scrollWidth > p.clientWidth + 1).length"
    assert seen.page.evaluate(wide) == 0


def test_small_multiples_take_as_many_columns_as_fit(look: Any) -> None:
    layers = [{"layer": f"tanh {n}", "counts": [1, 2, 1], "edges": [-1.0, -0.5, 0.5, 1.0]} for n in range(4)]
    html = render_page("lab", blocks=[Chart(histograms_by_layer(layers), "Histograms")])
    narrow, wide = (look(html, viewport={"width": width, "height": 800}) for width in (390, 1000))
    heights = [seen.page.locator(".plot svg").bounding_box()["height"] for seen in (narrow, wide)]
    assert heights[0] > 1.5 * heights[1]
    assert narrow.complaints == wide.complaints == []


def test_the_copy_button_copies_the_code(look: Any) -> None:
    seen = look(page(samples.faulty()), permissions=["clipboard-read", "clipboard-write"])
    seen.page.locator(".copy").first.click()
    seen.page.locator(".copy", has_text="Copied").wait_for()
    assert seen.page.evaluate("navigator.clipboard.readText()") == samples.CODE
