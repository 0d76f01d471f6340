"""Each remedy: its code, executed, does what the trial did; the cured model keeps the user's units; `fix` cures a copy."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import runtrue
from runtrue import Finding, Remedy, Task, batches
from runtrue.checks import judge_all
from runtrue.diagnosis import fix
from runtrue.measure import Measurements, measure_data, measure_start
from runtrue.remedies import REMEDIES, remedies_for
from runtrue.remedies.scaling import ScaledInputs, ScaledLoss, ScaledOutputs, Standardize
from runtrue.sandbox import sandbox
from runtrue.trials import Curve, run

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(256, 64, generator=GENERATOR)
LABELS = X[:, :3].argmax(1)
TARGETS = X[:, :1] + 0.5 * X[:, 1:2]
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)


def network(activation: Callable[[], nn.Module] = nn.Tanh, depth: int = 3, outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [layer for _ in range(depth) for layer in (nn.Linear(64, 64), activation())]
    return nn.Sequential(*layers, nn.Linear(64, outputs))


def scaled(net: nn.Sequential, factor: float) -> nn.Sequential:
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(factor)
    return net


def classify(model: nn.Module, inputs: Tensor = X, **parts: Any) -> Task:
    given: dict[str, Any] = {"loss": nn.CrossEntropyLoss(), "optimizer": SGD, "epochs": 20} | parts
    return Task(model, (inputs, LABELS), **given)


def alike() -> nn.Sequential:
    net = network()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.01 if parameter.dim() > 1 else 0.0)
    return net


def dead() -> nn.Sequential:
    net = network(nn.ReLU)
    nn.init.constant_(net.get_parameter("2.bias"), -50.0)
    return net


class Cut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.body(x)).detach())


def frozen() -> nn.Module:
    return network().requires_grad_(False)


def forgetful() -> Task:
    net = network()
    return classify(net, optimizer=torch.optim.Adam(net[-1].parameters(), lr=0.01, betas=(0.8, 0.99)))


def with_nan() -> Tensor:
    x = X.clone()
    x[::10, 3] = math.nan
    return x


SICK: dict[str, Callable[[], Task]] = {
    "init-too-small": lambda: classify(scaled(network(), 0.05)),
    "init-too-large": lambda: classify(scaled(network(), 30.0)),
    "init-symmetric": lambda: classify(alike()),
    "vanishing-gradient": lambda: classify(scaled(network(nn.Sigmoid, 6), 0.3)),
    "exploding-gradient": lambda: classify(scaled(network(nn.ReLU, 6), 20.0)),
    "dead-units": lambda: classify(dead()),
    "parameters-frozen": lambda: classify(frozen()),
    "parameters-not-optimized": forgetful,
    "graph-detached": lambda: classify(Cut()),
    "inputs-not-scaled": lambda: classify(network(), X * torch.linspace(1, 50, 64) + 100),
    "targets-not-scaled": lambda: Task(network(outputs=1), (X, TARGETS * 800 + 5000), loss=F.mse_loss, optimizer=SGD),
    "non-finite-data": lambda: classify(network(), with_nan()),
    "labels-out-of-range": lambda: replace(classify(network()), train=(X, LABELS + 1)),
    "learning-rate-too-high": lambda: classify(network(), optimizer=partial(torch.optim.SGD, lr=300.0)),
    "learning-rate-too-low": lambda: classify(
        network(), optimizer=partial(torch.optim.SGD, lr=1e-9, nesterov=True, momentum=0.8)
    ),
}


ELSEWHERE = {
    "missing-nonlinearity", "saturating-activation", "too-little-capacity", "batch-too-small-for-norm",
    "eval-mode-while-training", "regularization-too-strong", "dropout-too-strong",
}  # fmt: skip
"""Causes whose remedies have a file of tests of their own: test_remedies_structure.py."""


def proposed(cause: str, task: Task) -> list[Remedy]:
    """The remedies for a cause, as a check would propose them."""
    with sandbox(task) as box:
        start = measure_start(box)
        box.start()
        rate = 0.05
        measured = Measurements(measure_data(box), start, rate=rate, reference=Curve((2.0, 2.0)), bad_loss=math.nan)
        finding: Finding = next(f for f in judge_all(measured, {cause}))
        return remedies_for(finding, measured, box)


def everything(model: nn.Module) -> dict[str, Any]:
    """Values, flags and modes, to compare."""
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "asks": [p.requires_grad for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "names": [name for name, _ in model.named_modules()],
    }


def same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    states = before["state"], after["state"]
    return (
        all(before[key] == after[key] for key in ("asks", "modes", "names"))
        and states[0].keys() == states[1].keys()
        and all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values()))
    )


def executed(remedy: Remedy, task: Task) -> dict[str, Any]:
    """The remedy's code, run with the names a user has: a copy of the model, the data, an optimizer."""
    torch.manual_seed(5)
    other = task.copy()
    assert isinstance(other.model, nn.Module)
    optimizer = other.optimizer
    if not isinstance(optimizer, torch.optim.Optimizer) and any(p.requires_grad for p in other.model.parameters()):
        optimizer = (optimizer or torch.optim.Adam)(other.model.parameters())
    names: dict[str, Any] = {"model": other.model, "inputs": task.train[0], "targets": task.train[1]}
    names |= {"optimizer": optimizer, "loss_fn": task.loss, "torch": torch, "nn": nn}
    exec(compile(remedy.code, remedy.name, "exec"), names)
    return names


