"""The judges of epochs: gaps and rising validation losses just beyond their limits, and just below."""

from __future__ import annotations

import random
from typing import Any

import pytest
from watch_histories import after, epochs, said, severities

from runtrue.watch.epoch_judges import judge_epochs
from runtrue.watch.history import History


def gap(train: float, val: float, count: int = 12) -> History:
    return epochs(after([1.0] * 20), train_accuracy=[train] * count, val_accuracy=[val] * count)


@pytest.mark.parametrize(
    ("train", "val", "verdict"),
    [
        (0.99, 0.78, {"overfitting": "warning"}),
        (0.99, 0.80, {"overfitting": "note"}),
        (0.99, 0.88, {"overfitting": "note"}),
        (0.99, 0.90, {}),
        (0.80, 0.99, {}),
        (95.0, 60.0, {}),  # in per cent: not understood, nothing said
    ],
)
def test_gaps(train: float, val: float, verdict: dict[str, str]) -> None:
    assert severities(judge_epochs, gap(train, val)) == verdict


def test_a_gap_says_how_large_it_is_and_what_helps() -> None:
    found = said(judge_epochs, gap(0.99, 0.6))["overfitting"]
    assert "training accuracy 99.0%, validation 60.0%" in found.message and "weight decay" in found.message
    assert found.evidence["train_accuracy"] == pytest.approx(0.99) and found.evidence["epochs"] == 12


def test_it_waits_for_epochs_that_hold() -> None:
    assert not said(judge_epochs, gap(0.99, 0.6, count=4))
    late = [0.1, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7]  # running statistics that follow
    assert severities(judge_epochs, epochs(after([1.0] * 20), train_accuracy=[0.9] * 7, val_accuracy=late)) == {}
    one_bad = [0.88] * 11 + [0.2]
    assert not said(judge_epochs, epochs(after([1.0] * 20), train_accuracy=[0.9] * 12, val_accuracy=one_bad))


def test_underfitting_is_a_note_when_nothing_moves_any_more() -> None:
    found = said(judge_epochs, gap(0.45, 0.44, count=20))["underfitting"]
    assert found.severity == "note" and "no progress for 10 epochs" in found.message
    assert not said(judge_epochs, gap(0.55, 0.54, count=20))
    assert not said(judge_epochs, gap(0.45, 0.44, count=19))
    rising = [0.2 + i / 100 for i in range(20)]
    assert not said(judge_epochs, epochs(after([1.0] * 20), train_accuracy=rising, val_accuracy=rising))


def losses(rise: float, noise: float = 0.0, count: int = 20) -> dict[str, Any]:
    """The validation loss is best in epoch 8 and rises to `rise` times that; the training loss falls."""
    draw = random.Random(0)
    val = [1 + max(0, 8 - i) / 8 + max(0, i - 8) / (count - 9) * (rise - 1) for i in range(count)]
    return {
        "train_loss": [1 / (1 + i / 4) for i in range(count)],
        "val_loss": [v * (1 + noise * draw.gauss(0, 1)) for v in val],
    }


def test_a_rising_validation_loss() -> None:
    found = said(judge_epochs, epochs(after([1.0] * 20), **losses(1.3)))["overfitting"]
    assert found.severity == "warning" and 8 <= found.evidence["best_epoch"] <= 10
    assert f"Take the weights of epoch {found.evidence['best_epoch']}" in found.message
    assert not said(judge_epochs, epochs(after([1.0] * 20), **losses(1.1)))


def test_one_lucky_epoch_is_no_best() -> None:
    for count in (10, 20):
        columns = losses(1.0, count=count)
        columns["val_loss"][4] = 0.7
        assert not said(judge_epochs, epochs(after([1.0] * 20), **columns))
    assert not said(judge_epochs, epochs(after([1.0] * 20), **losses(1.05, noise=0.05)))


def test_a_training_loss_that_rises_too_is_another_illness() -> None:
    columns = losses(1.5)
    columns["train_loss"] = columns["val_loss"]
    assert not said(judge_epochs, epochs(after([1.0] * 20), **columns))


def test_an_accuracy_that_holds_makes_it_a_note() -> None:
    rising = [0.6 + i / 100 for i in range(20)]
    found = said(judge_epochs, epochs(after([1.0] * 20), **losses(1.5), val_accuracy=rising))["overfitting"]
    assert found.severity == "note" and "too sure of itself" in found.message


def tuned(right: list[float], loss: float, known: float = 0.9) -> History:
    """A network that gave `known` right answers at a loss of 0.3 before its first step, and `right` epoch by epoch."""
    history = epochs(after([1.0] * 20, rate=0.01), train_accuracy=right, train_loss=[loss] * len(right))
    history.known = {"train_accuracy": known, "train_loss": 0.3, "epoch": -1, "step": 0}
    return history


def test_a_fine_tuning_that_tears_up_what_the_network_knew() -> None:
    found = said(judge_epochs, tuned([0.9, 0.44, 0.1], 0.91))["diverging"]
    assert found.severity == "fault" and found.evidence["limit"] == pytest.approx(0.45)
    assert (
        "90.0% were right before the first step, and 44.0% at most" in found.message and "rate (0.01)" in found.message
    )


@pytest.mark.parametrize(
    "healthy",
    [
        tuned([0.9, 0.1], 5.0),  # one epoch may come back
        tuned([0.1, 0.46], 5.0),
        tuned([0.1, 0.1], 0.89),  # the loss is what is trained
        tuned([0.1, 0.1], 5.0, known=0.49),  # there was little to lose
        epochs(after([1.0] * 20), train_accuracy=[0.9, 0.1, 0.1], train_loss=[0.3, 5.0, 5.0]),  # told of nothing before
    ],
)
def test_nothing_is_torn_up(healthy: History) -> None:
    assert "diverging" not in said(judge_epochs, healthy)
