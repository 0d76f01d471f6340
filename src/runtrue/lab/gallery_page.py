"""The gallery as one HTML page: a table of all claims, then for each its figure, its verdict, and the rest to unfold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtrue import lab
from runtrue.lab.experiment import Judgement
from runtrue.lab.gallery import Entry, Gallery
from runtrue.lab.page import settings_section, tone
from runtrue.report.blocks import Block, Chart, Code, Facts, Fold, Link, Prose, Section, Table, Tag, Tone
from runtrue.report.html import save_page
from runtrue.report.numbers import count
from runtrue.report.page import render_page

DIGITS = 5
"""Digits of a number in a figure: a tooltip shows three or four, a screen fewer. 17 make a page a fifth larger."""


def write_page(gallery: Gallery, path: Path) -> Path:
    """Write the page to `path`, whole or not at all, and return where it lies. Missing folders are made."""
    return save_page(page(gallery), path, "gallery")


def page(gallery: Gallery) -> str:
    """The whole page as text."""
    return render_page(
        "What the training notes claim, measured",
        subtitle="Every experiment of the laboratory, its claim, and whether the claim held on this machine.",
        status=status(gallery),
        status_text=headline(gallery),
        status_detail=detail(gallery),
        blocks=[summary(gallery), *map(section, gallery.entries)],
        contents=False,  # the table's first column leads to the sections
    )


def status(gallery: Gallery) -> Tone:
    if gallery.held:
        return "good"
    return "bad" if any(not entry.held for entry in gallery.entries) else "neutral"


def headline(gallery: Gallery) -> str:
    """How many claims held, of how many, and which did not."""
    ran = [entry for entry in gallery.entries if entry.experiment]
    kept = sum(entry.held for entry in ran)
    if gallery.held:
        return f"All {len(ran)} claims hold" if len(ran) > 1 else "The claim holds"
    said = [f"{kept} of {count(len(gallery.names), 'claim')} {'holds' if kept == 1 else 'hold'}"]
    said += [f"{entry.name} does not" for entry in ran if not entry.held]
    said += [f"{entry.name} failed" for entry in gallery.failed]
    return "; ".join(said)


def detail(gallery: Gallery) -> str:
    parts = [part for entry in gallery.entries if entry.experiment for part in entry.experiment.judgements]
    kept = sum(part.held for part in parts)
    seconds = sum(entry.seconds for entry in gallery.entries)
    missing = f" Not run yet: {', '.join(gallery.missing)}." if gallery.missing else ""
    return f"{kept} of {count(len(parts), 'part')} of the claims held. It took {seconds:.0f} seconds.{missing}"


def summary(gallery: Gallery) -> Table:
    """A line an experiment; its name leads to its section."""
    rows: list[list[Any]] = [
        [Link(entry.name, entry.name), verdict(entry), round(entry.seconds, 1), lab.EXPERIMENTS.get(entry.name, "")]
        for entry in gallery.entries
    ]
    rows += [[name, Tag("not run"), None, lab.EXPERIMENTS.get(name, "")] for name in gallery.missing]
    return Table(["experiment", "held", "seconds", "claim"], rows, "All experiments")


def verdict(entry: Entry) -> Tag:
    return Tag(entry.outcome, "good" if entry.held else "bad")


def section(entry: Entry) -> Section:
    """One experiment: what was claimed and found, the figure that says most, and all else folded."""
    if entry.experiment is None:
        return failure(entry)
    experiment = entry.experiment
    figure, rest = parted([light(anchored(block, entry.name)) for block in entry.blocks])
    told = Facts({f"{part.code}: {'held' if part.held else 'not held'}": words(part) for part in experiment.judgements})
    settings = anchored(settings_section(experiment), entry.name)
    folded = Fold("The other figures, the numbers, the settings", [*rest, settings])
    return Section(
        experiment.title,
        [Prose(experiment.claim), *figure, told, folded],
        id=entry.name,
        kicker=f"{entry.name}, {entry.seconds:.0f} seconds",
        tags=[verdict(entry)],
        tone=tone(experiment),
    )


def words(part: Judgement) -> str:
    return f"{part.claim} Measured: {part.words}"


def failure(entry: Entry) -> Section:
    """The error, and how to see it alone."""
    again = Code(f"runtrue lab {entry.name}", "The same experiment alone")
    return Section(
        entry.name,
        [Prose(f"It could not be measured: {entry.error}"), again, Fold("Where it failed", [Code(entry.trace)])],
        id=entry.name,
        kicker=f"{entry.name}, {entry.seconds:.0f} seconds",
        tags=[verdict(entry)],
        tone="bad",
    )


def parted(blocks: Sequence[Block]) -> tuple[list[Block], list[Block]]:
    """The first figure, and the other blocks."""
    place = next((place for place, block in enumerate(blocks) if isinstance(block, Chart)), None)
    if place is None:
        return [], list(blocks)
    return [blocks[place]], [*blocks[:place], *blocks[place + 1 :]]


def anchored(block: Block, name: str) -> Block:
    """The block with the anchors in it led by the experiment's name: several experiments have a section `settings`."""
    if isinstance(block, (Section, Fold)):
        block = replace(block, blocks=[anchored(inner, name) for inner in block.blocks])
    return replace(block, id=f"{name}-{block.id}") if isinstance(block, Section) and block.id else block


def light(block: Block) -> Block:
    """The block with the numbers of its figures cut to what can be seen of them."""
    if isinstance(block, (Section, Fold)):
        return replace(block, blocks=list(map(light, block.blocks)))
    return replace(block, spec=rounded(block.spec)) if isinstance(block, Chart) else block


def rounded(value: Any) -> Any:
    """`value` with every fraction in it cut to DIGITS digits that count."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [rounded(inner) for inner in value]
    return value
