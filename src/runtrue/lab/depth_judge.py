"""What the runs say about N5: the judging half of `depth`. Pure: rows in, judgements out.

Each kind of network has a row a depth, the shallowest first; every row has its numbers by seed. One row is above another if
its lowest seed is above the other's highest: with three seeds of each, chance alone does that once in twenty times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from runtrue.lab.experiment import Judgement, Row, Series

FADED = 0.5
"""What arrives at the first block over what the last one was sent, at most, for a signal that faded."""
CARRIED = 2.0
"""How many times as much the gradients of two batches agree with a bridge as without, at least, where it carries the signal."""
ENORMOUS, DEEP = 1202, 110


def judge(series: Series) -> tuple[Judgement, ...]:
    """The four parts of the claim, and a fifth where there are networks of 110 and of 1202 layers."""
    plain, residual = series["plain"], series["residual"]
    parts = (worse(plain), no_worse(residual, plain), fades(plain, residual), agrees(plain, residual))
    both = {row["depth"]: row for row in residual}
    return (*parts, too_deep(both[DEEP], both[ENORMOUS])) if {DEEP, ENORMOUS} <= both.keys() else parts


def above(one: Row, other: Row, key: str) -> bool:
    """True if all seeds of the one lie above all seeds of the other. A loss that is no number is above all."""
    lowest = min(map(known, one[f"{key}_by_seed"]))
    return lowest > max(map(known, other[f"{key}_by_seed"]))


def known(value: float) -> float:
    return math.inf if math.isnan(value) else value


def best_before(rows: Sequence[Row]) -> Row:
    """The row of the shallower depth that was trained to the lowest loss."""
    return min(rows[:-1], key=lambda row: known(row["train_loss"]))


def worse(plain: Sequence[Row]) -> Judgement:
    best, last = best_before(plain), plain[-1]
    return Judgement(
        "N5a",
        "Plain networks get worse with depth, in training too.",
        above(last, best, "train_loss"),
        f"{ends(plain)}. {last['depth']} layers have an error of {last['val_error']:.1%} on the validation images, "
        f"{best['depth']} have {best['val_error']:.1%}.",
    )


def no_worse(residual: Sequence[Row], plain: Sequence[Row]) -> Judgement:
    best, last = best_before(residual), residual[-1]
    lost, lost_plain = (rows[-1]["train_loss"] - best_before(rows)["train_loss"] for rows in (residual, plain))
    finest = min(residual, key=lambda row: known(row["val_error"]))
    return Judgement(
        "N5b",
        "Residual networks do not.",
        not above(last, best, "train_loss"),
        f"{ends(residual)}; from the best to the deepest that is {lost:+.2g}, and without the bridge {lost_plain:+.2g}. On the "
        f"validation images {last['depth']} layers have an error of {last['val_error']:.1%} (without the bridge "
        f"{plain[-1]['val_error']:.1%}); the lowest, {finest['val_error']:.1%}, is that of {finest['depth']} layers.",
    )


def ends(rows: Sequence[Row]) -> str:
    told = [f"{row['train_loss']:.3g} with {row['depth']} layers" for row in rows]
    return f"the training loss ends at {', '.join(told)}"


def fades(plain: Sequence[Row], residual: Sequence[Row]) -> Judgement:
    """As the notes say it: the size of the gradient. Of the networks that are trained, which have a normalisation."""
    deep, bridged = plain[-1], residual[-1]
    held = max(deep["arrives_by_seed"]) < min(FADED, *bridged["arrives_by_seed"])
    trend = "fades to" if deep["arrives"] < 1 else "grows to"
    return Judgement(
        "N5c",
        "The signal that comes back fades with depth; the bridge carries it.",
        held,
        f"in {deep['depth']} plain layers the gradient {trend} {times(deep['arrives'])} its size on its way from the last block "
        f"to the first, with the bridge to {times(bridged['arrives'])}. That is with batch normalisation, as they are trained; "
        f"without it, {times(deep['arrives_bare'])} its size arrives through plain layers and {times(bridged['arrives_bare'])} "
        "with the bridge.",
    )


def agrees(plain: Sequence[Row], residual: Sequence[Row]) -> Judgement:
    """The same, of what batches have in common: a gradient may be large and still be noise."""
    first, deep, bridged = plain[0], plain[-1], residual[-1]
    held = above(first, deep, "agreement") and min(bridged["agreement_by_seed"]) >= CARRIED * max(
        deep["agreement_by_seed"]
    )
    return Judgement(
        "N5d",
        "What batches agree on fades with depth, and the bridge carries that.",
        held,
        f"the gradients that two batches send to a block have a mean cosine of {first['agreement']:.2f} in {first['depth']} "
        f"plain layers, of {deep['agreement']:.2f} in {deep['depth']}, and of {bridged['agreement']:.2f} there with the bridge.",
    )


def times(ratio: float) -> str:
    """0.014 times, 33 times, 4,800 times."""
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.2g} times"


def too_deep(deep: Row, enormous: Row) -> Judgement:
    return Judgement(
        "N5e",
        f"{ENORMOUS:,} layers are worse than {DEEP}.",
        above(enormous, deep, "val_error"),
        f"the error on the validation images is {enormous['val_error']:.2%} with {ENORMOUS:,} layers and {deep['val_error']:.2%} "
        f"with {DEEP}; in training {enormous['train_error']:.2%} and {deep['train_error']:.2%}.",
    )
