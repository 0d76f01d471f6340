"""From suspicion to fault: treat every suspect beside its untreated twin, report what cures, explain what vanishes with it."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from runtrue import batches, facts, optimizers, trials
from runtrue.budget import Budget, Say, _nobody
from runtrue.checks import CHECKS, judge_all
from runtrue.findings import STAGE_OF, Finding, Outcome, Remedy
from runtrue.measure import Measurements, Plan, SmallSet, Start, loss_on_bad_batch, measure_data, measure_start
from runtrue.remedies import remedies_for
from runtrue.report import Measured, Report
from runtrue.sandbox import Sandbox, keep_random_state, sandbox, seed_all
from runtrue.task import Task, TaskError
from runtrue.trials import Changed, Curve, judge_progress

LEARNED = 0.6  # share of the baseline removed in a trial: from here on the network trains, and nothing is treated
STRUGGLING = 0.1  # under this it has shown no learning
CURED_GAIN = 0.2  # of the baseline, by which the treated run must end lower than its twin
REMAINS = 0.7  # the treated run may keep at most this share of the loss that the untreated one has left
SIGMAS = 4.0  # of the noise of both curves: a smaller gain could be chance
CATCHES_UP = 0.6  # of the progress of the cured run: an untreated one that gets there later is slow, not sick
LONGER = 4  # times the steps of a trial, for a second look where the first was too short to tell
SIGN = 0.01  # share of the baseline: a loss that fell by less shows no sign of learning
PROMISING = 0.03
REFERENCE_SHARE = 0.15  # of the budget, for the untreated trial; each treated one costs the same
FAST_SECONDS = 1.5  # a trial may have more than FEW_STEPS steps while it is this short
FEW_STEPS, LEAST_STEPS, MOST_STEPS = 100, 12, 2000
USUAL_EPOCHS, USUAL_STEPS = 10, 1000  # the plan assumed where the task names none: the longer of the two
MEMORISED = 0.1  # share of the loss that may be left on the small set
SMALL_STEPS = 200
FACTS = (
    "parameters-frozen",
    "parameters-not-optimized",
    "graph-detached",
)  # told as notes if the network learns all the same
RATES = ("learning-rate-too-high", "learning-rate-too-low")


def check(
    task: Task,
    *,
    budget: float = 60.0,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    seed: int = 0,
    progress: Say = _nobody,
    name: str = "task",
) -> Report:
    """Find out whether `task` will train, and if not, why, and what cures it. Everything the user gave is left as it was.

    budget: seconds. only, skip: cause ids. Raises TaskError if the task cannot be run and no fault says why, ValueError for an
    unknown cause id or a budget that is not positive.
    """
    clock, chosen = Budget(budget, progress), choose(only, skip)
    with sandbox(task, seed) as box:
        diagnosis = Diagnosis(box, clock, chosen)
        findings = diagnosis.run()
        measured = diagnosis.measured
        facts_told = _facts(box, measured, seed)
    return Report(
        findings=tuple(findings),
        seconds=clock.spent,
        steps=box.steps,
        measured=Measured(
            tuple(reading.to_dict() for reading in measured.start.layers),
            measured.reference.losses,
            measured.constant,
            facts_told,
        ),
        name=name,
    )


def choose(only: Iterable[str], skip: Iterable[str]) -> set[str]:
    """The causes to look for. Raises ValueError for an id that does not exist, with the nearest that does."""
    only, skip = ((x,) if isinstance(x, str) else tuple(x) for x in (only, skip))
    for cause in (*only, *skip):
        if cause not in STAGE_OF:
            near = difflib.get_close_matches(cause, STAGE_OF, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown cause id {cause!r}{hint} (`runtrue check --list` names all)")
    return (set(only) or set(CHECKS)) - set(skip)


@dataclass(frozen=True)
class Trial:
    """A remedy (or several) tried: the curve in the user's units, and whether it cured."""

    remedies: tuple[Remedy, ...]
    curve: Curve
    cured: bool


