"""One task examined in a process of its own: what `check` says of it, what `fix` makes of it, and what that is worth."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import runtrue
from diagnosis import loop, oracle, random_remedies
from diagnosis.metrics import reaches
from diagnosis.parts import Arm, Case, Init
from diagnosis.sets import SETS
from runtrue import Report, Task, TaskError


@dataclass(frozen=True)
class Spec:
    """Which task, and how it is examined."""

    set: str
    id: str
    sick: bool
    seed: int = 0
    init: Init = "torch"
    budget: float = 60.0
    random: bool = True
    """Also try random remedies for as long as the check took."""

    @property
    def case(self) -> Case:
        return SETS[self.set][self.id]

    @property
    def key(self) -> str:
        return f"{self.set}/{self.id}/{'sick' if self.sick else 'healthy'}/{self.init}/{self.seed}"

    def arm(self) -> Arm:
        return self.case.arm(self.sick, self.seed, self.init)


def examine(spec: Spec, threads: int = 1) -> dict[str, Any]:
    """Everything that is told of one task, as JSON can hold it (NaN apart)."""
    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes that broadcast, and the like: these are the faults
        return _examined(spec)


def _examined(spec: Spec) -> dict[str, Any]:
    row = asdict(spec) | {"key": spec.key, "half": spec.case.half, "accepted": list(spec.case.accepted)}
    arm = spec.arm()
    before = state_of(arm.task)
    report, told = checked(arm.task, spec)
    row |= told | {"touched": not same(before, state_of(arm.task))}
    if spec.sick:
        row |= judged(row["faults"], spec.case.accepted)
        healthy = known(spec, sick=False)
        treated, error = treat(arm, report, spec)
        row |= {"healthy": healthy, "untreated": known(spec, sick=True), "treated": treated, "fix_error": error}
        row["restored"] = reaches(treated, healthy)
        if spec.random:
            best, tries = random_remedies.best(spec.arm, told["seconds"], spec.seed)
            row |= {"by_chance": best, "chance_tries": tries, "chance_restores": reaches(best, healthy)}
    return row


def checked(task: Task, spec: Spec) -> tuple[Report | None, dict[str, Any]]:
    """The report, and what of it is kept. A task that runtrue refuses has no fault named."""
    begun = time.monotonic()
    try:
        report = runtrue.check(task, budget=spec.budget, seed=spec.seed)
    except TaskError as error:
        refused = {"faults": [], "warnings": [], "said": [], "refused": str(error)}
        return None, refused | {"seconds": time.monotonic() - begun}
    told = [*report.faults, *report.warnings]
    return report, {
        "seconds": time.monotonic() - begun,
        "faults": [finding.cause for finding in report.faults],
        "warnings": [finding.cause for finding in report.warnings],
        "said": [f"{finding.severity} {finding.cause}: {finding.message}" for finding in told],
        "refused": None,
    }


def judged(faults: list[str], accepted: tuple[str, ...]) -> dict[str, bool]:
    return {
        "first": bool(faults) and faults[0] in accepted,
        "among": any(cause in accepted for cause in faults),
    }


def known(spec: Spec, sick: bool) -> float:
    """The metric of an arm after a plain training: from the oracle's file, or trained here."""
    row = oracle.load().get(spec.id)
    fresh = row is not None and row["fingerprint"] == spec.case.fingerprint
    if fresh and row is not None and spec.init == "torch" and spec.seed in oracle.SEEDS:
        return float(row["sick" if sick else "healthy"][oracle.SEEDS.index(spec.seed)])
    return oracle.trained(spec.case.arm(sick, spec.seed, spec.init))


def treat(arm: Arm, report: Report | None, spec: Spec) -> tuple[float, str | None]:
    """The metric of the cured task after the epochs that were planned, trained as a user would; and what went wrong."""
    if report is None:
        return math.nan, "refused"
    try:
        treatment = runtrue.fix(arm.task, report, seed=spec.seed)
        torch.manual_seed(spec.seed)
        model = loop.fit(treatment.task, arm.task.epochs)
        return loop.judge(model, arm), None
    except Exception as error:  # noqa: BLE001 - whatever it is, the user would see it
        return math.nan, f"{type(error).__name__}: {error}"


# -- is the user's task as it was?


def state_of(task: Task) -> list[torch.Tensor]:
    """Parameters, buffers, data and the state of the random generators, copied."""
    model = task.model.state_dict() if isinstance(task.model, nn.Module) else {}
    found = [value for value in model.values() if isinstance(value, torch.Tensor)]
    if loop.is_pair(task.train):
        found += task.train
    drawn = torch.tensor(np.random.get_state(legacy=False)["state"]["key"].astype(np.int64))
    return [tensor.detach().clone() for tensor in (*found, torch.get_rng_state(), drawn)]


def same(before: list[torch.Tensor], after: list[torch.Tensor]) -> bool:
    """Bit by bit; a NaN is the same as a NaN."""
    return len(before) == len(after) and all(
        a.shape == b.shape and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) for a, b in zip(before, after)
    )
