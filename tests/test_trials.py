"""Short runs: what is read from a curve, by hand, and when a run ends."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from runtrue import Task, TaskError
from runtrue.sandbox import Sandbox, sandbox
from runtrue.trials import Changed, Curve, judge_progress, run, small_set, without_regularization

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(64, 4, generator=GENERATOR)
Y = X.sum(1, keepdim=True)


def linear(rate: float = 0.1, **parts: Any) -> Task:
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "loss": F.mse_loss,
        "optimizer": partial(torch.optim.SGD, lr=rate),
        "batch_size": 16,
    } | parts
    return Task(nn.Linear(4, 1), (X, Y), **given)


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with sandbox(linear()) as opened:
        yield opened


# -- reading a curve


def test_the_end_is_the_mean_of_the_last_fifth() -> None:
    curve = Curve(tuple(float(i) for i in range(20)))
    assert curve.tail == (16.0, 17.0, 18.0, 19.0) and curve.end == 17.5 and curve.start == 0.0 and curve.steps == 20
    assert not curve.diverged


@pytest.mark.parametrize(
    ("losses", "end"),
    [((5.0,), 5.0), ((1.0, 3.0), 2.0), ((9.0, 1.0, 2.0, 3.0), 2.0), ((9.0,) * 7 + (1.0, 2.0, 3.0), 2.0)],
)
def test_the_end_of_a_short_curve_is_at_most_three_losses(losses: tuple[float, ...], end: float) -> None:
    assert Curve(losses).end == end


def test_an_empty_curve() -> None:
    curve = Curve(())
    assert math.isnan(curve.end) and math.isnan(curve.start) and curve.diverged and curve.noise == 0.0


@pytest.mark.parametrize("last", [math.nan, math.inf, -math.inf])
def test_a_curve_that_leaves_the_numbers_has_diverged(last: float) -> None:
    curve = Curve((1.0, 2.0, last))
    assert curve.diverged and curve.noise == 0.0 and judge_progress(curve, 1.0) == -math.inf


def test_the_noise_of_a_zigzag_by_hand() -> None:
    """Steps of +2 and −2: variance 4/2 = 2 a loss, over 4 losses in the tail."""
    assert Curve((1.0, -1.0) * 10).noise == pytest.approx(math.sqrt(2 / 4))


def test_a_steady_fall_counts_for_little() -> None:
    line = Curve(tuple(-0.01 * i for i in range(100)))
    assert line.noise == pytest.approx(0.01 / math.sqrt(2 * 20))


def test_noise_is_the_standard_error_of_the_end() -> None:
    """Against the spread of the ends of many curves of independent losses."""
    losses = torch.randn(400, 200, generator=GENERATOR, dtype=torch.float64)
    curves = [Curve(tuple(row)) for row in losses.tolist()]
    spread = float(torch.tensor([curve.end for curve in curves]).std())
    assert sum(curve.noise for curve in curves) / 400 == pytest.approx(spread, rel=0.1)
    assert spread == pytest.approx(1 / math.sqrt(40), rel=0.1)


# -- progress


@pytest.mark.parametrize(
    ("losses", "constant", "progress"),
    [
        ((2.0, 0.5), 2.5, 0.5),  # end 1.25 of a baseline of 2.5
        ((4.0, 1.0, 1.0, 1.0), None, 0.75),
        ((4.0, 4.0), 4.0, 0.0),
        ((0.0, 0.0), 1.0, 1.0),
        ((1.0, 3.0), 1.0, -1.0),
        ((-2.0, -4.0, -4.0, -4.0), None, 1.0),  # without a baseline: by how much it fell, in units of the start
        ((0.0, 0.0), None, 0.0),
        ((4.0, 2.0, 2.0, 2.0), 0.0, 0.5),
    ],
)
def test_progress_by_hand(losses: tuple[float, ...], constant: float | None, progress: float) -> None:
    assert judge_progress(Curve(losses), constant) == pytest.approx(progress)


LOSS = st.floats(0, 1e6, allow_nan=False)


@given(st.lists(LOSS, min_size=3, max_size=30), st.floats(1e-6, 1e6), st.floats(0, 1e3))
def test_a_lower_curve_is_never_less_progress(losses: list[float], constant: float, lower: float) -> None:
    better = [loss - lower for loss in losses]
    assert judge_progress(Curve(tuple(better)), constant) >= judge_progress(Curve(tuple(losses)), constant)


@given(st.lists(LOSS | st.sampled_from([math.nan, math.inf]), max_size=30), st.none() | st.floats(-1e6, 1e6))
def test_progress_is_a_number_or_minus_infinity(losses: list[float], constant: float | None) -> None:
    progress = judge_progress(Curve(tuple(losses)), constant)
    assert not math.isnan(progress) and progress <= 1.0


# -- running


def test_losses_are_those_of_plain_training() -> None:
    """The same steps, written out."""
    task = linear()
    with sandbox(task) as box:
        curve = run(box, steps=12)
        draws = [box.batch(i) for i in range(12)]
    model = task.model
    assert isinstance(model, nn.Linear)
    plain = []
    for x, y in draws:
        loss = F.mse_loss(model(x), y)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients):
                parameter.sub_(0.1 * gradient)
        plain.append(float(loss.detach()))
    assert curve.losses == pytest.approx(plain, rel=1e-6) and curve.error is None and curve.seconds > 0


def test_each_run_starts_from_the_same_place(box: Sandbox) -> None:
    first = run(box, steps=30)
    run(box, lambda task: task.replace(optimizer=partial(torch.optim.SGD, lr=1e6)), steps=30)
    assert run(box, steps=30).losses == first.losses


def test_every_step_is_counted(box: Sandbox) -> None:
    before = box.steps
    run(box, steps=17)
    assert box.steps == before + 17


def test_a_diverging_run_ends_early() -> None:
    with sandbox(linear(rate=1e4)) as box:
        curve = run(box, steps=2000)
    assert curve.steps < 100 and (curve.diverged or curve.end > 1e6 * curve.start)


def test_the_deadline_is_kept(box: Sandbox) -> None:
    begin = time.monotonic()
    curve = run(box, steps=1_000_000, deadline=begin + 0.2)
    assert time.monotonic() - begin < 5 and 0 < curve.steps < 1_000_000
    assert run(box, steps=1000, deadline=begin).steps == 1, "the step that is under way is finished"


def test_until_stops_at_the_goal(box: Sandbox) -> None:
    full = run(box, steps=400)
    curve = run(box, steps=400, until=0.01 * full.start)
    assert 5 <= curve.steps < 400 and sum(curve.losses[-5:]) / 5 <= 0.01 * full.start


def bias_of(box: Sandbox) -> float:
    return float(box.model.get_parameter("bias").detach())


def test_other_batches_can_be_given(box: Sandbox) -> None:
    zeros = (torch.zeros(3, 4), torch.full((3, 1), 2.0))
    bias = bias_of(box)
    assert run(box, steps=1, batch=lambda _: zeros).losses[0] == pytest.approx((bias - 2) ** 2)


def test_changed_data_are_changed_in_the_run_alone(box: Sandbox) -> None:
    curve = run(box, lambda task: task.replace(train=Changed(task.train, lambda b: (b[0] * 0, b[1] * 0))), steps=1)
    assert curve.losses[0] == pytest.approx(bias_of(box) ** 2)
    assert torch.equal(box.task.train[0], X)


def test_changed_pairs_settle_as_pairs_and_streams_stay_streams() -> None:
    inputs, targets = Changed((X, Y), lambda b: (b[0] * 2, b[1])).settled()
    assert torch.equal(inputs, X * 2) and torch.equal(targets, Y)
    stream = Changed([(X, Y), (X, Y)], lambda b: (b[0] * 2, b[1])).settled()
    assert [torch.equal(batch[0], X * 2) for batch in stream] == [True, True]


class Fails(nn.Module):
    """Raises at its third call."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.layer, self.error, self.calls = nn.Linear(4, 1), error, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 3:
            raise self.error
        return self.layer(x)


