"""The figures of `learning-rates`: the four curves as the course draws them, and what the seeds say of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtrue.lab.experiment import Experiment, Judgement, Row
from runtrue.lab.page import part_section
from runtrue.lab.text import percent
from runtrue.lab.training import CONSTANT
from runtrue.rates import RateCurve, judge
from runtrue.report.blocks import Block, Chart, Section, Table
from runtrue.report.numbers import count, is_finite
from runtrue.report.rate_charts import rate_curves

SHOWN = {
    "rate": "rate",
    "verdict": "verdict",
    "start": "start",
    "best": "lowest",
    "end": "end",
    "end_spread": "spread",
    "removed_fraction": "removed",
}
"""Columns of the table: key of a row, and its heading."""


def rates_blocks(experiment: Experiment) -> list[Block]:
    """The four curves, the table, then a section for each part of the claim."""
    rows = experiment.series["rates"]
    return [four_curves(experiment), numbers(rows, experiment), *map(section, experiment.judgements)]


def four_curves(experiment: Experiment) -> Chart:
    rows, seed = experiment.series["rates"], experiment.settings["seed"]
    firsts = (curves[0] for curves in experiment.curves.values())
    judged = judge([RateCurve(row["rate"], tuple(losses)) for row, losses in zip(rows, firsts, strict=True)], CONSTANT)
    caption = (
        f"Seed {seed}: the loss of each batch at four learning rates, from the same weights and on the same batches. The bold "
        "line is its moving mean, the band behind it every loss: batches differ in difficulty. The loss at the very high rate "
        "leaves the frame at the top."
    )
    return Chart(rate_curves(judged, CONSTANT), caption, alt(rows))


def numbers(rows: Sequence[Row], experiment: Experiment) -> Table:
    seeds = experiment.settings["seeds"]
    return Table(
        list(SHOWN.values()),
        [[as_cell(key, row[key]) for key in SHOWN] for row in rows],
        caption=f"Losses, means over {count(seeds, 'seed')}: of the first batch, the lowest, the mean of the last fifth and its "
        "spread over the seeds; and the share of a constant guess's loss that was removed.",
    )


def as_cell(key: str, value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(" ", "\u00a0")  # a verdict stays on one line
    return percent(value, 0) if key.endswith("fraction") and is_finite(value) else value


def section(part: Judgement) -> Section:
    heading, _, claim = part.claim.partition(": ")
    return part_section(part, heading, f"{claim[:1].upper()}{claim[1:]}")


def alt(rows: Sequence[Row]) -> str:
    """What the figure shows, in words."""
    ends = [f"at {row['rate']:g} ({row['claimed']}) from {row['start']:.2g} to {row['end']:.2g}" for row in rows]
    return f"The loss goes {'; '.join(ends)}."
