"""A report as one HTML page, or as the output of a notebook cell."""

from __future__ import annotations

import os
from pathlib import Path

from runtrue.report import Report
from runtrue.report.content import brief_blocks, headline, report_blocks
from runtrue.report.page import render_fragment, render_page


def page(report: Report) -> str:
    """The whole page as text."""
    status, verdict, detail = headline(report)
    return render_page(
        f"Will {report.name} train?",
        status=status,
        status_text=verdict,
        status_detail=detail,
        blocks=report_blocks(report),
    )


def notebook_fragment(report: Report) -> str:
    """The report for a notebook's output cell: drawings instead of scripts, a few kilobytes."""
    status, verdict, _ = headline(report)
    return render_fragment(report.name, status=status, status_text=verdict, blocks=brief_blocks(report))


def write_page(report: Report, path: Path) -> Path:
    """Write the page to `path`, whole or not at all, and return where it lies. Missing folders are made."""
    return save_page(page(report), Path(path), "report")


def save_page(text: str, path: Path, what: str) -> Path:
    """A page to its place. Raises OSError that says what could not be written, and why."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
    except OSError as error:
        raise OSError(error.errno, f"cannot write the {what}: {error.strerror}", str(path)) from error
    return path


def replace_text(target: Path, text: str) -> None:
    """Write beside the target, then move into its place: a reader never sees half a file."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
