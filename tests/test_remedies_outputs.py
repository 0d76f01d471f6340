"""Remedies for outputs and losses: applied, the network computes what it should by hand, and training goes where it did not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue import surgery, wrapping
from runtrue.checks import judge_all
from runtrue.findings import STAGE_OF, Remedy
from runtrue.measure import Measurements, measure_data, measure_start
from runtrue.remedies import remedies_for
from runtrue.sandbox import sandbox
from runtrue.task import Task
from runtrue.trials import run

Loss = Callable[[Any, Any], Tensor]
G = torch.Generator().manual_seed(3)
X = torch.randn(120, 8, generator=G)
LABELS = X[:, :3].argmax(1)
ONE_HOT = F.one_hot(LABELS, 3).float()
YES = (X[:, :1] + X[:, 1:2] > 0).float()
NUMBER = X[:, :2].sum(1, keepdim=True)


class Functional(nn.Module):
    """A network that calls its activations as functions."""

    def __init__(self, last: Callable[[Tensor], Tensor], count: int) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Linear(8, 16), nn.Linear(16, count), last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.b(torch.relu(self.a(x))))


def by_modules(last: nn.Module | None, count: int) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, count), *([last] if last else []))


def proposed(task: Task, cause: str) -> Remedy:
    with sandbox(task) as box:
        measured = Measurements(measure_data(box), measure_start(box))
        findings = [f for f in judge_all(measured, set(STAGE_OF)) if f.cause == cause]
        assert findings, f"{cause} is not suspected"
        (first, *_) = remedies_for(findings[0], measured, box)
    return first


def made(model: nn.Module, wanted: Tensor, loss: Loss, rate: float = 0.5) -> Task:
    return Task(model, (X, wanted), loss=loss, optimizer=torch.optim.SGD(model.parameters(), lr=rate), batch_size=30)


def skills(task: Task, remedy: Remedy, steps: int = 300) -> tuple[float, float]:
    with sandbox(task) as box:
        before = run(box, steps=steps, evaluate=True)
        after = run(box, remedy.treat, steps=steps, evaluate=True)
    return before.skill if before.skill is not None else -1.0, after.skill if after.skill is not None else -1.0


torch.manual_seed(0)
CASES: list[tuple[str, nn.Module, Tensor, Loss]] = [
    ("softmax-before-cross-entropy", by_modules(nn.Softmax(dim=1), 3), LABELS, nn.CrossEntropyLoss()),
    ("softmax-before-cross-entropy", Functional(lambda x: x.softmax(1), 3), LABELS, nn.CrossEntropyLoss()),
    ("sigmoid-before-bce-with-logits", by_modules(nn.Sigmoid(), 1), YES, nn.BCEWithLogitsLoss()),
    ("logits-without-log-softmax", by_modules(None, 3), LABELS, nn.NLLLoss()),
    ("output-activation-mismatch", by_modules(nn.Softmax(dim=1), 1), YES, nn.BCELoss()),
    ("output-activation-mismatch", by_modules(nn.ReLU(), 1), NUMBER, nn.MSELoss()),
    ("output-activation-mismatch", Functional(torch.tanh, 1), 4 * NUMBER, nn.MSELoss()),
    ("output-activation-mismatch", Functional(lambda x: x.softmax(0), 3), LABELS, nn.CrossEntropyLoss()),
    ("wrong-loss", by_modules(None, 3), LABELS, lambda o, t: -F.cross_entropy(o, t)),
    ("wrong-loss", by_modules(nn.Softmax(dim=1), 3), ONE_HOT, nn.L1Loss()),
    ("wrong-loss", by_modules(None, 1), YES, F.cross_entropy),
    ("loss-shape-broadcast", by_modules(None, 1), NUMBER[:, 0], nn.MSELoss()),
    ("loss-shape-broadcast", by_modules(None, 1), NUMBER[:, 0], lambda o, t: (o - t).square().mean()),
]


@pytest.mark.parametrize(("cause", "model", "wanted", "loss"), CASES)
def test_the_remedy_makes_it_learn(cause: str, model: nn.Module, wanted: Tensor, loss: Loss) -> None:
    task = made(model, wanted, loss, rate=0.5 if cause == "wrong-loss" and wanted is ONE_HOT else 0.05)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    before, after = skills(task, proposed(task, cause))
    assert after > 0.7 and after >= before, (before, after)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("model", [by_modules(nn.Softmax(dim=1), 3), Functional(lambda x: x.softmax(1), 3)])
def test_without_the_softmax_the_outputs_are_its_inputs(model: nn.Module) -> None:
    task = made(model, LABELS, nn.CrossEntropyLoss())
    cured = proposed(task, "softmax-before-cross-entropy").apply(task)
    assert isinstance(cured.model, nn.Module)
    raw, probabilities = cured.model(X), model(X)
    torch.testing.assert_close(raw.softmax(1), probabilities)
    assert not torch.allclose(raw.sum(1), torch.ones(len(X)))


def test_a_softmax_in_the_loss_is_left_out_there() -> None:
    task = made(by_modules(None, 3), LABELS, lambda o, t: F.cross_entropy(o.relu().softmax(1), t))
    cured = proposed(task, "softmax-before-cross-entropy").apply(task)
    assert cured.loss is not None
    outputs = torch.randn(5, 3)
    labels = torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(cured.loss(outputs, labels), F.cross_entropy(outputs.relu(), labels))  # the other stays


def test_the_code_names_the_place() -> None:
    task = made(by_modules(nn.Softmax(dim=1), 3), LABELS, nn.CrossEntropyLoss())
    assert proposed(task, "softmax-before-cross-entropy").code == "model[3] = nn.Identity()  # was: softmax"
    task = made(nn.Sequential(by_modules(None, 1), nn.Softmax(dim=1)), YES, nn.BCELoss())
    assert proposed(task, "output-activation-mismatch").code == "model[1] = nn.Sigmoid()  # was: softmax"
    task = made(Functional(lambda x: x.softmax(1), 3), LABELS, nn.CrossEntropyLoss())
    code = proposed(task, "softmax-before-cross-entropy").code
    assert code == "# in forward of the model: leave out the softmax behind the last layer"


def test_losses_by_hand() -> None:
    shares = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    expected = -(torch.tensor(0.7).log() + torch.tensor(0.8).log()) / 2
    torch.testing.assert_close(wrapping.log_of_shares(shares, torch.tensor([0, 1])), expected)
    torch.testing.assert_close(wrapping.log_of_shares(shares, torch.eye(3)[:2]), expected)
    assert wrapping.log_of_shares(torch.tensor([[0.0, 1.0]]), torch.tensor([0])).isfinite()
    column, row = torch.tensor([[0.2], [0.9]]), torch.tensor([0, 1])
    torch.testing.assert_close(
        wrapping.yes_or_no(column, row), -(torch.tensor(0.8).log() + torch.tensor(0.9).log()) / 2
    )
    torch.testing.assert_close(wrapping.yes_or_no_logits(column.logit(), row), wrapping.yes_or_no(column, row))
    assert wrapping.SameShape(nn.MSELoss())(torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 5.0])) == 2.0
    assert wrapping.MeanOverBatch(nn.MSELoss(reduction="sum"))(torch.zeros(4, 1), torch.ones(4, 1)) == 1.0


def test_paths_are_counted_from_the_users_own_network() -> None:
    inner = by_modules(nn.Softmax(dim=1), 3)
    outer = wrapping.Followed(wrapping.Reactivated(inner, 9, wrapping.same), nn.Identity())
    assert surgery.core(outer) is inner
    surgery.put(outer, "3", nn.Identity())
    assert isinstance(inner.get_submodule("3"), nn.Identity)
