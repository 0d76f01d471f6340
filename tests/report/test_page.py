"""The page as text: whole, offline, and with every name inert."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import report_samples as samples

from runtrue.report.html import notebook_fragment, page, write_page
from runtrue.report.page import (
    Block,
    Chart,
    Code,
    Facts,
    Fold,
    Link,
    Prose,
    Section,
    Table,
    Tag,
    render_fragment,
    render_page,
)

LOADS = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


class Reader(HTMLParser):
    """Collects the elements of a page, the scripts in it, and whatever it would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in LOADS]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and self.scripts:
            self.scripts[-1] += data


@pytest.mark.parametrize("make", samples.ALL)
def test_a_page_is_one_file_under_two_megabytes(make: Any) -> None:
    html = page(make())
    assert len(html.encode()) < 2_000_000
    assert [link for link in Reader(html).loads if not link.startswith(("#", "data:"))] == []
    assert not re.search(r"@import|url\(", html.split("</style>")[0])


@pytest.mark.parametrize("make", samples.ALL)
def test_no_name_makes_an_element_or_a_handler(make: Any) -> None:
    read = Reader(page(make()))
    charts = read.tags.count("figure")
    assert read.handlers == [] and "img" not in read.tags
    assert len(read.scripts) <= 2 + charts
    assert not any("alert(" in script for script in read.scripts if "vega" not in script and not script.startswith("{"))


def test_charts_stand_in_the_page_as_json() -> None:
    specs = [script for script in Reader(page(samples.hostile())).scripts if script.startswith("{")]
    assert len(specs) >= 3
    for script in specs:
        assert json.loads(script)["config"] and not set("<>&\u2028") & set(script)


def test_the_fragment_is_small_and_without_scripts() -> None:
    for make in samples.ALL:
        fragment = notebook_fragment(make())
        read = Reader(fragment)
        assert len(fragment) < 100_000 and not {"script", "img"} & set(read.tags)
        assert read.handlers == [] and read.loads == []
    assert "Kaiming" in notebook_fragment(samples.faulty()) and "<svg" in notebook_fragment(samples.healthy())


def test_the_page_tells_cause_cure_and_proof() -> None:
    html = page(samples.faulty())
    for words in ("1 fault: init-too-small", "Kaiming initialization", "same 60 steps", "class-imbalance", "235,146"):
        assert words in html
    assert "No fault found" in page(samples.healthy())


def test_every_kind_of_block_is_shown_and_escaped() -> None:
    evil = samples.HOSTILE
    blocks: list[Block] = [
        Prose(f"{evil} `{evil}`\n\nsecond"),
        Code(evil, evil),
        Table([evil, "n"], [[evil, 1.5], [None, float("nan")]], evil),
        Facts({evil: evil}),
        Fold(evil, [Section(evil, [Chart({"mark": "point", "data": {"values": [{"x": evil}]}}, evil, evil)])]),
    ]
    html = render_page(evil, subtitle=evil, status="neutral", status_text=evil, status_detail=evil, blocks=blocks)
    assert evil not in html and html.count("&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;") >= 14
    assert '<td class="number">1.5</td>' in html and '<td class="number">nan</td>' in html


def test_a_cell_may_lead_to_a_section_or_be_a_tag_and_is_escaped() -> None:
    table = Table(["a", "b"], [[Link("<go>", "there"), Tag("<held>", "good")]])
    html = render_page("p", blocks=[table, Section("There", [Prose("words")], id="there")])
    assert '<td><a href="#there">&lt;go&gt;</a></td>' in html
    assert '<td><span class="tag good">&lt;held&gt;</span></td>' in html
    still = render_fragment("p", status="good", status_text="s", blocks=[table])
    assert "<td>&lt;go&gt;</td>" in still, "a cell of a notebook has no anchors"


def test_the_contents_can_be_left_out() -> None:
    sections = [Section(name, [Prose("words")], id=name) for name in ("a", "b", "c")]
    assert "<nav" in render_page("p", blocks=sections)
    assert "<nav" not in render_page("p", blocks=sections, contents=False)


def test_a_page_without_charts_carries_no_chart_library() -> None:
    assert len(render_page("plain", blocks=[Prose("words")])) < 40_000


def test_write_page_makes_folders_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "report.html"
    assert write_page(samples.healthy(), target) == target
    assert samples.healthy().to_html(target) == target
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write the report.*file"):
        write_page(samples.healthy(), tmp_path / "file" / "report.html")
    with pytest.raises(IsADirectoryError, match="cannot write the report"):
        write_page(samples.healthy(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