@dataclass
class Diagnosis:
    """One check under way. `run` goes through it once."""

    box: Sandbox
    budget: Budget
    chosen: set[str]
    measured: Measurements = field(init=False)
    threads: int = field(default_factory=torch.get_num_threads)

    def run(self) -> list[Finding]:
        self.budget.now("reading the data and the first step")
        torch.set_num_threads(
            1
        )  # a few passes: on cores that others use, waiting for a second thread costs more than it gives
        self.measured = Measurements(measure_data(self.box), self._start(), batches_used_up=self.box.batches.used_up)
        data = self.measured.data
        if any(t.bad_rows for t in (*data.inputs, *((data.targets,) if data.targets else ()))):
            self.measured = replace(self.measured, bad_loss=loss_on_bad_batch(self.box))
        self.measured = replace(
            self.measured, rate=self._rate(), shuffled=bool(self.box.batches.shuffled), plan=Plan(0, FEW_STEPS, False)
        )
        if self._can_train():
            self._train_untreated()
        return self._conclude(judge_all(self.measured, self.chosen))

    def _start(self) -> Start:
        self.box.start()
        start = measure_start(self.box)
        self.box.start()
        if start.no_gradient and start.outputs_have_gradient:
            raise TaskError(
                f"the loss has no gradient although the model's outputs have one: {start.no_gradient}. A loss must be built "
                "from differentiable operations (no argmax, round, item, detach or NumPy between outputs and loss)"
            )
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
        if not [f for f in judge_all(self.measured, self.chosen) if f.severity == "fault"]:
            raise TaskError(start.error)
        return False

    # -- the untreated twin

    def _train_untreated(self) -> None:
        pace = self._pace()
        plan = self._plan(pace)
        self.budget.now(f"training it as it is for {plan.trial} steps")
        late = time.monotonic() + min(2 * self._share(), self.budget.left)  # if the machine gets busy: fewer steps
        reference = trials.run(self.box, steps=plan.trial, deadline=late)
        self.measured = replace(self.measured, reference=reference, plan=plan)
        if judge_progress(reference, self.measured.constant) >= STRUGGLING:
            self.measured = replace(self.measured, small=self._memorise())

    def _pace(self) -> float:
        """Seconds a step, once warm, with the number of threads that is faster now: where others use the cores, one is."""
        trials.run(self.box, steps=1)
        times: dict[int, float] = {}
        for count in sorted({1, self.threads}):
            torch.set_num_threads(count)  # the sandbox puts it back
            times[count] = min(trials.run(self.box, steps=2).seconds for _ in range(2)) / 2
        best = min(times, key=lambda count: times[count])
        torch.set_num_threads(best)
        return times[best]

    def _plan(self, pace: float) -> Plan:
        epochs, per_epoch = self.box.task.epochs, self.box.batches.per_epoch or self.box.batches.held
        steps = per_epoch * epochs if epochs else max(USUAL_EPOCHS * per_epoch, USUAL_STEPS)
        affordable = self._share() / max(pace, 1e-6)
        wanted = min(max(FEW_STEPS, FAST_SECONDS / max(pace, 1e-6)), MOST_STEPS)
        trial = max(LEAST_STEPS, min(int(affordable), int(wanted)))
        return Plan(steps, min(trial, max(steps, 1)), epochs is not None)

    def _memorise(self) -> SmallSet | None:
        """N3.1, with the task's own optimizer; with Adam as well if that fails and the trial failed too."""
        batch = trials.small_set(self.box)
        goal = MEMORISED * self._scale()
        share = min(0.1 * self.budget.seconds, max(0.0, self.budget.left))
        if goal <= 0:
            return None
        self.budget.now("memorising a few examples")
        small = self._small_run(batch, trials.without_regularization, goal, share)
        if (
            small is None
            or small.memorised
            or judge_progress(self.measured.reference, self.measured.constant) >= STRUGGLING
        ):
            return small
        with_adam = self._small_run(
            batch, lambda t: trials.without_regularization(t.replace(optimizer=optimizers.adam)), goal, share
        )
        return replace(with_adam, with_adam=True) if with_adam and with_adam.memorised else small

    def _small_run(self, batch: object, treat: Callable[[Task], Task], goal: float, seconds: float) -> SmallSet | None:
        curve = trials.run(
            self.box,
            treat,
            steps=SMALL_STEPS,
            batch=lambda _: _own(batch),
            until=goal,
            deadline=time.monotonic() + seconds,
        )
        if not curve.steps or (
            curve.steps < SMALL_STEPS and not curve.end <= 2 * goal and not curve.diverged and curve.steps < 40
        ):
            return None  # cut short by the clock: it proves nothing
        done = min((x for x in curve.losses if math.isfinite(x)), default=math.inf) <= goal
        return SmallSet(batches.size_of(batch) or 1, curve.steps, done, curve.start, curve.end)

    def _scale(self) -> float:
        """The loss that there is to remove: the baseline, or what the training started from."""
        constant = self.measured.constant
        if constant is not None and constant > 0:
            return constant
        return abs(self.measured.reference.start) if self.measured.reference.steps else 0.0

    # -- treatment

    def _conclude(self, found: list[Finding]) -> list[Finding]:
        certain = [f for f in found if f.severity == "fault"]
        notes = [f for f in found if f.severity == "note"]
        suspects = [f for f in found if f.severity == "warning"]
        if certain:
            return (
                [self._with_trial(f) for f in certain]
                + notes
                + [_explained(f, certain[0]) for f in suspects if _worth_telling(f)]
            )
        progress = judge_progress(self.measured.reference, self.measured.constant)
        if not self.measured.reference.steps and not self._stuck_without_training():
            return notes
        if progress >= LEARNED:
            return notes + [f.having(severity="note") for f in suspects if f.cause in FACTS]
        struggling = progress < STRUGGLING
        treatable = [f for f in suspects if struggling or f.cause not in (*FACTS, *RATES)]
        told = [f.having(severity="note") for f in suspects if f.cause in FACTS and not struggling]
        return self._treat(treatable, struggling) + told + notes

    def _stuck_without_training(self) -> bool:
        return self.measured.start.no_gradient is not None

    def _treat(self, suspects: list[Finding], struggling: bool) -> list[Finding]:
        tried: dict[str, Trial] = {}
        for suspect in suspects:
            trial = self._try(suspect)
            if trial is None:
                continue
            tried[suspect.cause] = trial
            if trial.cured:
                slow = self._catches_up(trial)
                return [self._only_slow(suspect, trial)] if slow else self._with_consequences(suspect, trial, suspects)
        together = self._try_together(suspects) if struggling else None
        if together is not None:
            return together
        return [self._unverified(f, tried.get(f.cause)) for f in self._left(suspects) if struggling]

    def _left(self, suspects: list[Finding]) -> list[Finding]:
        """Nothing cured: what was suspected from the numbers, and whether a few examples can be memorised."""
        self.measured = replace(self.measured, small=self._memorise())
        small = [f for f in judge_all(self.measured, self.chosen) if f.cause == "underfitting"]
        return [f for f in (*suspects, *small) if _worth_telling(f)]

    def _try(self, suspect: Finding, first: tuple[Remedy, ...] = ()) -> Trial | None:
        """The remedies for one suspect, in turn, until one cures (of learning rates, the best of two that do)."""
        if suspect.cause == "learning-rate-too-low" and not first and self._plan_suffices():
            return None
        best: Trial | None = None
        for remedy in remedies_for(suspect, self.measured, self.box):
            if suspect.cause == "learning-rate-too-low" and not first and not self._beyond_plan(remedy):
                continue
            trial = self._trial((*first, remedy), f"{suspect.cause}: {remedy.name}")
            if trial is None:
                break
            if best is not None and best.cured:
                return trial if trial.cured and trial.curve.end < best.curve.end else best
            best = trial if best is None or trial.cured else best
            if best.cured and suspect.cause not in RATES:
                break
        return best

    def _trial(self, remedies: tuple[Remedy, ...], what: str) -> Trial | None:
        """Treated beside untreated: same steps, same batches. None if the budget does not allow it."""
        reference = self.measured.reference
        steps = reference.steps if reference.steps > 2 and not reference.diverged else self.measured.plan.trial
        if not self.budget.fits(1.1 * self._seconds(steps)):
            return None
        self.budget.now(f"trying {what}")
        end = self.budget.end + 1 if reference.steps else time.monotonic() + min(self.budget.left, self._share())
        curve = self._in_user_units(trials.run(self.box, _all(remedies), steps=steps, deadline=end), remedies)
        trial = Trial(remedies, curve, curve.steps >= min(steps, LEAST_STEPS) and self._cures(curve))
        return trial if trial.cured or not self._promises(curve) else self._look_longer(trial, what)

    def _promises(self, treated: Curve) -> bool:
        """Not cured, but better than its twin by more than chance: the trial may have been too short."""
        untreated = self.measured.reference
        if not untreated.steps or untreated.steps >= self.measured.plan.steps:
            return False
        before, after = (judge_progress(c, self.measured.constant) for c in (untreated, treated))
        noise = math.hypot(treated.noise, untreated.noise)
        better = untreated.diverged or untreated.end - treated.end > SIGMAS * noise
        return after > max(before, 0.0) + PROMISING and better

    def _look_longer(self, trial: Trial, what: str) -> Trial:
        """Both again, for more steps, if there is time for it. The untreated twin keeps its longer curve."""
        steps = min(LONGER * self.measured.reference.steps, self.measured.plan.steps)
        if not self.budget.fits(2.2 * self._seconds(steps)):
            return trial
        self.budget.now(f"looking longer at {what}")
        if not self.measured.reference.diverged:
            reference = trials.run(self.box, steps=steps, deadline=self.budget.end)
            self.measured = replace(self.measured, reference=reference)
        treated = trials.run(self.box, _all(trial.remedies), steps=steps, deadline=self.budget.end + 1)
        curve = self._in_user_units(treated, trial.remedies)
        return Trial(trial.remedies, curve, curve.steps >= min(steps, LEAST_STEPS) and self._cures(curve))

    def _catches_up(self, cured: Trial) -> bool:
        """True if the untreated network, given more steps, gets near what the cured one reached: it is slow, not sick."""
        reference, constant = self.measured.reference, self.measured.constant
        fell = (reference.losses[0] - reference.end) / self._scale() if reference.steps and self._scale() > 0 else 0.0
        steps = min(LONGER * reference.steps, self.measured.plan.steps)
        if not fell > SIGN or reference.diverged or steps <= reference.steps:
            return False
        affordable = int(0.9 * self.budget.left / max(self._seconds(1), 1e-6))
        self.budget.now("giving the untreated network more time")
        curve = trials.run(self.box, steps=min(steps, max(affordable, 1)), deadline=self.budget.end)
        return judge_progress(curve, constant) >= CATCHES_UP * judge_progress(cured.curve, constant)

    def _share(self) -> float:
        """Seconds for one trial."""
        return REFERENCE_SHARE * self.budget.seconds

    def _seconds(self, steps: int) -> float:
        """What a trial costs, from what the untreated one did."""
        reference = self.measured.reference
        return reference.seconds / reference.steps * steps if reference.steps else 0.0

    def _in_user_units(self, curve: Curve, remedies: tuple[Remedy, ...]) -> Curve:
        """A remedy that scales the targets scales the loss: compare it in the units of the user's own."""
        if self.measured.constant is None or not any("targets" in remedy.name for remedy in remedies):
            return curve
        start = measure_start(self.box, _all(remedies)(self.box.start()))
        self.box.start()
        if start.baseline is None or not start.baseline.constant > 0:
            return curve
        factor = self.measured.constant / start.baseline.constant
        return replace(curve, losses=tuple(factor * loss for loss in curve.losses))

    def _cures(self, treated: Curve) -> bool:
        """Learned where the twin did not, by more than chance: see the constants."""
        constant, untreated = self.measured.constant, self.measured.reference
        after = judge_progress(treated, constant)
        if after < STRUGGLING + CURED_GAIN / 2:
            return False
        if not untreated.steps or untreated.diverged:
            return True
        before = judge_progress(untreated, constant)
        if before == -math.inf or before < -1:
            return True
        noise = math.hypot(treated.noise, untreated.noise)
        return (
            after - before >= CURED_GAIN
            and untreated.end - treated.end > SIGMAS * noise
            and 1 - after <= REMAINS * (1 - before)
        )

    def _plan_suffices(self) -> bool:
        """True if a rate raised by no more than the plan is longer than the trial makes it learn.

        k steps at a rate go about as far as one step at k times the rate (gradient flow), so such a rate is not too low.
        """
        longer = self.measured.plan.steps / max(1, self.measured.reference.steps)
        for factor in (longer, longer**0.5):
            if factor < 1.5:
                return False
            treat = _faster(factor)
            if not self.budget.fits(1.1 * self._seconds(self.measured.reference.steps)):
                return True  # not verified is not a fault
            self.budget.now(f"looking ahead to step {self.measured.plan.steps}")
            curve = trials.run(self.box, treat, steps=self.measured.reference.steps, deadline=self.budget.end + 1)
            if judge_progress(curve, self.measured.constant) >= STRUGGLING:
                return True
        return False

    def _beyond_plan(self, remedy: Remedy) -> bool:
        if not self.measured.rate > 0:
            return True
        treated = remedy.treat(self.box.start())
        factor = optimizers.rate(self.box.optimizer(treated)) / self.measured.rate
        self.box.start()
        return factor > self.measured.plan.steps / max(1, self.measured.reference.steps)

    # -- what the trials say

    def _only_slow(self, finding: Finding, trial: Trial) -> Finding:
        """The remedy helps, but the network gets there without it: nothing to stop a training for."""
        message = (
            f"{finding.message} (it learns all the same; with the remedy {trial.curve.steps} steps bring it further)"
        )
        return finding.having(severity="note", message=message, remedy=trial.remedies[-1], outcome=self._outcome(trial))

    def _with_consequences(self, root: Finding, trial: Trial, suspects: list[Finding]) -> list[Finding]:
        """The root as fault; suspects that the cure silenced as its symptoms; the others tried on top of it."""
        fault = self._fault(root, trial)
        start = measure_start(self.box, _all(trial.remedies)(self.box.start()))
        self.box.start()
        after = replace(self.measured, start=start, reference=trial.curve)
        if root.cause in ("inputs-not-scaled", "targets-not-scaled"):
            after = replace(after, data=facts.DataFacts((), None, after.data.batch_size))
        still = {f.cause for f in judge_all(after, self.chosen)}
        symptoms = [
            _explained(f, root)
            for f in suspects
            if f.cause != root.cause and f.cause not in still and _worth_telling(f)
        ]
        notes = [
            f.having(severity="note")
            for f in suspects
            if f.cause in still and f.cause in FACTS and f.cause != root.cause
        ]
        return [fault, *symptoms, *notes]

    def _try_together(self, suspects: list[Finding]) -> list[Finding] | None:
        """No single remedy cures: the first of each together, then which of them are needed."""
        causes = [f for f in suspects if f.cause not in RATES]
        firsts = [(f, found[0]) for f in causes if (found := remedies_for(f, self.measured, self.box))]
        unique = {remedy.name: (finding, remedy) for finding, remedy in reversed(firsts)}
        chosen = list(unique.values())[::-1]
        bundle = tuple(remedy for _, remedy in chosen)
        if not bundle:
            return None
        rates = [f for f in suspects if f.cause in RATES]
        trial = self._trial(bundle, "the remedies together") if len(bundle) > 1 else None
        used = list(chosen)
        if trial is None or not trial.cured:
            for suspect in rates:
                trial = self._try(suspect, bundle)
                if trial is not None and trial.cured:
                    used.append((suspect, trial.remedies[-1]))
                    break
        if trial is None or not trial.cured:
            return None
        needed = [pair for pair in used if not self._cured_without(pair, used)] or used[:1]
        faults = [self._fault(finding, replace(trial, remedies=(remedy,))) for finding, remedy in needed]
        rest = [f for f in suspects if f.cause not in {x.cause for x in faults} and _worth_telling(f)]
        return faults + [_explained(f, faults[0]) for f in rest]

    def _cured_without(self, left_out: tuple[Finding, Remedy], used: list[tuple[Finding, Remedy]]) -> bool:
        others = tuple(remedy for pair in used if pair is not left_out for remedy in (pair[1],))
        trial = self._trial(others, f"the same without: {left_out[1].name}") if others else None
        return trial is not None and trial.cured

    def _with_trial(self, finding: Finding) -> Finding:
        """A certain fault: its remedy is tried for the proof, not for the verdict."""
        for remedy in remedies_for(finding, self.measured, self.box):
            trial = self._trial((remedy,), f"{finding.cause}: {remedy.name}")
            return self._fault(finding, trial) if trial else finding.having(remedy=remedy)
        return finding

    def _fault(self, finding: Finding, trial: Trial) -> Finding:
        return finding.having(severity="fault", remedy=trial.remedies[-1], outcome=self._outcome(trial))

    def _outcome(self, trial: Trial) -> Outcome:
        reference = self.measured.reference
        return Outcome(
            before=reference.end,
            after=trial.curve.end,
            cured=trial.cured,
            steps=trial.curve.steps,
            before_curve=reference.losses,
            after_curve=trial.curve.losses,
            baseline=self.measured.constant,
        )

    def _unverified(self, finding: Finding, trial: Trial | None) -> Finding:
        """A suspicion that no trial confirmed, and why."""
        if trial is None:
            return finding.having(
                message=f"{finding.message} (not verified: no trial fitted, or there is no remedy to try)"
            )
        return finding.having(
            message=f"{finding.message} (not verified: {trial.remedies[-1].name} did not cure in {trial.curve.steps} steps)",
            remedy=trial.remedies[-1],
            outcome=self._outcome(trial),
        )