def treated(remedy: Remedy, task: Task) -> Task:
    torch.manual_seed(5)
    other = remedy.apply(task)
    assert isinstance(other, Task)
    return other


@pytest.mark.parametrize("cause", SICK)
def test_remedies_have_code_that_compiles_and_leave_the_task_alone(cause: str) -> None:
    task = SICK[cause]()
    assert isinstance(task.model, nn.Module)
    before, data = everything(task.model), [t.clone() for t in task.train]
    found = proposed(cause, task)
    assert found and len({remedy.name for remedy in found}) == len(found)
    for remedy in found:
        compile(remedy.code, remedy.name, "exec")
        cured = treated(remedy, task)
        assert cured.model is not task.model and task.loss is not None
        executed(remedy, task)
    assert same(before, everything(task.model))
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(data, task.train))


def test_every_remedy_is_tried_here() -> None:
    elsewhere = {f"runtrue.remedies.{name}" for name in ("labels", "splits", "outputs")}  # in tests of their own
    tried = {cause for cause, found in REMEDIES.items() if {propose.__module__ for propose in found} - elsewhere}
    assert tried <= set(SICK) | ELSEWHERE


def spread(model: nn.Module) -> list[float]:
    return [float(layer.weight.detach().std()) for layer in model.modules() if isinstance(layer, nn.Linear)]


def models(remedy: Remedy, task: Task) -> tuple[Any, Any]:
    """The model as the treatment leaves it, and as the code does."""
    return treated(remedy, task).model, executed(remedy, task)["model"]


XAVIER = [math.sqrt(2 / 128)] * 3 + [math.sqrt(2 / 67)]
HE = math.sqrt(2 / 64)


@pytest.mark.parametrize("cause", ["init-too-small", "init-too-large", "init-symmetric"])
def test_new_weights_are_those_that_the_code_draws(cause: str) -> None:
    task = SICK[cause]()
    remedy = proposed(cause, task)[0]
    assert "xavier" in remedy.name and remedy.safe
    for model in models(remedy, task):
        assert spread(model) == pytest.approx(XAVIER, rel=0.15)
        assert not any(layer.bias.any() for layer in model.modules() if isinstance(layer, nn.Linear))


def test_dead_units_live_again_by_he_weights_lsuv_or_norms() -> None:
    task = SICK["dead-units"]()
    first, lsuv, norm, *_ = proposed("dead-units", task)
    assert ("he" in first.name, "LSUV" in lsuv.name, "BatchNorm" in norm.name) == (True, True, True)
    for remedy in (first, lsuv, norm):
        for model in models(remedy, task):
            outputs = model.train()[:4](X)
            assert float((outputs == 0).all(0).float().mean()) < 0.3, remedy.name
    assert spread(models(first, task)[0])[:3] == pytest.approx([HE] * 3, rel=0.15)


