"""The judges of a loss curve: for each a sick run just beyond its limit, and healthy ones that come close."""

from __future__ import annotations

import math
import random

import pytest
from watch_histories import after, epochs, falling, noisy, read, said, severities

from runtrue.watch import curve_judges as judges
from runtrue.watch.curve_judges import judge_curve
from runtrue.watch.history import RECENT, History

NAN = math.nan
CONVERGED = noisy(falling(), 2000)


def test_a_healthy_curve_is_silent() -> None:
    for losses in (
        CONVERGED,
        noisy(falling(), 700, noise=0.3),
        [abs(x) for x in noisy(falling(1.0, 0.0), 900, noise=1)],
    ):
        assert not said(judge_curve, after(losses))
    assert not said(judge_curve, after([1.0] * 5))


class TestLost:
    def test_three_at_the_end_are_a_fault(self) -> None:
        history = after([1.0] * 50 + [NAN, math.inf, NAN])
        history.origin = "step 50: `log` in middle made NaN"
        found = said(judge_curve, history)["diverging"]
        assert found.severity == "fault" and found.evidence["first"] == 50 and found.evidence["lost"] == 3
        assert (
            "no number since step 50 (3 steps). Where it came from: step 50: `log` in middle made NaN." in found.message
        )

    def test_a_few_are_a_warning(self) -> None:
        assert severities(judge_curve, after([1.0] * 50 + [NAN, NAN])) == {"diverging": "warning"}
        found = said(judge_curve, after([1.0] * 20 + [NAN] * 5 + [1.0] * 30))["diverging"]
        assert found.severity == "warning" and "in 5 of 55 steps" in found.message

    def test_the_step_is_right_after_more_than_is_remembered(self) -> None:
        found = said(judge_curve, after([1.0] * 50 + [NAN] * (RECENT + 300)))["diverging"]
        assert f"since step 50 ({RECENT + 300} steps)" in found.message

    def test_losses_that_were_not_told_are_not_lost(self) -> None:
        history = after([NAN] * 100, counts={"untold loss": 100})
        assert not said(judge_curve, history)
        history.origin = "step 7: a gradient"
        assert severities(judge_curve, history) == {"diverging": "warning"}
        assert severities(judge_curve, after([NAN] * 100, counts={"untold loss": 97})) == {"diverging": "fault"}

    def test_a_gradient_that_a_scaler_left_out_is_healthy(self) -> None:
        history = after(CONVERGED)
        history.origin = "step 3: the loss, or its gradient, made infinity"
        assert not said(judge_curve, history)


def moved(history: History, change: float = 0.2, grows: float = 1.0) -> History:
    """Readings of a weight that a step changes by so much, and that has grown so many times."""
    sizes = [1.0] * 4 + [grows] * 4
    return read(history, update_ratio={"a": change}, grad_mean={"a": 0.0}, weight_norm={"a": sizes})


class TestDiverging:
    @pytest.mark.parametrize(("times", "steps", "noticed"), [(3.1, 100, True), (2.9, 100, False), (3.1, 90, False)])
    def test_limits(self, times: float, steps: int, noticed: bool) -> None:
        found = said(judge_curve, moved(after([2.0] * 300 + [2.0 * times] * steps)))
        assert ("diverging" in found) is noticed
        if noticed:
            one = found["diverging"]
            assert one.severity == "fault" and one.evidence["limit"] == 6.0 and one.evidence["rate"] == 0.1
            assert 290 <= one.evidence["leapt"] <= 340 and "lower the rate (0.1) by ten" in one.message

    def test_one_that_learned_first(self) -> None:
        assert severities(judge_curve, moved(after(noisy(falling(), 600) + [50.0] * 150))) == {"diverging": "fault"}

    @pytest.mark.parametrize(
        ("change", "grows", "severity"), [(0.11, 1.0, "fault"), (0.01, 3.1, "fault"), (0.09, 2.9, "note")]
    )
    def test_the_weights_tell_whether_the_steps_were_it(self, change: float, grows: float, severity: str) -> None:
        """A loss that leaps while the weights do not: rewards are found, another term or harder data came."""
        history = moved(after([2.0] * 300 + [20.0] * 150), change, grows)
        assert severities(judge_curve, history) == {"diverging": severity}

    def test_without_readings_it_is_a_suspicion(self) -> None:
        assert severities(judge_curve, after([2.0] * 300 + [20.0] * 150)) == {"diverging": "warning"}

    def test_all_that_was_learned_is_lost_again(self) -> None:
        found = said(judge_curve, moved(after(noisy(falling(), 600) + noisy(2.3, 150, noise=0.01))))["diverging"]
        assert (
            found.severity == "warning" and "at best" in found.message and "above 0.95 times its start" in found.message
        )
        assert not said(judge_curve, moved(after(noisy(falling(), 600) + noisy(1.9, 150, noise=0.01))))

    def test_a_slow_rise_may_be_what_the_loss_is_made_of(self) -> None:
        slow = noisy(lambda i: 0.5 + i / 100, 1000)
        found = said(judge_curve, after(slow))["diverging"]
        assert found.severity == "warning" and "If this loss is one that should fall" in found.message
        assert not said(judge_curve, after(slow, facts={"optimizers": 2}))

    def test_one_that_comes_back(self) -> None:
        burst = noisy(lambda i: 2.0 if i < 300 else 400 * math.exp(-(i - 300) / 40), 420)
        assert "diverging" not in said(judge_curve, after(burst))

    def test_a_loss_below_zero_has_no_times(self) -> None:
        assert not said(judge_curve, after([-1.0] * 300 + [-0.1] * 200))


