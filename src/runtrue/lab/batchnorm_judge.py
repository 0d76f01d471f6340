"""What the runs say about N1.6: the judging half of `batchnorm`. Pure: rows in, judgements out.

Every limit lies between what was measured at the defaults (`runtrue lab batchnorm`, seeds 0 to 2) and what the opposite would
give, where there is such a gap; what does not hold in the measurement is reported so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from runtrue.curves import end, lost_at
from runtrue.lab.experiment import Judgement, Row, Series
from runtrue.lab.training import CONSTANT
from runtrue.rates import LEARNED

FLOWS = 10.0
"""Gradient at the first layer over that at the last, or its inverse, up to which it flows through the layers. Measured with
normalization 6.2, without 1.0 (He), 3.5e-4 (torch) and 4e-11 (N(0, 0.01²))."""
EXPLODES = math.sqrt(math.pi / (math.pi - 1))
"""Growth of the gradient's norm a layer, back through normalized ReLUs of unlimited width (Yang et al. 2019, "A Mean Field
Theory of Batch Normalization", section 3). Measured 1.22."""
WORKS = 0.5
"""Share of a constant guess's loss that a run has to remove, at least, for its learning rate or its first weights to work. In the
three epochs of a run the best removes 0.75."""
HALF = math.sqrt(10.0)
"""Rates and scales stand half a decade apart."""
WIDER = 1.0
"""Decades by which a range of scales is wider, at least, for the first weights to matter less. Measured 3 (7 of half a decade
against 1)."""
ROUNDED = 0.95
"""What is left of a step between settings that are written with two digits: from 0.0032 to 0.01 it is 3.125."""
ABOUT = (0.2, 0.4)
"""Extra time that is "about 30 %". Measured 0.44 with ten layers of 100 units, 0.11 of 500, 0.20 in plain-20."""
FASTER = 1.1
"""Times as fast, at least, for it to be worth it (and at most the inverse for it not to be). Measured 0.45 and 0.79 where the
first weights fit, infinite where without it nothing is learned."""
SMOOTH = 0.02
"""Share of a curve over whose losses a mean is taken to see when it came down to a level."""

WorthIt = Literal["worth it", "not worth it", "no matter"]


def judge(series: Series) -> tuple[Judgement, ...]:
    """The six parts of the claim."""
    return (
        flow(series["gradients"]),
        rates(series["rates"], series["rates-norm"]),
        weights(series["scales"], series["scales-norm"]),
        regularizes(series["dropout"]),
        cost(series["time"]),
        depends(series["worth"]),
    )


# -- a: gradients


def flow(rows: Sequence[Row]) -> Judgement:
    kinds = [key for key in rows[0] if key != "layer" and not key.endswith("_norm")]
    kept = {key: (gradient_kept(rows, key), gradient_kept(rows, f"{key}_norm")) for key in kinds}
    told = [f"{NAMES[key]} it is {few(without)} ({few(normed)} with)" for key, (without, normed) in kept.items()]
    held = all(flows(normed) for _, normed in kept.values()) and any(not flows(without) for without, _ in kept.values())
    fine = [NAMES[key] for key, (without, _) in kept.items() if flows(without)]
    return Judgement(
        "N1.6a",
        "With batch normalization gradients flow better through a deep network.",
        held,
        f"the gradient at layer 1 over that at layer {rows[-1]['layer']}, before training: {', '.join(told)}; it flows from "
        f"{1 / FLOWS:g} to {FLOWS:g}."
        + (f" There is nothing to repair {' and '.join(fine)}." if fine else "")
        + growth(rows),
    )


def growth(rows: Sequence[Row]) -> str:
    """With it the gradient is not level either: it grows towards the front, by a factor that theory gives."""
    grows = gradient_kept(rows, "he_norm") ** (1 / max(1, len(rows) - 1))
    return (
        f" With it, it grows {grows:.2f}-fold a layer on its way back (ReLU, wide layers, by theory: {EXPLODES:.2f})."
    )


NAMES = {"he": "with He's weights", "torch": "with weights as torch draws them", "small": "with weights N(0, 0.01²)"}


def gradient_kept(rows: Sequence[Row], key: str) -> float:
    return float(rows[0][key] / rows[-1][key]) if rows[-1][key] else 0.0


def flows(kept: float) -> bool:
    return 1 / FLOWS <= kept <= FLOWS


