"""What the runs say about N2.1 and N3.2: the judging half of `penalty`. Pure: rows in, judgements out.

The first row of each series is the run without a penalty; the others go up in strength. Every limit lies between what was
measured at the defaults (`runtrue lab penalty`, seeds 0 to 2) and what the opposite would give; both stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from runtrue.lab.experiment import Judgement, Row, Series
from runtrue.rates import LEARNED, NEAR

EXACT = 1e-5
"""Relative difference of float32 losses from a sum in double precision. Measured 2e-7; with the biases left in, 4e-3."""
ZERO = 1e-3
"""A weight below this counts as none: the weights start out up to 0.036 (images) and 0.1 wide."""
GONE = 5.0
"""How many times as many weights as without a penalty are as good as 0, at least, where weights are cut off. Measured for L1
18 (images) and 14 (Gaussians), for L2 2 and 1: half as wide weights are twice as often that small."""
SHRUNK = 0.95
"""Mean size of the weights over that without a penalty, at most, where they shrink. Measured 0.56 and 0.89."""
NAMES = {"l1": "L1", "l2": "L2", "elastic-net": "the elastic net"}


def judge(series: Series) -> tuple[Judgement, ...]:
    """The five parts of the claim."""
    return (raised(series), small(series), truncation(series), shrinkage(series), large(series))


def raised(series: Series) -> Judgement:
    worst = max(row["difference"] for rows in series.values() for row in rows)
    examples = [
        f"{NAMES[key]} at {row['strength']:g} adds {row['raised']:.4g} (by hand {row['by_hand']:.4g})"
        for key, rows in series.items()
        for row in rows[len(rows) // 2 : len(rows) // 2 + 1]
    ]
    return Judgement(
        "N3.2e",
        "A penalty raises the first loss by exactly λ times its sum over the weights.",
        worst <= EXACT,
        f"{'; '.join(examples)}. Of all, the largest difference is {worst:.1g} of the loss (allowed: {EXACT:g}).",
    )


def small(series: Series) -> Judgement:
    firsts = {key: rows[1] for key, rows in series.items()}
    held = all(row["end"] < row["start"] and not hurts(row, series[key][0]) for key, row in firsts.items())
    ends = [f"{row['data_end']:.3g} with {NAMES[key]} at {row['strength']:g}" for key, row in firsts.items()]
    plain = next(iter(series.values()))[0]["data_end"]
    return Judgement(
        "N3.2f",
        "A little of it still lets the loss fall.",
        held,
        f"the loss of the data ends at {', '.join(ends)}, and at {plain:.3g} without.",
    )


def truncation(series: Series) -> Judgement:
    row, without = strongest(series["l1"]), series["l1"][0]
    other = strongest(series["l2"])
    return Judgement(
        "N2.1a",
        "L1 gives what is noise no weight at all (truncation).",
        row["gone_fraction"] >= GONE * max(without["gone_fraction"], other["gone_fraction"] / GONE * 2),
        f"{gone_in_words('l1', row)}; {gone_in_words('l2', other)}; without a penalty {without['gone_fraction']:.1%}.",
    )


def shrinkage(series: Series) -> Judgement:
    row, without = strongest(series["l2"]), series["l2"][0]
    ratio = row["mean_weight"] / without["mean_weight"]
    return Judgement(
        "N2.1b",
        "L2 shrinks all weights (shrinkage).",
        ratio <= SHRUNK and row["gone_fraction"] < GONE * without["gone_fraction"],
        f"with L2 at {row['strength']:g} the mean size of a weight is {ratio:.2f} of that without a penalty, and few are gone: "
        f"{row['gone_fraction']:.1%} ({without['gone_fraction']:.1%} without).",
    )


def gone_in_words(key: str, row: Row) -> str:
    return (
        f"with {NAMES[key]} at {row['strength']:g} {row['gone_fraction']:.1%} of the weights are gone, and the data's loss ends "
        f"at {row['data_end']:.3g}"
    )


def strongest(rows: Sequence[Row]) -> Row:
    """The strongest penalty that does not hurt; the weakest if all do."""
    return next((row for row in reversed(rows[1:]) if not hurts(row, rows[0])), rows[1])


def large(series: Series) -> Judgement:
    worst = {key: min(rows[1:], key=learned) for key, rows in series.items()}
    starts = [
        f"{NAMES[key]} from {edge:g} on" for key, rows in series.items() if (edge := hurts_from(rows)) is not None
    ]
    falls = [
        f"{row['start']:.3g} to {row['end']:.3g} with {NAMES[key]} at {row['strength']:g}"
        for key, row in worst.items()
        if row["end"] < row["start"]
    ]
    words = f"it begins to hurt with {', '.join(starts)}." if starts else "it hurts nowhere."
    if falls:
        words += (
            f" Where least is learned, the sum of both parts may still fall ({', '.join(falls)}), for the weights shrink: look "
            "at the part of the data alone."
        )
    return Judgement(
        "N2.1c",
        "λ is one more thing to choose: too large a one, and nothing is learned.",
        all(learned(row) <= LEARNED for row in worst.values()),
        words,
    )


def learned(row: Row) -> float:
    """Share of the constant guess's loss that was removed; none of it by a run that was lost."""
    removed = float(row["removed_fraction"])
    return 0.0 if math.isnan(removed) else removed


def hurts(row: Row, without: Row) -> bool:
    """True if the data's loss ends above that without a penalty, by more than a tenth of what was removed there and by more
    than the seeds differ. A loss that is no number hurts."""
    allowed = max(NEAR * (without["start"] - without["data_end"]), row["data_end_spread"] + without["data_end_spread"])
    return not row["data_end"] - without["data_end"] <= allowed


def hurts_from(rows: Sequence[Row]) -> float | None:
    """The least strength that hurts."""
    return next((float(row["strength"]) for row in rows[1:] if hurts(row, rows[0])), None)