class TestBurst:
    def run(self, peak: float, steps: int = 160, rest: float = 2.3) -> list[float]:
        return [2.3] + [peak] * 10 + noisy(rest, steps - 11, noise=0.02)

    def test_thrown_up_and_nothing_learned(self) -> None:
        found = said(judge_curve, after(self.run(12.0)))["learning-rate-too-high"]
        assert found.severity == "fault" and "from 2.3 to 12" in found.message and "(0.1) by ten" in found.message

    def test_limits(self) -> None:
        assert not said(judge_curve, after(self.run(11.0)))  # 4.8 times
        assert not said(judge_curve, after(self.run(12.0, steps=140)))  # too early to tell
        assert not said(judge_curve, after(self.run(12.0, rest=1.8)))  # it learned
        assert not said(judge_curve, after(self.run(12.0), began=500))

    def test_batches_that_differ_much(self) -> None:
        draw = random.Random(1)
        losses = [0.4, *(draw.expovariate(0.4) for _ in range(300))]
        assert not said(judge_curve, after(losses))


class TestSpike:
    def run(self, high: float, level: float = 0.5, width: int = 1, behind: int = 60) -> list[float]:
        return noisy(falling(2.3, level), 700) + [high] * width + noisy(level, behind)

    def test_one_far_above(self) -> None:
        found = said(judge_curve, after(self.run(5.0)))["loss-spike"]
        assert found.severity == "warning" and found.evidence["step"] == 700 and found.evidence["loss"] == 5.0
        assert "at step 700 the loss jumped from 0.5" in found.message and "came back" in found.message

    def test_limits(self) -> None:
        assert not said(judge_curve, after(self.run(1.3)))  # 2.6 times the level
        assert severities(judge_curve, after(self.run(1.7))) == {"loss-spike": "warning"}  # 3.4 times
        assert not said(judge_curve, after(self.run(1.0, level=0.05)))  # below half of the start: no harm
        assert not said(judge_curve, after(self.run(5.0, behind=8)))  # not back yet
        assert not said(judge_curve, after(self.run(5.0, width=15)))  # no spike
        assert not said(judge_curve, after(self.run(5.0)[:-60] + noisy(1.2, 60)))  # harder data came, and stayed

    def test_the_beginning_of_a_run_is_none(self) -> None:
        assert not said(judge_curve, after([2.3, 2.2, 2.0, *noisy(0.05, 270)]))

    def test_a_long_tail_is_none(self) -> None:
        for seed in range(20):
            draw = random.Random(seed)
            losses = [2.3] * 20 + [draw.lognormvariate(-2, 1.3) for _ in range(800)]
            assert not said(judge_curve, after(losses))


