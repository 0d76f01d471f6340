"""What the paths and the runs say about N4.1: the judging half of `momentum`. Pure: rows in, judgements out.

Every limit lies between what was measured at the defaults (`runtrue lab momentum`, seeds 0 to 2) and what the opposite of the
claim would give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from runtrue.lab.experiment import Judgement, Row, Series
from runtrue.lab.momentum_ravine import ARRIVED, STEEP

SLOWER = 3.0
"""How many times the steps of momentum, or the loss of the best rate, at least, where a descent is slow."""
SIGMAS = 3.0
"""Standard errors by which the mean of the seeds' differences must be off 0 to count: with 3 seeds chance alone gives that in one
of twenty comparisons (Student's t, two degrees of freedom), with more seeds more rarely."""
NAMES = {"sgd": "SGD", "momentum": "momentum", "nesterov": "Nesterov momentum"}


def judge(series: Series) -> tuple[Judgement, ...]:
    """The six parts of the claim."""
    ravine = {row["optimizer"]: row for row in series["ravine"] if row["steepness"] == STEEP}
    images = series["images"]
    return (
        falls_slowly(ravine, images),
        quicker(series["ravine"], "momentum", "sgd", "N4.1b", "Momentum gets down a ravine in fewer steps than SGD."),
        quicker(
            series["ravine"],
            "nesterov",
            "momentum",
            "N4.1c",
            "Nesterov momentum gets down a ravine in fewer steps still.",
        ),
        further(images),
        better(
            images, "momentum", "sgd", "N4.1e", "On images, at the best rate of each, momentum gets further than SGD."
        ),
        better(
            images,
            "nesterov",
            "momentum",
            "N4.1f",
            "On images, at the best rate of each, Nesterov momentum gets further than momentum.",
        ),
    )


def falls_slowly(ravine: dict[str, Row], images: Sequence[Row]) -> Judgement:
    slow, other = ravine["sgd"], ravine["momentum"]
    small, best = lowest_rate(images, "sgd"), best_row(images, "sgd")
    held = slow["rises"] == small["rises"] == 0
    held &= slow["small_steps"] >= SLOWER * other["small_steps"] and small["end"] >= SLOWER * best["end"]
    return Judgement(
        "N4.1a",
        "SGD: with a small enough rate the loss always falls, but slowly.",
        bool(held),
        f"in the ravine, at {slow['small_rate']:g}, the loss rises in {slow['rises']} of {said(slow['small_steps'])} steps until "
        f"it is at {ARRIVED:g} of the first; momentum takes {said(other['small_steps'])} at that rate. On images, at "
        f"{small['rate']:g}, the loss of the training set rises in {small['rises']} epochs (the worst seed), and ends at "
        f"{small['end']:.3g}, where the best rate, {best['rate']:g}, ends at {best['end']:.3g}.",
    )


def quicker(rows: Sequence[Row], kind: str, than: str, code: str, claim: str) -> Judgement:
    """At the rate that is best for each, in the ravine that is drawn; the others are told."""
    by_steepness: dict[float, dict[str, Row]] = {row["steepness"]: {} for row in rows}
    for row in rows:
        by_steepness[row["steepness"]][row["optimizer"]] = row
    one, other = by_steepness[STEEP][kind], by_steepness[STEEP][than]
    beside = [
        f"{said(found[kind]['steps'])} against {said(found[than]['steps'])} where the walls are {steepness:g} times as steep"
        for steepness, found in by_steepness.items()
        if steepness != STEEP
    ]
    steps = [f"{NAMES[row['optimizer']]} {said(row['steps'])} steps (at {row['rate']:.2g})" for row in (one, other)]
    words = (
        f"each at its own best rate, where the walls are {STEEP:g} times as steep as the floor: {', '.join(steps)}; "
    )
    words += f"{', '.join(beside)}."
    if kind == "nesterov":
        words += f" It bears a rate of {one['highest_rate']:.2g} at most, momentum {other['highest_rate']:.2g}."
    return Judgement(code, claim, one["steps"] < other["steps"], words)


def further(images: Sequence[Row]) -> Judgement:
    """At the smallest rate, which all three have."""
    plain = lowest_rate(images, "sgd")
    others = [lowest_rate(images, kind) for kind in ("momentum", "nesterov")]
    ends = [f"{NAMES[row['optimizer']]} at {row['end']:.3g}" for row in (plain, *others)]
    return Judgement(
        "N4.1d",
        "On images, at the same small rate, both momenta get further than SGD.",
        all(clearly_lower(row["end_by_seed"], plain["end_by_seed"]) for row in others),
        f"at {plain['rate']:g} the loss ends, with {', with '.join(ends)}.",
    )


def better(images: Sequence[Row], kind: str, than: str, code: str, claim: str) -> Judgement:
    one, other = best_row(images, kind), best_row(images, than)
    differences = [b - a for a, b in zip(one["end_by_seed"], other["end_by_seed"])]
    return Judgement(
        code,
        claim,
        clearly_lower(one["end_by_seed"], other["end_by_seed"]),
        f"the loss ends at {ended(one)} with {NAMES[kind]}, and at {ended(other)} with {NAMES[than]}; seed by seed it is lower "
        f"by {', '.join(f'{difference:.2g}' for difference in differences)}. On the test images {accuracy(one)} and "
        f"{accuracy(other)} are right.",
    )


def ended(row: Row) -> str:
    return f"{row['end']:.3g} ± {row['end_spread']:.1g} (at {row['rate']:g})"


def accuracy(row: Row) -> str:
    return f"{row['accuracy']:.1%} ± {row['accuracy_spread']:.1%}"


def clearly_lower(ones: Sequence[float], others: Sequence[float]) -> bool:
    """True if every seed says so, and the mean of the differences is that many standard errors off 0. One seed says nothing."""
    differences = [b - a for a, b in zip(ones, others, strict=True)]
    if len(differences) < 2 or not all(difference > 0 for difference in differences):
        return False
    return fmean(differences) >= SIGMAS * stdev(differences) / math.sqrt(len(differences))


def lowest_rate(images: Sequence[Row], kind: str) -> Row:
    return min((row for row in images if row["optimizer"] == kind), key=lambda row: float(row["rate"]))


def best_row(images: Sequence[Row], kind: str) -> Row:
    """The rate with which this optimizer ends lowest; a run that was lost does not count."""
    own = [row for row in images if row["optimizer"] == kind]
    return min(own, key=lambda row: float(row["end"]) if math.isfinite(row["end"]) else math.inf)


def said(steps: float) -> str:
    return f"{steps:.0f}" if math.isfinite(steps) else "never"
