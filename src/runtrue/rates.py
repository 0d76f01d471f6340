"""Loss curves of one task at several learning rates: which rate is very high, high, good or low (N3.2), and which to take.

Pure: lists of losses in, words and numbers out. The curves come from the same seed and the same batches, one a rate: they begin
at the same loss, and what a batch adds to one it adds to all. Tails are compared, never single steps; a gain has to be larger
than the noise of both tails could make it.

>>> curves = [RateCurve(rate, tuple((1 - rate) ** (2 * step) for step in range(50))) for rate in (0.001, 0.5, 2.1)]
>>> judged = judge(curves)  # gradient descent on x²/2, where every rate above 2 diverges
>>> [(curve.rate, curve.verdict) for curve in judged]
[(0.001, 'low'), (0.5, 'good'), (2.1, 'very high')]
>>> suggest(judged).rate
0.5
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Literal

from runtrue.curves import apart, end, lost_at, noise, still_falls, tail, typical_wobble, wobble

Verdict = Literal["very high", "high", "good", "low", "unclear"]
"""The four curves of N3.2; "unclear" where no rate learned anything, or a curve ends too early to tell."""

LEAST_STEPS = 5
"""Losses that a curve needs: three of them are its tail. A curve that was lost may be as short as it likes."""
SIGMAS = 4.0
"""Standard errors by which two ends must differ. The losses of a run hang together, so that 2 would be too few. With 4, runs to
the same end are all good, whatever their noise (tests/test_rates.py)."""
NEAR = 0.1
"""Share of what the best rate removed that a good one may lack. Of curves of 100 steps, three to four of nine rates over four
decades are then good. Of these the one that ends lowest lacks 0.6 % (at most 4 %) of the best in runs three times as long, the
lowest rate 1.8 % (5 %), and 5 % (14 %) if this were 0.2 (bench/learning_rates.py: 4 tasks, 2 seeds)."""
LEARNED = 0.05
"""Share of the loss at the start (or of the best constant guess) that the best rate has to remove: under it none learned. In
100 steps the best rate removed at least 0.74 of it on tasks that learn, and at most 0.025 where labels were shuffled, 0.000 where
the network was dead (bench/learning_rates.py: 8 and 12 runs)."""
RISEN = 0.1
"""Share of the start by which a loss that rose ends above it. No curve of a good or a low rate ended above its start at all
(the same bench: 8 sweeps of nine rates)."""
JUMPS = 0.25
"""A tail jumps if a loss differs from the next by this share of all that was removed (as a standard deviation); curves of good
rates jump by up to 0.11 in the same sweeps. And …"""
CALMER = 3.0
"""… by this many times what it does at the calmest lower rate: batches that differ make every curve a band …"""
COMPARABLE = 0.5
"""… of those that removed this share of what it removed itself: the band of a network that has not learned is thin."""


@dataclass(frozen=True)
class RateCurve:
    """The losses of a run at one learning rate, a step each; NaN or infinite where it was lost."""

    rate: float
    losses: tuple[float, ...]

    @property
    def steps(self) -> int:
        return len(self.losses)

    @property
    def lost_at(self) -> int | None:
        """The first step whose loss is no number any more."""
        return lost_at(self.losses)


@dataclass(frozen=True)
class JudgedCurve(RateCurve):
    """The same with its verdict, and the reason for it in words."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Suggestion:
    """A rate to take, and its curve; or None, which means: no reason to leave the rate that you have. And why, in words."""

    rate: float | None
    reason: str
    curve: JudgedCurve | None = None


# -- judging


