"""The judges of layers and parameters: numbers just beyond their limit in a run that learns nothing; and in one that does."""

from __future__ import annotations

from typing import Any

import pytest
from watch_histories import after, falling, noisy, read, said, severities

from runtrue.watch import layer_judges as judges
from runtrue.watch.history import History
from runtrue.watch.layer_judges import judge_layers

STUCK = noisy(2.3, 300, noise=0.02)
LEARNS = noisy(falling(), 300)


def layers(losses: list[float] = STUCK, began: int = 0, **numbers: Any) -> History:
    return read(after(losses, began=began), **numbers)


def weights(changes: dict[str, float], gradients: dict[str, float] | None = None) -> dict[str, Any]:
    """Readings of weights of size 1 that change by so much."""
    ones = dict.fromkeys(changes, 1.0)
    return {"update_ratio": changes, "grad_norm": gradients or ones, "weight_norm": ones, "grad_mean": ones}


def test_nothing_is_said_too_early_or_of_lost_losses() -> None:
    ill: dict[str, Any] = {"saturated_fraction": {"a": 1.0, "b": 1.0}, "mean": {"a": 0.0, "b": 0.0}}
    assert said(judge_layers, layers(**ill))
    assert not said(judge_layers, layers(STUCK[:140], **ill))
    assert not said(judge_layers, read(after(STUCK), times=3, **ill))
    assert not said(judge_layers, layers([*STUCK, float("nan")], **ill))
    assert not said(judge_layers, layers(began=1000, **ill))


class TestDead:
    def run(self, share: float, zeros: float = 1.0, losses: list[float] = STUCK) -> History:
        return layers(losses, dead_fraction={"a": 0.1, "b": share}, grad_zero={"a.weight": 0.0, "b.weight": zeros})

    def test_a_layer_that_passes_nothing_on(self) -> None:
        found = said(judge_layers, self.run(0.99))["dead-units"]
        assert found.severity == "fault" and found.where == "b" and "99% of the units of b" in found.message
        assert found.evidence["layers"] == [{"layer": "b", "dead_fraction": pytest.approx(0.99)}]

    def test_limits(self) -> None:
        assert severities(judge_layers, self.run(0.97)) == {"dead-units": "warning"}
        assert severities(judge_layers, self.run(0.99, zeros=0.5)) == {"dead-units": "warning"}  # others wake them up
        assert severities(judge_layers, self.run(0.51)) == {"dead-units": "warning"}
        assert not said(judge_layers, self.run(0.49))

    def test_in_a_network_that_learns_it_is_a_note(self) -> None:
        assert severities(judge_layers, self.run(0.99, losses=LEARNS)) == {"dead-units": "note"}

    def test_each_of_the_last_readings_counts(self) -> None:
        wakes = [0.99] * 7 + [0.4]
        assert not said(judge_layers, layers(dead_fraction={"a": wakes}))


class TestSaturated:
    def run(self, share: float, output: float = 0.0, losses: list[float] = STUCK) -> History:
        means = {"a": 0.0, "b": 0.0, "head": 0.0}
        return layers(losses, saturated_fraction={"a": share, "head": output}, mean=means)

    def test_limits(self) -> None:
        found = said(judge_layers, self.run(0.91))["saturating-activation"]
        assert found.severity == "fault" and found.where == "a" and "91% of the outputs of a" in found.message
        assert not said(judge_layers, self.run(0.89))

    def test_a_sure_output_and_a_network_that_learns(self) -> None:
        assert not said(judge_layers, self.run(0.5, output=1.0))
        assert not said(judge_layers, self.run(0.95, losses=LEARNS))


