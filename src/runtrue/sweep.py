"""One task at several learning rates: judge the curves, suggest a rate, and check that rate by a longer run.

A range test alone misleads: a rate that looks best over a few steps may not hold, or not on other batches. So the rate
suggested here has been run again, longer, on other batches, and from other weights where the task can draw them; the curve of
that run is returned.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from runtrue import optimizers, rates, trials
from runtrue.curves import end
from runtrue.racing import race
from runtrue.rates import JudgedCurve, RateCurve, Suggestion
from runtrue.sandbox import Sandbox
from runtrue.task import Task, TaskError
from runtrue.trials import Curve

STEPS = 100
"""Of each curve: as many as a trial has."""
LEAST_STEPS = 20
"""With fewer, noise decides: then rather fewer rates."""
DECADES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Factors of the task's own rate. Where the best of them is at the edge, more follow, and half decades around it."""
HALF = 10.0**0.5
SLACK = 1.05
"""Ratios within this are the same: rates are written with two or three digits."""
STRIDE = 100.0
"""How far to go at once while no rate moves the loss: such rates are many decades too low."""
MOST = 14
"""Curves of one sweep. Ten decades and the half ones around the best fit in."""
LONGER = 3
"""The checking run has this many times the steps of a curve, where the plan is that long."""
RETRIES = 2
"""Rates that are checked after the first, each the next lower one, before the answer is that none holds."""
ELSEWHERE = 1
"""Added to the seed for the checking run."""
FROM_ZERO = 0.01
"""Where to begin with a task whose own rate is 0: between the usual rates of Adam and of SGD."""

Treatment = Callable[[Task], Task]


@dataclass(frozen=True)
class Sweep:
    """The judged curves, the lowest rate first; the rate to take; and the run that checked it."""

    own: float
    """The task's own rate (of its first parameter group)."""
    curves: tuple[JudgedCurve, ...]
    suggestion: Suggestion
    proof: Curve | None = None
    """The longer run at the suggested rate; None if there was no rate, or no time. If none held, the last one."""
    constant: float | None = None
    seconds: float = 0.0

    @property
    def of_own(self) -> JudgedCurve | None:
        """The curve at the task's own rate."""
        return next((curve for curve in self.curves if same(curve.rate, self.own)), None)


@dataclass(frozen=True)
class Rig:
    """What every run of a sweep shares, and the curves so far, by factor of `base`."""

    box: Sandbox
    treat: Treatment | None
    base: float
    fixed: bool
    """Set the rate itself in every group, since a rate of 0 cannot be multiplied."""
    deadline: float
    constant: float | None
    curves: dict[float, Curve] = field(default_factory=dict)

    def treated(self, factor: float) -> Treatment:
        def apply(task: Task) -> Task:
            task = self.treat(task) if self.treat else task
            make = task.optimizer or optimizers.adam
            at = optimizers.at_rate(make, self.base * factor) if self.fixed else optimizers.with_rate(make, factor)
            return task.replace(optimizer=at)

        return apply

    def train(self, factors: Iterable[float], steps: int) -> None:
        """The curves at these factors that are not there yet, side by side; as many as there is time for before the check."""
        wanted = [factor for factor in factors if factor not in self.curves]
        each = self.pace * steps
        if each and self.left < math.inf:
            wanted = wanted[: max(0, int(self.left / each) - LONGER)]
        if wanted:
            found = race(self.box, [self.treated(factor) for factor in wanted], steps=steps, deadline=self.deadline)
            self.curves.update(zip(wanted, found, strict=True))

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    @property
    def pace(self) -> float:
        """Seconds a step."""
        return max((curve.seconds / curve.steps for curve in self.curves.values() if curve.steps), default=0.0)

    def judged(self) -> tuple[JudgedCurve, ...]:
        """The curves so far, without those that time cut too short."""
        found = [RateCurve(self.base * factor, curve.losses) for factor, curve in self.curves.items()]
        kept = [
            curve for curve in found if curve.steps >= rates.LEAST_STEPS or (curve.steps and curve.lost_at is not None)
        ]
        return rates.judge(kept, self.constant) if kept else ()


