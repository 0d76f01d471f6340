"""Which suspects are worth a trial."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from runtrue.diagnosis.verdict import Diagnosis
from runtrue.findings import Finding


def treated(cause: str, quality: float) -> bool:
    measured = SimpleNamespace(quality=quality, plan=SimpleNamespace(known=True))
    exam = SimpleNamespace(sound=quality >= 0.9, saw_the_whole_plan=True, measured=measured)
    return Diagnosis(cast(Any, exam), cast(Any, None))._is_worth_treating(Finding(cause, "warning", "", "", {}))


@pytest.mark.parametrize(
    ("cause", "up_to"),
    [
        ("output-activation-mismatch", 0.9),
        ("inputs-not-scaled", 0.8),
        ("learning-rate-too-low", 0.6),
        ("parameters-frozen", 0.5),  # a trained body under a new head that learns is meant so
        ("parameters-not-optimized", 0.5),
        ("graph-detached", 0.9),
    ],
)
def test_the_better_it_learns_the_heavier_a_suspicion_has_to_be(cause: str, up_to: float) -> None:
    assert treated(cause, up_to - 0.01) and not treated(cause, up_to)
