"""The figures of `finetune`: accuracy by the number of images, and on its way against steps and against seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from runtrue.lab.curve_charts import GREEN, PURPLE, SeedLine, number_axis, seed_lines, span, table, x_axis
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.finetune_judge import DEEP, HEAD, ONE_RATE, SCRATCH, counts_of
from runtrue.lab.page import part_section
from runtrue.report.blocks import Block, Chart, Section
from runtrue.report.numbers import count
from runtrue.report.theme import BLUE, ORANGE, Spec

HEADS = {
    "N1.1a": "Worth standing on",
    "N1.1b": "Which is faster",
    "N1.1c": "Which ends better",
    "N1.1d": "A rate for each layer",
}
COLOURS = {SCRATCH: PURPLE, HEAD: ORANGE, DEEP: BLUE, ONE_RATE: GREEN}
ENDS = {
    "images": "images a class", "way": "way", "accuracy": "accuracy", "accuracy_spread": "±",
    "step_reached": "steps to mode 1's end", "second_reached": "CPU s to it", "seconds": "CPU s in all",
}  # fmt: skip


def finetune_blocks(experiment: Experiment) -> list[Block]:
    """The ends by images, the ways there, then a section for each part of the claim and the table."""
    ends, curves = experiment.series["ends"], experiment.series["curves"]
    seeds = count(experiment.settings["seeds"], "seed")
    counts = counts_of(ends)
    by_images = Chart(
        accuracies(ends, counts),
        f"Validation accuracy after {experiment.settings['steps']} steps by the images of each class; means of {seeds}, the "
        f"bands reach from the lowest to the highest. Donor: {experiment.settings['donor']}.",
        alt(ends, counts),
    )
    ways = [chart for n in counts for chart in on_the_way(curves, n)]
    return [
        by_images,
        *(part_section(part, HEADS[part.code], part.claim) for part in experiment.judgements),
        Section("On the way", ways, id="on-the-way"),
        Section(
            "The numbers", [table(ENDS, ends, "Accuracies at the end, and when mode 1's was reached.")], id="numbers"
        ),
    ]


def accuracies(ends: Sequence[Row], counts: Sequence[int]) -> Spec:
    lines = [
        SeedLine(way, COLOURS[way], [(row["images"], row["accuracy_by_seed"]) for row in ends if row["way"] == way])
        for way in COLOURS
    ]
    return seed_lines(
        lines, x_axis("images of each class", counts, log=True), span("validation accuracy", lines), dots=True
    )


def on_the_way(curves: Sequence[Row], images: int) -> list[Chart]:
    """Against steps, and against the seconds that the processor was at it."""
    rows = [row for row in curves if row["images"] == images]
    longest, latest = max(row["step"] for row in rows), max(row["seconds"] for row in rows)
    by: list[tuple[str, Callable[[Row], float], Spec]] = [
        ("steps", lambda row: float(row["step"]), number_axis("step", 0, longest)),
        ("seconds of the processor", lambda row: float(row["seconds"]), number_axis("CPU seconds", 0, latest)),
    ]
    charts = []
    for words, x, axis in by:
        lines = [
            SeedLine(way, COLOURS[way], [(x(row), row["accuracy_by_seed"]) for row in rows if row["way"] == way])
            for way in COLOURS
        ]
        last = {way: next(row for row in reversed(rows) if row["way"] == way)["accuracy"] for way in COLOURS}
        charts.append(
            Chart(
                seed_lines(lines, axis, span("validation accuracy", lines)),
                f"{images} images of each class: accuracy against {words}.",
                f"At the end: {', '.join(f'{way} {value:.1%}' for way, value in last.items())}.",
            )
        )
    return charts


def alt(ends: Sequence[Row], counts: Sequence[int]) -> str:
    told = []
    for n in counts:
        ways = [f"{row['way']} {row['accuracy']:.1%}" for row in ends if row["images"] == n]
        told.append(f"{n} images a class: {', '.join(ways)}")
    return "; ".join(told) + "."
