"""A check's own two specimens, measured when somebody asks: what its judge says of the sick one, and of the healthy one."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from runtrue.budget import Budget, Say, nobody
from runtrue.checks import CHECKS, Check
from runtrue.checks.registry import Specimen
from runtrue.demos import DEMOS
from runtrue.diagnosis.examination import Examination
from runtrue.facts import TensorFacts
from runtrue.findings import Finding
from runtrue.measure import Measurements
from runtrue.sandbox import sandbox
from runtrue.task import TaskError

SECONDS = 8.0  # for one specimen, as a budget: 25 steps of the slowest one; all took 0.1 to 2.4 s on one core
APART = 0.1  # the relative difference from which on two numbers are told: less is the noise of different runs


@dataclass(frozen=True)
class Seen:
    """One specimen, and what the judge of one check said of it.

    numbers: what was measured, in words -> number, for a comparison of the two. layers: one dict a layer at the start.
    error: why it could not be measured, if it could not.
    """

    name: str
    about: str
    findings: tuple[Finding, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    layers: tuple[Mapping[str, Any], ...] = ()
    steps: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Comparison:
    """The sick and the healthy specimen of a check, measured alike."""

    sick: Seen
    healthy: Seen

    def numbers_apart(self) -> dict[str, tuple[float, float]]:
        """The numbers that were measured of both and differ, as (sick, healthy)."""
        sick, healthy = self.sick.numbers, self.healthy.numbers
        both = {name: (sick[name], healthy[name]) for name in sick if name in healthy}
        return {name: pair for name, pair in both.items() if _differ(*pair)}


def compare(cause: str, *, seconds: float = SECONDS, seed: int = 0, progress: Say = nobody) -> Comparison:
    """Measure both specimens of the check for this cause. `seconds`: the budget of each. KeyError if there is no check."""
    known = CHECKS[cause]
    sick, healthy = (see(known, made, Budget(seconds, progress), seed) for made in (known.sick, known.healthy))
    return Comparison(sick, healthy)


def see(known: Check, specimen: Specimen, budget: Budget, seed: int = 0) -> Seen:
    """What the judge says of one specimen, from its start and a short untreated run."""
    name, about = name_of(specimen), inspect.cleandoc(specimen.__doc__ or "").partition("\n")[0]
    try:
        with sandbox(specimen(), seed) as box:
            exam = Examination(box, budget, {known.cause})
            measured, findings = exam.measured, tuple(exam.suspects())
    except TaskError as error:
        return Seen(name, about, error=str(error))
    layers = tuple(reading.to_dict() for reading in measured.start.layers)
    return Seen(name, about, findings, numbers_of(measured), layers, measured.reference.steps)


def name_of(specimen: Specimen) -> str:
    """`demo:NAME` where it is one, so that it can be checked by hand."""
    demo = next((name for name, made in DEMOS.items() if made is specimen), None)
    return f"demo:{demo}" if demo else str(getattr(specimen, "__name__", "a specimen")).replace("_", " ")


def numbers_of(m: Measurements) -> dict[str, float]:
    """The numbers that most checks judge by, in words. What was not measured is left out; a lost run ends with NaN or inf."""
    start, wiring = m.start, m.start.wiring
    told: dict[str, float | None] = {
        **{key: value for tensor in m.data.inputs[:1] for key, value in _scale("inputs", tensor)},
        **dict(_scale("targets", m.data.targets) if m.data.targets else ()),
        "parameters frozen": len(wiring.frozen),
        "parameters not held by the optimizer": len(wiring.not_held),
        "parameters without a gradient": len(wiring.without_gradient),
        "gradient norm at the start": start.gradient_norm,
        "learning rate": m.rate,
        "loss of the best constant guess": m.constant,
        "loss at the start": start.loss,
    }
    found = {name: float(value) for name, value in told.items() if value is not None and not math.isnan(value)}
    if m.reference.steps:
        found["loss after the untreated run"] = m.reference.end
    return found


def _scale(role: str, tensor: TensorFacts) -> Iterator[tuple[str, float]]:
    yield from ((f"{role}, mean", tensor.mean), (f"{role}, std", tensor.std))
    yield from ((f"{role}, smallest", tensor.low), (f"{role}, largest", tensor.high))
    yield f"{role}, examples that are not finite", tensor.bad_rows


def _differ(a: float, b: float) -> bool:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a != b and not (math.isnan(a) and math.isnan(b))
    return abs(a - b) > APART * max(abs(a), abs(b)) and max(abs(a), abs(b)) > 1e-12
