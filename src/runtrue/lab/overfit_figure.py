"""The figures of `overfit`: the training error by epoch with each bug, and what each bug does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtrue.lab.curve_charts import GREEN, as_cell, by_epoch, seed_lines, span, x_axis
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.overfit_bugs import CASES, HINDERING, PASSING, SOUND
from runtrue.lab.page import part_section
from runtrue.report.blocks import Block, Chart, Section, Table
from runtrue.report.numbers import UNKNOWN, count
from runtrue.report.theme import BLUE, ORANGE, Spec

HEADS = {"N3.1a": "Without a bug", "N3.1b": "With a bug", "N3.1c": "No proof"}


def overfit_blocks(experiment: Experiment) -> list[Block]:
    """The errors of all, a section for each part of the claim, and the table of bugs."""
    rows = {row["bug"]: row for row in experiment.series["bugs"]}
    settings = experiment.settings
    overview = Chart(
        by_bug(experiment.curves),
        f"Share of the {settings['images']} training images that the network gets wrong, by epoch; means of "
        f"{count(settings['seeds'], 'seed')}, the bands reach from the lowest to the highest. Green: no bug. Orange: bugs that "
        "stand in the way of learning. Blue: bugs that leave enough to memorise with.",
        alt(rows),
    )
    tables = [bugs([rows[key] for key in (SOUND, *HINDERING, *PASSING)])]
    return [
        overview,
        *(part_section(part, HEADS[part.code], part.claim) for part in experiment.judgements),
        Section("What each bug does", tables, id="bugs"),
    ]


def by_bug(curves: Mapping[str, Sequence[Sequence[float]]]) -> Spec:
    colours = {SOUND: GREEN, **dict.fromkeys(HINDERING, ORANGE), **dict.fromkeys(PASSING, BLUE)}
    lines = [by_epoch(key, colours[key], found) for key, found in curves.items()]
    return seed_lines(lines, x_axis("epoch"), span("training error", lines))


def bugs(rows: Sequence[Row]) -> Table:
    return Table(
        ["bug", "what is wrong", "error", "±", "all right after", "validation", "named by the check"],
        [
            [
                row["bug"],
                CASES[row["bug"]].words,
                *(as_cell(key, row[key]) for key in ("error", "error_spread")),
                row["all_right_after"],
                as_cell("val_accuracy", row["val_accuracy"]),
                (row["named"] or UNKNOWN) + (", as a note" if row["noted"] else ""),
            ]
            for row in rows
        ],
        caption="Training error at the end, its spread over the seeds, and epochs until every seed has all images right. The "
        "last column: the cause that the check of a task names as the fault.",
    )


def alt(rows: Mapping[str, Row]) -> str:
    ends = [f"{key} {row['error']:.1%}" for key, row in rows.items()]
    return f"Training error at the end: {'; '.join(ends)}."
