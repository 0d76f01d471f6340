"""An experiment as one HTML page, or as the output of a notebook cell."""

from __future__ import annotations

from pathlib import Path

from runtrue.lab.experiment import Experiment, Judgement
from runtrue.report.blocks import Block, Chart, Facts, Prose, Section, Tag, Tone
from runtrue.report.html import save_page
from runtrue.report.page import render_fragment, render_page


def page(experiment: Experiment) -> str:
    """The whole page as text: verdict, claim, the main figure, what was claimed and found, a section a series, settings."""
    return render_page(
        experiment.title,
        subtitle=experiment.claim,
        status=tone(experiment),
        status_text=headline(experiment),
        status_detail=f"Experiment {experiment.experiment}: {experiment.notes_code} of the training notes.",
        blocks=[*experiment.draw(experiment), settings_section(experiment)],
    )


def settings_section(experiment: Experiment) -> Section:
    facts = Facts({name: said(value) for name, value in experiment.settings.items()})
    return Section("Settings", [facts], id="settings")


def part_section(part: Judgement, heading: str, claim: str) -> Section:
    """One part of the claim: what was claimed, what was measured, and whether that held."""
    return Section(
        heading,
        [Prose(f"{claim}\n\nMeasured: {part.words}")],
        id=part.code.replace(".", "-").lower(),
        kicker=part.code,
        tags=[Tag("held", "good") if part.held else Tag("not held", "bad")],
        tone="good" if part.held else "bad",
    )


def notebook_fragment(experiment: Experiment) -> str:
    """The verdict, part by part, and the main figure, without a script."""
    figures = [block for block in experiment.draw(experiment) if isinstance(block, Chart)]
    blocks: list[Block] = [*figures[:1], parts(experiment)]
    return render_fragment(experiment.title, status=tone(experiment), status_text=headline(experiment), blocks=blocks)


def write_page(experiment: Experiment, path: Path) -> Path:
    """Write the page to `path`, whole or not at all, and return where it lies. Missing folders are made."""
    return save_page(page(experiment), path, "experiment")


def headline(experiment: Experiment) -> str:
    return experiment.verdict.splitlines()[0]


def tone(experiment: Experiment) -> Tone:
    return "good" if experiment.held else "bad"


def parts(experiment: Experiment) -> Facts:
    """Each part of the claim under its code, with whether it held."""
    return Facts({f"{part.code}: {'held' if part.held else 'not held'}": part.claim for part in experiment.judgements})


def said(value: object) -> str:
    """A setting as a reader wants it: a seed of 0 is no number with four digits."""
    return str(value)
