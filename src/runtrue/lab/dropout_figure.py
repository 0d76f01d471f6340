"""The figures of `dropout`: accuracies by p, and what averaging over sampled networks brings."""

from __future__ import annotations

from collections.abc import Sequence

from runtrue.lab.curve_charts import SeedLine, seed_lines, span, table, x_axis
from runtrue.lab.dropout_judge import TYPICAL
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.page import part_section
from runtrue.report.blocks import Block, Chart, Section
from runtrue.report.numbers import count
from runtrue.report.theme import BLUE, ORANGE, Spec

HEADS = {
    "N2.2a": "No memorising",
    "N2.2b": "What validation says",
    "N2.2c": "Many networks",
    "N2.2d": "One pass for all of them",
}
GAP = {
    "p": "p",
    "train_accuracy": "training",
    "train_accuracy_spread": "±",
    "val_accuracy": "validation",
    "val_accuracy_spread": "±",
    "gap": "gap",
    "gap_spread": "±",
    "val_loss": "validation loss",
}
AVERAGE = {
    "p": "p",
    "single_accuracy": "single",
    "mean_accuracy": "mean of many",
    "mean_accuracy_spread": "±",
    "one_pass_accuracy": "one pass",
    "one_pass_accuracy_spread": "±",
    "agreement": "same answer",
}
"""Columns of the tables: key of a row, and its heading."""


def dropout_blocks(experiment: Experiment) -> list[Block]:
    """Accuracies by p, the averages, then a section for each part of the claim and the tables."""
    gaps, averages, samples = (experiment.series[key] for key in ("gap", "average", "samples"))
    seeds = count(experiment.settings["seeds"], "seed")
    by_p = Chart(
        accuracies(gaps),
        f"Accuracy after {experiment.settings['epochs']} epochs by the probability p that a hidden unit is switched off; means "
        f"of {seeds}, the bands reach from the lowest to the highest. The distance between the lines is the gap.",
        alt(gaps),
    )
    by_size = Chart(
        averaging(samples, averages),
        f"Validation accuracy of the mean over so many networks, sampled from one by dropout at p = {TYPICAL:g}. The dashed line "
        "is the one pass without masks.",
        f"A single network reaches {samples[0]['accuracy']:.1%}, the mean of {samples[-1]['samples']} "
        f"{samples[-1]['accuracy']:.1%}.",
    )
    numbers = [
        table(GAP, gaps, "Accuracies, their gap, and the spread over the seeds (±)."),
        table(
            AVERAGE, averages, "Validation accuracies: of single sampled networks, of the mean of many, of one pass."
        ),
    ]
    return [
        by_p,
        *(part_section(part, HEADS[part.code], part.claim) for part in experiment.judgements),
        Section("The mean of many networks", [by_size], id="many"),
        Section("The numbers", numbers, id="numbers"),
    ]


def accuracies(gaps: Sequence[Row]) -> Spec:
    lines = [
        SeedLine(name, colour, [(row["p"], row[f"{key}_by_seed"]) for row in gaps])
        for name, key, colour in (("training", "train_accuracy", ORANGE), ("validation", "val_accuracy", BLUE))
    ]
    return seed_lines(lines, x_axis("p", [row["p"] for row in gaps]), span("accuracy", lines), dots=True)


def averaging(samples: Sequence[Row], averages: Sequence[Row]) -> Spec:
    line = SeedLine("mean of many", BLUE, [(row["samples"], row["accuracy_by_seed"]) for row in samples])
    one = next(row["one_pass_accuracy"] for row in averages if row["p"] == TYPICAL)
    x = x_axis("networks averaged", [row["samples"] for row in samples], log=True)
    return seed_lines([line], x, span("validation accuracy", [line], [one]), [("one pass", one)], dots=True)


def alt(gaps: Sequence[Row]) -> str:
    told = [f"{row['train_accuracy']:.1%} and {row['val_accuracy']:.1%} at {row['p']:g}" for row in gaps]
    return f"Training and validation accuracy by p: {'; '.join(told)}."