# -- b and c: what works


def rates(without: Sequence[Row], normed: Sequence[Row]) -> Judgement:
    ranges = working(without, "rate"), working(normed, "rate")
    (plain, _), (with_norm, _) = best(without), best(normed)
    return Judgement(
        "N1.6b",
        "Higher learning rates work.",
        bool(ranges[0] and ranges[1]) and ranges[1][-1] >= ROUNDED * HALF * ranges[0][-1],
        f"without it {in_words(ranges[0], 'rates')}, with it {in_words(ranges[1], 'rates')} (works: for every seed at least "
        f"{WORKS:.0%} of a constant guess's loss is removed). The best rate goes from {shown(plain)} to {shown(with_norm)}.",
    )


def weights(without: Sequence[Row], normed: Sequence[Row]) -> Judgement:
    ranges = working(without, "scale"), working(normed, "scale")
    return Judgement(
        "N1.6c",
        "The result depends less on the initial weights.",
        decades(ranges[1]) - decades(ranges[0]) >= ROUNDED * WIDER,
        f"He's weights times a factor, each network at the best rate that it has at 1: without it "
        f"{in_words(ranges[0], 'factors')}, with it {in_words(ranges[1], 'factors')}.",
    )


def working(rows: Sequence[Row], key: str) -> list[float]:
    """The settings at which every seed learned: the longest run of neighbours, so that a lucky one far off is none."""
    runs: list[list[float]] = [[]]
    for row in rows:
        if works(row):
            runs[-1].append(float(row[key]))
        else:
            runs.append([])
    return max(runs, key=len)


def works(row: Row) -> bool:
    return all(CONSTANT - one >= WORKS * CONSTANT for one in row["end_by_seed"])


def best(rows: Sequence[Row]) -> tuple[float, float]:
    """The rate that ends lowest, as a mean over the seeds, and where it ends. A run that was lost ends nowhere."""
    ends = [(math.inf if math.isnan(row["end"]) else row["end"], row["rate"]) for row in rows]
    least, rate = min(ends)
    return float(rate), float(least)


def decades(values: Sequence[float]) -> float:
    """The width of a range of settings half a decade apart, each of which stands for a quarter of a decade on either side."""
    return math.log10(values[-1] / values[0]) + 0.5 if values else 0.0


def in_words(values: Sequence[float], what: str) -> str:
    if not values:
        return f"no {what} work"
    return f"{what} from {shown(values[0])} to {shown(values[-1])} work ({len(values)} of half a decade each)"


# -- d: instead of dropout


def regularizes(rows: Sequence[Row]) -> Judgement:
    networks = list(dict.fromkeys(row["network"] for row in rows))
    by_kind = {name: {row["kind"]: row for row in rows if row["network"] == name} for name in networks}
    return Judgement(
        "N1.6d",
        "It acts as a regularizer: the gap between training and validation is smaller, and there is less need for dropout.",
        all(narrower(kinds) and enough(kinds) for kinds in by_kind.values()),
        ". ".join(f"{name}: {regularized_in_words(kinds)}" for name, kinds in by_kind.items()) + ".",
    )


def narrower(kinds: dict[str, Row]) -> bool:
    """True if the gap is smaller than without, by more than the seeds differ."""
    return less(kinds["norm"], kinds["none"], "gap")


def enough(kinds: dict[str, Row]) -> bool:
    """True if no network with dropout validates better than the one with batch normalization alone."""
    return not any(less(kinds["norm"], kinds[kind], "val") for kind in ("dropout", "both"))


def less(one: Row, other: Row, key: str) -> bool:
    """True if the mean of the one is below that of the other by more than both spread over the seeds."""
    spread = one[f"{key}_spread"] + other[f"{key}_spread"]
    return bool(other[f"{key}_fraction"] - one[f"{key}_fraction"] > spread)


def regularized_in_words(kinds: dict[str, Row]) -> str:
    gaps = ", ".join(f"{said} {kinds[kind]['gap_fraction']:.1%}" for kind, said in KINDS.items())
    vals = ", ".join(f"{kinds[kind]['val_fraction']:.1%}" for kind in KINDS)
    smaller = "smaller" if narrower(kinds) else "not smaller"
    need = "no gain from dropout beside it" if enough(kinds) else "dropout still gains"
    return f"the gap is {gaps}; the validation accuracy {vals}: with it the gap is {smaller}, and {need}"


