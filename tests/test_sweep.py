"""The sweep on a problem whose largest stable rate is known, on tasks that cannot be trained, and with little time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue import Task, TaskError, optimizers, racing, sweep, trials
from runtrue.rates import JudgedCurve, Verdict
from runtrue.sandbox import Sandbox, sandbox
from runtrue.sweep import LONGER, MOST, next_rates, proof_steps
from runtrue.trials import Curve

X = torch.linalg.qr(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)))[0] * 8  # XᵀX / 64 = 1
Y = X @ torch.tensor([[1.0], [-2.0], [3.0], [-4.0]])
LIMIT = 1.0
"""MSE over orthonormal inputs: L = Σ (w - w*)², so that gradient descent is stable up to 2 / λ = 2 / 2."""


def weight_of(task: Task) -> Tensor:
    assert isinstance(task.model, nn.Linear)
    return task.model.weight


def linear(rate: float = 0.1, **parts: Any) -> Task:
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "loss": F.mse_loss,
        "optimizer": partial(torch.optim.SGD, lr=rate),
        "batch_size": 64,  # the whole set: no noise
    } | parts
    return Task(nn.Linear(4, 1, bias=False), (X, Y), **given)


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with sandbox(linear()) as opened:
        yield opened


def of(found: sweep.Sweep) -> dict[float, str]:
    return {curve.rate: curve.verdict for curve in found.curves}


@pytest.mark.parametrize("own", [1e-6, 0.001, 0.1, 0.7, 50.0, 1e4])
def test_the_known_limit_is_found_from_wherever_it_starts(own: float) -> None:
    with sandbox(linear(own)) as box:
        found = sweep.sweep(box, steps=30)
    rate, verdicts = found.suggestion.rate, of(found)
    assert found.own == own and found.of_own is not None and len(verdicts) <= MOST
    assert rate is not None and 0.05 < rate < LIMIT
    assert all(verdict == "very high" for at, verdict in verdicts.items() if at > LIMIT)
    assert all(verdict == "low" for at, verdict in verdicts.items() if at < 0.01)
    assert found.proof is not None and found.proof.steps == 30 * LONGER and found.proof.end < 1e-3
    assert "Checked: at" in found.suggestion.reason


def test_a_good_rate_is_kept(box: Sandbox) -> None:
    found = sweep.sweep(box, steps=30)
    assert found.suggestion.rate == found.own == 0.1 and "the rate in use" in found.suggestion.reason


def at_rate(task: Task, optimizer: Any) -> Task:
    return task.replace(optimizer=optimizer)


def test_the_curves_are_those_of_trials(box: Sandbox) -> None:
    found = sweep.sweep(box, steps=20, factors=(0.5,))
    make = partial(torch.optim.SGD, lr=0.1)
    for curve in found.curves:
        treat = partial(at_rate, optimizer=optimizers.at_rate(make, curve.rate))
        assert curve.losses == pytest.approx(trials.run(box, treat, steps=20).losses, rel=1e-3)
    assert {0.05, 0.1} <= {curve.rate for curve in found.curves}


def test_the_check_sees_other_batches_and_other_random_numbers() -> None:
    seen: list[float] = []
    torch.manual_seed(0)
    net = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1))

    def step(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        model[0].register_forward_hook(lambda _, args, out: seen.append(float(out.count_nonzero())), always_call=True)
        seen.append(float(batch[0].sum()))
        return F.mse_loss(model(batch[0]), batch[1])

    loader = [
        (X[rows], torch.full((5, 1), 10.0)) for rows in torch.arange(60).split(5)
    ]  # twelve, in an order of their own
    task = Task(net, loader, step=step, optimizer=partial(torch.optim.SGD, lr=0.1))
    with sandbox(task) as box:
        found = sweep.sweep(box, steps=8, factors=(), plan=8)
        assert found.proof is not None and found.proof.steps == 8
    sums = [float(batch.sum()) for batch, _ in loader]
    first, other = sums[:8], [*sums[8:], *sums[:4]]
    batches = [value for value in seen if value in {*first, *other}]
    assert batches[:8] == first and batches[-8:] == other
    assert found.of_own is not None and found.proof.losses[:4] != found.of_own.losses[:4]


def test_the_check_draws_new_weights_where_it_can() -> None:
    """Of the whole set as one batch, the first loss tells the weights."""
    for model, drawn in ((lambda: nn.Linear(4, 1), True), (nn.Linear(4, 1), False)):
        with sandbox(linear().replace(model=model)) as box:
            found = sweep.sweep(box, steps=8)
        assert found.proof is not None and found.of_own is not None
        assert (abs(found.proof.losses[0] - found.of_own.losses[0]) > 1e-3) == drawn


def test_nothing_of_the_users_is_touched() -> None:
    task = linear()
    weight, state = weight_of(task).detach().clone(), torch.get_rng_state()
    with sandbox(task) as box:
        sweep.sweep(box, steps=10)
        assert torch.equal(weight_of(box.task), weight), "the box is at its start again"
    assert torch.equal(weight_of(task), weight) and torch.equal(torch.get_rng_state(), state)
    assert weight_of(task).grad is None


def test_groups_keep_their_proportions() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    groups: list[dict[str, Any]] = [
        {"params": net[0].parameters(), "lr": 0.01},
        {"params": net[1].parameters(), "lr": 0.1},
    ]
    seen: list[tuple[float, ...]] = []

    class Spy(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append(tuple(group["lr"] for group in self.param_groups))
            return super().step(closure)

    with sandbox(Task(net, (X, Y), loss=F.mse_loss, optimizer=Spy(groups), batch_size=64)) as box:
        found = sweep.sweep(box, steps=5, factors=(0.1, 10.0))
    assert found.own == 0.01
    assert {round(high / low, 6) for low, high in seen} == {10.0}
    assert {0.001, 0.01, 0.1} <= {round(low, 6) for low, _ in seen}


def test_a_rate_of_zero_is_replaced(box: Sandbox) -> None:
    with sandbox(linear(0.0)) as frozen:
        found = sweep.sweep(frozen, steps=30)
    assert found.own == 0.0 and found.of_own is None
    assert found.suggestion.rate is not None and 0.05 < found.suggestion.rate < LIMIT


def test_a_treated_task_is_swept_as_treated() -> None:
    """Targets a thousand times as large, scaled back by the treatment: the losses are a millionth."""

    def scaled(task: Task) -> Task:
        return task.replace(train=trials.Changed(task.train, lambda batch: (batch[0], batch[1] / 1000)))

    with sandbox(linear().replace(train=(X, Y * 1000))) as box:
        plain, treated = sweep.sweep(box, steps=10), sweep.sweep(box, steps=10, treat=scaled)
    assert plain.of_own is not None and treated.of_own is not None
    assert treated.of_own.losses[0] < 1e-4 * plain.of_own.losses[0]
    assert treated.proof is not None and treated.proof.losses[0] < 1e-4 * plain.of_own.losses[0]


# -- no rate, and why


def test_a_dead_network_has_no_rate() -> None:
    """All weights zero, and no bias: there is no gradient at any rate."""
    net = nn.Sequential(nn.Linear(4, 8, bias=False), nn.Tanh(), nn.Linear(8, 1, bias=False))
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    with sandbox(linear().replace(model=net)) as box:
        found = sweep.sweep(box, steps=10, constant=float(Y.var(correction=0)))
    assert found.suggestion.rate is None and found.proof is None
    assert "no rate tried (from 0.001 to 1e+" in found.suggestion.reason and "moves the loss" in found.suggestion.reason


def test_nan_in_the_data_is_no_matter_of_the_rate() -> None:
    broken = X.clone()
    broken[3, 1] = math.nan
    with sandbox(linear().replace(train=(broken, Y))) as box:
        found = sweep.sweep(box, steps=10)
    assert found.suggestion.rate is None and "lost at step 0 however low the rate" in found.suggestion.reason
    assert len(found.curves) == 5


def test_a_rate_that_does_not_hold_is_not_suggested(monkeypatch: pytest.MonkeyPatch, box: Sandbox) -> None:
    real = sweep.run_elsewhere

    def worse_above(rig: sweep.Rig, curve: JudgedCurve, steps: int) -> Curve:
        return Curve((30.0,) * steps) if curve.rate > 0.05 else real(rig, curve, steps)

    monkeypatch.setattr(sweep, "run_elsewhere", worse_above)
    found = sweep.sweep(box, steps=30)
    assert found.suggestion.rate is not None and found.suggestion.rate < 0.05
    assert "at 0.1 the loss reaches 30 in 90 steps on other batches, where" in found.suggestion.reason
    monkeypatch.setattr(sweep, "run_elsewhere", lambda rig, curve, steps: Curve((math.nan,)))
    nothing = sweep.sweep(box, steps=30)
    assert nothing.suggestion.rate is None and nothing.proof is not None and nothing.proof.diverged
    assert nothing.suggestion.reason.startswith(
        "no rate held in a longer run on other batches: at 0.1 the loss is lost at step 0"
    )


def test_a_task_that_cannot_be_trained_says_so() -> None:
    with (
        sandbox(linear(loss=lambda outputs, targets: outputs.sum() + "x")) as box,
        pytest.raises(TaskError, match="the loss"),
    ):
        sweep.sweep(box)


class Rateless(torch.optim.Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Moves nothing."""