def _worth_telling(finding: Finding) -> bool:
    """A rate is only ever suspected because nothing was learned; unless a trial confirms it, it says nothing."""
    return finding.cause not in RATES


def _explained(symptom: Finding, root: Finding) -> Finding:
    return symptom.having(severity="note", explained_by=root.cause)


def _faster(factor: float) -> Callable[[Task], Task]:
    return lambda task: task.replace(optimizer=optimizers.with_rate(task.optimizer or optimizers.adam, factor))


def _all(remedies: tuple[Remedy, ...]) -> Callable[[Task], Task]:
    def treat(task: Task) -> Task:
        for remedy in remedies:
            task = remedy.treat(task)
        return task

    return treat


def _own(batch: object) -> object:
    return batches.own(batch)


def _facts(box: Sandbox, measured: Measurements, seed: int) -> dict[str, str]:
    model = box.model
    count = sum(p.numel() for p in model.parameters())
    told = {
        "model": f"{type(model).__name__}, {count:,} parameters",
        "optimizer": optimizers.code(box.optimizer(box.task)) if measured.start.no_gradient is None else "",
        "loss": measured.start.loss_facts.name if measured.start.loss_facts else "the task's own",
        "batch": f"{measured.data.batch_size} examples",
        "plan": f"{measured.plan.steps} steps"
        + ("" if measured.plan.known else " (assumed: the task names no epochs)"),
        "seed": str(seed),
        "versions": f"torch {torch.__version__}",
    }
    if box.task.optimizer is None:
        told["optimizer"] += " (assumed: the task has none)"
    if measured.small is not None:
        small = measured.small
        told["small set"] = (
            f"{small.examples} examples {'memorised' if small.memorised else 'not memorised'} in {small.steps} steps, "
            f"regularization off{', with Adam' if small.with_adam else ''} (loss {small.start:.3g} to {small.end:.3g})"
        )
    if measured.batches_used_up:
        told["data"] = "the loader is an iterator: the batches drawn from it for this check cannot be put back"
    return {name: text for name, text in told.items() if text}


