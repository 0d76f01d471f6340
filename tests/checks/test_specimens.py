"""Every check on its own specimens: the sick one is found out, the healthy one passes. Real training, on real images."""

from __future__ import annotations

from typing import Any

import pytest

import runtrue
from runtrue.checks import CHECKS
from runtrue.checks.registry import Specimen

LONG = {
    "frozen",
    "rate_too_low",
    "deep_sigmoid",
    "tanh_small_init",
    "tanh_large_init",
    "forgotten_layers",
    "exploding_relu",
    "pairs_of_images",
    "softmax_twice",
    "heavy_dropout",
    "asleep",
    "repeated_images",
    "absolute_error_of_classes",
    "detached",
}
"""Those that take more than about five seconds on one core."""
ONLY_FOUND = {"underfitting"}  # never a fault by itself, and no word of the fault that is
ONLY_WARNED = {"train-val-overlap"}  # the network trains; what is validated on is the user's choice


def cases(kind: str) -> list[Any]:
    made = []
    for cause, known in CHECKS.items():
        specimen: Specimen = getattr(known, kind)
        marks = [pytest.mark.slow] if getattr(specimen, "__name__", "") in LONG else []
        made.append(pytest.param(cause, specimen, marks=marks, id=f"{cause}: {getattr(specimen, '__name__', '')}"))
    return made


def distinct(found: list[Any]) -> list[Any]:
    """Each specimen once: several checks share a healthy one."""
    return list({case.values[1]: case for case in found}.values())


@pytest.mark.parametrize(("cause", "specimen"), cases("sick"))
def test_the_sick_one_is_found_out(cause: str, specimen: Specimen) -> None:
    report = runtrue.check(specimen(), budget=30)
    if cause in ONLY_WARNED:
        assert report.ok and [f.cause for f in report.warnings] == [cause]
        return
    assert not report.ok
    if cause in ONLY_FOUND:
        return
    found = [f for f in report.findings if f.cause == cause]
    assert found, f"{cause} is not among {[f.cause for f in report.findings]}"
    root = report.faults[0]
    assert found[0].severity == "fault" or found[0].explained_by == root.cause
    assert root.outcome is None or root.outcome.cured
    assert all(f.explained_by in {fault.cause for fault in report.faults} for f in report.notes if f.explained_by)


@pytest.mark.parametrize(("cause", "specimen"), distinct(cases("healthy")))
def test_the_healthy_one_passes_without_a_warning(cause: str, specimen: Specimen) -> None:
    report = runtrue.check(specimen(), budget=30)
    assert report.ok and report.warnings == (), [f.cause for f in report.findings]
    assert report.steps > 20