def test_an_optimizer_without_a_rate_says_so() -> None:
    with (
        sandbox(linear(optimizer=Rateless)) as box,
        pytest.raises(TaskError, match=r"\(Rateless\) has no learning rate"),
    ):
        sweep.sweep(box)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"factors": (0.0,)}, "above 0, got 0"),
        ({"factors": (math.nan,)}, "above 0"),
        ({"steps": 4}, "at least 5 steps"),
    ],
)
def test_bad_settings(box: Sandbox, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sweep.sweep(box, **settings)


# -- with little time: a clock that only the steps move


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Each training step takes a second; nothing else takes time."""
    now = [1000.0]
    take_step = trials.take_step

    def tick(*args: Any) -> Tensor:
        now[0] += 1.0
        return take_step(*args)

    monkeypatch.setattr(trials, "take_step", tick)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sweep, "race", racing.in_turn)  # a child would have a clock of its own
    return now


@pytest.mark.parametrize("seconds", [30, 100, 300, 600, 3000])
def test_the_deadline_is_kept(box: Sandbox, clock: list[float], seconds: int) -> None:
    found = sweep.sweep(box, deadline=clock[0] + seconds)
    assert clock[0] <= 1000 + seconds + 1
    assert len({curve.steps for curve in found.curves if curve.lost_at is None}) <= 1, (
        "all are compared at the same step"
    )
    if seconds >= 600:
        assert found.suggestion.rate is not None and found.proof is not None
    assert found.seconds == clock[0] - 1000 or not found.curves


def test_without_time_there_is_no_rate(box: Sandbox, clock: list[float]) -> None:
    found = sweep.sweep(box, deadline=clock[0] + 2)
    assert found.curves == () and found.suggestion.rate is None and "no time" in found.suggestion.reason


def test_a_curve_that_is_there_is_not_run_again(box: Sandbox, clock: list[float]) -> None:
    own = trials.run(box, steps=40)
    before = clock[0]
    found = sweep.sweep(box, steps=20, factors=(), own=own)
    assert found.of_own is not None and found.of_own.losses == own.losses[:20]
    again = sweep.sweep(box, steps=20, factors=())
    assert clock[0] - before == 2 * found.seconds + 20 and again.curves == found.curves


# -- which rate comes next


def judged(*curves: tuple[float, Verdict, float]) -> list[JudgedCurve]:
    lost = (2.0, math.nan)
    return [JudgedCurve(rate, lost if v == "very high" else (2.0, *[end] * 9), v, "") for rate, v, end in curves]


@pytest.mark.parametrize(
    ("curves", "rates"),
    [
        (judged((0.1, "good", 1.0)), [1.0, 0.01]),
        (judged((0.1, "low", 1.5), (1.0, "good", 1.0)), [10.0]),
        (judged((0.1, "good", 1.0), (1.0, "high", 1.5)), [0.01]),
        (judged((0.01, "low", 1.5), (0.1, "good", 1.0), (1.0, "high", 1.5)), [0.32, 0.032]),
        (judged((0.01, "low", 1.5), (0.1, "good", 1.0), (0.32, "high", 1.5)), [0.032]),
        (judged((0.032, "low", 1.5), (0.1, "good", 1.0), (0.32, "high", 1.5)), []),
        (judged((0.1, "low", 2.0), (1.0, "low", 2.0)), [100.0]),
        (judged((0.1, "low", 2.0), (1.0, "unclear", 1.9)), [10.0]),
        (judged((0.1, "low", 2.0), (1.0, "unclear", 2.2)), [0.01]),
        (judged((0.1, "very high", 2.0)), [0.01]),
        (judged((0.1, "low", 1.9), (10.0, "high", 1.5)), [1.0]),
        (judged((0.1, "low", 1.9), (0.3, "high", 1.5)), []),
        (judged((0.1, "unclear", 2.0), (1.0, "unclear", 1.95)), []),
        (judged((0.1, "unclear", 1.5), (1.0, "very high", 1.9)), [0.01]),
        ([], []),
    ],
)
def test_the_next_rates_by_hand(curves: list[JudgedCurve], rates: list[float]) -> None:
    assert next_rates(curves, 1.0) == pytest.approx(rates)


def test_the_check_is_as_long_as_the_plan_allows() -> None:
    assert [proof_steps(100, plan) for plan in (None, 1000, 200, 50)] == [300, 300, 200, 100]
