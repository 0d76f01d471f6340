"""Functions that hold on to the model: what they reach, and the same function holding a copy of the model."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from runtrue import Task, optimizers
from runtrue.closures import reachable, rebind

GLOBAL = nn.Linear(2, 1)
OTHER = nn.Linear(2, 1)


def total(model: nn.Module) -> float:
    return float(sum(p.detach().sum() for p in model.parameters()))


def by_global() -> float:
    return total(GLOBAL)


def by_default(model: nn.Module = GLOBAL) -> float:
    return total(model)


def by_keyword(*, model: nn.Module = GLOBAL) -> float:
    return total(model)


def through_another() -> float:
    return by_global() + by_default()


def countdown(n: int) -> float:
    return total(GLOBAL) if n == 0 else countdown(n - 1)


def touches_nothing(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean()


class Holder:
    def __init__(self, model: nn.Module) -> None:
        self.model, self.notes = model, ["kept"]

    def __call__(self) -> float:
        return total(self.model)

    def method(self, factor: float = 1.0) -> float:
        return factor * total(self.model)


class Penalty(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self) -> float:
        return total(self.model)


def closing(model: nn.Module) -> Callable[[], float]:
    return lambda: total(model)


def closing_over_a_part(model: nn.Linear) -> Callable[[], float]:
    weight, bias = model.weight, model.bias
    return lambda: float((weight.sum() + bias.sum()).detach())


def closing_over_a_list(model: nn.Module) -> Callable[[], float]:
    layers = {"all": [model]}
    return lambda: total(layers["all"][0])


def nested(model: nn.Module) -> Callable[[], float]:
    inner = closing(model)
    return lambda: inner() + 0.0


FORMS: dict[str, Callable[[], Callable[..., float]]] = {
    "lambda": lambda: closing(GLOBAL),
    "weight": lambda: closing_over_a_part(GLOBAL),
    "list in a dict": lambda: closing_over_a_list(GLOBAL),
    "nested": lambda: nested(GLOBAL),
    "global": lambda: by_global,
    "default": lambda: by_default,
    "keyword default": lambda: by_keyword,
    "function of functions": lambda: through_another,
    "partial": lambda: partial(total, GLOBAL),
    "partial keyword": lambda: partial(by_default, model=GLOBAL),
    "partial of a closure": lambda: partial(closing(GLOBAL)),
    "bound method": lambda: Holder(GLOBAL).method,
    "callable object": lambda: Holder(GLOBAL),
    "module": lambda: Penalty(GLOBAL),
}


@pytest.fixture
def copied() -> tuple[nn.Module, dict[int, Any]]:
    """A copy of the model whose parameters are all 100: any function that still sees the original gives itself away."""
    memo: dict[int, Any] = {}
    other = copy.deepcopy(GLOBAL, memo)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(100.0)
    return other, memo


@pytest.mark.parametrize("form", FORMS)
def test_the_rebound_function_sees_the_copy_and_the_original_the_model(form: str, copied: Any) -> None:
    _, memo = copied
    function = FORMS[form]()
    before = function()
    factor = 2 if form == "function of functions" else 1
    assert before == pytest.approx(factor * total(GLOBAL))
    assert rebind(function, memo)() == pytest.approx(factor * 300.0)
    assert function() == before


@pytest.mark.parametrize("form", FORMS)
def test_what_a_function_reaches(form: str) -> None:
    if form == "weight":
        assert list(reachable(FORMS[form]())) == []
        return
    found = [m for module in reachable(FORMS[form]()) for m in module.modules()]
    assert any(m is GLOBAL for m in found)
    assert not any(m is OTHER for m in found)


@pytest.mark.parametrize(
    "function",
    [
        touches_nothing,
        nn.functional.mse_loss,
        torch.sum,
        partial(touches_nothing, targets=torch.zeros(1)),
        print,
        3,
        None,
    ],
)
def test_what_does_not_touch_the_model_is_returned_as_it_is(function: Any, copied: Any) -> None:
    assert rebind(function, copied[1]) is function


def test_a_function_that_closes_over_another_model_alone_is_returned_as_it_is(copied: Any) -> None:
    function = closing(OTHER)
    assert rebind(function, copied[1]) is function


def test_recursion(copied: Any) -> None:
    assert rebind(countdown, copied[1])(3) == pytest.approx(300.0)
    assert countdown(3) == pytest.approx(total(GLOBAL))


def test_two_functions_that_call_each_other(copied: Any) -> None:
    def even(n: int) -> float:
        return total(GLOBAL) if n == 0 else odd(n - 1)

    def odd(n: int) -> float:
        return even(n - 1)

    assert rebind(even, copied[1])(4) == pytest.approx(300.0)
    assert even(4) == pytest.approx(total(GLOBAL))


def test_a_name_that_is_not_bound_yet_is_no_error(copied: Any) -> None:
    def early() -> float:
        return total(GLOBAL) + (later if GLOBAL is None else 0.0)

    assert rebind(early, copied[1])() == pytest.approx(300.0)
    later = 1.0
    assert early() == pytest.approx(total(GLOBAL)) and later


def test_names_and_notes_of_a_function_stay(copied: Any) -> None:
    @functools.wraps(by_default)
    def wrapped() -> float:
        return total(GLOBAL)

    other = rebind(wrapped, copied[1])
    assert (other.__name__, other.__doc__, other.__module__) == ("by_default", by_default.__doc__, __name__)


def test_a_function_that_counts_its_calls_still_does(copied: Any) -> None:
    def counting() -> float:
        vars(counting)["calls"] += 1
        return total(GLOBAL)

    vars(counting)["calls"] = 5
    other = rebind(counting, copied[1])
    assert other() == pytest.approx(300.0)
    assert (vars(counting)["calls"], vars(other)["calls"]) == (5, 6)


def test_parts_that_are_shared_stay_shared(copied: Any) -> None:
    model, memo = copied
    first, second = Holder(GLOBAL), Holder(GLOBAL)
    assert rebind(first, memo).model is model is rebind(second, memo).model
    assert rebind(first.method, memo).__self__.notes == ["kept"]


def test_an_optimizer_holds_the_copy_and_has_a_state_of_its_own(copied: Any) -> None:
    model, memo = copied
    optimizer = torch.optim.SGD(GLOBAL.parameters(), lr=0.25, momentum=0.9)
    other = rebind(optimizer, memo)
    assert type(other) is torch.optim.SGD and other.param_groups[0]["lr"] == 0.25
    assert {id(p) for p in other.param_groups[0]["params"]} == {id(p) for p in model.parameters()}


def test_a_copy_of_a_task_is_apart_from_the_task() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    x, y = torch.randn(8, 2), torch.randn(8, 1)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(outputs, targets) + model.weight.square().sum()

    task = Task(model, (x, y), loss=loss, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    other = task.copy()
    assert isinstance(other.model, nn.Linear) and isinstance(other.optimizer, torch.optim.Optimizer)
    assert other.loss is not None and other.model is not model and other.train is task.train
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other.loss(other.model(x), y).backward()
    assert model.weight.grad is None, "the penalty of the copy does not reach the original"
    expected = 2 * ((other.model(x) - y).mean(0, keepdim=True).detach())
    assert other.model.bias.grad == pytest.approx(expected.flatten())
    other.optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not torch.equal(other.model.weight, model.weight)
    assert optimizers.rate(other.optimizer) == 0.1
