"""The judges of the loop: habits just frequent enough to be a fault, and habits that look alike and are right."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from watch_histories import after, epochs, falling, noisy, read, said, severities

from runtrue.watch.history import History
from runtrue.watch.loop_judges import judge_loop

LOSSES = noisy(falling(), 100)


def loop(counts: dict[str, int] | None = None, losses: list[float] = LOSSES, **facts: Any) -> History:
    return after(losses, counts=counts, facts={key.replace("_", " "): value for key, value in facts.items()})


def test_a_healthy_loop_is_silent() -> None:
    history = epochs(loop(by_mode=["norm"]), train_accuracy=[0.5, 0.9], val_accuracy=[0.5, 0.8])
    history.epoch_counts = [Counter({"gradient, training": 50, "step": 50, "free, evaluation": 5})] * 2
    history.stale.extend([False] * 100)
    assert not said(judge_loop, history) and not said(judge_loop, History())


@pytest.mark.parametrize(
    ("stale", "steps", "noticed"),
    [(18, 20, True), (17, 20, False), (19, 19, False), (180, 200, True), (170, 200, False)],
)
def test_gradients_not_cleared(stale: int, steps: int, noticed: bool) -> None:
    history = loop()
    history.stale.extend([False] * (steps - stale) + [True] * stale)
    found = said(judge_loop, history)
    assert ("gradients-not-cleared" in found) is noticed
    if noticed:
        one = found["gradients-not-cleared"]
        assert one.severity == "fault" and f"in {stale} of the last {steps} steps" in one.message
        assert "optimizer.zero_grad() once before each backward pass" in one.message


class TestMode:
    def forgotten(
        self, wrong: int = 50, free: int = 5, by_mode: tuple[str, ...] = ("drop", "norm"), **more: Any
    ) -> History:
        history = loop(
            {"step": 100, "stepped in evaluation": wrong, "free, evaluation": free}, by_mode=list(by_mode), **more
        )
        history = epochs(history, train_loss=[1.0, 0.5])
        history.epoch_counts = [Counter({"step": 50}), Counter({"step": 50, "stepped in evaluation": wrong})]
        return history

    def test_forgotten_after_an_evaluation(self) -> None:
        found = said(judge_loop, self.forgotten())["eval-mode-while-training"]
        assert found.severity == "fault" and "50 of 100 optimizer steps" in found.message
        assert "model.train() after each evaluation" in found.message and "2 such layers, drop first" in found.message

    def test_limits(self) -> None:
        assert not said(judge_loop, self.forgotten(wrong=19))
        assert not said(judge_loop, self.forgotten(by_mode=()))
        assert severities(judge_loop, self.forgotten(free=0)) == {"eval-mode-while-training": "warning"}

    def test_from_the_start_it_may_be_meant(self) -> None:
        history = loop({"stepped in evaluation": 100}, by_mode=["norm"])
        found = said(judge_loop, history)["eval-mode-while-training"]
        assert found.severity == "warning" and "unless this is meant" in found.message

    def test_frozen_norms_are_meant_to_be(self) -> None:
        assert not said(judge_loop, self.forgotten(by_mode=("norm",), frozen=["norm.weight", "norm.bias"]))


class TestEvaluation:
    def run(self, free: int = 5, steps: int = 50, told: str = "val_loss", **counts: int) -> History:
        column: dict[str, Any] = {told: [1.0, 0.5]}
        history = epochs(loop(by_mode=["norm"]), **column)
        one = {"step": steps, "gradient, training": steps, "free, training": free} | {
            k.replace("_", ", "): v for k, v in counts.items()
        }
        history.epoch_counts = [Counter(one)] * 2
        return history

    def test_in_training_mode(self) -> None:
        found = said(judge_loop, self.run())["train-mode-while-evaluating"]
        assert found.severity == "fault" and "in 2 epochs all 10 forward passes without gradients" in found.message
        assert "model.eval() before" in found.message and "model.train() behind" in found.message

    def test_what_looks_alike(self) -> None:
        assert not said(judge_loop, self.run(free=0))
        assert not said(judge_loop, self.run(free=50))  # a teacher, in each step
        assert not said(judge_loop, self.run(told="train_loss"))
        assert not said(judge_loop, self.run(free_evaluation=1))
        assert not said(judge_loop, self.run(gradient_evaluation=1))  # evaluated, with gradients left on


class TestOrder:
    def test_limits(self) -> None:
        found = said(judge_loop, loop({"step": 100, "empty step": 90}))["step-before-backward"]
        assert found.severity == "fault" and "in 90 of 100 steps" in found.message
        assert not said(judge_loop, loop({"step": 100, "empty step": 89}))
        assert not said(judge_loop, loop({"step": 19, "empty step": 19}))
        found = said(judge_loop, loop({"step": 100, "early step": 90}))["step-before-backward"]
        assert found.severity == "warning" and "zero_grad, backward, step" in found.message
        assert not said(judge_loop, loop({"step": 100, "early step": 89}))


class TestOptimizer:
    def test_of_another_network(self) -> None:
        found = said(judge_loop, loop({"empty step": 100}, held=4, foreign=4))
        assert list(found) == ["parameters-not-optimized"] and found["parameters-not-optimized"].severity == "fault"
        assert "none of the optimizer's 4 parameters" in found["parameters-not-optimized"].message

    def test_with_weights_of_its_own(self) -> None:
        """Master weights in float32: they get a gradient, and the model their values."""
        assert not said(judge_loop, loop(held=4, foreign=4))

    def test_of_frozen_parameters_alone(self) -> None:
        found = said(
            judge_loop, loop({"step": 100, "empty step": 100}, held=2, held_and_asking=0, frozen=["b.weight", "b.bias"])
        )
        assert list(found) == ["parameters-frozen"] and found["parameters-frozen"].severity == "fault"
        assert "none of the optimizer's 2 parameters asks for a gradient" in found["parameters-frozen"].message
        assert "parameters-frozen" not in said(judge_loop, loop({"step": 19, "empty step": 19}, held_and_asking=0))

    def test_a_part_left_out(self) -> None:
        found = said(judge_loop, loop(held=2, not_held=["a.weight", "a.bias"], foreign=2))["parameters-not-optimized"]
        assert found.severity == "warning" and found.where == "a.weight" and "2 of 4 parameters" in found.message
        head = said(judge_loop, loop(held=2, not_held=["b.weight", "b.bias"]))["parameters-not-optimized"]
        assert head.severity == "warning"

    def test_the_head_alone_is_meant(self) -> None:
        found = said(judge_loop, loop(held=2, not_held=["a.weight", "a.bias"]))
        assert found["parameters-not-optimized"].severity == "note"

    def still(
        self, rate: float = 0.1, gradient: float = 1.0, losses: list[float] = [2.3] * 100, **facts: Any
    ) -> History:
        names = ("a.weight", "b.weight")
        history = read(
            loop(losses=losses, **facts), update_ratio=dict.fromkeys(names, 0.0),
            grad_norm=dict.fromkeys(names, gradient), weight_norm=dict.fromkeys(names, 10.0),
        )  # fmt: skip
        history.rates = [(0, (rate,))]
        return history

    def test_weights_that_stay_where_they_are(self) -> None:
        found = said(judge_loop, self.still())["parameters-not-optimized"]
        assert found.severity == "fault" and "no parameter moved in the last 4 readings" in found.message

    def test_a_step_too_small_to_be_seen_is_none(self) -> None:
        assert said(judge_loop, self.still(gradient=1.1e-3))  # rate · gradient / weight is 1.1e-5
        assert not said(judge_loop, self.still(gradient=0.9e-3))
        assert not said(judge_loop, self.still(rate=0.9e-4))
        assert not said(judge_loop, self.still(at_rate_0=["a.weight", "b.weight"]))
        assert not said(judge_loop, self.still(losses=LOSSES))


class TestFrozen:
    def test_norms_that_move(self) -> None:
        found = said(judge_loop, loop(frozen_norms_that_move=["norm"]))["parameters-frozen"]
        assert found.severity == "warning" and found.where == "norm" and "Call eval() on these layers" in found.message

    def test_frozen_in_turn_with_another_network(self) -> None:
        history = read(loop(frozen_norms_that_move=["norm"]), update_ratio={"norm.weight": 1e-3})
        assert not said(judge_loop, history)


class TestSameBatch:
    def run(self, alike: int, train: float = 0.9, val: float = 0.5) -> History:
        history = epochs(loop(), train_accuracy=[train], val_accuracy=[val])
        history.alike = alike
        return history

    def test_limits(self) -> None:
        found = said(judge_loop, self.run(16))["repeated-examples"]
        assert found.severity == "warning" and "the last 17 steps saw the very same batch" in found.message
        assert not said(judge_loop, self.run(15))

    def test_on_purpose_it_is_a_note(self) -> None:
        assert severities(judge_loop, self.run(40, train=0.9, val=0.85)) == {"repeated-examples": "note"}
        history = epochs(loop(), train_loss=[0.1])
        history.alike = 99
        assert severities(judge_loop, history) == {"repeated-examples": "note"}
        history.epochs.clear()
        assert not said(judge_loop, history)


def test_ranks_apart() -> None:
    history = loop()
    history.apart = ["a.weight"]
    found = said(judge_loop, history)["ranks-apart"]
    assert found.severity == "fault" and found.where == "a.weight" and "DistributedDataParallel" in found.message
