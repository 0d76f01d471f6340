"""What the runs say about N2.2: the judging half of `dropout`. Pure: rows in, judgements out.

Every limit lies between what was measured at the defaults (`runtrue lab dropout`, seeds 0 to 2) and what the opposite of the
claim would give; both stand beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from runtrue.lab.experiment import Judgement, Row, Series

TYPICAL = 0.5
"""The p that the claims are judged at: that of the paper for hidden units."""
SMALLER = 0.85
"""The gap at that p over the gap without dropout, at most. Measured 0.64; a dropout that does nothing leaves 1."""
BETTER = 0.01
"""Accuracy that the mean of many sampled networks has over single ones, at least. Measured 0.025; at p = 0 all are alike: 0."""
SAME = 0.01
"""Accuracy by which one pass may differ from the mean of many. Measured 0.001; a single sampled network differs by 0.026."""
AGREES = 0.95
"""Share of the images on which both say the same, at least. Measured 0.987; a single sampled network agrees on 0.90."""


def judge(series: Series) -> tuple[Judgement, ...]:
    """The four parts of the claim."""
    gaps, averages = series["gap"], series["average"]
    return (memorising(gaps), generalising(gaps), averaging(averages), standing_for(averages))


def memorising(gaps: Sequence[Row]) -> Judgement:
    without, typical = gaps[0], at(gaps, TYPICAL)
    falls = all(b["gap"] <= a["gap"] + a["gap_spread"] + b["gap_spread"] for a, b in pairwise(gaps))
    said = ", ".join(f"{100 * row['gap']:.1f} at p = {row['p']:g}" for row in gaps)
    return Judgement(
        "N2.2a",
        "The network cannot memorise: the gap between training and validation accuracy falls as p grows.",
        falls and typical["gap"] <= SMALLER * without["gap"],
        f"the gap is, in percentage points, {said}; the training accuracy goes from {without['train_accuracy']:.1%} to "
        f"{gaps[-1]['train_accuracy']:.1%}.",
    )


def generalising(gaps: Sequence[Row]) -> Judgement:
    without, best = gaps[0], max(gaps[1:], key=lambda row: row["val_accuracy"])
    last = gaps[-1]
    kept = (
        best["val_accuracy"] >= without["val_accuracy"] - without["val_accuracy_spread"] - best["val_accuracy_spread"]
    )
    sure = best["val_loss"] < without["val_loss"] - without["val_loss_spread"]
    words = (
        f"without dropout the validation accuracy is {with_spread(without, 'val_accuracy')} and the loss "
        f"{without['val_loss']:.3f}; at the best p, {best['p']:g}, they are {with_spread(best, 'val_accuracy')} and "
        f"{best['val_loss']:.3f}."
    )
    if last["val_accuracy"] < without["val_accuracy"] - without["val_accuracy_spread"]:
        words += f" Too much holds back the learning too: {with_spread(last, 'val_accuracy')} at p = {last['p']:g}."
    return Judgement(
        "N2.2b",
        "It is the memorising that is held back: at some p validation is no less accurate, and its loss is lower.",
        kept and sure,
        words,
    )


def averaging(averages: Sequence[Row]) -> Judgement:
    row = at(averages, TYPICAL)
    return Judgement(
        "N2.2c",
        "A network with dropout is many networks, and their mean is better than a single one.",
        row["mean_accuracy"] - row["single_accuracy"] >= BETTER,
        f"at p = {TYPICAL:g} networks sampled by dropout reach {with_spread(row, 'single_accuracy')} each and "
        f"{with_spread(row, 'mean_accuracy')} in the mean.",
    )


def standing_for(averages: Sequence[Row]) -> Judgement:
    row, worst = at(averages, TYPICAL), min(averages, key=lambda row: row["agreement"])
    words = (
        f"at p = {TYPICAL:g} the one pass reaches {with_spread(row, 'one_pass_accuracy')}, the mean "
        f"{with_spread(row, 'mean_accuracy')}; both say the same of {row['agreement']:.1%} of the images"
    )
    if worst["agreement"] < AGREES:
        words += f", of {worst['agreement']:.1%} at p = {worst['p']:g}"
    return Judgement(
        "N2.2d",
        "One pass without masks, as evaluation makes it, stands for the mean of many sampled networks.",
        abs(row["one_pass_accuracy"] - row["mean_accuracy"]) <= SAME and row["agreement"] >= AGREES,
        words + ".",
    )


def at(rows: Sequence[Row], p: float) -> Row:
    return next(row for row in rows if row["p"] == p)


def with_spread(row: Row, key: str) -> str:
    return f"{row[key]:.1%} ± {row[f'{key}_spread']:.1%}"