def sweep(
    box: Sandbox,
    *,
    constant: float | None = None,
    steps: int = STEPS,
    factors: Iterable[float] = DECADES,
    treat: Treatment | None = None,
    own: Curve | None = None,
    plan: int | None = None,
    deadline: float = math.inf,
) -> Sweep:
    """Train the task in the box at its own learning rate times each factor, judge the curves, suggest, and check.

    constant: the loss of the best constant prediction, where it is known. treat: what is done to the task first.
    own: the curve at the task's own rate, if it was run before in this box, treated alike. plan: steps that the user means to
    train; the check is no longer. deadline: `time.monotonic()` by which to be done: with little time the curves get shorter,
    then fewer. The task is left as it was at the start.
    Raises ValueError for a factor that is not above 0 or fewer than LEAST_STEPS steps, TaskError if the optimizer has no
    learning rate, or the untreated task cannot take its first step.
    """
    begin = time.monotonic()
    wanted = ordered(factors)
    if steps < rates.LEAST_STEPS:
        raise ValueError(f"a curve needs at least {rates.LEAST_STEPS} steps to be judged, got steps={steps}")
    rate = rate_in_use(box, treat)
    rig = Rig(box, treat, rate or FROM_ZERO, rate == 0, deadline, constant)
    steps = begin_with(rig, own, wanted, steps)
    rig.train(wanted, steps)
    explore(rig, steps)
    judged = rig.judged()
    if not judged:
        return Sweep(rate, (), Suggestion(None, "there was no time to train at any rate: give a larger budget"))
    suggestion, proof = check(rig, judged, rates.suggest(judged, rate), proof_steps(steps, plan))
    return Sweep(rate, judged, suggestion, proof, constant, time.monotonic() - begin)


def ordered(factors: Iterable[float]) -> list[float]:
    """From the task's own rate outwards: what time cuts off is what tells least."""
    wanted = sorted({1.0, *factors}, key=lambda factor: (abs(math.log(factor)) if factor > 0 else math.inf, factor))
    if not all(0 < factor < math.inf for factor in wanted):
        raise ValueError(f"a factor of the learning rate is a number above 0, got {wanted[-1]!r}")
    return wanted


def rate_in_use(box: Sandbox, treat: Treatment | None) -> float:
    task = box.start()
    optimizer = box.optimizer(treat(task) if treat else task)
    box.start()
    rate = optimizers.rate(optimizer)
    if not 0 <= rate < math.inf:
        raise TaskError(f"the optimizer ({type(optimizer).__name__}) has no learning rate to vary: {rate!r}")
    return rate


def begin_with(rig: Rig, own: Curve | None, wanted: Sequence[float], steps: int) -> int:
    """The first curve, at the task's own rate, and how many steps the others can have in the time there is."""
    share = rig.left / (len(wanted) + 2 + LONGER)
    if own is None:
        treat = rig.treated(1.0) if rig.treat or rig.fixed else None  # untreated, a task that cannot be trained says so
        own = trials.run(rig.box, treat, steps=steps, deadline=min(rig.deadline, time.monotonic() + share))
    rig.curves[1.0] = own.first(steps)
    if not own.diverged and own.steps < steps:
        return own.steps
    affordable = share / rig.pace if rig.pace else math.inf
    return steps if affordable >= steps else min(steps, max(LEAST_STEPS, int(affordable)))


def explore(rig: Rig, steps: int) -> None:
    """More rates, one or two at a time, as the curves so far ask for them."""
    while len(rig.curves) < MOST:
        before = len(rig.curves)
        asked = next_rates(rig.judged(), rig.constant)
        rig.train([rate / rig.base for rate in asked], steps)
        if len(rig.curves) == before:
            return


