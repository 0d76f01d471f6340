"""What is read off the outputs at the first step: on networks that make them by modules, by functions, and in the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue.measure import measure_start
from runtrue.outputs import OutputFacts, kind_of
from runtrue.sandbox import sandbox
from runtrue.task import Task

X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 3
ONE_HOT = F.one_hot(LABELS, 3).float()
COLUMN = X[:, :1] - 0.2


def facts(model: nn.Module, wanted: Tensor, loss: Callable[[Any, Any], Tensor]) -> OutputFacts:
    with sandbox(Task(model, (X, wanted), loss=loss, batch_size=8)) as box:
        found = measure_start(box).outputs
    assert found is not None
    return found


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu()).softmax(dim=1)


def test_a_softmax_that_is_a_module() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), nn.Softmax(dim=1))
    o = facts(net, LABELS, nn.CrossEntropyLoss())
    assert o.maker is not None and (o.maker.name, o.maker.module, o.maker.where) == ("softmax", "3", "3")
    assert o.rows_sum_to_one and not o.over_batch and o.wanted == "labels" and o.columns == 3


def test_a_softmax_that_is_a_function_is_the_second_activation_of_the_forward_pass() -> None:
    o = facts(Functional(), LABELS, nn.CrossEntropyLoss())
    assert o.maker is not None and (o.maker.name, o.maker.module, o.maker.where, o.maker.place) == (
        "softmax",
        None,
        "",
        1,
    )


def test_an_activation_in_the_loss_is_counted_from_there() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    o = facts(net, LABELS, lambda out, t: F.cross_entropy(out.softmax(1), t))
    assert o.maker is not None and o.maker.where is None and o.maker.place == 0


def test_a_module_that_is_called_twice_cannot_be_exchanged() -> None:
    act = nn.ReLU()
    o = facts(nn.Sequential(nn.Linear(6, 5), act, nn.Linear(5, 3), act), LABELS, nn.CrossEntropyLoss())
    assert o.maker is not None and o.maker.module is None and o.maker.place == 1


def test_arithmetic_behind_an_activation_unmakes_it() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 1)

        def forward(self, x: Tensor) -> Tensor:
            return 10 * self.a(x).sigmoid() - 5

    assert facts(Scaled(), COLUMN, nn.MSELoss()).maker is None
    flat = nn.Sequential(nn.Linear(6, 1), nn.Sigmoid(), nn.Flatten(0))
    assert (found := facts(flat, COLUMN[:, 0], nn.MSELoss()).maker) is not None and found.name == "sigmoid"


def test_targets_that_the_activation_cannot_reach() -> None:
    o = facts(nn.Sequential(nn.Linear(6, 1), nn.ReLU()), COLUMN, nn.MSELoss())
    assert o.below == pytest.approx(float((COLUMN < 0).double().mean())) and o.above == 0
    o = facts(nn.Sequential(nn.Linear(6, 1), nn.Tanh()), COLUMN, nn.MSELoss())
    assert o.below + o.above == pytest.approx(float((COLUMN.abs() > 1).double().mean()))


def test_softmax_over_the_batch() -> None:
    o = facts(nn.Sequential(nn.Linear(6, 3), nn.Softmax(dim=0)), LABELS, nn.CrossEntropyLoss())
    assert o.over_batch and not o.rows_sum_to_one and o.maker is not None and o.maker.dim == 0


def test_log_probabilities_are_recognised_whatever_made_them() -> None:
    logs = nn.Sequential(nn.Linear(6, 3), nn.LogSoftmax(dim=1))
    assert facts(logs, LABELS, nn.NLLLoss()).log_rows
    assert not facts(nn.Linear(6, 3), LABELS, nn.NLLLoss()).log_rows
    by_hand = facts(nn.Linear(6, 3), LABELS, lambda o, t: F.nll_loss(o - o.logsumexp(1, keepdim=True), t))
    assert by_hand.log_rows and by_hand.maker is None


def test_a_hand_written_loss_that_broadcasts() -> None:
    o = facts(nn.Linear(6, 1), COLUMN[:, 0], lambda out, t: (out - t).square().mean())
    assert o.loss is None and o.same_numbers and {frozenset(s.shapes) for s in o.spreads} == {frozenset({(8, 1), (8,)})}
    fine = facts(nn.Linear(6, 1), COLUMN, lambda out, t: (out - t).square().mean())
    assert not fine.same_numbers and fine.spreads == ()


def test_a_sum_and_a_turned_sign() -> None:
    assert facts(nn.Linear(6, 1), COLUMN, nn.MSELoss(reduction="sum")).sums
    assert facts(nn.Linear(6, 3), LABELS, lambda o, t: -F.cross_entropy(o, t)).negated
    assert not facts(nn.Linear(6, 3), LABELS, nn.CrossEntropyLoss()).negated


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (LABELS, "labels"), (ONE_HOT, "one-hot"), (ONE_HOT.long(), "yes-no"), ((COLUMN > 0).float(), "yes-no"),
        (COLUMN, "numbers"), (torch.full((4, 2), 0.5), "shares"), (torch.tensor([[1.0, 1.0], [0.0, 1.0]]), "yes-no"),
    ],
)  # fmt: skip
def test_kinds_of_targets(target: Tensor, kind: str) -> None:
    assert kind_of(target) == kind


def test_where_step_hides_them_nothing_is_said() -> None:
    task = Task(nn.Linear(6, 1), (X, COLUMN), step=lambda m, b: (m(b[0]) - b[1]).abs().mean())
    with sandbox(task) as box:
        assert measure_start(box).outputs is None
