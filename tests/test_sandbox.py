"""The patient is left as found: weights, buffers, gradients, modes, attributes, hooks, optimizer, data and random state."""

from __future__ import annotations

import copy
import random
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import runtrue
from runtrue import Task
from runtrue.sandbox import sandbox
from runtrue.trials import run


def state(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """Everything that must not change, as values that can be compared bit by bit."""
    tensors = {f"value {n}": t.detach().clone() for n, t in (*model.named_parameters(), *model.named_buffers())}
    grads = {f"grad {n}": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    facts = {
        "modes": [m.training for m in model.modules()],
        "asks": [p.requires_grad for p in model.parameters()],
        "names": [n for n, _ in model.named_modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "random": (random.getstate(), repr(np.random.get_state(legacy=False)), tuple(torch.get_rng_state().tolist())),
    }
    if optimizer is not None:
        facts["optimizer"] = repr(optimizer.state_dict())
        facts["held"] = [id(p) for g in optimizer.param_groups for p in g["params"]]
    return tensors | grads | facts


def same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before.keys() == after.keys()
    for key, value in before.items():
        if isinstance(value, Tensor):
            assert (
                torch.equal(value.view(torch.uint8), after[key].view(torch.uint8))
                if value.dim()
                else value == after[key]
            ), key
        else:
            assert value == after[key], key


class Stateful(nn.Module):
    """Keeps what a network can keep: buffers, a counter, a hidden state, a list, normalization, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.drop, self.last = (
            nn.Linear(6, 8),
            nn.BatchNorm1d(8),
            nn.Dropout(0.3),
            nn.Linear(8, 3),
        )
        self.calls = 0
        self.seen: list[int] = []
        self.hidden = torch.zeros(8)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(self.calls)
        h = self.drop(torch.relu(self.norm(self.first(x))))
        self.hidden = h.detach().mean(0)
        return self.last(h)


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(48, 6, generator=generator), torch.randint(0, 3, (48,), generator=generator)


def patient(**changes: Any) -> tuple[Stateful, torch.optim.Optimizer, Task]:
    torch.manual_seed(1)
    model = Stateful()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-3)
    x, y = data()
    nn.functional.cross_entropy(model(x), y).backward()  # gradients and optimizer state that are the user's own
    optimizer.step()
    model.last.weight.requires_grad_(False)
    parts: dict[str, Any] = {
        "train": data(),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": optimizer,
        "batch_size": 16,
    } | changes
    return model, optimizer, Task(model, **parts)


@pytest.mark.parametrize("fault", [None, "small", "large", "rate", "frozen", "raw", "nan", "labels"])
def test_a_check_leaves_everything_as_it_was(fault: str | None) -> None:
    x, y = data()
    changes = {"raw": {"train": (x * 300 + 1000, y)}, "labels": {"train": (x, y + 1)}}
    if fault == "nan":
        x[3, 2] = float("nan")
        changes["nan"] = {"train": (x, y)}
    model, optimizer, task = patient(**changes.get(fault or "", {}))
    with torch.no_grad():
        if fault in ("small", "large"):
            model.first.weight.mul_(1e-4 if fault == "small" else 1e3)
        if fault == "rate":
            optimizer.param_groups[0]["lr"] = 50.0
        if fault == "frozen":
            for parameter in model.parameters():
                parameter.requires_grad_(False)
    before, hidden, given = state(model, optimizer), model.hidden.clone(), [t.clone() for t in task.train]
    pointers = [p.data_ptr() for p in model.parameters()]
    runtrue.check(task, budget=4)
    same(before, state(model, optimizer))
    assert model.calls == 1 and model.seen == [1] and torch.equal(model.hidden, hidden)
    assert pointers == [p.data_ptr() for p in model.parameters()]
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(given, task.train))


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_middle_leaves_everything_as_it_was(kind: type[BaseException]) -> None:
    model, optimizer, task = patient()
    calls = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 15:
            model.last.weight.data.fill_(7)
            raise kind("in the middle")
        return nn.functional.cross_entropy(outputs, targets)

    before = state(model, optimizer)
    try:
        runtrue.check(task.replace(loss=loss), budget=4)
    except kind:
        assert kind is not RuntimeError, "an error in a trial is a result, not a crash"
    assert calls >= 15
    same(before, state(model, optimizer))


def test_structure_hooks_and_new_attributes_are_undone() -> None:
    model, optimizer, task = patient()
    before = state(model, optimizer)
    with sandbox(task) as box:
        inside: Any = box.model
        inside.first = nn.Sequential(nn.Identity(), inside.first)
        inside.register_forward_hook(lambda *a: None)
        inside.novel = 1
        inside.last.weight.data = torch.zeros(3, 8)
    same(before, state(model, optimizer))
    assert not hasattr(model, "novel")


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """A dataset with generators of its own and a counter, as augmentation has."""

    def __init__(self) -> None:
        self.rng, self.old, self.torch = (
            np.random.default_rng(0),
            np.random.RandomState(0),
            torch.Generator().manual_seed(0),
        )
        self.served = 0

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.served += 1
        noise = self.rng.normal() + self.old.normal() + float(torch.randn((), generator=self.torch))
        return torch.full((6,), float(index)) / 40 + noise, torch.tensor(index % 3)


def test_generators_of_loader_and_dataset_go_on_where_they_were() -> None:
    def loader() -> DataLoader[Any]:
        return DataLoader(Noisy(), 8, shuffle=True, generator=torch.Generator().manual_seed(5))

    used, untouched = loader(), loader()
    _, _, task = patient(train=used)
    runtrue.check(task, budget=3)
    assert isinstance(used.dataset, Noisy) and used.dataset.served == 0
    for ours, theirs in zip(used, untouched):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


def test_workers_are_not_started() -> None:
    loader = DataLoader(TensorDataset(*data()), 8, num_workers=2, persistent_workers=True)
    _, _, task = patient(train=loader)
    runtrue.check(task, budget=3)
    assert loader._iterator is None and loader.num_workers == 2


def test_a_loss_that_holds_the_model_sees_what_is_trained() -> None:
    """A penalty on a closure's weight must follow the weights of the trial."""
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    seen: list[float] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        seen.append(float(model.weight.detach().norm()))
        return nn.functional.cross_entropy(outputs, targets) + model.weight.square().sum()

    task = Task(model, data(), loss=loss, optimizer=partial(torch.optim.SGD, lr=0.1), batch_size=16)
    with sandbox(task) as box:
        run(box, steps=20)
    assert seen[-1] < 0.2 * seen[0], "the penalty shrinks the weights that the closure sees"
    copied = task.copy()
    assert isinstance(copied.model, nn.Linear) and copied.loss is not None
    with torch.no_grad():
        copied.model.weight.zero_()
    copied.loss(torch.zeros(1, 3), torch.tensor([0]))
    assert seen[-1] == 0.0, "the loss of a copy holds the copy"
    assert float(model.weight.detach().norm()) > 0.1


def test_other_modules_that_a_step_reaches_are_restored() -> None:
    torch.manual_seed(0)
    model, teacher = nn.Linear(6, 3), nn.BatchNorm1d(6)
    before = copy.deepcopy(teacher.state_dict())

    def step(net: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(net(teacher(batch["x"])), batch["y"])

    x, y = data()
    runtrue.check(Task(model, [{"x": x, "y": y}] * 4, step=step), budget=3)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


class InAList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Linear(8, 16)]
        self.losses = [nn.MSELoss()]  # nothing to train
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.tanh(self.hidden[0](x)))
        return scores


def test_layers_in_a_plain_list_are_found_treated_and_restored() -> None:
    torch.manual_seed(0)
    net, x = InAList(), torch.randn(400, 8)
    nn.init.normal_(net.hidden[0].weight, 0, 1e-3)
    nn.init.constant_(net.hidden[0].bias, 1.0)
    labels = x[:, :3].argmax(1)
    before = [p.detach().clone() for p in (*net.parameters(), *net.hidden[0].parameters())]
    task = Task(net, (x, labels), loss=F.cross_entropy, optimizer=torch.optim.Adam(net.parameters(), 1e-2), epochs=20)
    report = runtrue.check(task, budget=20)
    fault = report.faults[0]
    assert fault.cause == "parameters-not-optimized" and "hidden[0].weight" in fault.where
    assert fault.remedy is not None and "model.hidden = nn.ModuleList(model.hidden)" in fault.remedy.code
    assert "losses" not in fault.message + fault.remedy.code
    after = [*net.parameters(), *net.hidden[0].parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, after))
    assert all(p.grad is None for p in after) and isinstance(net.hidden, list)
    treated = runtrue.fix(task, report).task
    assert isinstance(treated.optimizer, torch.optim.Optimizer)
    assert sum(len(group["params"]) for group in treated.optimizer.param_groups) == 4


def test_trials_of_the_same_thing_are_the_same() -> None:
    _, _, task = patient()
    with sandbox(task) as box:
        assert run(box, steps=12).losses == run(box, steps=12).losses


def test_a_generator_is_named_as_used_up() -> None:
    x, y = data()
    _, _, task = patient(train=(pair for pair in [(x, y)] * 5))
    report = runtrue.check(task, budget=3)
    assert "cannot be put back" in report.measured.facts["data"]


@pytest.mark.parametrize("prebuilt", [False, True])
def test_what_the_optimizer_holds_beside_the_model_is_restored(prebuilt: bool) -> None:
    """One optimizer for two networks, both with gradients and momentum; the other one takes part in the loss."""
    torch.manual_seed(0)
    model, other = nn.Linear(6, 3), nn.Linear(6, 6)
    optimizer = torch.optim.Adam([*model.parameters(), *other.parameters()], lr=0.1)
    x, y = data()
    nn.functional.cross_entropy(model(other(x)), y).backward()
    optimizer.step()
    parts: dict[str, Any] = {"optimizer": (lambda params: optimizer) if prebuilt else optimizer}
    task = Task(model, (x, y), loss=lambda o, t: nn.functional.cross_entropy(o, t) + other(x).square().mean(), **parts)
    before = state(nn.ModuleList([model, other]), optimizer)
    gradients = [p.grad for p in other.parameters()]
    runtrue.check(task, budget=3)
    same(before, state(nn.ModuleList([model, other]), optimizer))
    assert all(p.grad is g for p, g in zip(other.parameters(), gradients))


def test_a_stale_optimizer_leaves_its_own_network_alone() -> None:
    """The optimizer of another network, which still has gradients: nothing of it may move."""
    torch.manual_seed(0)
    model, other = nn.Linear(6, 3), nn.Linear(6, 3)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    x, y = data()
    nn.functional.cross_entropy(other(x), y).backward()
    before = state(other, optimizer)
    report = runtrue.check(Task(model, (x, y), loss=nn.CrossEntropyLoss(), optimizer=optimizer), budget=3)
    same(before, state(other, optimizer))
    assert "parameters-not-optimized" in {f.cause for f in report.findings}
