"""What may enter the register of checks, and what is in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runtrue import demos
from runtrue.checks import CHECKS, rank
from runtrue.checks.registry import Check, check
from runtrue.findings import CAUSES, STAGE_OF, Finding
from runtrue.measure import Measurements
from runtrue.remedies import REMEDIES, remedy

KNOWN = {
    "data": "non-finite-data inputs-not-scaled targets-not-scaled constant-inputs constant-targets labels-out-of-range "
    "labels-unrelated class-imbalance unshuffled-batches repeated-examples train-val-overlap train-val-mismatch",
    "loss and output": "softmax-before-cross-entropy sigmoid-before-bce-with-logits logits-without-log-softmax "
    "output-activation-mismatch wrong-loss loss-shape-broadcast",
    "initial weights": "init-too-small init-too-large init-symmetric",
    "architecture": "vanishing-gradient exploding-gradient dead-units saturating-activation missing-nonlinearity "
    "too-little-capacity batch-too-small-for-norm",
    "wiring": "parameters-not-optimized parameters-frozen graph-detached gradients-not-cleared eval-mode-while-training",
    "optimizer": "learning-rate-too-high learning-rate-too-low",
    "regularization": "regularization-too-strong dropout-too-strong",
    "during a run": "diverging plateau oscillating overfitting underfitting loss-spike "
    "train-mode-while-evaluating step-before-backward ranks-apart",
}
"""The published ids. A line may be added; none is ever renamed or taken away."""

CHECKED = (
    "non-finite-data", "inputs-not-scaled", "targets-not-scaled", "constant-inputs", "constant-targets",
    "labels-out-of-range", "init-too-small", "init-too-large", "init-symmetric", "vanishing-gradient",
    "exploding-gradient", "dead-units", "parameters-frozen", "parameters-not-optimized", "graph-detached",
    "learning-rate-too-high", "learning-rate-too-low", "labels-unrelated", "class-imbalance", "unshuffled-batches",
    "repeated-examples", "train-val-overlap", "train-val-mismatch",
)  # fmt: skip


def nothing(measured: Measurements) -> Iterator[Finding]:
    """Says nothing."""
    return iter(())


def test_the_published_ids_are_known_and_stand_at_their_stage() -> None:
    assert {stage: set(ids.split()) for stage, ids in KNOWN.items()} == {s: set(ids) for s, ids in CAUSES.items()}
    assert len(STAGE_OF) == sum(map(len, CAUSES.values())), "an id stands at two stages"


@pytest.mark.parametrize("cause", CHECKED)
def test_the_causes_of_the_first_version_are_checked(cause: str) -> None:
    assert CHECKS[cause].cause == cause and CHECKS[cause].stage == STAGE_OF[cause]


def test_checks_stand_in_the_order_of_the_stages() -> None:
    assert list(CHECKS) == sorted(CHECKS, key=rank)
    assert rank("non-finite-data") < rank("parameters-frozen") < rank("init-too-small") < rank("vanishing-gradient")
    assert rank("vanishing-gradient") < rank("learning-rate-too-low") < rank("underfitting")


@pytest.mark.parametrize("cause", CHECKS)
def test_every_check_says_what_it_means_and_brings_specimens(cause: str) -> None:
    known = CHECKS[cause]
    assert 20 <= len(known.meaning) <= 160
    assert known.explanation.startswith(known.meaning)
    assert known.sick is not known.healthy
    assert known.sick in demos.DEMOS.values() and known.healthy in demos.DEMOS.values()


def test_a_specimen_builds_a_new_task_each_time() -> None:
    for known in CHECKS.values():
        assert known.sick() is not known.sick()


def test_an_unknown_cause_cannot_register() -> None:
    with pytest.raises(ValueError, match="unknown cause id 'bad-luck'; known are batch-too-small-for-norm, "):
        check("bad-luck", sick=demos.basic.frozen, healthy=demos.basic.healthy_mlp)
    with pytest.raises(ValueError, match="unknown cause id 'bad-luck'"):
        remedy("bad-luck")(lambda finding, measured, box: iter(()))
    assert "bad-luck" not in CHECKS and "bad-luck" not in REMEDIES


def test_no_cause_registers_twice() -> None:
    before = dict(CHECKS)
    with pytest.raises(ValueError, match="'init-too-small' has a check already: init_too_small"):
        check("init-too-small", sick=demos.basic.frozen, healthy=demos.basic.healthy_mlp)(nothing)
    assert before == CHECKS


def test_a_judge_without_a_docstring_cannot_register() -> None:
    def silent(measured: Measurements) -> Iterator[Finding]:
        return iter(())

    free = next(cause for cause in STAGE_OF if cause not in CHECKS)
    with pytest.raises(ValueError, match=f"the check for '{free}' has no docstring"):
        check(free, sick=demos.basic.frozen, healthy=demos.basic.healthy_mlp)(silent)
    assert free not in CHECKS


def test_specimens_must_be_named() -> None:
    free = next(cause for cause in STAGE_OF if cause not in CHECKS)
    with pytest.raises(TypeError, match="sick"):
        check(free)(nothing)  # type: ignore[call-arg]
    assert free not in CHECKS


def test_a_check_that_is_complete_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    free = next(cause for cause in STAGE_OF if cause not in CHECKS)
    registered: dict[str, Check] = {}
    monkeypatch.setattr("runtrue.checks.registry.CHECKS", registered)
    assert check(free, sick=demos.basic.frozen, healthy=demos.basic.healthy_mlp)(nothing) is nothing
    assert registered[free].meaning == "Says nothing."


def test_every_suspicion_has_a_remedy() -> None:
    certain = {
        "constant-inputs",
        "constant-targets",
        "underfitting",
    }  # nothing to try: look at the data, at the other findings
    assert set(CHECKS) - certain <= set(REMEDIES)