class TestStandstill:
    def test_limits(self) -> None:
        found = said(judge_curve, after(noisy(2.3, 1000)))["plateau"]
        assert found.severity == "warning" and "it has not moved for 1000 steps" in found.message
        assert not said(judge_curve, after(noisy(2.3, 980)))

    def test_what_has_learned_or_is_learning_is_healthy(self) -> None:
        assert not said(judge_curve, after(CONVERGED))
        assert not said(judge_curve, after(noisy(lambda i: 2.3 - i / 20_000, 1500, noise=0.01)))  # slow, and sure

    def test_a_small_fall_at_the_start(self) -> None:
        """To the best constant guess, if the accuracies are low; else what was left to learn."""
        losses = noisy(2.36, 20, noise=0.005) + noisy(2.3, 1280, noise=0.005)
        assert not said(judge_curve, after(losses))
        low, high = ([accuracy] * 20 for accuracy in (0.1, 0.9))
        assert severities(judge_curve, epochs(after(losses), train_accuracy=low)) == {"plateau": "warning"}
        assert not said(judge_curve, epochs(after(losses), train_accuracy=high))
        assert not said(judge_curve, after(noisy(2.3, 20, noise=0.005) + noisy(2.36, 1280, noise=0.005)))

    def test_a_run_that_is_gone_on_with_has_learned_before(self) -> None:
        assert not said(judge_curve, after(noisy(0.02, 1500), began=8000))

    def test_a_game_and_rewards(self) -> None:
        wandering = noisy(lambda i: 1 + 0.2 * math.sin(i / 90), 1500)
        assert not said(judge_curve, after(wandering))
        assert not said(judge_curve, after(noisy(0.7, 1500), facts={"optimizers": 2}))
        assert not said(judge_curve, after([x - 1 for x in noisy(1.0, 1500)]))


class TestSwings:
    def run(self, width: float, fall: float = 0.0, steps: int = 400) -> list[float]:
        return [1 - fall * i / steps + width / 2 * (-1) ** i for i in range(steps)]

    def test_on_one_batch(self) -> None:
        history = after(self.run(0.3))
        history.same = 399
        found = said(judge_curve, history)["oscillating"]
        assert found.severity == "warning" and found.evidence["correlation"] < -0.9
        assert "by three, or the momentum" in found.message

    def test_limits(self) -> None:
        for losses in (self.run(0.19), self.run(0.3, fall=0.1), noisy(1.0, 400, noise=0.3)):
            history = after(losses)
            history.same = 399
            assert not said(judge_curve, history)

    def test_batches_that_differ_in_turn(self) -> None:
        history = after(noisy(falling(2.3, 1.0), 400) + self.run(0.5))
        assert not said(judge_curve, history)
        history.same = 399
        assert severities(judge_curve, history) == {"oscillating": "warning"}

    def test_the_correlation_by_hand(self) -> None:
        """Of n alternating numbers n − 1 products of −1 stand over n squares; a line has no deviations."""
        assert judges.neighbours([1.0, -1.0] * 50) == pytest.approx(-99 / 100, abs=1e-3)
        assert judges.neighbours([float(i) for i in range(100)]) == pytest.approx(0.0, abs=1e-6)


class TestSchedule:
    def rates(self, over: int, steps: int) -> list[float]:
        """Ten times smaller, four times, until `over`."""
        return [0.1 * 10.0 ** -min(4, 4 * i // over) for i in range(steps)]

    def test_stepped_by_batch(self) -> None:
        history = after(CONVERGED[:300], rate=self.rates(50, 300))
        found = said(judge_curve, epochs(history, train_loss=[1.0] * 6))["learning-rate-too-low"]
        assert found.severity == "fault" and found.evidence["since"] == 50 and found.evidence["steps"] == 250
        assert "Call scheduler.step() once an epoch" in found.message

    def test_limits(self) -> None:
        for over, steps in ((160, 900), (50, 240)):  # over in the fourth epoch; not four times as long yet
            history = after(CONVERGED[:steps], rate=self.rates(over, steps))
            assert not said(judge_curve, epochs(history, train_loss=[1.0] * (steps // 50)))

    def test_without_epochs_it_is_a_suspicion(self) -> None:
        assert severities(judge_curve, after(CONVERGED[:520], rate=self.rates(50, 520))) == {
            "learning-rate-too-low": "warning"
        }
        assert not said(judge_curve, after(CONVERGED[:480], rate=self.rates(50, 480)))

    def test_a_schedule_that_ends_with_the_run(self) -> None:
        cosine = [0.05 * (1 + math.cos(math.pi * i / 999)) for i in range(1000)]
        assert not said(judge_curve, after(CONVERGED[:1000], rate=cosine))
        assert not said(judge_curve, after(CONVERGED[:1000], rate=0.1))

    def test_the_largest_rate_is_remembered_for_good(self) -> None:
        history = after(CONVERGED, rate=[0.1 / (1 + i) for i in range(2000)])
        assert history.top_rate == 0.1 and len(history.rates) == 512 and history.rate == pytest.approx(0.1 / 2000)
