"""Treated beside untreated: the same seed, the same batches, the same number of steps. What cures is the cause."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from runtrue import optimizers, trials
from runtrue.diagnosis import limits
from runtrue.diagnosis.examination import Examination
from runtrue.findings import Outcome, Remedy
from runtrue.measure import Start, measure_start
from runtrue.task import Task
from runtrue.trials import Curve


@dataclass(frozen=True)
class Trial:
    """Remedies tried together: the curve in the user's units, and whether they cured."""

    remedies: tuple[Remedy, ...]
    curve: Curve
    cured: bool


@dataclass(frozen=True)
class Verification:
    """Trials on one examined task."""

    exam: Examination

    def trial(self, remedies: tuple[Remedy, ...], what: str) -> Trial | None:
        """None if the budget allows too few steps. Where the result promises more than it shows, both run longer."""
        exam, reference = self.exam, self.exam.measured.reference
        steps = reference.steps if reference.steps > 2 and not reference.diverged else exam.measured.plan.trial
        steps = min(steps, int(exam.budget.left / (1.1 * exam.pace))) if exam.pace else steps
        if steps < min(limits.LEAST_STEPS, exam.measured.plan.steps or limits.LEAST_STEPS):
            return None
        exam.budget.now(f"trying {what}")
        end = exam.budget.end + 1 if reference.steps else time.monotonic() + min(exam.budget.left, exam.share)
        tried = self._run(remedies, steps, end)
        return tried if tried.cured or not self._promises(tried.curve) else self._longer(tried, what)

    def _run(self, remedies: tuple[Remedy, ...], steps: int, end: float) -> Trial:
        curve = self._in_user_units(trials.run(self.exam.box, all_of(remedies), steps=steps, deadline=end), remedies)
        return Trial(remedies, curve, curve.steps >= min(steps, limits.LEAST_STEPS) and self._cures(curve))

    def _cures(self, treated: Curve) -> bool:
        """Learned where the twin did not, and by more than chance."""
        untreated = self.exam.measured.reference.first(treated.steps)
        before, after = self.exam.measured.progress_of(untreated), self.exam.measured.progress_of(treated)
        if after < limits.CURED:
            return False
        if not untreated.steps or untreated.diverged or before < -1:
            return True
        clear = after - before >= limits.GAIN and 1 - after <= limits.REMAINS * (1 - before)
        return clear and _beyond_chance(untreated, treated)

    def _promises(self, treated: Curve) -> bool:
        """Not cured, but better than its twin by more than chance: the trial may have been too short."""
        untreated, plan = self.exam.measured.reference, self.exam.measured.plan
        if not untreated.steps or untreated.steps >= plan.steps:
            return False
        ahead = self.exam.measured.progress_of(treated) > max(self.exam.measured.progress, 0.0) + limits.PROMISING
        return ahead and (untreated.diverged or _beyond_chance(untreated, treated))

    def _longer(self, tried: Trial, what: str) -> Trial:
        """Both again, for more steps, if there is time for it."""
        exam = self.exam
        steps = min(limits.LONGER * exam.measured.reference.steps, exam.measured.plan.steps)
        if not exam.budget.fits(2.2 * exam.seconds(steps)):
            return tried
        exam.budget.now(f"looking longer at {what}")
        exam.train_longer(steps)
        return self._run(tried.remedies, steps, exam.budget.end + 1)

    def _in_user_units(self, curve: Curve, remedies: tuple[Remedy, ...]) -> Curve:
        """A remedy that scales the targets scales the loss: bring it back to the units of the user's own."""
        constant = self.exam.measured.constant
        if constant is None or not any(remedy.rescales_loss for remedy in remedies):
            return curve
        treated = self.start_of(remedies).baseline
        if treated is None or not treated.constant > 0:
            return curve
        return replace(curve, losses=tuple(constant / treated.constant * loss for loss in curve.losses))

    def start_of(self, remedies: tuple[Remedy, ...]) -> Start:
        """The treated task at its first step."""
        start = measure_start(self.exam.box, all_of(remedies)(self.exam.box.start()))
        self.exam.box.start()
        return start

    def catches_up(self, cured: Trial, goal: float = limits.CATCHES_UP, always: bool = False) -> bool:
        """True if the untreated network, given more of its plan, gets near what the cured one reached: slow, not sick.

        goal: "near", as a share of the cured run's progress. A network that showed no sign of learning is not given more time,
        unless `always`.
        """
        exam, reference = self.exam, self.exam.measured.reference
        steps = min(limits.MUCH_LONGER * reference.steps, exam.measured.plan.steps)
        if reference.diverged or exam.scale <= 0:
            return False
        shows_none = (reference.start - reference.end) / exam.scale <= limits.SIGN
        if not always and (shows_none or steps <= reference.steps):
            return False
        exam.budget.now("giving the untreated network more time")
        wanted = exam.loss_at(goal * exam.measured.progress_of(cured.curve))
        end = time.monotonic() + limits.CATCH_UP_SHARE * max(0.0, exam.budget.left)
        curve = trials.run(exam.box, steps=steps, until=wanted, deadline=end, evaluate=True)
        return any(loss <= wanted for loss in (curve.end, curve.recent, curve.evaluated))

    # -- rates and plans

    def plan_suffices(self) -> bool:
        """True if a rate raised by no more than the plan is longer than the trial makes it learn.

        k steps at a rate go about as far as one step at k times the rate (gradient flow), so such a rate is not too low.
        Where the budget does not allow the look ahead, the answer is True: what was not verified is no fault.
        """
        exam, steps = self.exam, self.exam.measured.reference.steps
        for factor in (self._plan_over_trial, self._plan_over_trial**0.5):
            if factor < limits.AHEAD:
                return False
            if not exam.budget.fits(1.1 * exam.seconds(steps)):
                return True
            exam.budget.now(f"looking ahead to step {exam.measured.plan.steps}")
            curve = trials.run(exam.box, _faster(factor), steps=steps, deadline=exam.budget.end + 1)
            if exam.measured.progress_of(curve) >= limits.STRUGGLING:
                return True
        return False

    def beyond_plan(self, remedy: Remedy) -> bool:
        """True if the remedy raises the rate by more than the plan is longer than the trial."""
        box, rate = self.exam.box, self.exam.measured.rate
        if not rate > 0:
            return True
        treated = optimizers.rate(box.optimizer(remedy.treat(box.start())))
        box.start()
        return treated / rate > self._plan_over_trial

    @property
    def _plan_over_trial(self) -> float:
        return self.exam.measured.plan.steps / max(1, self.exam.measured.reference.steps)

    def outcome(self, tried: Trial) -> Outcome:
        reference = self.exam.measured.reference.first(tried.curve.steps)
        return Outcome(
            before=reference.end,
            after=tried.curve.end,
            cured=tried.cured,
            steps=tried.curve.steps,
            before_curve=reference.losses,
            after_curve=tried.curve.losses,
            baseline=self.exam.measured.constant,
        )


def _beyond_chance(untreated: Curve, treated: Curve) -> bool:
    return untreated.end - treated.end > limits.SIGMAS * math.hypot(treated.noise, untreated.noise)


def _faster(factor: float) -> Callable[[Task], Task]:
    return lambda task: task.replace(optimizer=optimizers.with_rate(task.optimizer or optimizers.adam, factor))


def all_of(remedies: tuple[Remedy, ...]) -> Callable[[Task], Task]:
    """The remedies one after the other, as one treatment."""

    def treat(task: Task) -> Task:
        for remedy in remedies:
            task = remedy.treat(task)
        return task

    return treat
