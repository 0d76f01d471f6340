"""`runtrue.fix`: the remedies that were seen to work, applied to a copy of the task."""

from __future__ import annotations

from dataclasses import dataclass

from runtrue.diagnosis.check import check
from runtrue.diagnosis.search import applied
from runtrue.diagnosis.verification import all_of
from runtrue.findings import Outcome, Remedy
from runtrue.keeping import keep_random_state, seed_all
from runtrue.report import Report
from runtrue.task import Task
from runtrue.trials import Changed


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
    treated = sorted((f for f in report.faults if f.remedy is not None), key=lambda f: applied(f.cause))
    restore = keep_random_state()
    try:
        seed_all(seed)
        cured = task.copy()
        remedies = tuple({f.remedy.name: f.remedy for f in treated if f.remedy is not None}.values())
        seed_all(seed)
        cured = all_of(remedies)(cured)
        if isinstance(cured.train, Changed):
            cured = cured.replace(train=cured.train.settled())
        return Treatment(cured, remedies, tuple(f.outcome for f in treated if f.outcome is not None))
    finally:
        restore()