@dataclass(frozen=True)
class Ground:
    """What the curves are measured against."""

    start: float
    """The loss of the untrained network: of the first batch, or of all of them if the lowest rate left it as it is."""
    wobble: float
    """By how much the loss of a batch depends on the batch."""
    level: float
    """The loss without learning: of the best constant guess, or at the start where that is not known or was better."""
    doubt: float = 0.0
    """Standard error of `level`."""

    def learned(self, loss: float, error: float) -> bool:
        """True if this loss is below what can be had without learning."""
        return self.level - loss > max(LEARNED * abs(self.level), SIGMAS * math.hypot(error, self.doubt))

    @property
    def ceiling(self) -> float:
        return max(self.start, self.level)

    def still(self, losses: Sequence[float]) -> bool:
        """True if the loss is that of the start all along, but for what the batch makes of it."""
        size = len(tail(losses))
        means = (fmean(losses[place : place + size]) for place in range(0, len(losses), size))
        return all(abs(mean - self.start) <= max(LEARNED * abs(self.start), SIGMAS * self.wobble) for mean in means)

    def risen(self, losses: Sequence[float]) -> bool:
        """True if it ends above the start, and above a constant guess: the tail's mean beyond noise, or every loss of it.

        A loss that grows by the same factor each step has a mean as uncertain as it is large.
        """
        clear = max(RISEN * abs(self.ceiling), SIGMAS * self.wobble)
        rise = end(losses) - self.ceiling
        return (
            rise > max(clear, SIGMAS * math.hypot(noise(losses), self.wobble))
            or min(tail(losses)) > self.ceiling + clear
        )


def judge(curves: Iterable[RateCurve], constant: float | None = None) -> tuple[JudgedCurve, ...]:
    """Every curve with its verdict, the lowest rate first.

    constant: the loss of the best constant prediction, where it is known. Curves that end early are compared with what the
    others had reached by the same step.
    Raises ValueError if there is no curve, if two have the same rate, or if one is too short to be judged.
    """
    ordered = sorted(curves, key=lambda curve: curve.rate)
    validate(ordered)
    ground = ground_of(ordered, constant)
    return tuple(JudgedCurve(curve.rate, curve.losses, *verdict(curve, ordered, ground)) for curve in ordered)


def validate(ordered: Sequence[RateCurve]) -> None:
    if not ordered:
        raise ValueError("there is no curve to judge: pass at least one")
    for curve in ordered:
        if not 0 < curve.rate < math.inf:
            raise ValueError(f"a learning rate is a number above 0, got {curve.rate!r}")
        if curve.steps < LEAST_STEPS and curve.lost_at is None:
            raise ValueError(
                f"the curve at rate {curve.rate:g} has {curve.steps} losses and was not lost: at least {LEAST_STEPS} are needed"
            )
    for low, high in pairwise(ordered):
        if low.rate == high.rate:
            raise ValueError(f"two curves have the rate {low.rate:g}: pass one a rate")


def ground_of(ordered: Sequence[RateCurve], constant: float | None) -> Ground:
    """Start and noise of the batches as the lowest rate shows them: it moves least."""
    firsts = [curve.losses[0] for curve in ordered if curve.lost_at != 0]
    start = median(firsts) if firsts else math.nan
    kept = [curve.losses for curve in ordered if curve.lost_at is None]
    wobbles = typical_wobble(kept[0]) if kept else 0.0
    ground = Ground(start, wobbles, start, doubt=wobbles)
    if kept and ground.still(kept[0]):
        start = fmean(kept[0])
        ground = Ground(start, wobbles, start, doubt=wobbles / math.sqrt(len(kept[0])))
    if constant is None or ground.start < constant - SIGMAS * ground.doubt:
        return ground
    return Ground(start, wobbles, constant)


def verdict(curve: RateCurve, ordered: Sequence[RateCurve], ground: Ground) -> tuple[Verdict, str]:
    """The curve against the start, then against what the others had reached when it ended."""
    if curve.lost_at is not None:
        return "very high", f"the loss is {curve.losses[curve.lost_at]:g} at step {curve.lost_at}"
    ended = end(curve.losses)
    if ground.risen(curve.losses):
        return "very high", f"the loss rises from {ground.start:.3g} to {ended:.3g}"
    others = [
        RateCurve(other.rate, other.losses[: curve.steps])
        for other in ordered
        if other.rate != curve.rate and other.lost_at is None and min(other.steps, curve.steps) >= LEAST_STEPS
    ]
    best = min([curve, *others], key=lambda one: end(one.losses))
    if not ground.learned(end(best.losses), noise(best.losses)):
        return without_learning(curve, ordered, ground)
    rivals = [other for other in others if is_above(curve, other, ground.level - end(best.losses))]
    if rivals:
        return behind(curve, rivals, ground)
    jump = wobble(tail(curve.losses))
    if jump > JUMPS * (ground.level - ended) and jump > CALMER * calmest_below(curve, others, ground):
        return "high", f"the loss jumps, by {jump:.2g} from step to step around {ended:.3g}"
    return "good", f"falls from {ground.start:.3g} to {ended:.3g}; no other rate gets clearly lower in as many steps"


