"""The loss of the best constant prediction, against a brute-force search over constants with torch's own losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from runtrue.baselines import Baseline, baseline
from runtrue.tape import LossCall

GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 15 + [3] * 5)
TARGETS = torch.randn(90, 2, generator=GENERATOR) * torch.tensor([1.0, 4.0]) + torch.tensor([3.0, -1.0])
SHARES = torch.softmax(torch.randn(40, 4, generator=GENERATOR), 1)


def call(name: str, outputs: Tensor, target: Any, **options: Any) -> LossCall:
    return LossCall(name, outputs, target, options, None)


def found(name: str, outputs: Tensor, target: Tensor, parts: int = 1, **options: Any) -> Baseline:
    calls = [call(name, o, t, **options) for o, t in zip(outputs.chunk(parts), target.chunk(parts))]
    result = baseline(calls)
    assert result is not None
    return result


def best_constant(loss: Callable[[Tensor], Tensor], size: int) -> float:
    """The least loss of any constant row of outputs, by descent with torch's own loss function."""
    row = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([row], max_iter=300, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        value = loss(row)
        value.backward()
        return value

    search.step(closure)
    return float(loss(row).detach())


def test_entropy_of_the_classes_by_hand() -> None:
    result = found("cross_entropy", torch.zeros(100, 4), LABELS)
    expected = -sum(p * math.log(p) for p in (0.5, 0.3, 0.15, 0.05))
    assert result.constant == pytest.approx(expected, abs=1e-9)
    assert result.start == pytest.approx(math.log(4)) and result.classes == 4


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("target", [LABELS, SHARES], ids=["labels", "probabilities"])
def test_cross_entropy(target: Tensor, smoothing: float) -> None:
    precise = target.double() if target.is_floating_point() else target

    def loss(row: Tensor) -> Tensor:
        return F.cross_entropy(row.expand(len(target), 4), precise, label_smoothing=smoothing)

    result = found("cross_entropy", torch.zeros(len(target), 4), target, label_smoothing=smoothing)
    assert result.constant == pytest.approx(best_constant(loss, 4), abs=1e-6)


def test_a_class_that_never_comes_counts_at_the_start_alone() -> None:
    result = found("cross_entropy", torch.zeros(4, 3), torch.tensor([0, 0, 1, 1]))
    assert result.constant == pytest.approx(math.log(2)) and result.start == pytest.approx(math.log(3))


@pytest.mark.parametrize("ignored", [-100, 3])
def test_ignored_labels_are_left_out(ignored: int) -> None:
    target = torch.cat([LABELS[:80], torch.full((40,), ignored)])
    result = found("cross_entropy", torch.zeros(120, 4), target, ignore_index=ignored)
    assert result.constant == pytest.approx(-sum(p * math.log(p) for p in (50 / 80, 30 / 80)))


def test_labels_of_pixels() -> None:
    target = torch.randint(0, 3, (4, 5, 6), generator=GENERATOR)
    share = torch.bincount(target.flatten()).double() / target.numel()
    result = found("cross_entropy", torch.zeros(4, 3, 5, 6), target, parts=2)
    assert result.constant == pytest.approx(float(-(share * share.log()).sum())) and result.classes == 3


def test_probabilities_of_pixels_are_averaged_over_examples_and_pixels() -> None:
    target = torch.softmax(torch.randn(4, 3, 5, 6, generator=GENERATOR) * 2, 1).double()

    def loss(row: Tensor) -> Tensor:
        return F.cross_entropy(row.reshape(1, 3, 1, 1).expand(4, 3, 5, 6), target)

    result = found("cross_entropy", torch.zeros(4, 3, 5, 6), target)
    assert result.constant == pytest.approx(best_constant(loss, 3), abs=1e-6)


def test_nll_is_cross_entropy_of_log_probabilities() -> None:
    same = found("cross_entropy", torch.zeros(100, 4), LABELS).constant
    assert found("nll_loss", torch.zeros(100, 4), LABELS, parts=4).constant == pytest.approx(same)


@pytest.mark.parametrize("name", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_binary_cross_entropy(name: str) -> None:
    target = (torch.rand(200, 3, generator=GENERATOR) < torch.tensor([0.1, 0.5, 0.8])).float()

    def loss(row: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(row.expand(200, 3), target.double())

    result = found(name, torch.zeros(200, 3), target, parts=4)
    assert result.constant == pytest.approx(best_constant(loss, 3), abs=1e-6)
    assert result.start == pytest.approx(math.log(2)) and result.outputs == 3


def test_binary_by_hand() -> None:
    result = found("binary_cross_entropy", torch.zeros(4, 1), torch.tensor([[1.0], [0.0], [0.0], [0.0]]))
    assert result.constant == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))


def test_mse_is_the_variance() -> None:
    result = found("mse_loss", torch.zeros(90, 2), TARGETS, parts=7)
    exact = TARGETS.double().numpy()
    assert result.constant == pytest.approx(exact.var(0).mean()) and result.start == pytest.approx((exact**2).mean())
    assert result.outputs == 2


LOSSES: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "mse_loss": (F.mse_loss, {}),
    "smooth_l1_loss": (F.smooth_l1_loss, {"beta": 0.5}),
    "huber_loss": (F.huber_loss, {"delta": 2.0}),
}


@pytest.mark.parametrize("name", LOSSES)
def test_regression_by_descent(name: str) -> None:
    function, options = LOSSES[name]

    def loss(row: Tensor) -> Tensor:
        return function(row.expand(90, 2), TARGETS.double(), **options)

    result = found(name, torch.zeros(90, 2), TARGETS, parts=3, **options)
    assert result.constant == pytest.approx(best_constant(loss, 2), rel=2e-3)
    assert result.constant >= best_constant(loss, 2) - 1e-6
    assert result.start == pytest.approx(float(function(torch.zeros(90, 2), TARGETS, **options)), rel=1e-6)


def test_l1_by_search_over_the_targets() -> None:
    """The best constant of an absolute loss is one of the targets."""
    exact = TARGETS.double()
    least = torch.stack([(exact - row).abs().mean(0) for row in exact]).min(0).values.mean()
    result = found("l1_loss", torch.zeros(90, 2), TARGETS)
    assert result.constant == pytest.approx(float(least)) and result.start == pytest.approx(float(exact.abs().mean()))


def test_targets_without_a_second_dimension() -> None:
    result = found("mse_loss", torch.zeros(4), torch.tensor([1.0, 2.0, 3.0, 6.0]), parts=2)
    assert result.constant == 3.5 and result.start == 12.5 and result.outputs == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cross_entropy", {"reduction": "sum"}),
        ("cross_entropy", {"weight": torch.ones(4)}),
        ("kl_div", {}),
        ("triplet_margin_loss", {}),
    ],
)
def test_no_baseline_where_none_is_known(name: str, options: dict[str, Any]) -> None:
    assert baseline([call(name, torch.zeros(100, 4), LABELS, **options)]) is None


def test_no_baseline_for_labels_that_do_not_fit_or_for_two_losses() -> None:
    assert baseline([call("cross_entropy", torch.zeros(3, 2), torch.tensor([0, 1, 2]))]) is None
    assert baseline([call("cross_entropy", torch.zeros(2, 2), torch.tensor([-100, -100]))]) is None
    two = [call("cross_entropy", torch.zeros(100, 4), LABELS), call("mse_loss", torch.zeros(90, 2), TARGETS)]
    assert baseline(two) is None and baseline([]) is None


def test_no_baseline_for_targets_that_are_not_finite() -> None:
    assert baseline([call("mse_loss", torch.zeros(2), torch.tensor([1.0, math.nan]))]) is None
