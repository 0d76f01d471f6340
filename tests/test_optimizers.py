"""Optimizers as values: twins that share nothing but the parameters, other rates, and the code that makes one."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from runtrue import optimizers

ALL: dict[str, Callable[..., Optimizer]] = {
    "SGD": partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "Adam": partial(torch.optim.Adam, lr=0.01, betas=(0.8, 0.99)),
    "AdamW": partial(torch.optim.AdamW, lr=0.01, amsgrad=True),
    "RMSprop": partial(torch.optim.RMSprop, lr=0.01, centered=True),
    "Adagrad": partial(torch.optim.Adagrad, lr=0.1),
    "NAdam": partial(torch.optim.NAdam, lr=0.01),
    "RAdam": partial(torch.optim.RAdam, lr=0.01),
    "Adadelta": partial(torch.optim.Adadelta, lr=1.0),
    "Rprop": partial(torch.optim.Rprop, lr=0.01),
    "LBFGS": partial(torch.optim.LBFGS, lr=0.5, max_iter=3),
}
X = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def go(model: nn.Linear, optimizer: Optimizer, steps: int = 1) -> Tensor:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(X) - X[:, :2]).square().mean()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)  # type: ignore[arg-type]
    return model.weight.detach().clone()


@pytest.mark.parametrize("name", ALL)
def test_a_twin_goes_on_where_the_original_was_and_leaves_it_there(name: str) -> None:
    model = network()
    optimizer = ALL[name](model.parameters())
    go(model, optimizer, 3)
    start = copy.deepcopy(model.state_dict())
    state = copy.deepcopy(optimizer.state_dict())
    twin = optimizers.twin(optimizer)
    assert type(twin) is type(optimizer)
    assert [id(p) for g in twin.param_groups for p in g["params"]] == [id(p) for p in model.parameters()]
    by_twin = go(model, twin, 4)
    assert repr(state) == repr(optimizer.state_dict()), "four steps of the twin left the original's state alone"
    model.load_state_dict(start)
    assert torch.equal(go(model, optimizer, 4), by_twin)
    assert not torch.equal(by_twin, start["weight"])


def test_a_twin_on_copied_parameters() -> None:
    model, memo = network(), dict[int, Any]()
    optimizer = ALL["Adam"](model.parameters())
    go(model, optimizer, 2)
    other = copy.deepcopy(model, memo)
    twin = optimizers.twin(optimizer, memo)
    before = model.weight.detach().clone()
    moved = go(other, twin, 3)
    assert torch.equal(model.weight, before)
    assert torch.equal(go(model, optimizer, 3), moved)
    assert {id(p) for p in twin.state} == {id(p) for p in other.parameters()}


def test_groups_keep_their_own_settings_apart_from_the_originals() -> None:
    model = network()
    groups: list[dict[str, Any]] = [{"params": [model.weight], "lr": 0.5}, {"params": [model.bias]}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    twin = optimizers.twin(optimizer)
    assert [g["lr"] for g in twin.param_groups] == [0.5, 0.1]
    twin.param_groups[0]["lr"] = 9.0
    twin.param_groups[1]["params"].clear()
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.1]
    assert optimizer.param_groups[1]["params"][0] is model.bias


def test_a_rate_that_is_a_tensor_is_copied() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01), capturable=False, foreach=False)
    twin = optimizers.twin(optimizer)
    twin.param_groups[0]["lr"].mul_(10)
    assert optimizers.rate(optimizer) == pytest.approx(0.01) and optimizers.rate(twin) == pytest.approx(0.1)


def test_a_scheduler_and_its_counter_stay_with_the_original() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    twin = optimizers.twin(optimizer)
    start = copy.deepcopy(model.state_dict())
    moved = go(model, twin, 2)
    assert "step" not in vars(twin)
    assert not getattr(optimizer, "_opt_called", False), "the scheduler has not seen the twin's steps"
    model.load_state_dict(start)
    assert torch.equal(go(model, optimizer, 2), moved)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()
    assert optimizers.rate(optimizer) == 0.05 and optimizers.rate(twin) == 0.1


def test_step_hooks_stay_with_the_original() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    go(model, optimizers.twin(optimizer))
    assert seen == []
    go(model, optimizer)
    assert seen == ["before", "after"]


def test_another_rate_for_an_optimizer_and_for_a_function() -> None:
    model = network()
    groups: list[dict[str, Any]] = [{"params": [model.weight], "lr": 0.5}, {"params": [model.bias]}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    faster = optimizers.with_rate(optimizer, 10.0)
    assert isinstance(faster, Optimizer)
    assert [g["lr"] for g in faster.param_groups] == [5.0, 1.0] and faster.defaults["lr"] == 1.0
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.1] and optimizer.defaults["lr"] == 0.1
    make = optimizers.with_rate(ALL["Adam"], 0.1)
    assert not isinstance(make, Optimizer)
    assert optimizers.rate(make(model.parameters())) == pytest.approx(1e-3)
    assert optimizers.rate(ALL["Adam"](model.parameters())) == 0.01


@pytest.mark.parametrize("name", ALL)
def test_rebuilt_is_fresh_with_the_same_settings_on_other_parameters(name: str) -> None:
    model, other = network(), nn.Linear(3, 2)
    other.load_state_dict(model.state_dict())
    used = ALL[name](model.parameters())
    go(model, used, 3)
    rebuilt, expected = optimizers.rebuilt(used, other.parameters()), nn.Linear(3, 2)
    expected.load_state_dict(other.state_dict())
    assert type(rebuilt) is type(used) and len(rebuilt.state) == 0
    assert torch.equal(go(other, rebuilt, 3), go(expected, ALL[name](expected.parameters()), 3))


def test_the_default_is_adam_at_its_own_rate() -> None:
    made = optimizers.adam(network().parameters())
    assert type(made) is torch.optim.Adam and optimizers.rate(made) == 1e-3


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("rate", [None, 0.003, 12.5, 1e-7])
def test_code_builds_the_same_optimizer(name: str, rate: float | None) -> None:
    model = network()
    optimizer = ALL[name](model.parameters())
    text = optimizers.code(optimizer) if rate is None else optimizers.code(optimizer, lr=rate)
    made = eval(text, {"torch": torch, "model": model})
    settings = [{k: v for k, v in o.param_groups[0].items() if k not in ("params", "lr")} for o in (made, optimizer)]
    assert settings[0] == settings[1]
    assert optimizers.rate(made) == (optimizers.rate(optimizer) if rate is None else rate)
    assert made.param_groups[0]["params"][0] is model.weight


def test_code_says_no_more_than_it_must() -> None:
    model = network()
    assert optimizers.code(torch.optim.Adam(model.parameters())) == "torch.optim.Adam(model.parameters(), lr=0.001)"
    sgd = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.5), momentum=0.9)
    assert optimizers.code(sgd, "params") == "torch.optim.SGD(params, lr=0.5, momentum=0.9)"
