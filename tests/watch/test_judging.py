"""Causes stand as they are, their symptoms as notes that name them."""

from __future__ import annotations

import pytest
from watch_histories import after, noisy, read, said, severities

from runtrue.findings import STAGE_OF
from runtrue.watch.judging import SYMPTOMS, judge


def test_the_table_names_causes() -> None:
    assert set(SYMPTOMS) | {one for many in SYMPTOMS.values() for one in many} <= set(STAGE_OF)
    for cause, symptoms in SYMPTOMS.items():
        assert cause not in symptoms
        assert not any(cause in SYMPTOMS.get(one, ()) for one in symptoms), f"{cause} explains itself"


@pytest.mark.parametrize(("stale", "verdict"), [(False, "fault"), (True, "note")])
def test_a_symptom_is_a_note(stale: bool, verdict: str) -> None:
    history = after([2.0] * 300 + [50.0] * 150)
    read(history, update_ratio={"a": 0.01}, grad_mean={"a": 0.0}, weight_norm={"a": [1.0] * 4 + [4.0] * 4})
    history.stale.extend([stale] * 200)
    found = said(judge, history)
    assert found["diverging"].severity == verdict
    assert found["diverging"].explained_by == ("gradients-not-cleared" if stale else None)
    if stale:
        assert found["gradients-not-cleared"].explained_by is None


def test_the_gravest_cause_is_believed_and_none_that_is_less_grave_than_its_symptom() -> None:
    gradients = {"a.weight": 1e-9, "b.weight": 0.01, "c.weight": 0.02}
    history = read(
        after(noisy(2.3, 1200)), dead_fraction={"a": 0.6}, grad_norm=gradients, weight_norm=dict.fromkeys(gradients, 1.0),
        grad_mean=gradients, update_ratio=gradients,
    )  # fmt: skip
    found = said(judge, history)
    assert found["vanishing-gradient"].severity == "fault" and found["vanishing-gradient"].explained_by is None
    assert found["dead-units"].severity == "warning" and found["plateau"].explained_by == "vanishing-gradient"


def test_a_note_explains_nothing() -> None:
    """Dead units in half of a layer do not explain a plateau while they are a note: nothing is one."""
    history = read(after(noisy(2.3, 1200)), dead_fraction={"a": 0.6})
    assert severities(judge, history) == {"dead-units": "warning", "plateau": "note"}
    assert said(judge, history)["plateau"].explained_by == "dead-units"
