"""One self-contained page: no request leaves it, it is light or dark as the reader is, and no name injects markup.

Every string passes Jinja's autoescape; chart data stands in the page as JSON with `<`, `>` and `&` escaped. The charts
run in Vega's expression interpreter, so that the page's security policy needs no `eval`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from runtrue.findings import plain
from runtrue.report.blocks import (
    Block,
    Chart,
    Code,
    Facts,
    Fold,
    Link,
    Picture,
    Prose,
    Section,
    Sheet,
    Stat,
    Stats,
    Table,
    Tag,
    Tone,
)
from runtrue.report.charts import inline_svg
from runtrue.report.numbers import clean, is_number, one_line, shown
from runtrue.report.theme import ready

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "Block",
    "Chart",
    "Code",
    "Facts",
    "Fold",
    "Link",
    "Picture",
    "Prose",
    "Section",
    "Sheet",
    "Stat",
    "Stats",
    "Table",
    "Tag",
    "render_fragment",
    "render_page",
]


def render_page(
    title: str,
    *,
    subtitle: str = "",
    status: Tone = "neutral",
    status_text: str = "",
    status_detail: str = "",
    blocks: Sequence[Block] = (),
    contents: bool = True,
) -> str:
    """A whole page. `status` colours the banner that `status_text` stands in, `status_detail` the line under it.
    `contents`: list the sections that have an anchor at the head, if there are more than two."""
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            subtitle=subtitle,
            status=status,
            status_text=status_text,
            status_detail=status_detail,
            blocks=blocks,
            contents=anchored(blocks) if contents else [],
            vega=vega_bundle() if has_chart(blocks) else None,
        )
    )


def anchored(blocks: Sequence[Block]) -> list[Section]:
    """The sections that the head of the page may lead to."""
    return [block for block in blocks if isinstance(block, Section) and block.id]


def render_fragment(title: str, *, status: Tone, status_text: str, blocks: Sequence[Block]) -> str:
    """The same blocks for a notebook's output cell: small, with the charts as drawings and no script."""
    template = environment().get_template("fragment.html.j2")
    return template.render(title=title, status=status, status_text=status_text, blocks=blocks)


def has_chart(blocks: Iterable[Block]) -> bool:
    inside = (block.blocks for block in blocks if isinstance(block, (Section, Fold)))
    return any(isinstance(block, Chart) for block in blocks) or any(map(has_chart, inside))


@cache
def environment() -> Environment:
    """The templates of this folder, with autoescape on for all of them."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("runtrue", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "shown": shown,
        "clean": clean,
        "one_line": one_line,
        "paragraphs": paragraphs,
        "code_spans": code_spans,
        "chart_json": chart_json,
        "chart_svg": chart_svg,
    }
    made.tests["number"] = is_number
    made.tests["link"] = lambda cell: isinstance(cell, Link)
    made.tests["tag"] = lambda cell: isinstance(cell, Tag)
    return made


def paragraphs(text: str) -> list[str]:
    return [part for part in re.split(r"\n\s*\n", clean(text).strip()) if part]


def code_spans(text: str) -> list[tuple[bool, str]]:
    """(is code, words) for each piece of `text`, parted at pairs of backticks."""
    pieces = re.split(r"`([^`\n]+)`", text)
    return [(place % 2 == 1, piece) for place, piece in enumerate(pieces) if piece]


def chart_json(chart: Chart) -> Any:
    """The chart's specification as JSON that may stand inside a script element."""
    from jinja2.utils import htmlsafe_json_dumps

    return htmlsafe_json_dumps(plain(ready(chart.spec, chart.alt)), allow_nan=False)


def chart_svg(chart: Chart) -> Any:
    """The chart as an SVG element. Vega escapes the strings that it draws."""
    from markupsafe import Markup

    return Markup(inline_svg(chart.spec, chart.alt))


@cache
def vega_bundle() -> Any:
    """Vega, Vega-Lite and vega-embed in one script, as vl-convert carries them."""
    import vl_convert
    from markupsafe import Markup

    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return Markup(re.sub(r"</(?=script)", r"<\\/", script, flags=re.IGNORECASE))