@dataclass(frozen=True)
class Treatment:
    """A task with the remedies of a report applied to a copy: `.task` is ready to train, `.code` is what to paste."""

    task: Task
    remedies: tuple[Remedy, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def code(self) -> str:
        return "\n\n".join(f"# {remedy.name}\n{remedy.code}" for remedy in self.remedies)


def fix(task: Task, report: Report | None = None, *, seed: int = 0, **options: object) -> Treatment:
    """Apply the remedies of the report's faults to a copy of the task. Without a report, `check` is run first.

    The user's model and random state are left as they were. With no fault in the report, the copy is the task as it is.
    """
    if report is None:
        report = check(task, seed=seed, **options)  # type: ignore[arg-type]
    treated = [f for f in report.faults if f.remedy is not None]
    restore = keep_random_state()
    try:
        seed_all(seed)
        cured = task.copy()
        remedies = tuple({f.remedy.name: f.remedy for f in treated if f.remedy is not None}.values())
        seed_all(seed)
        for remedy in remedies:
            cured = remedy.treat(cured)
        if isinstance(cured.train, Changed):
            cured = cured.replace(train=cured.train.settled())
        assert isinstance(cured.model, nn.Module)
        return Treatment(cured, remedies, tuple(f.outcome for f in treated if f.outcome is not None))
    finally:
        restore()
