"""What the curves say about N3.2: the judging half of `learning-rates`. Pure: judged curves in, judgements out.

Every limit lies between what was measured at the defaults (`runtrue lab learning-rates`, seeds 0 to 2) and what the opposite
of the claim would give; both stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from runtrue.curves import end, lost_at, tail
from runtrue.lab.experiment import Judgement
from runtrue.rates import JudgedCurve

KINDS = ("very high", "high", "good", "low")
EARLY = 1 / 60
"""Share of the steps after which "falls fast" is read, as a mean over half as many steps on each side: 10 of 600."""
FLAT = 0.1
"""Share of its whole fall that a plateau may still fall in its second half."""
SLOWER = 5.0
"""How many times the steps a low rate takes to get as far as the good one, at least, to fall slowly."""

Curves = Sequence[JudgedCurve]


def judge(runs: Sequence[Curves]) -> tuple[Judgement, ...]:
    """The four parts of the claim. `runs`: for each seed its curves, in the order of KINDS."""
    by_kind = [tuple(curves) for curves in zip(*runs, strict=True)]
    very_high, high, good, low = by_kind
    return (
        Judgement(
            "N3.2a",
            "A very high rate: the loss rises.",
            agreed(very_high, "very high") and all(rises(curve) for curve in very_high),
            f"at {very_high[0].rate:g} {rise_in_words(very_high)}.",
        ),
        Judgement(
            "N3.2b",
            "A high rate: the loss falls fast, then stays up on a plateau.",
            agreed(high, "high") and all(early(h) < early(g) and late_fall(h) <= FLAT for h, g in zip(high, good)),
            f"at {high[0].rate:g} the loss is {mean(high, early)} after {early_steps(high[0])} steps, where the good rate has "
            f"{mean(good, early)}; it ends at {mean(high, end_of)}, where the good rate ends at {mean(good, end_of)}. In its "
            f"second half it makes {percent(max(map(late_fall, high)))} of its fall at most (a plateau: {FLAT:.0%}).",
        ),
        Judgement(
            "N3.2c",
            "A low rate: the loss falls slowly, and wastes the machine.",
            agreed(low, "low") and all(slower(a, g) >= SLOWER for a, g in zip(low, good)),
            f"at {low[0].rate:g} it ends at {mean(low, end_of)} after {low[0].steps} steps, and the good rate was there after "
            f"{fmean(arrival(g, end_of(a)) for a, g in zip(low, good)):.0f}; over the seeds it is at least "
            f"{few(min(slower(a, g) for a, g in zip(low, good)))} times as slow (slowly: from {SLOWER:g} times).",
        ),
        Judgement(
            "N3.2d",
            "A good rate: the loss falls fast and reaches the bottom.",
            agreed(good, "good") and all(lowest(curves) == curves[KINDS.index("good")].rate for curves in runs),
            f"at {good[0].rate:g} it falls from {mean(good, start_of)} to {mean(good, end_of)}; the next lowest of the four "
            f"rates ends at {few(fmean(next_lowest(curves) for curves in runs))}.",
        ),
    )


def agreed(curves: Curves, verdict: str) -> bool:
    """True if the judge gave this verdict for every seed."""
    return all(curve.verdict == verdict for curve in curves)


def rises(curve: JudgedCurve) -> bool:
    return curve.lost_at is not None or end(curve.losses) > curve.losses[0]


def rise_in_words(curves: Curves) -> str:
    lost = [str(curve.lost_at) for curve in curves if curve.lost_at is not None]
    kept = [end_of(curve) for curve in curves if curve.lost_at is None]
    said = [f"the loss is lost in {len(lost)} of {len(curves)} runs (at step {', '.join(lost)})"] if lost else []
    if kept:
        ends = few(kept[0]) if len(kept) == 1 else f"between {few(min(kept))} and {few(max(kept))} ({len(kept)} seeds)"
        said.append(f"the loss goes from {mean(curves, start_of)} to {ends}")
    return "; ".join(said)


def early_steps(curve: JudgedCurve) -> int:
    return max(1, round(EARLY * curve.steps))


def early(curve: JudgedCurve) -> float:
    """The loss soon after the start, a mean over the steps around; infinite if it was lost by then."""
    at = early_steps(curve)
    seen = curve.losses[at // 2 : at + at // 2 + 1]
    return fmean(seen) if len(seen) > at and lost_at(seen) is None else math.inf


def late_fall(curve: JudgedCurve) -> float:
    """Share of the fall from the first loss that came in the second half; infinite if there was no fall."""
    if curve.lost_at is not None:
        return math.inf
    size = len(tail(curve.losses)) // 2 or 1
    half = curve.steps // 2
    middle, whole = fmean(curve.losses[half - size : half + size]), curve.losses[0] - end(curve.losses)
    return max(0.0, middle - end(curve.losses)) / whole if whole > 0 else math.inf


def arrival(curve: JudgedCurve, loss: float) -> float:
    """The steps in which a curve came as low as this loss, by means over 2 % of the steps; infinite if it never did."""
    size = max(1, curve.steps // 50)
    places = range(0 if curve.lost_at is not None else curve.steps - size + 1)
    return next((place + size for place in places if fmean(curve.losses[place : place + size]) <= loss), math.inf)


def slower(low: JudgedCurve, good: JudgedCurve) -> float:
    """Steps of the low curve over those in which the good one came as far."""
    return low.steps / arrival(good, end_of(low))


def lowest(curves: Curves) -> float:
    return min(curves, key=end_or_inf).rate


def next_lowest(curves: Curves) -> float:
    return sorted(map(end_or_inf, curves))[1]


def end_or_inf(curve: JudgedCurve) -> float:
    return math.inf if curve.lost_at is not None else end(curve.losses)


def start_of(curve: JudgedCurve) -> float:
    return curve.losses[0]


def end_of(curve: JudgedCurve) -> float:
    return math.nan if curve.lost_at is not None else end(curve.losses)


def mean(curves: Curves, reading: Callable[[JudgedCurve], float]) -> str:
    return few(fmean(map(reading, curves)))


def few(value: float) -> str:
    return f"{value:.3g}"


def percent(value: float) -> str:
    return f"{value:.0%}" if math.isfinite(value) else "none"
