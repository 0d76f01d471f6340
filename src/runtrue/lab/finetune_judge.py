"""What the runs say about N1.1: the judging half of `finetune`. Pure: rows in, judgements out.

The ways are compared seed by seed, since those of one seed have the same images. One seed alone says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from runtrue.lab.experiment import Judgement, Row, Series
from runtrue.lab.momentum_judge import clearly_lower

SCRATCH, HEAD, DEEP = "from scratch", "mode 1", "mode 2"
ONE_HIGH, ONE_LOW = "one high rate", "one low rate"


def judge(series: Series) -> tuple[Judgement, ...]:
    """The five parts of the claim."""
    ends = series["ends"]
    return (
        worth(ends),
        faster(ends, "epoch", "N1.1b", "Mode 2 converges in fewer epochs than mode 1"),
        faster(ends, "second", "N1.1c", "Mode 2 converges in less time of the processor than mode 1"),
        better(ends),
        layered(ends),
    )


def worth(ends: Sequence[Row]) -> Judgement:
    counts = counts_of(ends)
    sure = {way: [n for n in counts if above(at(ends, n, way), at(ends, n, SCRATCH))] for way in (HEAD, DEEP)}
    said = "; ".join(
        f"{n} images a class: {told(at(ends, n, SCRATCH))} from scratch, {told(at(ends, n, HEAD))} in mode 1, "
        f"{told(at(ends, n, DEEP))} in mode 2" for n in counts
    )  # fmt: skip
    return Judgement(
        "N1.1a",
        "A network that others trained is worth standing on: both modes end better than training from scratch.",
        all(found == counts for found in sure.values()),
        f"{said}. {beyond(f'Better by more than chance is mode 1 {where(sure[HEAD])}, mode 2 {where(sure[DEEP])}', ends)}.",
    )


def faster(ends: Sequence[Row], key: str, code: str, claim: str) -> Judgement:
    """key: "epoch" or "second", at which mode 1's own end was reached, by seed."""
    counts = counts_of(ends)
    sure = [n for n in counts if sooner(at(ends, n, DEEP), at(ends, n, HEAD), key)]
    said = "; ".join(
        f"{n} images a class: mode 2 {arrivals(at(ends, n, DEEP), key)}, mode 1 {arrivals(at(ends, n, HEAD), key)}"
        for n in counts
    )
    return Judgement(
        code,
        f"{claim}: it comes to the accuracy that mode 1 ends with, in every seed.",
        sure == counts,
        f"seed by seed, {said}. {beyond(f'Sooner in every seed {where(sure)}', ends)}.",
    )


def better(ends: Sequence[Row]) -> Judgement:
    counts = counts_of(ends)
    sure = [n for n in counts if above(at(ends, n, DEEP), at(ends, n, HEAD))]
    said = "; ".join(f"{n} images a class: {gains(at(ends, n, DEEP), at(ends, n, HEAD))}" for n in counts)
    return Judgement(
        "N1.1d",
        "Mode 2 ends better than mode 1.",
        sure == counts,
        f"percentage points of mode 2 over mode 1, seed by seed: {said}. "
        f"{beyond(f'Better by more than chance {where(sure)}', ends)}.",
    )


def layered(ends: Sequence[Row]) -> Judgement:
    counts = counts_of(ends)
    sure = [n for n in counts if all(above(at(ends, n, DEEP), at(ends, n, one)) for one in (ONE_HIGH, ONE_LOW))]
    said = "; ".join(
        f"{n} images a class: {told(at(ends, n, DEEP))}, with one rate for all {told(at(ends, n, ONE_HIGH))} (that of what is "
        f"new) and {told(at(ends, n, ONE_LOW))} (that of the last kept layer)" for n in counts
    )  # fmt: skip
    return Judgement(
        "N1.1e",
        "It takes low rates in front and higher ones behind: with one rate for all layers, high or low, the network ends worse.",
        sure == counts,
        f"{said}. {beyond(f'Better than both by more than chance {where(sure)}', ends)}.",
    )


def above(one: Row, other: Row) -> bool:
    """True if every seed says so, and their mean difference is three standard errors off 0."""
    return clearly_lower(other["accuracy_by_seed"], one["accuracy_by_seed"])


def sooner(one: Row, other: Row, key: str) -> bool:
    pairs = list(zip(one[f"{key}_by_seed"], other[f"{key}_by_seed"], strict=True))
    return len(pairs) > 1 and all(a is not None and b is not None and a < b for a, b in pairs)


def gains(one: Row, other: Row) -> str:
    pairs = zip(one["accuracy_by_seed"], other["accuracy_by_seed"], strict=True)
    points = [100 * (a - b) for a, b in pairs]
    return f"{fmean(points):+.1f} ({', '.join(f'{each:+.1f}' for each in points)})"


def arrivals(row: Row, key: str) -> str:
    """`at epoch 2, 3.1 and never`, `after 0.2, 0.4 and 0.3 s`: one a seed."""
    *first, last = ["never" if value is None else f"{value:.2g}" for value in row[f"{key}_by_seed"]]
    if {*first, last} == {"never"}:
        return "never"
    each = f"{', '.join(first)} and {last}" if first else last
    return f"at epoch {each}" if key == "epoch" else f"after {each} s"


def where(counts: Sequence[int]) -> str:
    return f"at {', '.join(map(str, counts))}" if counts else "nowhere"


def beyond(words: str, ends: Sequence[Row]) -> str:
    """What is said of chance; of a single seed, that it tells nothing of it."""
    return words if len(ends[0]["accuracy_by_seed"]) > 1 else "One seed alone cannot tell that from chance"


def counts_of(ends: Sequence[Row]) -> list[int]:
    return list(dict.fromkeys(row["images"] for row in ends))


def at(ends: Sequence[Row], images: int, way: str) -> Row:
    return next(row for row in ends if (row["images"], row["way"]) == (images, way))


def curve_name(what: str, images: int, way: str) -> str:
    """Under which the experiment keeps the curves of all seeds; what: "epoch", "second" or "accuracy", a number a look each."""
    return f"{what} of {way}, {images} images a class"


def told(row: Row) -> str:
    return f"{row['accuracy']:.1%} ± {row['accuracy_spread']:.1%}"
