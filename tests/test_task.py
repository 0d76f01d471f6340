"""Every form in which a task can be given, and what is said when it cannot be run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import runtrue
from runtrue import Task, TaskError

SGD = partial(torch.optim.SGD, lr=0.1)
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(64, 5, generator=GENERATOR)
Y = (X @ torch.randn(5, 3, generator=GENERATOR)).argmax(1)


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets)


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(list(zip(X, Y)))


FORMS: dict[str, Any] = {
    "tensors": (X, Y),
    "arrays": (X.numpy(), Y.numpy()),
    "dataset": TensorDataset(X, Y),
    "loader": DataLoader(TensorDataset(X, Y), 16, shuffle=True),
    "stream": DataLoader(Stream(), 16),
    "list": [(X[:32], Y[:32]), (X[32:], Y[32:])],
    "function": lambda: ((X[i : i + 16], Y[i : i + 16]) for i in range(0, 64, 16)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data(form: str) -> None:
    report = runtrue.check(nn.Linear(5, 3), train=FORMS[form], loss=loss, optimizer=SGD, epochs=50, budget=30)
    assert report.ok and report.steps > 20, report
    assert report.measured.curve[-1] < 0.5 < report.measured.curve[0]


def test_a_generator_is_drawn_from_once() -> None:
    batches = iter([(X, Y)] * 3)
    report = runtrue.check(nn.Linear(5, 3), train=batches, loss=loss, optimizer=SGD, budget=5)
    assert report.ok


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 3), nn.Linear(5, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.a(left) + self.b(right)


@pytest.mark.parametrize(
    "train",
    [((X, X), Y), ({"left": X, "right": X}, Y), TensorDataset(X, X, Y), [((X, X), Y)], [({"left": X, "right": X}, Y)]],
    ids=["tuple", "dict", "dataset", "batches", "batches of dicts"],
)
def test_several_inputs(train: Any) -> None:
    assert runtrue.check(TwoInputs(), train=train, loss=loss, optimizer=SGD, epochs=50, budget=5).ok


def test_dict_batches_with_a_step() -> None:
    def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch["x"]), batch["y"])

    report = runtrue.check(nn.Linear(5, 3), train=[{"x": X, "y": Y}], step=step, optimizer=SGD, epochs=50, budget=30)
    assert report.ok and report.measured.baseline is not None


def test_a_model_that_is_built_by_a_function() -> None:
    assert runtrue.check(lambda: nn.Linear(5, 3), train=(X, Y), loss=loss, optimizer=SGD, epochs=50, budget=5).ok


def test_lbfgs_gets_its_closure() -> None:
    model = nn.Linear(5, 3)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    assert runtrue.check(model, train=(X, Y), loss=loss, optimizer=optimizer, epochs=10, budget=5).ok


def raised(**parts: Any) -> str:
    given: dict[str, Any] = {"model": nn.Linear(5, 3), "train": (X, Y), "loss": loss, "optimizer": SGD} | parts
    with pytest.raises(TaskError) as caught:
        runtrue.check(Task(**given), budget=3)
    return str(caught.value)


def test_no_loss() -> None:
    assert "the task has no loss" in raised(loss=None)


def test_a_loss_that_is_no_scalar_names_its_shape() -> None:
    assert "shape (32,), not a scalar" in raised(loss=lambda o, t: F.cross_entropy(o, t, reduction="none"))


def test_a_loss_that_is_a_number() -> None:
    assert "float, not a tensor" in raised(loss=lambda o, t: F.cross_entropy(o, t).item())


def test_a_loss_without_gradient_though_the_outputs_have_one() -> None:
    task = Task(nn.Linear(5, 3), (X, Y), loss=lambda o, t: (o.argmax(1) != t).float().mean(), optimizer=SGD, epochs=50)
    (fault,) = runtrue.check(task, budget=5).faults
    assert fault.cause == "graph-detached" and "although the outputs have one" in fault.message
    assert fault.outcome is not None and fault.outcome.cured and "cross_entropy" in fault.remedy.code


def test_a_batch_that_the_model_cannot_take_names_its_shapes() -> None:
    message = raised(model=nn.Linear(7, 3))
    assert "float32 (32, 5)" in message and "mat1 and mat2" in message


def test_outputs_and_targets_that_the_loss_cannot_take() -> None:
    message = raised(loss=lambda o, t: F.mse_loss(o, t.float().reshape(-1, 1, 2)))
    assert "outputs float32 (32, 3) with targets int64 (32,)" in message


def test_dict_batches_without_a_step() -> None:
    assert "pass step=(model, batch) -> loss" in raised(train=[{"x": X, "y": Y}])


@pytest.mark.parametrize(
    "train", [[], (X[:0], Y[:0]), DataLoader(TensorDataset(X[:0], Y[:0]), 4)], ids=["list", "rows", "loader"]
)
def test_no_data(train: Any) -> None:
    assert "0 examples" in (message := raised(train=train)) or "no batch" in message


def test_rows_that_do_not_match() -> None:
    assert "differ in their number of rows: [60, 64]" in raised(train=(X, Y[:60]))


def test_a_loader_that_fails_shows_the_users_line() -> None:
    def batches() -> Iterator[Any]:
        yield X, Y
        raise KeyError("missing column")

    message = raised(train=batches)
    assert "batch 1" in message and "missing column" in message and "test_task.py" in message


def test_a_class_in_place_of_an_instance() -> None:
    assert "write CrossEntropyLoss()" in raised(loss=nn.CrossEntropyLoss)


def test_an_optimizer_on_a_model_that_is_not_built() -> None:
    built = torch.optim.SGD(nn.Linear(5, 3).parameters(), lr=0.1)
    assert "cannot hold its parameters" in raised(model=lambda: nn.Linear(5, 3), optimizer=built)


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("batch_size", -1), ("epochs", 1.5), ("batch_size", True)])
def test_numbers_that_make_no_sense(name: str, value: Any) -> None:
    assert f"{name} must be a whole number" in raised(**{name: value})


def test_lazy_and_meta_models_are_named() -> None:
    assert "lazy layer" in raised(model=nn.LazyLinear(3), optimizer=None)
    assert "meta device" in raised(model=nn.Linear(5, 3, device="meta"))


def test_arrays_of_doubles_name_the_type() -> None:
    assert "float64 (32, 5)" in raised(train=(np.asarray(X, dtype=np.float64), Y.numpy()))