def test_lsuv_gives_outputs_of_unit_variance_by_treatment_and_by_code() -> None:
    task = SICK["vanishing-gradient"]()
    (remedy,) = [r for r in proposed("vanishing-gradient", task) if "LSUV" in r.name]
    for model in models(remedy, task):
        values = X[:64]
        for layer in model:
            values = layer(values)
            if isinstance(layer, nn.Linear):
                assert float(values.detach().std()) == pytest.approx(1.0, rel=0.35)


def test_norms_stand_where_the_code_puts_them() -> None:
    task = SICK["vanishing-gradient"]()
    (remedy,) = [r for r in proposed("vanishing-gradient", task) if "BatchNorm" in r.name]
    assert not remedy.safe
    model, by_code = models(remedy, task)
    assert list(model.state_dict()) == list(by_code.state_dict())
    assert [type(m) for m in by_code.modules()] == [type(m) for m in model.modules()]
    assert sum(isinstance(m, nn.BatchNorm1d) for m in by_code.modules()) == 6
    assert torch.equal(model(X), by_code(X))


def test_norms_are_told_to_an_optimizer_that_is_built_already() -> None:
    net = scaled(network(nn.Sigmoid, 6), 0.3)
    task = classify(net, optimizer=torch.optim.SGD(net.parameters(), lr=0.3))
    (remedy,) = [r for r in proposed("vanishing-gradient", task) if "BatchNorm" in r.name]
    cured = treated(remedy, task)
    assert isinstance(cured.optimizer, torch.optim.Optimizer) and isinstance(cured.model, nn.Module)
    held = {id(p) for g in cured.optimizer.param_groups for p in g["params"]}
    assert held == {id(p) for p in cured.model.parameters()} and cured.optimizer.param_groups[0]["lr"] == 0.3


def optimizer_of(task: Task) -> torch.optim.Optimizer:
    assert isinstance(task.model, nn.Module) and task.optimizer is not None
    if isinstance(task.optimizer, torch.optim.Optimizer):
        return task.optimizer
    return task.optimizer(list(task.model.parameters()))


@pytest.mark.parametrize("cause", ["learning-rate-too-high", "learning-rate-too-low"])
def test_rates_are_those_of_the_code_and_nothing_else_changes(cause: str) -> None:
    task = SICK[cause]()
    now = optimizer_of(task).param_groups[0]
    rates = []
    for remedy in (r for r in proposed(cause, task) if r.name.startswith("learning rate")):
        by_code, by_treatment = executed(remedy, task)["optimizer"], optimizer_of(treated(remedy, task))
        rates.append(by_code.param_groups[0]["lr"] / now["lr"])
        for made in (by_code, by_treatment):
            settings = {k: v for k, v in made.param_groups[0].items() if k not in ("params", "lr")}
            assert settings == {k: v for k, v in now.items() if k not in ("params", "lr")}
        assert by_treatment.param_groups[0]["lr"] == pytest.approx(by_code.param_groups[0]["lr"], rel=1e-3)
    ten = 0.1 if cause.endswith("high") else 10.0
    assert rates == pytest.approx([ten ** (i + 1) for i in range(len(rates))], rel=1e-3)


def test_rates_of_several_groups_keep_their_proportions() -> None:
    net = network()
    groups: list[dict[str, Any]] = [{"params": net[:4].parameters(), "lr": 100.0}, {"params": net[4:].parameters()}]
    task = classify(net, optimizer=torch.optim.SGD(groups, lr=300.0))
    remedy = proposed("learning-rate-too-high", task)[1]
    for made in (executed(remedy, task)["optimizer"], optimizer_of(treated(remedy, task))):
        assert [group["lr"] for group in made.param_groups] == pytest.approx([1.0, 3.0])


