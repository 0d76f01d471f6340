"""Where a curve began, where it is, and whether anything was learned: numbers known by hand."""

from __future__ import annotations

import math

import pytest
from watch_histories import after, falling, noisy

from runtrue.watch.progress import BEGINNING, LEARNED, SIGMAS, Progress, levels, progress, windows


def of(losses: list[float], began: int = 0, optimizers: int = 1) -> Progress:
    found = progress(after(losses, began=began, facts={"optimizers": optimizers}))
    assert found is not None
    return found


def test_nothing_is_said_of_too_few_losses() -> None:
    assert progress(after([1.0] * (2 * BEGINNING - 1))) is None
    assert progress(after([1.0] * (2 * BEGINNING))) is not None
    assert progress(after([math.nan] * 50)) is None


def test_the_beginning_and_the_end_are_means() -> None:
    found = of([4.0] * 8 + [9.0] * 36 + [1.0, 3.0] * 50)
    assert (found.start, found.now, found.fell, found.steps) == (4.0, 2.0, 2.0, 144)
    assert found.wobble == pytest.approx(2 / 0.954) and found.best == 2.0
    assert found.error == pytest.approx(found.wobble * math.sqrt(1 / 36 + 1 / 8))  # 36 = 144 / 4
    assert found.describe() == "loss 4 at the start, 2 now"


def test_a_fall_has_to_count() -> None:
    below, above = 1 - LEARNED + 1e-6, 1 - LEARNED - 1e-6
    assert not of([1.0] * 20 + [below] * 80).learned and of([1.0] * 20 + [above] * 80).learned
    assert not of([-1.0] * 20 + [-2 + below] * 80).learned and of([-1.0] * 20 + [-2 + above] * 80).learned


def test_a_fall_has_to_be_more_than_chance() -> None:
    """Of losses that differ by 2 in turn the wobble is 2.1, and the error of 26 against 8 is 0.85: four of them are 3.39."""
    for fall, learned in ((3.3, False), (3.5, True)):
        found = of([10.0, 12.0] * 12 + [10.0 - fall, 12.0 - fall] * 40)
        assert found.fell == pytest.approx(fall) and found.learned is learned
        assert (fall > SIGMAS * found.error) is learned


def test_noise_alone_never_learns() -> None:
    for seed in range(40):
        assert not of(noisy(1.0, 2000, noise=0.5, seed=seed)).learned


def test_what_was_learned_once_counts() -> None:
    found = of(noisy(falling(), 600) + [1.9] * 300)
    assert found.best < 0.4 and found.learned and not found.stuck and not found.forgot


def test_what_was_learned_and_lost_again_does_not() -> None:
    found = of(noisy(falling(), 600) + [2.2] * 300)
    assert found.learned and found.forgot and found.stuck
    assert not of(noisy(falling(2.3, 1.3), 600) + [2.3] * 300).forgot  # it had not learned much


def test_a_burst_in_the_first_steps_is_not_where_a_run_began() -> None:
    assert of([2.3] + [400.0] * 20 + [2.31] * 200).start == 2.3
    assert not of([2.3] + [400.0] * 20 + [2.31] * 200).learned
    assert of([2.3] + [400.0] * 20 + noisy(falling(), 400)).start > 300  # it has come below, and so has learned
    lucky = [0.01, *noisy(2.3, 300, noise=0.4)[1:]]
    lucky[15::15] = [0.007] * len(lucky[15::15])  # as single batches are
    assert of(lucky).start == pytest.approx(sum(lucky[:8]) / 8)


def test_numbers_alone_count() -> None:
    assert of([4.0] * 8 + [math.nan, math.inf, 1e39] + [1.0] * 30).now == 1.0


@pytest.mark.parametrize(("began", "optimizers", "stuck"), [(0, 1, True), (1000, 1, False), (0, 2, False)])
def test_stuck_is_said_of_a_whole_run_with_one_loss(began: int, optimizers: int, stuck: bool) -> None:
    found = of([1.0] * 200, began, optimizers)
    assert found.stuck is stuck and not found.learned and found.steps == 200


def test_levels_hold_the_whole_run() -> None:
    history = after([float(i // 100) for i in range(2000)])
    assert [mean for _, mean in levels(history, 100)] == [float(i) for i in range(20)]
    assert [step for step, _ in levels(history, 100)] == list(range(99, 2000, 100))
    assert windows([9.0, 1.0, 3.0, 5.0, 7.0], 2) == [2.0, 6.0]
