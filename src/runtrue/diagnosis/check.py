"""One check from beginning to end: open the task, examine it, find the cause, tell what was measured."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import torch

from runtrue import optimizers, rates
from runtrue.budget import Budget, Say, nobody
from runtrue.checks import CHECKS
from runtrue.diagnosis import limits
from runtrue.diagnosis.examination import Examination
from runtrue.diagnosis.verdict import Diagnosis
from runtrue.diagnosis.verification import Verification
from runtrue.findings import STAGE_OF
from runtrue.measure import Measurements
from runtrue.rates import JudgedCurve, RateCurve
from runtrue.report import Measured, Report
from runtrue.sandbox import Sandbox, sandbox
from runtrue.task import Task


def check(
    task: Task,
    *,
    budget: float = 60.0,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    seed: int = 0,
    progress: Say = nobody,
    name: str = "task",
) -> Report:
    """Find out whether `task` will train, and if not, why, and what cures it. Everything the user gave is left as it was.

    budget: seconds. only, skip: cause ids. Raises TaskError if the task cannot be run and no fault says why, ValueError for an
    unknown cause id or a budget that is not positive.
    """
    clock, chosen = Budget(budget, progress).share(limits.SPENT_ON_PURPOSE), choose(only, skip)
    with sandbox(task, seed) as box:
        exam = Examination(box, clock, chosen)
        findings = Diagnosis(exam, Verification(exam)).findings()
        told = _told(box, exam, seed)
    return Report(tuple(findings), clock.spent, box.steps, told, name)


def choose(only: Iterable[str], skip: Iterable[str]) -> set[str]:
    """The causes to look for. Raises ValueError for an id that does not exist, and if no id with a check is left."""
    only, skip = ((x,) if isinstance(x, str) else tuple(x) for x in (only, skip))
    ensure_known((*only, *skip))
    chosen = (set(only) or set(CHECKS)) - set(skip)
    if not chosen & set(CHECKS):  # a check that looks for nothing would pass everything
        asked = f"only names {', '.join(only)}" if only else "every cause is asked for"
        skipped = f" and skip takes away {', '.join(skip)}" if skip else ""
        raise ValueError(
            f"nothing is left to look for: {asked}{skipped} (`runtrue check --list` names what has a check)"
        )
    return chosen


def ensure_known(causes: Iterable[str]) -> None:
    """Raises ValueError for an id that does not exist, with the nearest that does."""
    for cause in causes:
        if cause not in STAGE_OF:
            near = difflib.get_close_matches(cause, STAGE_OF, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown cause id {cause!r}{hint} (`runtrue check --list` names all)")


def _told(box: Sandbox, exam: Examination, seed: int) -> Measured:
    measured = exam.measured
    layers = tuple(reading.to_dict() for reading in measured.start.layers)
    facts = _facts(box, measured, seed)
    return Measured(layers, measured.reference.losses, measured.constant, facts, _rates(exam))


def _rates(exam: Examination) -> tuple[JudgedCurve, ...]:
    """The four curves of N3.2 for this task: its own rate beside those that were tried; none if there were none."""
    measured = exam.measured
    if not exam.rates or not measured.rate > 0:
        return ()
    curves = {curve.rate: curve for curve in (*exam.rates, RateCurve(measured.rate, measured.reference.losses))}
    try:
        return rates.judge(curves.values(), measured.constant)
    except ValueError:  # curves too short to be judged
        return ()


def _facts(box: Sandbox, measured: Measurements, seed: int) -> dict[str, str]:
    start, plan = measured.start, measured.plan
    count = sum(p.numel() for p in box.model.parameters())
    assumed = " (assumed: the task has none)" if box.task.optimizer is None else ""
    told = {
        "model": f"{type(box.model).__name__}, {count:,} parameters",
        "optimizer": optimizers.code(box.optimizer(box.task)) + assumed if start.no_gradient is None else "",
        "loss": start.loss_facts.name if start.loss_facts else "the task's own",
        "batch": f"{measured.data.batch_size} examples",
        "plan": f"{plan.steps} steps" + ("" if plan.known else " (assumed: the task names no epochs)")
        if plan.steps
        else "",
        "small set": _small_set(measured),
        "data": USED_UP if measured.batches_used_up else "",
        "seed": str(seed),
        "versions": f"torch {torch.__version__}",
    }
    return {name: text for name, text in told.items() if text}


USED_UP = "the loader is an iterator: the batches drawn from it for this check cannot be put back"


def _small_set(measured: Measurements) -> str:
    small = measured.small
    if small is None:
        return ""
    done, how = "memorised" if small.memorised else "not memorised", ", with Adam" if small.with_adam else ""
    losses = f"loss {small.start:.3g} to {small.end:.3g}"
    return f"{small.examples} examples {done} in {small.steps} steps, regularization off{how} ({losses})"
