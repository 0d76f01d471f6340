"""Builds the page of causes from the register of checks, so that text and code cannot drift apart."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import dedent
from typing import Any

from runtrue.checks import CHECKS
from runtrue.findings import CAUSES

PAGE = "causes.md"
MARKER = "<!-- causes -->"
WATCHED = "It is found while a network trains, by `watch`."


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by MkDocs for each page before it is rendered. Raises ValueError if the page of causes lost its marker."""
    if page.file.src_uri != PAGE:
        return markdown
    if MARKER not in markdown:
        raise ValueError(f"docs/{PAGE} must hold the line {MARKER}, which the list of causes replaces")
    return markdown.replace(MARKER, "\n".join(causes()))


def causes() -> Iterator[str]:
    """Markdown: a heading for each stage, and one for each cause with what its check says of itself."""
    for stage, ids in CAUSES.items():
        yield f"\n## {stage.capitalize()}\n"
        for cause in ids:
            yield f"\n### `{cause}`\n"
            yield text_of(cause)


def text_of(cause: str) -> str:
    """The docstring of the check's judge: evidence, threshold, source."""
    check = CHECKS.get(cause)
    if check is None:
        return WATCHED if cause in CAUSES["during a run"] else "It has no check of its own."
    first, _, rest = check.explanation.partition("\n")
    return f"{first}\n{dedent(rest)}"