def next_rates(judged: Sequence[JudgedCurve], constant: float | None = None) -> list[float]:
    """Rates that the curves leave open: beyond the edge if the best is there, else half a decade on each side of it.

    Where none is good: one between low and high; else lower ones, until one is lost like the one above it, or two do not
    move the loss at all: then it is not the rate. Higher ones only while none of those tried moves it, or the highest begins to.
    """
    good = [curve for curve in judged if curve.verdict == "good"]
    if not good:
        return [rate] if judged and (rate := without_good(judged, constant)) is not None else []
    tried = [curve.rate for curve in judged]
    best = min(good, key=lambda curve: end(curve.losses)).rate
    above, below = [rate for rate in tried if rate > best], [rate for rate in tried if rate < best]
    if not above or not below:
        return [best * 10] * (not above) + [best / 10] * (not below)
    far_above, far_below = min(above) > best * HALF * SLACK, max(below) < best / HALF / SLACK
    return [two_digits(best * HALF)] * far_above + [two_digits(best / HALF)] * far_below


def without_good(judged: Sequence[JudgedCurve], constant: float | None) -> float | None:
    """The next rate where none of those tried is good."""
    tried = [curve.rate for curve in judged]
    said, top = {curve.verdict for curve in judged}, max(judged, key=lambda curve: curve.rate)
    if said == {"low"}:
        return top.rate * STRIDE
    if said == {"low", "unclear"} and top.lost_at is None and end(top.losses) < top.losses[0]:
        return top.rate * 10  # the highest begins to move the loss, and not upwards
    if (between := rates.gap(judged)) is not None:
        low, high = between
        return two_digits(math.sqrt(low * high)) if high > low * HALF * SLACK else None
    return min(tried) / 10 if rates.moves(judged, constant) and rates.lost_together(judged) is None else None


def two_digits(rate: float) -> float:
    """As one would write it: 0.063, and not 0.0632455532."""
    return float(f"{rate:.2g}")


def proof_steps(steps: int, plan: int | None) -> int:
    """Longer than a curve where the plan is, at least as long in any case."""
    return max(steps, min(LONGER * steps, plan or LONGER * steps))


def check(
    rig: Rig, judged: Sequence[JudgedCurve], suggested: Suggestion, steps: int
) -> tuple[Suggestion, Curve | None]:
    """Run the suggested rate, and if it does not hold the next lower ones. Returns what held, with the curve of that run."""
    proof: Curve | None = None
    failed: list[str] = []
    candidates = [suggested, *lower(judged, suggested)][: 1 + RETRIES]
    for candidate in candidates:
        if candidate.curve is None or rig.left < rig.pace * steps:
            break
        proof = run_elsewhere(rig, candidate.curve, steps)
        held, words = rates.holds(candidate.curve, proof.losses, judged, rig.constant)
        if held:
            return replace(candidate, reason="; ".join([*failed, f"{candidate.reason}. Checked: {words}"])), proof
        failed.append(words)
    if failed:
        return Suggestion(None, "no rate held in a longer run on other batches: " + "; ".join(failed)), proof
    if suggested.rate is None:
        return suggested, None
    return replace(suggested, reason=f"{suggested.reason}. Not checked by a longer run: there was no time"), None


def lower(judged: Sequence[JudgedCurve], suggested: Suggestion) -> list[Suggestion]:
    """Rates to fall back on, the highest first: good or low, below the one suggested."""
    fit = [c for c in judged if c.verdict in ("good", "low") and suggested.rate is not None and c.rate < suggested.rate]
    return [Suggestion(c.rate, f"{c.rate:.3g} is the next lower rate: {c.reason}", c) for c in reversed(fit)]


def run_elsewhere(rig: Rig, curve: JudgedCurve, steps: int) -> Curve:
    """A run at this curve's rate on other batches, with other random numbers, and from new weights where they can be drawn."""
    apply = rig.treated(curve.rate / rig.base)
    treat = rig.box.redrawn(rig.box.seed + ELSEWHERE, apply) or apply
    seen: list[Task] = []

    def remembered(task: Task) -> Task:
        seen.append(treat(task))
        return seen[-1]

    def batch(step: int) -> Any:
        """Begins behind the last batch of the curves: a loader that holds few batches has no other order."""
        return trials.changed_batches(rig.box, seen[-1], ELSEWHERE)(curve.steps + step)

    return trials.run(rig.box, remembered, steps=steps, batch=batch, seed=ELSEWHERE, deadline=rig.deadline)


def same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=SLACK - 1)