def calmest_below(curve: RateCurve, others: Sequence[RateCurve], ground: Ground) -> float:
    """The least wobble of a lower rate that learned about as much; infinite if there is none to compare with."""
    wanted = COMPARABLE * (ground.level - end(curve.losses))
    learned = [other for other in others if other.rate < curve.rate and ground.level - end(other.losses) >= wanted]
    return min((wobble(tail(other.losses)) for other in learned), default=math.inf)


def is_above(curve: RateCurve, other: RateCurve, removed: float) -> bool:
    """True if the curve ended above the other by more than a good rate may, and by more than noise."""
    gap = end(curve.losses) - end(other.losses)
    return gap > max(NEAR * removed, SIGMAS * apart(curve.losses, other.losses))


def behind(curve: RateCurve, rivals: Sequence[RateCurve], ground: Ground) -> tuple[Verdict, str]:
    """Others got lower: those at lower rates say that this one is high, those at higher rates that it is low.

    Where both did, the shape tells: a loss that still falls wants larger steps, one that does not wants smaller ones.
    """
    best = min(rivals, key=lambda other: end(other.losses))
    sides = {other.rate < curve.rate for other in rivals}
    ended, reached = end(curve.losses), f"a rate of {best.rate:.3g} reaches {end(best.losses):.3g}"
    falls = still_falls(curve.losses, SIGMAS)
    if sides == {False} or (len(sides) == 2 and falls):
        if not ground.learned(ended, noise(curve.losses)):
            return "low", f"the loss has hardly moved ({ended:.3g} after {curve.steps} steps), where {reached}"
        return "low", f"the loss {'still falls' if falls else 'stands'} at {ended:.3g}, where {reached}"
    if not ground.learned(ended, noise(curve.losses)):
        peak = max(curve.losses)
        if peak > (1 + RISEN) * abs(ground.ceiling) + SIGMAS * ground.wobble:
            return "very high", f"the loss rises to {peak:.3g} and comes to lie at {ended:.3g}, where {reached}"
        return "high", f"the loss stays up at {ended:.3g}, where {reached}"
    return "high", f"the loss falls, then stays up at {ended:.3g}, where {reached}"


def moves(judged: Sequence[JudgedCurve], constant: float | None = None) -> bool:
    """True if one of the two lowest rates changes the loss: then rates below them are worth a look.

    Of two, since at the very edge of stability weights that jump to and fro leave the loss where it is.
    """
    ground = ground_of(judged, constant)
    return any(curve.lost_at is not None or not ground.still(curve.losses) for curve in judged[:2]) or len(judged) < 2


def without_learning(curve: RateCurve, ordered: Sequence[RateCurve], ground: Ground) -> tuple[Verdict, str]:
    """No rate had learned anything by then: this curve is low only if nothing says that a higher rate fails as well."""
    ended = end(curve.losses)
    if max(other.steps for other in ordered) > curve.steps and any(
        ground.learned(end(other.losses), noise(other.losses)) for other in ordered if other.lost_at is None
    ):
        return "unclear", f"the curve ends after {curve.steps} steps, before any rate had learned"
    beyond = [
        other.rate
        for other in ordered
        if other.rate > curve.rate and (other.lost_at is not None or ground.risen(other.losses))
    ]
    if ground.still(curve.losses) and not beyond:
        return "low", f"the loss has hardly moved: {ended:.3g} after {curve.steps} steps"
    return "unclear", f"the loss ends at {ended:.3g}: nothing is learned, at this rate or at any other"


# -- suggesting


