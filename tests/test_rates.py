"""The judge of learning rates on curves whose answer is known: gradient descent on quadratics, and lines drawn by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from runtrue.rates import JudgedCurve, RateCurve, Verdict, holds, judge, lost_together, moves, suggest

few = settings(max_examples=40)  # each example judges several curves


def descent(rate: float, curvatures: Sequence[float] = (1.0,), steps: int = 100) -> RateCurve:
    """L = ½ Σ λ x², x ← (1 - ηλ) x from x = 1: the loss at step t is ½ Σ λ (1 - ηλ)^2t, and it rises where η > 2 / λ."""
    return RateCurve(rate, tuple(sum(c / 2 * (1 - rate * c) ** (2 * t) for c in curvatures) for t in range(steps)))


def noisy_descent(rate: float, *, spread: float = 0.3, steps: int = 400, seed: int = 0) -> RateCurve:
    """The same with a gradient x + ξ, ξ ~ N(0, spread²): the loss comes to lie at ½ η spread² / (2 - η) (exactly, on average)."""
    draw = random.Random(seed)
    x, losses = 1.0, []
    for _ in range(steps):
        losses.append(x * x / 2)
        x -= rate * (x + draw.gauss(0, spread))
    return RateCurve(rate, tuple(losses))


def drawn(rate: float, *corners: tuple[int, float], noise: float = 0.0, common: int = 0) -> RateCurve:
    """Straight lines between the corners (step, loss), with noise of its own, and some that all curves of `common` share."""
    own, shared = random.Random(repr((rate, corners))), random.Random(common)
    losses = []
    for (start, high), (stop, low) in pairwise(corners):
        losses += [high + (low - high) * (step - start) / (stop - start) for step in range(start, stop)]
    return RateCurve(
        rate, tuple(loss + own.gauss(0, noise) + (shared.gauss(0, 0.1) if common else 0) for loss in losses)
    )


def verdicts(curves: Sequence[RateCurve], constant: float | None = None) -> list[str]:
    return [curve.verdict for curve in judge(curves, constant)]


# -- quadratics


@pytest.mark.parametrize("curvature", [1e-3, 1.0, 50.0])
def test_the_stable_limit_of_a_quadratic(curvature: float) -> None:
    """Above 2 / λ it rises; just under it x jumps from side to side, and gets nowhere; 1 / λ is there after one step."""
    rates = [factor / curvature for factor in (1e-4, 0.05, 1.0, 1.9995, 2.01, 2.5)]
    found = judge([descent(rate, (curvature,)) for rate in rates])
    assert [curve.verdict for curve in found] == ["low", "good", "good", "high", "very high", "very high"]
    assert suggest(found).rate == pytest.approx(1 / curvature)


@few
@given(st.floats(0.01, 100), st.floats(1.02, 10))
def test_above_the_limit_of_the_steepest_direction_every_curve_is_very_high(steepest: float, factor: float) -> None:
    curves = [descent(rate / steepest, (steepest, steepest / 10, steepest / 30)) for rate in (0.5, 1.0, 2 * factor)]
    assert verdicts(curves)[-1] == "very high"
    assert suggest(judge(curves)).rate in (0.5 / steepest, 1 / steepest)


def test_of_two_directions_the_best_rate_is_the_known_one() -> None:
    """λ = 10 and 1: both shrink by the same factor at η = 2 / (10 + 1) (Nesterov 2004, theorem 2.1.15)."""
    found = judge([descent(rate, (10.0, 1.0), steps=12) for rate in (0.002, 0.01, 2 / 11, 0.1995, 0.21)])
    assert suggest(found).rate == 2 / 11
    assert [curve.verdict for curve in found] == ["low", "low", "good", "high", "very high"]


def test_the_plateau_of_a_noisy_quadratic() -> None:
    """It comes to lie at ½ η spread² / (2 - η): 0.12 of the start at rate 1.6, 0.01 at 0.2, and falling still at 0.003."""
    curves = [noisy_descent(rate, steps=2000) for rate in (1e-4, 0.2, 1.6, 2.1)]
    for curve in curves[1:3]:
        expected = 0.5 * curve.rate * 0.3**2 / (2 - curve.rate)
        assert sum(curve.losses[200:]) / 1800 == pytest.approx(expected, rel=0.15)
    found = judge(curves)
    assert [curve.verdict for curve in found] == ["low", "good", "high", "very high"]
    assert "stays up at 0.1" in found[2].reason or "stays up at 0.2" in found[2].reason


# -- the four curves of the notes


FOUR = (
    drawn(0.001, (0, 2.3), (300, 1.9), noise=0.02),
    drawn(0.02, (0, 2.3), (40, 0.8), (300, 0.3), noise=0.02),
    drawn(0.15, (0, 2.3), (20, 0.9), (300, 0.85), noise=0.05),
    drawn(1.0, (0, 2.3), (300, 9.0), noise=0.3),
)


def test_the_four_curves_of_the_notes() -> None:
    found = judge(FOUR, 2.3)
    assert [curve.verdict for curve in found] == ["low", "good", "high", "very high"]
    told = (
        "the loss still falls at 1.9",
        "falls from 2.3",
        "the loss falls, then stays up at 0.8",
        "the loss rises from 2.3",
    )
    assert all(curve.reason.startswith(words) for curve, words in zip(found, told))
    assert "where a rate of 0.02 reaches 0.3" in found[2].reason
    best = suggest(found)
    assert best.rate == 0.02 and best.curve is found[1] and best.reason.startswith("0.02 gets lowest: 0.3")


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf, 1e39])
def test_a_lost_curve_is_very_high_however_short(lost: float) -> None:
    found = judge([*FOUR[:3], RateCurve(1.0, (2.3, lost))])
    assert found[3].verdict == "very high" and "at step 1" in found[3].reason
    assert [curve.verdict for curve in found[:3]] == ["low", "good", "high"]


def test_an_early_spike_is_forgiven() -> None:
    spiked = drawn(0.02, (0, 2.3), (4, 2.2), (5, 40.0), (8, 2.0), (40, 0.8), (300, 0.3), noise=0.02)
    found = judge([FOUR[0], spiked, *FOUR[2:]], 2.3)
    assert found[1].verdict == "good" and suggest(found).rate == 0.02


def test_a_loss_thrown_up_that_comes_to_lie_where_a_guess_is_as_good() -> None:
    dead = drawn(0.5, (0, 2.3), (10, 1e3), (20, 2.31), (300, 2.31), noise=0.003)
    flat = drawn(0.5, (0, 2.3), (300, 2.3), noise=0.003)
    assert judge([FOUR[1], dead], 2.303)[1].verdict == "very high"
    assert judge([FOUR[1], flat], 2.303)[1].verdict == "high"


def test_jumps_that_no_other_rate_makes_are_high_and_noise_that_all_share_is_not() -> None:
    calm, wild = drawn(0.01, (0, 2.3), (100, 0.9), (300, 0.8)), drawn(0.3, (0, 2.3), (20, 0.4), (300, 0.4))
    jumping = RateCurve(0.3, tuple(loss + (0.7 if step % 3 == 0 else -0.3) for step, loss in enumerate(wild.losses)))
    assert verdicts([calm, jumping]) == ["low", "high"]
    found = suggest(judge([calm, jumping]))
    assert found.rate is None and found.reason == "0.01 is low and 0.3 is high: try a rate between them"
    bands = [RateCurve(c.rate, tuple(x + (step % 3 == 0) for step, x in enumerate(c.losses))) for c in (calm, wild)]
    assert verdicts(bands) == ["low", "good"]


def test_what_stands_as_low_as_anything_is_good() -> None:
    low, high = drawn(0.01, (0, 2.3), (50, 0.31), (300, 0.3)), drawn(0.1, (0, 2.3), (20, 0.3), (300, 0.3))
    assert verdicts([low, high, drawn(1e-4, (0, 2.3), (300, 2.2))]) == ["low", "good", "good"]


@few
@given(st.integers(1, 10_000), st.floats(0.0, 0.3))
def test_noise_alone_makes_no_rate_high_or_low(seed: int, noise: float) -> None:
    """Five runs to the same end, a band of common noise and noise of their own: all are good."""
    shape = ((0, 2.3), (30, 0.6), (120, 0.5))
    curves = [drawn(10.0**-power, *shape, noise=noise, common=seed) for power in range(1, 6)]
    assert verdicts(curves, 2.3) == ["good"] * 5


# -- no suggestion, and why


@pytest.mark.parametrize(
    ("curves", "constant", "words"),
    [
        (
            [RateCurve(r, (2.3, *[9.0] * (r < 1), math.nan)) for r in (0.1, 1.0)],
            2.3,
            "lost at every rate",
        ),
        ([RateCurve(r, (2.3, math.nan)) for r in (0.1, 1.0, 10.0)], 2.3, "lost at step 1 however low the rate"),
        ([drawn(r, (0, 2.32), (100, 2.305), noise=0.01) for r in (0.01, 0.1)], 2.303, "try higher ones"),
        (
            [drawn(r, (0, 2.9), (30, 2.31), (100, 2.3), noise=0.01) for r in (0.01, 0.1)],
            2.303,
            "nothing is learned at any rate tried (from 0.01 to 0.1)",
        ),
        (
            [drawn(0.01, (0, 2.32), (100, 2.305), noise=0.01), RateCurve(0.1, (2.3, math.inf))],
            2.303,
            "nothing is learned at any rate tried",
        ),
    ],
    ids=["all lost", "lost whatever the rate", "nothing moves", "all at the constant", "still or lost"],
)
def test_no_suggestion_says_why(curves: list[RateCurve], constant: float, words: str) -> None:
    found = suggest(judge(curves, constant), own=0.1)
    assert found.rate is None and found.curve is None and words in found.reason


def test_the_constant_tells_learning_from_coming_to_rest() -> None:
    """From a wild start down to the constant: with the constant known, nothing was learned."""
    falls = [drawn(0.1, (0, 50.0), (20, 2.3), (100, 2.3))]
    assert verdicts(falls, 2.3) == ["unclear"] and verdicts(falls) == ["good"]


def test_one_hard_first_batch_is_no_learning() -> None:
    """Nothing is learned at any rate, batches differ by 0.4, and the first one happens to be hard."""
    lucky = [
        RateCurve(c.rate, (3.6, *c.losses[1:])) for c in (drawn(r, (0, 2.3), (100, 2.3), noise=0.4) for r in (0.1, 1.0))
    ]
    assert suggest(judge(lucky)).rate is None
    learns = [lucky[0], RateCurve(1.0, (3.6, *drawn(1.0, (0, 2.3), (50, 0.5), (100, 0.5), noise=0.2).losses[1:]))]
    assert verdicts(learns) == ["low", "good"]


def test_a_start_better_than_the_constant_counts() -> None:
    """A fine-tuned network at 0.3, which a high rate ruins."""
    found = judge([drawn(0.001, (0, 0.3), (100, 0.2)), drawn(1.0, (0, 0.3), (10, 2.2), (100, 2.2))], 2.3)
    assert [curve.verdict for curve in found] == ["good", "very high"]


def test_a_good_rate_in_use_is_kept() -> None:
    found = judge([drawn(0.02, (0, 2.3), (40, 0.5), (300, 0.4)), drawn(0.06, (0, 2.3), (40, 0.5), (300, 0.35))])
    assert suggest(found).rate == 0.06 and suggest(found, own=0.02).rate == 0.02
    assert suggest(found, own=0.01).rate == 0.06


def test_the_best_at_the_edge_says_so() -> None:
    found = judge([drawn(0.01, (0, 2.3), (300, 1.9)), drawn(0.1, (0, 2.3), (300, 0.9))])
    assert "highest rate tried" in suggest(found).reason
    assert "lowest rate tried" in suggest(judge([found[1], FOUR[3]])).reason


# -- curves of different lengths


def test_a_curve_cut_short_is_compared_with_the_same_step_of_the_others() -> None:
    whole = drawn(0.02, (0, 2.3), (100, 0.3))
    cut = RateCurve(0.01, drawn(0.01, (0, 2.3), (100, 0.35)).losses[:40])
    assert [curve.verdict for curve in judge([whole, cut])] == ["good", "good"]
    stub = RateCurve(0.01, (2.3, 2.29, 2.3, 2.28, 2.29))
    slow = RateCurve(0.02, drawn(0.02, (0, 2.3), (10, 2.29), (100, 0.3)).losses)
    found = judge([stub, slow])
    assert found[0].verdict == "unclear" and "before any rate had learned" in found[0].reason


@pytest.mark.parametrize(
    ("curves", "words"),
    [
        ([], "no curve"),
        ([RateCurve(0.1, (1.0, 0.5))], "the curve at rate 0.1 has 2 losses and was not lost: at least 5"),
        ([RateCurve(0.0, (1.0,) * 9)], "above 0, got 0.0"),
        ([RateCurve(math.nan, (1.0,) * 9)], "above 0, got nan"),
        ([RateCurve(0.1, (1.0,) * 9)] * 2, "two curves have the rate 0.1"),
    ],
)
def test_what_cannot_be_judged(curves: list[RateCurve], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        judge(curves)


# -- whatever the curves are


LOSS = st.floats(1e-3, 1e3) | st.sampled_from([math.nan, math.inf])
CURVES = st.lists(st.lists(LOSS, min_size=5, max_size=25), min_size=1, max_size=5).map(
    lambda many: [RateCurve(10.0**power, tuple(losses)) for power, losses in enumerate(many, -3)]
)


@few
@given(CURVES, st.none() | st.floats(1e-3, 1e3), st.integers(-40, 40))
@example(list(FOUR), 2.3, 20)
def test_the_unit_of_the_loss_does_not_matter(curves: list[RateCurve], constant: float | None, power: int) -> None:
    unit = 2.0**power  # exact in floating point
    other = [RateCurve(c.rate, tuple(unit * loss for loss in c.losses)) for c in curves]
    assert verdicts(other, None if constant is None else unit * constant) == verdicts(curves, constant)
    assert suggest(judge(other)).rate == suggest(judge(curves)).rate


@few
@given(CURVES, st.none() | st.floats(1e-3, 1e3), st.randoms(use_true_random=False))
def test_the_order_does_not_matter(curves: list[RateCurve], constant: float | None, dice: random.Random) -> None:
    mixed = dice.sample(curves, len(curves))
    assert repr(judge(mixed, constant)) == repr(judge(curves, constant))


@few
@given(CURVES, st.none() | st.floats(1e-3, 1e3))
def test_a_suggestion_is_a_good_curve_or_a_reason(curves: list[RateCurve], constant: float | None) -> None:
    judged = judge(curves, constant)
    allowed: set[Verdict] = {"very high", "high", "good", "low", "unclear"}
    assert all(curve.verdict in allowed and curve.reason for curve in judged)
    assert all(curve.verdict == "very high" for curve in judged if curve.lost_at is not None)
    found = suggest(judged)
    assert found.reason and (found.rate is None) == ("good" not in {curve.verdict for curve in judged})


@few
@given(CURVES)
def test_a_curve_does_not_get_better_by_being_lost(curves: list[RateCurve]) -> None:
    assume(len(curves) > 1)
    broken = [*curves[:-1], RateCurve(curves[-1].rate, (*curves[-1].losses, math.nan))]
    assert suggest(judge(broken)).rate != curves[-1].rate


# -- the check by a longer run


def checked(*corners: tuple[int, float], steps: int | None = None) -> tuple[bool, str]:
    judged: tuple[JudgedCurve, ...] = judge(FOUR, 2.3)
    return holds(judged[1], drawn(0.02, *corners, noise=0.02).losses[:steps], judged, 2.3)


def test_a_longer_run_that_gets_as_low_holds() -> None:
    held, words = checked((0, 2.4), (40, 0.8), (900, 0.2))
    assert held and words.startswith("at 0.02 the loss reaches 0.2") and "in 900 steps on other batches" in words
    assert checked((0, 2.4), (40, 0.8), (900, 0.45))[0], "0.1 above: within a tenth of what was removed"


def test_a_longer_run_that_ends_higher_or_is_lost_does_not_hold() -> None:
    held, words = checked((0, 2.4), (40, 0.8), (400, 0.3), (900, 0.9))
    assert not held and "in 300 steps was promised" in words
    judged = judge(FOUR, 2.3)
    assert holds(judged[1], (2.3, 1.0, math.nan), judged) == (
        False,
        "at 0.02 the loss is lost at step 2 of a longer run",
    )
    assert "cut off after 2 steps" in holds(judged[1], (2.3, 1.0), judged)[1]


def test_a_check_that_was_cut_short_is_compared_with_the_same_step() -> None:
    assert checked((0, 2.3), (40, 0.8), (300, 0.3), steps=60)[0]
    assert not checked((0, 2.3), (300, 2.0), steps=60)[0]


def test_whether_lower_rates_are_worth_a_look() -> None:
    still, spiked = drawn(0.01, (0, 2.3), (100, 2.3)), drawn(0.01, (0, 2.3), (20, 90.0), (40, 2.3), (100, 2.3))
    lost = RateCurve(1.0, (2.3, math.nan))
    below = RateCurve(0.001, still.losses)
    assert not moves(judge([below, still, lost])) and moves(judge([below, spiked, lost]))
    assert moves(judge([still, lost])) and moves(judge([still])), (
        "one curve alone may stand still at the edge of stability"
    )
    assert lost_together([lost, RateCurve(2.0, (2.3, math.nan))]) == 1
    assert lost_together([lost, RateCurve(2.0, (math.nan,))]) is None and lost_together([lost]) is None