@pytest.mark.parametrize("error", [RuntimeError("third"), ValueError("third"), ZeroDivisionError("third")])
def test_a_later_error_ends_the_curve_and_is_told(error: Exception) -> None:
    with sandbox(linear().replace(model=Fails(error))) as box:
        curve = run(box, steps=10)
        assert curve.steps == 3 and math.isnan(curve.losses[-1]) and curve.error is not None and "third" in curve.error
        assert box.model.calls == 0


def test_an_untreated_task_that_cannot_start_is_an_error_and_a_treated_one_a_result() -> None:
    with sandbox(linear().replace(model=nn.Linear(7, 1))) as box:
        with pytest.raises(TaskError, match="cannot take this batch"):
            run(box, steps=5)
        curve = run(box, lambda task: task, steps=5)
        assert curve.steps == 1 and curve.diverged and curve.error is not None


# -- the small set


def test_the_small_set_is_the_head_of_the_first_batch(box: Sandbox) -> None:
    whole, few = box.batch(0), small_set(box, 5)
    assert torch.equal(few[0], whole[0][:5]) and torch.equal(few[1], whole[1][:5]) and len(small_set(box)[0]) == 16


def test_without_regularization_nothing_is_dropped() -> None:
    model = nn.Sequential(
        nn.Linear(4, 8), nn.Dropout(0.5), nn.ModuleList([nn.Dropout2d(0.2), nn.LSTM(4, 4, 2, dropout=0.3)])
    )
    without_regularization(linear().replace(model=model))
    assert [m.p for m in model.modules() if isinstance(m, (nn.Dropout, nn.Dropout2d))] == [0.0, 0.0]
    assert [m.dropout for m in model.modules() if isinstance(m, nn.LSTM)] == [0.0]


def test_without_regularization_no_weight_decays() -> None:
    """With inputs of zero the weights get no gradient: only decay could move them."""
    decaying = partial(torch.optim.SGD, lr=0.1, weight_decay=1.0)
    task = without_regularization(linear(optimizer=decaying))
    assert task.optimizer is not None and callable(task.optimizer) and isinstance(task.model, nn.Linear)
    made: Any = task.optimizer(task.model.parameters())
    before = task.model.weight.detach().clone()
    task.model(torch.zeros(2, 4)).sum().backward()
    made.step()
    assert torch.equal(task.model.weight, before)


def test_what_was_dropped_is_back_afterwards() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    with sandbox(linear().replace(model=model)) as box:
        run(box, without_regularization, steps=3)
        assert model[1].p == 0.5
