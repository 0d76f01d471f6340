"""Treated beside untreated: the same seed, the same batches, the same number of steps. What cures is the cause."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from runtrue import optimizers, regularizers, trials
from runtrue.diagnosis import limits
from runtrue.diagnosis.examination import Examination
from runtrue.findings import Outcome, Remedy
from runtrue.measure import Start, measure_start
from runtrue.racing import paces_of, race
from runtrue.regularizers import Penalty
from runtrue.task import Task
from runtrue.trials import Curve

Bundle = tuple[Remedy, ...]


@dataclass(frozen=True)
class Trial:
    """Remedies tried together: the curve in the user's units, and how well it ended (see `Measurements.quality_of`)."""

    remedies: Bundle
    curve: Curve
    quality: float
    seeds: int = 1
    """The quality is the mean over so many."""


@dataclass(frozen=True)
class Verification:
    """Trials on one examined task."""

    exam: Examination

    # -- trials

    def trial(self, remedies: Bundle, what: str) -> Trial | None:
        return self.race([remedies], what)[0]

    def race(self, bundles: Sequence[Bundle], what: str) -> list[Trial | None]:
        """A trial for each bundle of remedies, as long as the untreated one was; None where the budget does not allow it."""
        exam, steps = self.exam, self.steps
        cost = 1.1 * exam.seconds(steps)
        allowed = len(bundles) if cost <= 0 else max(0, int(self._at_once * exam.budget.left / cost))
        if allowed == 0 and bundles and steps > limits.LEAST_STEPS:  # a shorter one is better than none
            steps = int(exam.budget.left / (1.1 * exam.pace))
            allowed = 1 if steps >= limits.LEAST_STEPS else 0
        if not allowed or not bundles:
            return [None] * len(bundles)
        exam.budget.now(f"trying {what}")
        known = exam.measured.reference.steps
        end = exam.budget.end + 1 if known else time.monotonic() + min(exam.budget.left, exam.share)
        tried = self._run(bundles[:allowed], steps, end)
        return [*tried, *[None] * (len(bundles) - len(tried))]

    @property
    def _at_once(self) -> float:
        """Trials that take no longer than one: what the workers gained so far."""
        paces = paces_of(self.exam.box)
        return paces.alone / paces.in_workers if paces.in_workers < paces.alone else 1.0

    @property
    def steps(self) -> int:
        """Of a trial: as many as the untreated run had, or was to have if it was lost."""
        reference, plan = self.exam.measured.reference, self.exam.measured.plan
        return reference.steps if reference.steps > 2 and not reference.diverged else plan.trial

    def _run(self, bundles: Sequence[Bundle], steps: int, end: float) -> list[Trial]:
        treats = [all_of(bundle) for bundle in bundles]
        curves = race(
            self.exam.box, treats, steps=steps, deadline=end, evaluate=True, enough=limits.ENOUGH, hopeless=limits.HOPELESS
        )  # fmt: skip
        return [self._told(bundle, curve, steps) for bundle, curve in zip(bundles, curves)]

    def _told(self, remedies: Bundle, curve: Curve, steps: int) -> Trial:
        told = self._in_user_units(curve, remedies)
        short = curve.steps < min(steps, limits.LEAST_STEPS)
        return Trial(remedies, told, -1.0 if short else self.exam.measured.quality_of(told))

    def longer(self, tried: Trial, what: str) -> Trial | None:
        """Both again, for more steps, if there is time for it and the treated run promises more than it shows."""
        exam, reference = self.exam, self.exam.measured.reference
        steps = min(limits.LONGER * reference.steps, exam.measured.plan.steps)
        better = tried.quality > max(exam.measured.quality, 0.0) + limits.PROMISING
        if not better or steps <= reference.steps or not exam.budget.fits(2.2 * exam.seconds(steps)):
            return None
        exam.budget.now(f"looking longer at {what}")
        exam.train_longer(steps)
        return self._run([tried.remedies], steps, exam.budget.end + 1)[0]

    def _in_user_units(self, curve: Curve, remedies: Bundle) -> Curve:
        """A remedy that changes the loss or scales the targets changes the loss's units: bring it back to the user's own."""
        constant = self.exam.measured.constant
        if constant is None or not any(remedy.rescales_loss for remedy in remedies):
            return curve
        treated = self.start_of(remedies).baseline
        if treated is None or not treated.constant > 0:
            return curve
        return replace(curve, losses=tuple(constant / treated.constant * loss for loss in curve.losses))

    def start_of(self, remedies: Bundle) -> Start:
        """The treated task at its first step."""
        start = measure_start(self.exam.box, all_of(remedies)(self.exam.box.start()))
        self.exam.box.start()
        return start

    def penalty_behind(self, remedies: Bundle) -> Penalty | None:
        """What the loss of the treated task adds to the data's: its pull may be another one now."""
        if self.exam.measured.start.regularizers.penalty is None:
            return None
        task = regularizers.with_penalty(all_of(remedies)(self.exam.box.start()))
        found = measure_start(self.exam.box, task).regularizers.penalty
        self.exam.box.start()
        return found

    # -- what a trial proves

    def cures(self, tried: Trial, causes: Iterable[str], before: float | None = None) -> bool:
        """Much better than the untreated twin (or than `before`), by more than chance. `causes`: of the remedies."""
        weights = [limits.weight_of(cause) for cause in causes]
        weight = next((w for w in ("fit", "scale", "rate") if w in weights), "rate")
        untreated = self.exam.measured.quality if before is None else before
        return is_cure(untreated, tried.quality, weight) and self._beyond_chance(tried)

    def _beyond_chance(self, tried: Trial) -> bool:
        """Where the quality is a share of the loss, the noise of both curves; a skill is a count of examples."""
        untreated = self.exam.measured.reference.first(tried.curve.steps)
        if tried.curve.skill is not None or not untreated.steps or untreated.diverged:
            return True
        return untreated.end - tried.curve.end > limits.SIGMAS * math.hypot(tried.curve.noise, untreated.noise)

    def confirmed(self, tried: Trial, causes: Sequence[str]) -> Trial | None:
        """The same with other seeds (and other first weights, where the task has a function that draws them): the trial with
        its mean quality if it cures there too, None if chance could explain it. Where there is no time, the trial as it is."""
        exam = self.exam
        cost = 2.2 * exam.seconds(self.steps) * limits.CONFIRMED_BY
        if not exam.box.can_redraw and not self._few_rows:
            return tried
        if not exam.budget.fits(cost):
            return tried
        exam.budget.now("the same with other seeds")
        before, after = [exam.measured.quality], [tried.quality]
        for seed in range(1, limits.CONFIRMED_BY + 1):
            treats = [exam.box.redrawn(seed), exam.box.redrawn(seed, all_of(tried.remedies))]
            twin, treated = race(exam.box, treats, steps=self.steps, seed=seed, evaluate=True, enough=limits.ENOUGH)
            before.append(exam.measured.quality_of(twin))
            after.append(exam.measured.quality_of(self._in_user_units(treated, tried.remedies)))
        mean = replace(tried, quality=sum(after) / len(after), seeds=len(after))
        won = sum(b > a for a, b in zip(before, after))
        sick = sum(before) / len(before)
        return mean if won == len(after) and self.cures(mean, causes, sick) else None

    @property
    def _few_rows(self) -> bool:
        held = self.exam.measured.data.inputs
        return bool(held) and held[0].examples < limits.FEW_ROWS

    def catches_up(self, cured: Trial, goal: float = limits.CATCHES_UP, always: bool = False) -> bool:
        """True if the untreated network, given more of its plan, gets near what the cured one reached: slow, not sick.

        goal: "near", as a share of the cured run's quality. A network that showed no sign of learning is not given more time,
        unless `always`.
        """
        exam, reference = self.exam, self.exam.measured.reference
        steps = min(limits.MUCH_LONGER * reference.steps, exam.measured.plan.steps)
        if reference.diverged or exam.scale <= 0 or steps <= reference.steps:
            return False
        shows_none = (reference.start - reference.end) / exam.scale <= limits.SIGN
        if not always and shows_none:
            return False
        exam.budget.now("giving the untreated network more time")
        wanted = exam.loss_at(goal * exam.measured.progress_of(cured.curve))
        end = time.monotonic() + limits.CATCH_UP_SHARE * max(0.0, exam.budget.left)
        curve = trials.run(exam.box, steps=steps, until=wanted, deadline=end, evaluate=True, enough=limits.ENOUGH)
        if cured.curve.skill is not None and curve.skill is not None:
            return exam.measured.quality_of(curve) >= goal * cured.quality
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
            curve = trials.run(
                exam.box,
                _faster(factor),
                steps=steps,
                deadline=exam.budget.end + 1,
                evaluate=True,
                enough=limits.ENOUGH,
            )
            if exam.measured.quality_of(curve) >= limits.STRUGGLING:
                return True
        return False

    def beyond_plan(self, remedy: Remedy) -> bool:
        """True if the remedy raises the rate by more than the plan is longer than the trial, or does something else."""
        rate = self.exam.measured.rate
        return remedy.rate is None or not rate > 0 or remedy.rate / rate > self._plan_over_trial

    @property
    def _plan_over_trial(self) -> float:
        return self.exam.measured.plan.steps / max(1, self.exam.measured.reference.steps)

    def outcome(self, tried: Trial, cured: bool) -> Outcome:
        measured = self.exam.measured
        reference = measured.reference.first(tried.curve.steps)
        skilled = tried.curve.skill is not None
        return Outcome(
            before=reference.end,
            after=tried.curve.end,
            cured=cured,
            steps=tried.curve.steps,
            seeds=tried.seeds,
            before_curve=reference.losses,
            after_curve=tried.curve.losses,
            baseline=measured.constant,
            skill_before=measured.quality if skilled else None,
            skill_after=tried.quality if skilled else None,
        )


def is_cure(before: float, after: float, weight: str) -> bool:
    """Is the treated quality `after` so much better than `before` that a suspicion of this weight is proven?"""
    return (
        after >= limits.CURED
        and after - before >= limits.GAIN[weight]
        and 1 - after <= limits.REMAINS * (1 - before)
        and before <= limits.SHARE_OF_CURED[weight] * after
    )


def _faster(factor: float) -> Callable[[Task], Task]:
    return lambda task: task.replace(optimizer=optimizers.with_rate(task.optimizer or optimizers.adam, factor))


def all_of(remedies: Iterable[Remedy]) -> Callable[[Task], Task]:
    """The remedies one after the other, as one treatment."""
    each = tuple(remedies)

    def treat(task: Task) -> Task:
        for remedy in each:
            task = remedy.treat(task)
        assert isinstance(task.model, nn.Module)
        return task

    return treat
