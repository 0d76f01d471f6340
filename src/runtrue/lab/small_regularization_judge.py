"""What the runs say about N3.2: the judging half of `small-regularization`. Pure: rows in, judgements out.

Every limit lies between what was measured at the defaults (`runtrue lab small-regularization`, seeds 0 to 2) and what the
opposite of the claim would give; both stand beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from runtrue.lab.experiment import Judgement, Row, Series
from runtrue.rates import LEARNED

LITTLE, TOO_MUCH = 1e-3, 1.0
"""λ of L2 in the claims, where `penalty` found no harm and nothing learned."""
FALLEN = 0.5
"""Share of a constant guess's loss that is gone at the end, at least, if the loss went down. Measured 0.88."""
WIDTHS = 5.0
"""Widths of the band by which the loss falls, at least, so that it is a fall and no wobble. Measured 22."""
RISES = 0.3
"""Share of the steps at which the loss is higher than before, at least, if it wobbles. Measured 0.47; a smooth curve has 0."""
ALIKE = 1.5
"""How many times as wide as among the batches of one network the band may be, and the other way round. Measured 0.9, 1.0
and 1.3 for 10, 50 and 250 images a batch; with seeds 3 to 5 1.1, 1.3 and 1.8, which is too much: what the steps themselves
throw up and down comes on top, and shows where batches are large and differ little."""


def judge(series: Series) -> tuple[Judgement, ...]:
    """The four parts of the claim."""
    by_strength = {row["strength"]: row for row in series["strength"]}
    little, too_much = by_strength[LITTLE], by_strength[TOO_MUCH]
    return (
        goes_down(little, by_strength[0.0]),
        is_a_band(little),
        batches_differ(series["batches"]),
        does_not(too_much),
    )


def goes_down(row: Row, without: Row) -> Judgement:
    return Judgement(
        "N3.2g",
        "With a little regularization the loss goes down.",
        row["end"] < row["start"] and min(row["removed_fraction_by_seed"]) >= FALLEN,
        f"with λ = {row['strength']:g} the loss goes from {row['start']:.3g} to {row['end']:.3g}, of which the data's part is "
        f"{row['data_end']:.3g} ± {row['data_end_spread']:.2g}; without regularization that ends at {without['data_end']:.3g}.",
    )


def is_a_band(row: Row) -> Judgement:
    widths = (row["data_start"] - row["data_end"]) / row["band"]
    return Judgement(
        "N3.2h",
        "Loss per batch against iteration is a thick band that falls and wobbles.",
        widths >= WIDTHS and row["rises_fraction"] >= RISES,
        f"at {row['rises_fraction']:.0%} of the steps the loss is higher than at the one before; at the end the band is "
        f"{row['band']:.2g} wide (standard deviation), and the whole fall is {widths:.0f} times that.",
    )


def batches_differ(rows: Sequence[Row]) -> Judgement:
    """The width against that among the batches of a network that stands still, for every size of the batches."""
    said = [
        f"{row['band']:.2g} with {row['batch_size']} images a batch ({row['still_band']:.2g} standing still)"
        for row in rows
    ]
    narrows = all(a["band"] > b["band"] for a, b in pairwise(rows))
    return Judgement(
        "N3.2i",
        "It wobbles since batches differ in difficulty: a network that stands still has as wide a band.",
        narrows and all(1 / ALIKE <= row["band"] / row["still_band"] <= ALIKE for row in rows),
        f"the band is {', '.join(said)}.",
    )


def does_not(row: Row) -> Judgement:
    words = f"with λ = {row['strength']:g} the data's part goes from {row['data_start']:.3g} to {row['data_end']:.3g}"
    if row["end"] < row["start"]:
        words += f"; the sum with the penalty falls from {row['start']:.3g} to {row['end']:.3g}, for the weights shrink"
    return Judgement(
        "N3.2j",
        "With too much of it the loss does not go down.",
        max(row["removed_fraction_by_seed"]) <= LEARNED,
        words + ".",
    )