@pytest.mark.parametrize("cause", ["parameters-frozen", "parameters-not-optimized"])
def test_every_parameter_asks_and_is_held(cause: str) -> None:
    task = SICK[cause]()
    (remedy,) = proposed(cause, task)
    by_code, by_treatment = executed(remedy, task), treated(remedy, task)
    pairs = [(by_code["model"], by_code["optimizer"]), (by_treatment.model, optimizer_of(by_treatment))]
    for model, optimizer in pairs:
        assert all(p.requires_grad for p in model.parameters())
        assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in model.parameters()}
    settings = [{k: v for k, v in o.param_groups[0].items() if k != "params"} for _, o in pairs]
    assert settings[0] == settings[1]


def test_a_few_frozen_parameters_are_named() -> None:
    net = network()
    net[0].requires_grad_(False)
    (remedy,) = proposed("parameters-frozen", classify(net))
    assert '("0.weight", "0.bias",)' in remedy.code
    assert all(p.requires_grad for p in executed(remedy, classify(net))["model"].parameters())


def test_what_the_optimizer_lacks_beside_the_frozen_is_left_to_its_own_remedy() -> None:
    net = network()
    first, last = list(net.parameters())[:2], list(net.parameters())[-2:]
    net[0].requires_grad_(False)
    held = [p for p in net.parameters() if all(p is not other for other in (*first, *last))]
    task = classify(net).replace(optimizer=torch.optim.SGD(held or first, lr=0.1))
    optimizer = treated(proposed("parameters-frozen", task)[0], task).optimizer
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(held) + 2


def test_the_graph_is_kept_and_the_outputs_are_the_same() -> None:
    task = SICK["graph-detached"]()
    (remedy,) = proposed("graph-detached", task)
    model, before = treated(remedy, task).model, task.model
    assert isinstance(model, nn.Module) and isinstance(before, nn.Module)
    assert torch.equal(model(X), before(X))
    F.cross_entropy(model(X), LABELS).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    assert "detach" in remedy.code and not remedy.safe
    with torch.no_grad():
        assert not model(X).requires_grad


def test_a_loss_that_cuts_the_graph_is_exchanged() -> None:
    task = classify(network()).replace(loss=lambda o, t: (o.argmax(1) != t).float().mean())
    (remedy,) = proposed("graph-detached", task)
    assert "F.cross_entropy(outputs, targets)" in remedy.code and remedy.safe
    loss, outputs = treated(remedy, task).loss, network()(X)
    assert loss is not None and torch.equal(loss(outputs, LABELS), F.cross_entropy(outputs, LABELS))


