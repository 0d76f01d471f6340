"""What the rates and the runs say about N4.2: the judging half of `decay`. Pure: rows in, judgements out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from runtrue.lab.experiment import Judgement, Row, Series
from runtrue.lab.momentum_judge import clearly_lower

EXACT = 1e-12
"""Difference of a rate from the formula by hand, as a share of the first rate: both are sums in double precision. Measured
2e-16; a schedule that is an epoch late is off by 0.01 and more."""
NAMES = {"none": "a constant rate", "step": "step", "exp": "exponential", "inverse": "1/t", "cosine": "cosine"}
NOTES = ("step", "exp", "inverse")
"""The decays of the claim; the cosine stands beside them."""


def judge(series: Series) -> tuple[Judgement, ...]:
    """The five parts of the claim."""
    rows = {row["decay"]: row for row in series["schedules"]}
    return (
        follows(rows["step"], "N4.2a", "Step: every 20 epochs the rate falls by 20 %."),
        follows(rows["exp"], "N4.2b", "Exponential: α = α₀ e^(-kt), the same share less in every epoch."),
        follows(rows["inverse"], "N4.2c", "1/t: α = α₀ / (1 + kt), fast at first and ever slower."),
        at_a_high_rate(series["images"]),
        at_the_best(series["images"]),
    )


def follows(row: Row, code: str, claim: str) -> Judgement:
    k = f" (k = {row['k']:.3g})" if row["k"] else ""
    return Judgement(
        code,
        claim,
        row["difference"] <= EXACT,
        f"torch's scheduler{k} has the rate at {row['third']:.3g} of the first after a third of the epochs, at "
        f"{row['two_thirds']:.3g} after two thirds, and at {row['last']:.3g} at the end; from the formula by hand it is "
        f"{row['difference']:.1g} off at most (allowed: {EXACT:g}).",
    )


def at_a_high_rate(images: Sequence[Row]) -> Judgement:
    high = max(row["rate"] for row in images)
    rows = {row["decay"]: row for row in images if row["rate"] == high}
    ends = [f"{NAMES[decay]} {row['end']:.3g} ± {row['end_spread']:.1g}" for decay, row in rows.items()]
    return Judgement(
        "N4.2d",
        "At a high first rate, where the loss stays up without a decay, each decay brings it down.",
        all(clearly_lower(rows[decay]["end_by_seed"], rows["none"]["end_by_seed"]) for decay in NOTES),
        f"from {high:g} on, the loss ends at: {', '.join(ends)}.",
    )


def at_the_best(images: Sequence[Row]) -> Judgement:
    """Each at the first rate with which most of the test images are right."""
    rows = {decay: best_row(images, decay) for decay in NAMES}
    constant = rows["none"]
    better = [decay for decay in NOTES if clearly_more(rows[decay], constant)]
    told = [f"{NAMES[decay]} {accuracy(row)}" for decay, row in rows.items()]
    lowest = min(images, key=lambda row: float(row["end"]) if math.isfinite(row["end"]) else math.inf)
    who = (
        f"clearly more with {', '.join(NAMES[decay] for decay in better)}"
        if better
        else "clearly more with none of them"
    )
    return Judgement(
        "N4.2e",
        "With the first rate that is best for each, more test images are right with a decay than with a constant rate.",
        len(better) == len(NOTES),
        f"right are, with {', with '.join(told)}: {who}. The loss of the training set ends lowest of all with "
        f"{NAMES[lowest['decay']]} ({lowest['end']:.2g}, at {lowest['rate']:g}).",
    )


def clearly_more(row: Row, other: Row) -> bool:
    return clearly_lower([-a for a in row["accuracy_by_seed"]], [-a for a in other["accuracy_by_seed"]])


def best_row(images: Sequence[Row], decay: str) -> Row:
    own = [row for row in images if row["decay"] == decay]
    return max(own, key=lambda row: float(row["accuracy"]) if math.isfinite(row["accuracy"]) else -math.inf)


def accuracy(row: Row) -> str:
    return f"{row['accuracy']:.1%} ± {row['accuracy_spread']:.1%} (from {row['rate']:g})"
