"""The untreated task: measured at its start, then trained as it is. What it does is what every remedy is compared with."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from runtrue import batches, optimizers, splits, trials
from runtrue.budget import Budget
from runtrue.checks import judge_all
from runtrue.checks.splits import wants_training
from runtrue.diagnosis import limits
from runtrue.findings import Finding
from runtrue.measure import Measurements, Plan, SmallSet, Start, loss_on_bad_batch, measure_by_data, measure_data
from runtrue.rates import RateCurve
from runtrue.sandbox import Sandbox
from runtrue.task import Task, TaskError
from runtrue.trials import Curve


@dataclass
class Examination:
    """`measured` grows as the examination goes on: data, first step, untreated run, small set."""

    box: Sandbox
    budget: Budget
    chosen: set[str]
    measured: Measurements = field(init=False)
    threads: int = field(default_factory=torch.get_num_threads)
    rates: list[RateCurve] = field(default_factory=list)
    """What the task did at other learning rates, if any were tried."""
    pace: float = 0.0
    """Seconds a step, measured before the untreated run; 0 if it could not be trained."""

    def __post_init__(self) -> None:
        """Measure, and train the untreated twin if it can be trained.

        Few passes are made before the pace is known: on cores that others use, waiting for a second thread costs more than
        it gives, so they run on one. The sandbox puts the number back.
        """
        self.budget.now("reading the data and the first step")
        torch.set_num_threads(1)
        self.measured = Measurements(measure_data(self.box), self._start(), batches_used_up=self.box.batches.used_up)
        targets = self.measured.data.targets
        if any(t.bad_rows for t in (*self.measured.data.inputs, *((targets,) if targets else ()))):
            self._add(bad_loss=loss_on_bad_batch(self.box))
        self._add(shuffled=bool(self.box.batches.shuffled), plan=Plan(0, limits.FEW_STEPS, False))
        self._add(rate=self._rate())
        if self._can_train():
            self._train()
        self._compare_splits()

    def _add(self, **found: Any) -> None:
        self.measured = replace(self.measured, **found)

    def suspects(self) -> list[Finding]:
        """What the judges say of the numbers so far."""
        return judge_all(self.measured, self.chosen)

    def loss_at(self, progress: float) -> float:
        """The loss at which a run has made this progress: `judge_progress` the other way round."""
        if self.measured.constant is not None and self.measured.constant > 0:
            return self.measured.constant * (1 - progress)
        return self.measured.start.level - progress * self.scale

    @property
    def scale(self) -> float:
        """The loss that there is to remove: the baseline, or what the training started from."""
        constant = self.measured.constant
        if constant is not None and constant > 0:
            return constant
        return abs(self.measured.start.level) if math.isfinite(self.measured.start.level) else 0.0

    @property
    def share(self) -> float:
        """Seconds for one trial."""
        return limits.TRIAL_SHARE * self.budget.seconds

    def seconds(self, steps: int) -> float:
        """What steps cost."""
        return self.pace * steps

    # -- the first step

    def _start(self) -> Start:
        self.box.start()
        start = measure_by_data(self.box)
        self.box.start()
        return start

    def _rate(self) -> float:
        try:
            return optimizers.rate(self.box.optimizer(self.box.task))
        except TaskError:
            if self.measured.start.wiring.frozen:  # nothing to hold: the frozen parameters are the finding
                return math.nan
            raise

    def _can_train(self) -> bool:
        start = self.measured.start
        if start.error is None:
            return start.no_gradient is None
        if not any(finding.severity == "fault" for finding in self.suspects()):
            raise TaskError(start.error)
        return False

    # -- the untreated run

    def _train(self) -> None:
        self.pace = self._measure_pace()
        plan = self._plan(self.pace)
        reference = self._run(plan)
        if reference.steps >= limits.LEAST_STEPS:  # many steps tell the pace better than the few before them
            self.pace = reference.seconds / reference.steps
            better = self._plan(self.pace)
            if reference.steps == plan.trial and better.trial > limits.AHEAD * plan.trial and not reference.diverged:
                plan, reference = better, self._run(better)
        self._add(reference=reference, plan=plan)

    def _run(self, plan: Plan) -> Curve:
        self.budget.now(f"training it as it is for {plan.trial} steps")
        late = time.monotonic() + min(2 * self.share, self.budget.left)  # if the machine gets busy: fewer steps
        return self._run_as_it_is(plan.trial, late)

    def _run_as_it_is(self, steps: int, deadline: float) -> Curve:
        return trials.run(self.box, steps=steps, deadline=deadline, evaluate=True, enough=limits.ENOUGH)

    # -- rows and splits

    def _compare_splits(self) -> None:
        """Train beside val, labels beside inputs; and where the rows alone do not decide, what the network makes of others."""
        self.budget.now("comparing rows and splits")
        known = self.measured.start.loss_facts
        name, ignored = (known.name, known.ignore_index) if known else (None, -100)
        self._add(splits=splits.measure(self.box, name, ignored))
        reference = self.measured.reference
        if (
            self.measured.splits is None
            or not reference.steps
            or reference.diverged
            or not wants_training(self.measured)
        ):
            return
        if self.budget.fits(1.2 * self.seconds(reference.steps)):
            trained = splits.train_and_score(self.box, reference.steps, loss=name, deadline=self.budget.end)
            self._add(splits=replace(self.measured.splits, trained=trained))

    @property
    def saw_the_whole_plan(self) -> bool:
        reference, plan = self.measured.reference, self.measured.plan
        return reference.diverged or (plan.steps > 0 and limits.AHEAD * reference.steps >= plan.steps)

    @property
    def sound(self) -> bool:
        """The untreated network trains."""
        skilled = self.measured.reference.skill is not None
        return self.measured.quality >= (limits.SOUND if skilled else limits.LEARNED)

    def _measure_pace(self) -> float:
        """Seconds a step, once warm, with the number of threads that is faster now."""
        first = trials.run(self.box, steps=1).seconds
        if 10 * first > self.share:  # slow, or little time: no step to spare for a comparison
            return max(first, 1e-6)
        times: dict[int, float] = {}
        for count in sorted({1, self.threads}):
            torch.set_num_threads(count)
            times[count] = min(trials.run(self.box, steps=2).seconds for _ in range(2)) / 2
        best = min(times, key=lambda count: times[count])
        torch.set_num_threads(best)
        return max(times[best], 1e-6)

    def _plan(self, pace: float) -> Plan:
        epochs, per_epoch = self.box.task.epochs, self.box.batches.per_epoch or self.box.batches.held
        steps = per_epoch * epochs if epochs else max(limits.USUAL_EPOCHS * per_epoch, limits.USUAL_STEPS)
        few = min(max(limits.FEW_STEPS, limits.FAST_SECONDS / pace), limits.MOST_STEPS, self.share / pace)
        wanted = max(few, limits.WHOLE_SHARE * self.budget.seconds / pace)
        return Plan(steps, min(max(limits.LEAST_STEPS, int(wanted)), max(steps, 1)), epochs is not None)

    def train_longer(self, steps: int) -> None:
        """The untreated run again, with more steps; a run that was lost stays as it is."""
        if not self.measured.reference.diverged:
            self._add(reference=self._run_as_it_is(steps, self.budget.end))

    # -- the small set (N3.1)

    def memorise(self) -> None:
        """The same few examples, regularization off, with the task's own optimizer; with Adam too if nothing was learned."""
        self.budget.now("memorising a few examples")
        small = self._small_run(trials.without_regularization)
        if small is not None and not small.memorised and self.measured.progress < limits.STRUGGLING:
            with_adam = self._small_run(lambda t: trials.without_regularization(t.replace(optimizer=optimizers.adam)))
            if with_adam is not None and with_adam.memorised:
                small = replace(with_adam, with_adam=True)
        self._add(small=small)

    def _small_run(self, treat: Callable[[Task], Task]) -> SmallSet | None:
        """None if the clock cut it short: then it proves nothing."""
        batch, goal = trials.small_set(self.box), limits.MEMORISED * self.scale
        end = time.monotonic() + min(limits.SMALL_SHARE * self.budget.seconds, max(0.0, self.budget.left))
        steps = limits.SMALL_STEPS
        curve = trials.run(
            self.box, treat, steps=steps, batch=lambda _: batches.own(batch), until=goal, deadline=end
        )  # fmt: skip
        done = goal > 0 and min((x for x in curve.losses if math.isfinite(x)), default=math.inf) <= goal
        if goal <= 0 or (not done and not curve.diverged and curve.steps < limits.SMALL_LEAST):
            return None
        return SmallSet(batches.size_of(batch) or 1, curve.steps, done, curve.start, curve.end)
