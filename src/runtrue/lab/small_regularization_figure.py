"""The figures of `small-regularization`: the bands of batch losses, and their width by the size of the batches."""

from __future__ import annotations

from collections.abc import Sequence

from runtrue.lab.curve_charts import SeedLine, number_axis, seed_lines, table, x_axis
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.page import part_section
from runtrue.lab.small_regularization_judge import LITTLE, TOO_MUCH
from runtrue.lab.training import CONSTANT
from runtrue.report.blocks import Block, Chart, Section
from runtrue.report.charts import until_lost
from runtrue.report.numbers import count
from runtrue.report.rate_charts import Line, loss_bands
from runtrue.report.theme import BLUE, GREY, RED, Spec

HEADS = {
    "N3.2g": "A little",
    "N3.2h": "The band",
    "N3.2i": "Why it wobbles",
    "N3.2j": "Too much",
}
STRENGTH = {
    "strength": "λ",
    "start": "start",
    "end": "end",
    "data_end": "data's part",
    "data_end_spread": "±",
    "removed_fraction": "removed",
    "band": "band",
}
BATCHES = {
    "batch_size": "images a batch",
    "band": "band",
    "band_spread": "±",
    "still_band": "standing still",
    "data_end": "end",
}
"""Columns of the tables: key of a row, and its heading."""


def small_regularization_blocks(experiment: Experiment) -> list[Block]:
    """The bands, a section for each part of the claim, the widths, and the tables."""
    settings, series = experiment.settings, experiment.series
    bands = Chart(
        bands_of(experiment),
        f"Seed {settings['seed']}: the data's part of the loss of each batch. The bold line is its moving mean, the band behind "
        "it every loss.",
        alt(series["strength"]),
    )
    wide = Chart(
        widths(series["batches"]),
        "The width of the band (standard deviation of a loss, over the last fifth of the steps) by the size of the batches; "
        "dashed, how much the batches differ for the network of the end, which stands still. Both axes are logarithmic.",
        f"The band is {series['batches'][0]['band']:.2g} wide with the smallest batches and "
        f"{series['batches'][-1]['band']:.2g} with the largest.",
    )
    numbers = [
        table(
            STRENGTH,
            series["strength"],
            f"Means of {count(settings['seeds'], 'seed')}. Start and end: the loss with the penalty. The data's part: of the "
            "end. Removed: of a constant guess's loss, by the data's part. Band: its width at the end.",
        ),
        table(
            BATCHES,
            series["batches"],
            f"With λ = {LITTLE:g}: the width of the band, and of that of a network standing still.",
        ),
    ]
    return [
        bands,
        *(part_section(part, HEADS[part.code], part.claim) for part in experiment.judgements),
        Section("The width of the band", [wide], id="width"),
        Section("The numbers", numbers, id="numbers"),
    ]


def bands_of(experiment: Experiment) -> Spec:
    """Of the first seed: a little, and too much."""
    kept = {LITTLE: (f"λ = {LITTLE:g}", BLUE), TOO_MUCH: (f"λ = {TOO_MUCH:g}", RED)}
    lines = []
    for strength, (name, colour) in kept.items():
        losses = experiment.curves[f"{strength:g}"][0]
        finite = until_lost(losses)
        lines.append(Line(name, colour, finite, lost=len(finite) < len(losses)))
    return loss_bands(lines, CONSTANT)


def widths(rows: Sequence[Row]) -> Spec:
    lines = [
        SeedLine("training", BLUE, [(row["batch_size"], row["band_by_seed"]) for row in rows]),
        SeedLine("standing still", GREY, [(row["batch_size"], row["still_band_by_seed"]) for row in rows], dashed=True),
    ]
    values = [value for line in lines for _, found in line.points for value in found]
    x = x_axis("images a batch", [row["batch_size"] for row in rows], log=True)
    return seed_lines(
        lines, x, number_axis("width of the band", 0.8 * min(values), 1.25 * max(values), log=True), dots=True
    )


def alt(rows: Sequence[Row]) -> str:
    ends = [f"{row['data_end']:.2g} with λ = {row['strength']:g}" for row in rows]
    return f"The data's part of the loss ends at {', '.join(ends)}."
