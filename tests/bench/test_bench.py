"""The yardsticks of the benchmarks, against numbers that are known by other means."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from runtrue import Task
from runtrue.checks import CHECKS


def test_wilson_interval_is_the_published_one() -> None:
    from false_alarms import wilson

    low, high = wilson(81, 263)  # Newcombe 1998, table I
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    low, high = wilson(0, 20)
    assert (low, round(high, 4)) == (0.0, 0.1611)


def test_the_loss_of_the_best_constant() -> None:
    from _tasks import constant_loss

    assert constant_loss(torch.tensor([0, 1, 2, 3])) == pytest.approx(math.log(4))
    assert constant_loss(torch.tensor([[0.0, 1.0], [1.0, 1.0]])) == pytest.approx(math.log(2) / 2)
    assert constant_loss(torch.tensor([[-2.0], [2.0]])) == pytest.approx(4.0)


def test_the_oracle_tells_learning_from_not_learning() -> None:
    from _tasks import share_removed

    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    linear = Task(lambda: nn.Linear(3, 1), train=(x, x.sum(1, keepdim=True)), loss=nn.MSELoss(), optimizer=sgd(0.1))
    assert share_removed(linear) > 0.99
    assert share_removed(linear.replace(optimizer=sgd(0.0))) < 0.9  # whatever its weights happen to predict
    assert share_removed(linear.replace(optimizer=sgd(1e6))) == -math.inf
    negative = linear.replace(train=(x, 2 * torch.ones(200, 1)), loss=nn.BCEWithLogitsLoss())
    assert share_removed(negative) == -math.inf, "a loss below 0 is no success"


def sgd(rate: float) -> Callable[..., torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=rate)


def test_every_cause_that_can_be_a_fault_is_planted() -> None:
    from _tasks import PLANTS

    of_rows = {cause for cause, known in CHECKS.items() if known.judge.__module__ == "runtrue.checks.splits"}
    assert set(CHECKS) - set(PLANTS) - of_rows <= {"underfitting"}, "a warning at most"
    assert set(PLANTS) <= set(CHECKS)


def test_a_planted_fault_leaves_the_healthy_task_alone() -> None:
    from _tasks import PLANTS, task

    for plant, _, hosts in PLANTS.values():
        host = task(*hosts[0])
        before = [tensor.clone() for tensor in host.train]
        sick = plant(host)
        assert all(torch.equal(a, b) for a, b in zip(before, host.train))
        assert sick is not host


def test_the_peak_of_tensors_is_exact() -> None:
    from check_memory import peak_of_tensors

    def run() -> None:
        first = torch.empty(1000, dtype=torch.float32)  # 4,000 bytes
        second = torch.empty(500, dtype=torch.float64)  # and 4,000
        del first
        third = torch.empty(250, dtype=torch.float32)  # 5,000 live
        del second, third

    run()
    assert peak_of_tensors(run) == pytest.approx(8000, abs=256)
