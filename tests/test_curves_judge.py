"""The judge of two accuracy curves: each word at made-up curves, its limits, and what it does not let itself be fooled by."""

from __future__ import annotations

import math

import pytest

from runtrue.curves_judge import HIGH, SEVERE, SIGMAS, SLIGHT, JudgedGap, judge, sampling_error


def level(train: float, val: float, chance: float = 0.1, examples: int | None = None) -> JudgedGap:
    """The verdict on a run whose accuracies stay where they are."""
    return judge([train] * 20, [val] * 20, chance=chance, examples=examples)


@pytest.mark.parametrize(
    ("train", "val", "verdict"),
    [
        (0.99, 0.95, "good"),
        (0.85, 0.87, "good"),  # dropout was on while the training accuracy was taken
        (1.0, 1.0, "good"),
        (0.98, 0.85, "slight overfitting"),
        (1.0, 0.7, "severe overfitting"),
        (0.6, 0.3, "severe overfitting"),
        (0.3, 0.28, "underfitting"),
        (0.1, 0.1, "underfitting"),
        (0.05, 0.1, "underfitting"),  # worse than a guess
    ],
)
def test_a_word_for_each(train: float, val: float, verdict: str) -> None:
    found = level(train, val)
    assert found.verdict == verdict and found.gap == pytest.approx(train - val)
    assert f"{train:.1%}" in found.reason and f"{val:.1%}" in found.reason


def test_the_limits_are_shares_of_what_there_is_to_learn() -> None:
    for chance in (0.0, 0.1, 0.5):
        for limit, below, above in (
            (SLIGHT, "good", "slight overfitting"),
            (SEVERE, "slight overfitting", "severe overfitting"),
        ):
            gap = limit * (1 - chance)
            assert level(1.0, 1.0 - gap + 1e-6, chance=chance).verdict == below
            assert level(1.0, 1.0 - gap - 1e-6, chance=chance).verdict == above
        low = chance + HIGH * (1 - chance)
        assert level(low - 1e-6, low, chance=chance).verdict == "underfitting"
        assert level(low + 1e-6, low, chance=chance).verdict == "good"


def test_few_validation_examples_tell_little() -> None:
    """A gap of 14 points of 100 images has a standard error of 3.6 points; of 10,000 a tenth of that."""
    assert sampling_error(0.86, 100) == pytest.approx(math.sqrt(0.86 * 0.14 / 100)) and sampling_error(0.86, None) == 0
    few, many = level(1.0, 0.86, examples=100), level(1.0, 0.86, examples=10_000)
    assert few.error == pytest.approx(10 * many.error)
    assert (few.verdict, many.verdict) == ("good", "slight overfitting")
    assert f"{SIGMAS * few.error / 0.9:.1%}" in few.reason


def test_one_noisy_epoch_decides_nothing() -> None:
    val = [0.92] * 19 + [0.6]
    found = judge([0.95] * 20, val, chance=0.1)
    assert found.verdict == "good" and found.error > 0.05
    assert judge([0.95] * 20, [0.6] * 20, chance=0.1).verdict == "severe overfitting"


def test_the_end_counts_and_not_the_way_there() -> None:
    rising = [0.1 + 0.85 * min(1.0, epoch / 15) for epoch in range(20)]
    assert judge(rising, [accuracy - 0.02 for accuracy in rising], chance=0.1).verdict == "good"


def test_underfitting_that_still_rises_says_so() -> None:
    rising = [0.1 + 0.01 * epoch for epoch in range(20)]
    assert "still rises: train longer" in judge(rising, rising, chance=0.1).reason
    assert "still rises" not in level(0.3, 0.3).reason


@pytest.mark.parametrize(
    ("train", "val"), [([], []), ([0.9], [0.5]), ([1.0, 1.0], [0.5, 0.5]), ([0.9, math.nan, 0.9], [0.9] * 3)]
)
def test_too_little_to_judge_is_unclear(train: list[float], val: list[float]) -> None:
    found = judge(train, val, chance=0.1)
    assert found.verdict == "unclear" and f"{len(train)} epochs" in found.reason


def test_a_wrong_call() -> None:
    with pytest.raises(ValueError, match="got 3 on the training set, 2 on the validation set"):
        judge([0.1] * 3, [0.1] * 2, chance=0.1)
    with pytest.raises(ValueError, match=r"chance=1\.0"):
        judge([0.1] * 3, [0.1] * 3, chance=1.0)
