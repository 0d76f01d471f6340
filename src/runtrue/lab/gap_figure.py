"""The figures of `gap`: training and validation accuracy by epoch, and what the judge says of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtrue.lab.curve_charts import PURPLE, as_cell, by_epoch, seed_lines, span, table, x_axis
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.gap import KINDS
from runtrue.lab.page import part_section
from runtrue.report.blocks import Block, Chart, Section, Table
from runtrue.report.numbers import count
from runtrue.report.theme import BLUE, ORANGE, RED, Spec

COLOURS = {"good": BLUE, "slight": ORANGE, "severe": RED, "underfitting": PURPLE}
HEADS = {
    "N3.3a": "Good",
    "N3.3b": "A little overfitting",
    "N3.3c": "Severe overfitting",
    "N3.3d": "Underfitting",
    "N3.3e": "Which is best",
}
NUMBERS = {
    "run": "run",
    "train_accuracy": "training",
    "val_accuracy": "validation",
    "val_accuracy_spread": "±",
    "gap": "gap",
    "gap_spread": "±",
    "val_loss": "validation loss",
}
"""Columns of the table: key of a row, and its heading."""


def gap_blocks(experiment: Experiment) -> list[Block]:
    """The curves, the verdicts, a section for each part of the claim, and the table."""
    rows, settings = experiment.series["runs"], experiment.settings
    curves = Chart(
        accuracy_curves(experiment.curves),
        f"Accuracy on the training images (dashed) and on {settings['validation_images']:,} others (solid), by epoch; means of "
        f"{count(settings['seeds'], 'seed')}, the bands reach from the lowest to the highest.",
        alt(rows),
    )
    words = "The mean over the last fifth of the epochs, the spread over the seeds (±), and their gap."
    return [
        curves,
        verdicts(rows),
        *(part_section(part, HEADS[part.code], part.claim) for part in experiment.judgements),
        Section("The numbers", [table(NUMBERS, rows, words)], id="numbers"),
    ]


def accuracy_curves(curves: Mapping[str, Sequence[Sequence[float]]]) -> Spec:
    lines = [
        by_epoch(name, COLOURS[name.split(",")[0]], found, dashed=name.endswith("training"))
        for name, found in curves.items()
    ]
    return seed_lines(lines, x_axis("epoch"), span("accuracy", lines))


def verdicts(rows: Sequence[Row]) -> Table:
    return Table(
        ["run", "how it was trained", "gap", "verdict"],
        [[row["run"], KINDS[row["run"]].words, as_cell("gap", row["gap"]), row["verdict"]] for row in rows],
        caption="What the judge of curves says, who sees the two accuracies by epoch and no more.",
    )


def alt(rows: Sequence[Row]) -> str:
    ends = [f"{row['run']} {row['train_accuracy']:.1%} and {row['val_accuracy']:.1%}" for row in rows]
    return f"Training and validation accuracy at the end: {'; '.join(ends)}."