def test_the_kept_graph_has_the_gradient_of_the_network_without_detach() -> None:
    cut = Cut()
    cured = treated(proposed("graph-detached", classify(cut))[0], classify(cut))
    free = copy.deepcopy(cut)
    F.cross_entropy(free.head(torch.tanh(free.body(X))), LABELS).backward()
    assert isinstance(cured.model, nn.Module)
    F.cross_entropy(cured.model(X), LABELS).backward()
    for ours, theirs in zip(cured.model.parameters(), free.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_broken_rows_are_left_out() -> None:
    task = SICK["non-finite-data"]()
    (remedy,) = proposed("non-finite-data", task)
    names, data = executed(remedy, task), treated(remedy, task).train.settled()
    kept = [i for i in range(256) if i % 10]
    assert torch.equal(names["inputs"], X[kept]) and torch.equal(names["targets"], LABELS[kept])
    assert torch.equal(data[0], X[kept]) and torch.equal(data[1], LABELS[kept])


def test_labels_are_counted_from_zero() -> None:
    task = SICK["labels-out-of-range"]()
    (remedy,) = proposed("labels-out-of-range", task)
    assert torch.equal(executed(remedy, task)["targets"], LABELS)
    data = treated(remedy, task).train.settled()
    assert torch.equal(data[1], LABELS) and data[1].dtype == torch.int64 and torch.equal(data[0], X)


def test_binary_targets_of_plus_and_minus_one() -> None:
    signs = torch.sign(X[:, :1])
    task = Task(network(outputs=1), (X, signs), loss=F.binary_cross_entropy_with_logits, optimizer=SGD)
    (remedy,) = proposed("labels-out-of-range", task)
    assert torch.equal(executed(remedy, task)["targets"], (signs > 0).float())
    assert torch.equal(treated(remedy, task).train.settled()[1], (signs > 0).float())


# -- the user's units


def test_scaled_inputs_by_hand() -> None:
    net = nn.Linear(2, 1)
    scaler = Standardize(torch.tensor([10.0, 0.0]), torch.tensor([5.0, 2.0]))
    model = ScaledInputs(net, {"": scaler})
    assert torch.allclose(model(torch.tensor([[20.0, 4.0]])), net(torch.tensor([[2.0, 2.0]])))
    assert {"scalers.0.mean", "scalers.0.std", "network.weight"} <= set(model.state_dict())


class Two(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.cat([left, right], 1)


def test_one_of_several_inputs_is_scaled_by_place_or_name() -> None:
    scaler, x = Standardize(torch.tensor(4.0), torch.tensor(2.0)), torch.full((1, 1), 10.0)
    assert ScaledInputs(Two(), {"[1]": scaler})(x, x).tolist() == [[10.0, 3.0]]
    assert ScaledInputs(Two(), {"['left']": scaler})(left=x, right=x).tolist() == [[3.0, 10.0]]
    assert ScaledInputs(Two(), {"[0]": scaler, "[1]": scaler})(x, x).tolist() == [[3.0, 3.0]]


def test_scaled_outputs_by_hand() -> None:
    model = ScaledOutputs(nn.Identity(), 100.0, 10.0)
    loss = ScaledLoss(F.mse_loss, model)
    outputs, targets = torch.tensor([[1.5]]), torch.tensor([[105.0]])
    assert model.train()(outputs).tolist() == [[1.5]]
    assert float(loss(model(outputs), targets)) == 1.0  # (1.5 − 0.5)²
    assert model.eval()(outputs).tolist() == [[115.0]]
    assert float(loss(model(outputs), targets)) == 100.0  # (115 − 105)²


def test_scaling_of_inputs_is_what_the_code_computes() -> None:
    task = SICK["inputs-not-scaled"]()
    (remedy,) = proposed("inputs-not-scaled", task)
    model = treated(remedy, task).model
    assert isinstance(model, ScaledInputs)
    (scaler,) = model.scalers
    raw = task.train[0]
    torch.testing.assert_close(scaler(raw), executed(remedy, task)["inputs"], rtol=3e-3, atol=3e-3)
    assert float(scaler(raw).mean()) == pytest.approx(0, abs=1e-3) and float(scaler(raw).std()) == pytest.approx(
        1, abs=1e-2
    )


@pytest.mark.parametrize("shape", [(3, 8, 8), (5, 6)], ids=["images", "sequences"])
def test_scaling_of_channels_is_what_the_code_computes(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(128, *shape) * 40 + 90
    inputs[:, 0] *= 3
    task = Task(
        nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 3)), (inputs, LABELS[:128]), loss=nn.CrossEntropyLoss()
    )
    (remedy,) = proposed("inputs-not-scaled", task)
    model = treated(remedy, task).model
    assert isinstance(model, ScaledInputs)
    torch.testing.assert_close(model.scalers[0](inputs), executed(remedy, task)["inputs"], rtol=5e-3, atol=5e-3)


def test_scaling_of_targets_is_what_the_code_computes() -> None:
    task = SICK["targets-not-scaled"]()
    (remedy,) = proposed("targets-not-scaled", task)
    cured, names = treated(remedy, task), executed(remedy, task)
    assert isinstance(cured.model, nn.Module) and cured.loss is not None
    loss = cured.loss(cured.model.train()(X), task.train[1])
    assert float(loss.detach()) == pytest.approx(float(names["loss"].detach()), rel=1e-4)
    torch.testing.assert_close(cured.model.eval()(X), names["prediction"], rtol=1e-4, atol=1e-2)


# -- fix


def trained(task: Task, steps: int = 200) -> float:
    """Loss after plain training of the task as it is, in evaluation mode, in the units of its own loss."""
    model, optimizer = task.model, optimizer_of(task)
    assert isinstance(model, nn.Module) and task.loss is not None
    model.train()
    drawn = batches.draw(task.train, task.batch_size)
    for i in range(steps):
        inputs, targets = drawn.get(i)
        optimizer.zero_grad()
        task.loss(model(inputs), targets).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        return float(task.loss(model(task.train[0]), task.train[1]))


CURABLE = {
    "init-too-small": 1.09,
    "init-symmetric": 1.09,
    "dead-units": 1.09,
    "parameters-frozen": 1.09,
    "targets-not-scaled": float((TARGETS * 800).var()),
    "labels-out-of-range": 1.09,
    "non-finite-data": 1.09,
    "learning-rate-too-high": 1.09,
}
"""The loss of the best constant: ln 3 for three classes alike, the variance of the targets."""


@pytest.mark.parametrize("cause", CURABLE)
def test_fix_gives_a_task_that_trains_and_leaves_the_patient_as_found(cause: str) -> None:
    task = SICK[cause]()
    assert isinstance(task.model, nn.Module)
    before, random = everything(task.model), torch.get_rng_state()
    report = runtrue.check(task, budget=10)
    treatment = fix(task, report)
    assert same(before, everything(task.model)) and torch.equal(random, torch.get_rng_state())
    assert report.faults and treatment.remedies and treatment.code.startswith(f"# {treatment.remedies[0].name}\n")
    assert all(outcome.cured for outcome in treatment.outcomes)
    assert trained(treatment.task) < 0.6 * CURABLE[cause]
    assert same(before, everything(task.model)), "training the cured copy does not reach the original"


def test_fix_repeats_itself_by_the_seed() -> None:
    task = SICK["init-too-small"]()
    report = runtrue.check(task, budget=5)
    first, again, other = (fix(task, report, seed=seed).task.model for seed in (0, 0, 1))
    assert isinstance(first, nn.Module) and isinstance(again, nn.Module) and isinstance(other, nn.Module)
    assert same(everything(first), everything(again)) and not same(everything(first), everything(other))


def test_fix_with_a_loss_that_closes_over_the_model() -> None:
    net = scaled(network(), 0.05)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets) + 1e-4 * net.get_parameter("0.weight").square().sum()

    task = classify(net, loss=loss)
    before = everything(net)
    treatment = fix(task, runtrue.check(task, budget=10))
    assert [remedy.name for remedy in treatment.remedies] and treatment.task.loss is not None
    assert isinstance(treatment.task.model, nn.Module)
    treatment.task.loss(treatment.task.model(X), LABELS).backward()
    assert net.get_parameter("0.weight").grad is None
    gradient = treatment.task.model.get_parameter("0.weight").grad
    assert gradient is not None and bool(gradient.any())
    assert trained(treatment.task) < 0.7
    assert same(before, everything(net))


def test_fix_of_a_healthy_task_is_a_copy() -> None:
    task = classify(network())
    treatment = fix(task, runtrue.check(task, budget=5))
    assert treatment.remedies == () == treatment.outcomes and treatment.code == ""
    assert isinstance(treatment.task.model, nn.Module) and isinstance(task.model, nn.Module)
    assert treatment.task.model is not task.model and same(everything(task.model), everything(treatment.task.model))


def test_fix_without_a_report_checks_first() -> None:
    treatment = fix(SICK["labels-out-of-range"](), budget=5)
    assert [remedy.name for remedy in treatment.remedies] == ["count labels from 0"]


def test_a_treated_model_trains_in_the_sandbox_as_outside() -> None:
    task = SICK["init-symmetric"]()
    (remedy,) = proposed("init-symmetric", task)
    with sandbox(task) as box:
        untreated, treated_twin = run(box, steps=60), run(box, remedy.treat, steps=60)
    assert treated_twin.end < 0.8 * untreated.end