class TestFades:
    def run(self, gradient: float, change: float, losses: list[float] = STUCK) -> History:
        gradients = {"a.weight": gradient, "b.weight": 0.1, "c.weight": 1.0}
        return layers(losses, **weights({"a.weight": change, "b.weight": 1e-3, "c.weight": 1e-3}, gradients))

    def test_limits(self) -> None:
        found = said(judge_layers, self.run(0.9e-4, 0.9e-5))["vanishing-gradient"]
        assert (
            found.severity == "fault" and found.where == "a.weight" and "9.0e-05 of that of c.weight" in found.message
        )
        assert not said(judge_layers, self.run(1.1e-4, 0.9e-5))

    def test_a_weight_that_moves_does_not_stand_still(self) -> None:
        """Adam moves it whatever the size of its gradient."""
        assert not said(judge_layers, self.run(1e-8, 1.1e-5))

    def test_a_network_that_learns(self) -> None:
        assert not said(judge_layers, self.run(1e-8, 1e-9, LEARNS))


class TestGrows:
    def run(self, last: float, losses: list[float] = STUCK) -> History:
        return layers(
            losses, grad_norm={"a.weight": [3.0] * 4 + [3 * last] * 4, "b.weight": [4.0] * 4 + [4 * last] * 4}
        )

    def test_limits(self) -> None:
        found = said(judge_layers, self.run(1010.0))["exploding-gradient"]
        assert found.severity == "fault" and found.evidence == {"start": 5.0, "now": 5050.0, "limit": 5000.0}
        assert not said(judge_layers, self.run(990.0))
        assert not said(judge_layers, self.run(1010.0, LEARNS))


class TestSteps:
    def test_too_long(self) -> None:
        long = weights({"a.weight": 0.11, "b.weight": 0.12, "c.weight": 0.05})
        found = said(judge_layers, layers(**long))["learning-rate-too-high"]
        assert found.severity == "fault" and found.evidence["update_ratio"] == pytest.approx(0.11)
        assert "changes the weights by 11% of their size" in found.message and "Lower the rate (0.1)" in found.message
        assert not said(judge_layers, layers(LEARNS, **long))
        assert not said(judge_layers, layers(**weights({"a.weight": 0.11, "b.weight": 0.09, "c.weight": 0.05})))

    def test_weights_that_began_at_0_change_by_much_of_nothing(self) -> None:
        long = weights({"a.weight": 0.5, "b.weight": 0.5})
        small, usual = (dict.fromkeys(("a.weight", "b.weight"), spread) for spread in (4e-3, 6e-3))
        assert not said(judge_layers, layers(**long, weight_std=small))
        assert list(said(judge_layers, layers(**long, weight_std=usual))) == ["learning-rate-too-high"]

    def test_too_short(self) -> None:
        """300 steps of 3.2e-5 are 0.96 %, of 3.4e-5 1.02 %."""
        short = weights({"a.weight": 3.2e-5, "b.weight": 3.2e-5})
        found = said(judge_layers, layers(**short))["learning-rate-too-low"]
        assert found.severity == "warning" and "all 300 steps together by 0.96%" in found.message
        assert not said(judge_layers, layers(**weights({"a.weight": 3.4e-5, "b.weight": 3.4e-5})))
        assert not said(judge_layers, layers(LEARNS, **short))

    def test_a_warmup_and_the_end_of_a_schedule_are_short_on_purpose(self) -> None:
        short = weights({"a.weight": 1e-6, "b.weight": 1e-6})
        ended = read(after(STUCK, rate=[0.1] * 200 + [0.04] * 100), **short)
        assert not said(judge_layers, ended)
        assert said(judge_layers, read(after(STUCK, rate=[0.1] * 200 + [0.06] * 100), **short))

    def test_without_gradients_no_rate_helps(self) -> None:
        still = weights({"a.weight": 0.0, "b.weight": 0.0}, {"a.weight": 0.0, "b.weight": 0.0})
        assert not said(judge_layers, layers(**still))

    def test_the_median_by_hand(self) -> None:
        history = layers(update_ratio={"a": 1.0, "b": 3.0, "c": 9.0, "bias": 99.0}, grad_mean=dict.fromkeys("abc", 0.0))
        assert judges.medians(history) == [3.0] * judges.HELD
        assert len(judges.medians(history, last=8)) == 8
