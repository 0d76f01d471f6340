"""What the runs say about N1.1: the judging half of `finetune`. Pure: rows in, judgements out.

No limit is drawn: of two ways the one is better whose mean accuracy is higher by more than both spread over the seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtrue.lab.experiment import Judgement, Row, Series

SCRATCH, HEAD, DEEP, ONE_RATE = "from scratch", "mode 1", "mode 2", "one rate"


def judge(series: Series) -> tuple[Judgement, ...]:
    """The four parts of the claim."""
    ends = series["ends"]
    return (worth(ends), faster(ends), better(ends), layered(ends))


def worth(ends: Sequence[Row]) -> Judgement:
    counts = counts_of(ends)
    held = all(above(at(ends, n, way), at(ends, n, SCRATCH)) for n in counts for way in (HEAD, DEEP))
    gains = [max(at(ends, n, w)["accuracy"] for w in (HEAD, DEEP)) - at(ends, n, SCRATCH)["accuracy"] for n in counts]
    said = "; ".join(
        f"{n} images a class: {told(at(ends, n, SCRATCH))} from scratch, {told(at(ends, n, HEAD))} in mode 1, "
        f"{told(at(ends, n, DEEP))} in mode 2" for n in counts
    )  # fmt: skip
    return Judgement(
        "N1.1a",
        "A network that others trained is worth standing on: both modes end better than training from scratch, by more the fewer "
        "images there are.",
        held and gains == sorted(gains, reverse=True),
        f"{said}.",
    )


def faster(ends: Sequence[Row]) -> Judgement:
    """In steps; in seconds of the processor it is told."""
    counts = counts_of(ends)
    held, said = True, []
    for n in counts:
        head, deep = at(ends, n, HEAD), at(ends, n, DEEP)
        held &= deep["step_reached"] is not None and deep["step_reached"] < head["step_reached"]
        said.append(f"{n} images: {arrives(deep)}, mode 1 {arrives(head)}")
    return Judgement(
        "N1.1b",
        "Mode 2 converges faster than mode 1: it reaches the accuracy that mode 1 ends with in fewer steps.",
        held,
        f"mode 2 gets there {'; '.join(said)} (mode 1 has computed its features once).",
    )


def better(ends: Sequence[Row]) -> Judgement:
    counts = counts_of(ends)
    pairs = [(at(ends, n, DEEP), at(ends, n, HEAD)) for n in counts]
    said = ", ".join(f"{n}: {100 * (d['accuracy'] - h['accuracy']):+.1f}" for n, (d, h) in zip(counts, pairs))
    return Judgement(
        "N1.1c",
        "Mode 2 ends better than mode 1, at every number of images.",
        all(above(deep, head) for deep, head in pairs),
        f"percentage points of mode 2 over mode 1 by images a class: {said}; {surely(counts, pairs)}.",
    )


def layered(ends: Sequence[Row]) -> Judgement:
    counts = counts_of(ends)
    pairs = [(at(ends, n, DEEP), at(ends, n, ONE_RATE)) for n in counts]
    said = ", ".join(
        f"{n}: {told(deep)} against {told(one)}" for n, (deep, one) in zip(counts, pairs)
    )  # fmt: skip
    return Judgement(
        "N1.1d",
        "It takes low rates in front and higher ones behind: with one rate for all layers the same network ends worse.",
        all(above(deep, one) for deep, one in pairs),
        f"by images a class, {said}; {surely(counts, pairs)}.",
    )


def surely(counts: Sequence[int], pairs: Sequence[tuple[Row, Row]]) -> str:
    sure = [str(n) for n, (one, other) in zip(counts, pairs) if above(one, other)]
    return (
        f"by more than the spread of the seeds at {', '.join(sure)}"
        if sure
        else "nowhere by more than the spread of the seeds"
    )


def above(one: Row, other: Row) -> bool:
    return bool(one["accuracy"] - other["accuracy"] > one["accuracy_spread"] + other["accuracy_spread"])


def arrives(row: Row) -> str:
    if row["step_reached"] is None:
        return "never"
    return f"after {row['step_reached']} steps and {row['second_reached']:.1f} s"


def counts_of(ends: Sequence[Row]) -> list[int]:
    return list(dict.fromkeys(row["images"] for row in ends))


def at(ends: Sequence[Row], images: int, way: str) -> Row:
    return next(row for row in ends if (row["images"], row["way"]) == (images, way))


def told(row: Row) -> str:
    return f"{row['accuracy']:.1%} ± {row['accuracy_spread']:.1%}"