def suggest(judged: Sequence[JudgedCurve], own: float | None = None) -> Suggestion:
    """The rate to take, out of those that were judged.

    own: the rate in use. It is suggested if its curve is good: what works is not exchanged for what might work better.
    """
    good = [curve for curve in judged if curve.verdict == "good"]
    if not good:
        return Suggestion(None, why_none(judged))
    kept = next((curve for curve in good if own is not None and math.isclose(curve.rate, own)), None)
    if kept is not None:
        return Suggestion(kept.rate, f"the rate in use, {kept.rate:.3g}, is good: it {kept.reason}", kept)
    best = min(good, key=lambda curve: end(curve.losses))
    return Suggestion(best.rate, why(best, judged), best)


def holds(
    curve: JudgedCurve, again: Sequence[float], judged: Sequence[JudgedCurve], constant: float | None = None
) -> tuple[bool, str]:
    """Whether a longer run at this curve's rate, on other batches, got as low as the curve promised; and that in words."""
    run = RateCurve(curve.rate, tuple(again))
    if run.lost_at is not None:
        return False, f"at {curve.rate:.3g} the loss is lost at step {run.lost_at} of a longer run"
    if run.steps < LEAST_STEPS:
        return False, f"at {curve.rate:.3g} the checking run was cut off after {run.steps} steps"
    promised, ended = curve.losses[: run.steps], end(run.losses)
    removed = ground_of(judged, constant).level - end(promised)
    allowed = max(NEAR * removed, SIGMAS * math.hypot(noise(promised), noise(run.losses)))
    words = f"at {curve.rate:.3g} the loss reaches {ended:.3g} in {run.steps} steps on other batches"
    if ended - end(promised) <= allowed:
        return True, words
    return False, f"{words}, where {end(promised):.3g} in {len(promised)} steps was promised"


def why(best: JudgedCurve, judged: Sequence[JudgedCurve]) -> str:
    said = f"{best.rate:.3g} gets lowest: {end(best.losses):.3g} after {best.steps} steps"
    if best.rate == max(curve.rate for curve in judged):
        return f"{said}. It is the highest rate tried: a higher one may be better yet"
    if best.rate == min(curve.rate for curve in judged):
        return f"{said}. It is the lowest rate tried: a lower one may be better yet"
    return said


def lost_together(judged: Sequence[RateCurve]) -> int | None:
    """The step at which the two lowest rates are both lost, if it is the same: then a still lower one would be as well."""
    first, second = (curve.lost_at for curve in (sorted(judged, key=lambda curve: curve.rate)[:2] * 2)[:2])
    return first if len(judged) > 1 and first == second else None


def gap(judged: Sequence[JudgedCurve]) -> tuple[float, float] | None:
    """The highest rate that is low, and the lowest above it that is high, where none is good."""
    low = max((curve.rate for curve in judged if curve.verdict == "low"), default=math.nan)
    high = min((curve.rate for curve in judged if curve.rate > low and curve.verdict == "high"), default=math.nan)
    return (low, high) if low < high else None


def why_none(judged: Sequence[JudgedCurve]) -> str:
    """Why there is no rate to suggest, and what to do."""
    low, high = min(curve.rate for curve in judged), max(curve.rate for curve in judged)
    span = f"from {low:.3g} to {high:.3g}" if low < high else f"{low:.3g}"
    said = {curve.verdict for curve in judged}
    if (step := lost_together(judged)) is not None:
        return f"the loss is lost at step {step} however low the rate ({span}): look for values that are not finite instead"
    if said == {"very high"}:
        return f"the loss rises or is lost at every rate tried ({span}): try lower ones; if they fail too, it is not the rate"
    if said == {"low"}:
        return f"no rate tried ({span}) moves the loss: try higher ones"
    if (between := gap(judged)) is not None:
        return f"{between[0]:.3g} is low and {between[1]:.3g} is high: try a rate between them"
    if "high" in said:
        return f"no rate tried ({span}) is calm at the end: try lower ones"
    return f"nothing is learned at any rate tried ({span}): it is not the rate that keeps this network from learning"