KINDS = {"none": "with neither", "norm": "with batch normalization", "dropout": "with dropout", "both": "with both"}


# -- e: time


def cost(rows: Sequence[Row]) -> Judgement:
    deep = [row for row in rows if row["deep"]]
    others = [row for row in rows if not row["deep"]]
    return Judgement(
        "N1.6e",
        "In front of every activation of a deep network it costs about 30 % more time.",
        all(ABOUT[0] <= row["ratio"] - 1 <= ABOUT[1] for row in deep),
        f"a step takes {extra(deep)} more time in deep networks, {extra(others)} in others ({ABOUT[0]:.0%} to {ABOUT[1]:.0%} "
        "would be about 30 %). The wider the layers, the less: their work grows with the square of the width.",
    )


def extra(rows: Sequence[Row]) -> str:
    return ", ".join(f"{row['ratio'] - 1:.0%} ({row['network']})" for row in rows)


# -- f: is it worth it


@dataclass(frozen=True)
class Speed:
    """How many times as fast a network gets to where both get, counted in steps and in seconds; inf if the other is lost."""

    level: float
    by_step: float
    by_second: float


def speed(without: Sequence[float], normed: Sequence[float], ratio: float, constant: float) -> Speed:
    """Compare two loss curves of as many steps, one of a network whose step takes `ratio` times as long.

    The level is the higher of the two ends: the loss to which both came. Where only one learned, it wins: `constant` is the loss
    of a constant guess.

    >>> slow, fast = [1 - 0.005 * step for step in range(100)], [1 - 0.01 * step for step in range(100)]
    >>> found = speed(slow, fast, ratio=1.25, constant=1.0)
    >>> round(found.by_step, 1), round(found.by_second, 1)
    (1.9, 1.5)
    """
    one, other = (lost_at(curve) is None and learned(end(curve), constant) for curve in (without, normed))
    if not (one and other):
        times = 1.0 if one == other else math.inf if other else 0.0
        return Speed(math.nan, times, times)
    level = max(end(without), end(normed))
    times = arrival(without, level) / arrival(normed, level)
    return Speed(level, times, times / ratio)


def learned(loss: float, constant: float) -> bool:
    """True if more than what noise could do was removed of a constant guess's loss."""
    return loss < (1 - LEARNED) * constant


def arrival(losses: Sequence[float], level: float) -> int:
    """The steps after which the loss, as a mean over a few of them, was down at this level; all of them if it never was."""
    size = max(1, round(SMOOTH * len(losses)))
    places = range(len(losses) - size + 1)
    return next((at + size for at in places if fmean(losses[at : at + size]) <= level), len(losses))


def verdict(speeds: Sequence[float]) -> WorthIt:
    """Of one network: what all seeds say, by the clock."""
    if all(times >= FASTER for times in speeds):
        return "worth it"
    return "not worth it" if all(times <= 1 / FASTER for times in speeds) else "no matter"


def depends(rows: Sequence[Row]) -> Judgement:
    told = [f"{row['network']}: {worth_in_words(row)}" for row in rows]
    return Judgement(
        "N1.6f",
        "Whether it is worth it depends on the case.",
        {row["verdict"] for row in rows} >= {"worth it", "not worth it"},
        f"{'. '.join(told)}. Each network at its best rate; worth it: for every seed at least {FASTER:g} times as fast by the "
        "clock. Weights are He's, or where it says so as torch draws them.",
    )


def worth_in_words(row: Row) -> str:
    accuracy = f"validation accuracy {row['val_fraction']:.1%} without, {row['norm_val_fraction']:.1%} with"
    if row["least"] == math.inf:
        return f"{row['verdict']}, without it nothing is learned ({accuracy})"
    if row["most"] == 0:
        return f"{row['verdict']}, with it nothing is learned ({accuracy})"
    seeds = f", by seed {few(row['least'])} to {few(row['most'])}" if row["most"] > row["least"] else ""
    return (
        f"{row['verdict']}, with it the loss is where both get {few(row['by_step'])} times as fast by steps and "
        f"{few(row['by_second'])} times by the clock{seeds} ({accuracy})"
    )


def few(value: float) -> str:
    return f"{value:.2g}".replace("e-0", "e-").replace("e+0", "e")


def shown(rate: float) -> str:
    """0.0032, 0.32, 10."""
    return f"{rate:.2g}"
