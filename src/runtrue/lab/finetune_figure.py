"""The figures of `finetune`: accuracy by the number of images, and on its way against epochs and against seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from runtrue.lab.curve_charts import GREEN, OLIVE, PURPLE, SeedLine, number_axis, seed_lines, span, table, x_axis
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.finetune_judge import DEEP, HEAD, ONE_HIGH, ONE_LOW, SCRATCH, counts_of, curve_name
from runtrue.lab.page import part_section
from runtrue.report.blocks import Block, Chart, Section
from runtrue.report.numbers import count
from runtrue.report.theme import BLUE, ORANGE, Spec

HEADS = {
    "N1.1a": "Worth standing on",
    "N1.1b": "Which is faster, by epochs",
    "N1.1c": "Which is faster, by the processor's time",
    "N1.1d": "Which ends better",
    "N1.1e": "A rate for each layer",
}
COLOURS = {SCRATCH: PURPLE, HEAD: ORANGE, DEEP: BLUE, ONE_HIGH: GREEN, ONE_LOW: OLIVE}
ENDS = {
    "images": "images", "way": "way", "accuracy": "accuracy", "accuracy_spread": "±", "epoch_reached": "epochs there",
    "second_reached": "CPU s there", "seconds": "CPU s",
}  # fmt: skip
AXES = {
    "epoch": ("epoch", "epochs"),
    "second": ("CPU seconds", "seconds of the processor, of which mode 1 needs few: it computes its features once"),
}
"""What a curve is drawn against: the title of the axis, and in a sentence."""


def finetune_blocks(experiment: Experiment) -> list[Block]:
    """The ends by images, a section for each part of the claim, the ways there, and the table."""
    ends = experiment.series["ends"]
    counts = counts_of(ends)
    return [
        by_images(experiment, ends, counts),
        *(part_section(part, HEADS[part.code], part.claim) for part in experiment.judgements),
        Section("On the way", [chart for n in counts for chart in on_the_way(experiment, n)], id="on-the-way"),
        Section(
            "The numbers",
            [
                table(
                    ENDS,
                    ends,
                    "Images of each class; accuracies at the end; there: as accurate as mode 1 is at its end.",
                )
            ],
            id="numbers",
        ),
    ]


def by_images(experiment: Experiment, ends: Sequence[Row], counts: Sequence[int]) -> Chart:
    settings = experiment.settings
    lines = [
        SeedLine(way, COLOURS[way], [(row["images"], row["accuracy_by_seed"]) for row in ends if row["way"] == way])
        for way in COLOURS
    ]
    axis = x_axis("images of each class", counts, log=True)
    return Chart(
        seed_lines(lines, axis, span("validation accuracy", lines), dots=True),
        f"Validation accuracy after {settings['steps']} steps by the images of each class; means of "
        f"{count(settings['seeds'], 'seed')}, the bands reach from the lowest to the highest. Donor: {settings['donor']}.",
        alt(ends, counts),
    )


def on_the_way(experiment: Experiment, images: int) -> list[Chart]:
    """Accuracy against epochs, and against the seconds that the processor was at it."""
    charts = []
    for what, (title, words) in AXES.items():
        lines = [way_there(experiment, what, images, way) for way in COLOURS]
        charts.append(
            Chart(
                seed_lines(lines, log_axis(title, lines), span("validation accuracy", lines)),
                f"{images} images of each class: accuracy against {words}.",
                f"At the end: {', '.join(f'{line.name} {fmean(line.points[-1][1]):.1%}' for line in lines)}.",
            )
        )
    return charts


def log_axis(title: str, lines: Sequence[SeedLine]) -> Spec:
    """From the first look to the last, numbered at 1, 2 and 5 of each decade, so that a telephone has room for them."""
    low, high = min(line.points[0][0] for line in lines), max(line.points[-1][0] for line in lines)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    axis = number_axis(title, low, high, log=True)
    axis["axis"] |= {
        "values": [n * 10.0**decade for decade in decades for n in (1, 2, 5) if low <= n * 10.0**decade <= high]
    }
    return axis


def way_there(experiment: Experiment, what: str, images: int, way: str) -> SeedLine:
    """At each look the values of the seeds, over the mean of the seeds' epochs or seconds."""
    places, values = (experiment.curves[curve_name(key, images, way)] for key in (what, "accuracy"))
    points = [(fmean(x), y) for x, y in zip(zip(*places, strict=True), zip(*values, strict=True), strict=True)]
    return SeedLine(way, COLOURS[way], points)


def alt(ends: Sequence[Row], counts: Sequence[int]) -> str:
    told = []
    for n in counts:
        ways = [f"{row['way']} {row['accuracy']:.1%}" for row in ends if row["images"] == n]
        told.append(f"{n} images a class: {', '.join(ways)}")
    return "; ".join(told) + "."
