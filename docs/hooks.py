"""Builds the page of causes from the registers of checks and remedies, so that text and code cannot drift apart."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from runtrue.checks import CHECKS
from runtrue.findings import CAUSES
from runtrue.remedies import REMEDIES

PAGE = "causes.md"
MARKER = "<!-- causes -->"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by MkDocs for each page before it is rendered. Raises ValueError if the page of causes lost its marker."""
    if page.file.src_uri != PAGE:
        return markdown
    if MARKER not in markdown:
        raise ValueError(f"docs/{PAGE} must hold the line {MARKER}, which the list of causes replaces")
    return markdown.replace(MARKER, "\n".join(causes()))


def causes() -> Iterator[str]:
    """Markdown: a heading for each stage, one for each cause with a check; then the ids that are reserved."""
    for stage, ids in CAUSES.items():
        checked = [cause for cause in ids if cause in CHECKS]
        if checked:
            yield f"\n## {stage.capitalize()}\n"
        for cause in checked:
            yield f"\n### `{cause}`\n\n{CHECKS[cause].explanation}\n"
            yield remedies(cause)
    reserved = [cause for ids in CAUSES.values() for cause in ids if cause not in CHECKS]
    if reserved:
        yield "\n## Reserved\n\nThese ids are taken, and this version has no check for them:"
        yield ", ".join(f"`{cause}`" for cause in reserved) + "."


def remedies(cause: str) -> str:
    """What each remedy does, in the order in which they are tried."""
    told = [
        inspect.cleandoc(propose.__doc__ or propose.__name__.replace("_", " ")) for propose in REMEDIES.get(cause, [])
    ]
    if not told:
        return "*Remedies:* none that can be tried; the report says what to look at.\n"
    if len(told) == 1:
        return f"*Remedy:* {told[0]}\n"
    return "*Remedies, in this order:*\n\n" + "\n".join(f"1. {' '.join(text.split())}" for text in told) + "\n"
