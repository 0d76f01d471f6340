"""Remedies of structure and regularization: what the code does is what the treatment does, and the treated network learns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from runtrue import Remedy, Task, nets
from runtrue.batches import together
from runtrue.checks import judge_all
from runtrue.lossparts import Parted
from runtrue.measure import Measurements, measure_by_data, measure_data, measure_start
from runtrue.remedies import remedies_for
from runtrue.remedies.structure import Groups, Regrouped, groups_of
from runtrue.rewiring import Rewired, RewiredStep
from runtrue.sandbox import sandbox
from runtrue.surgery import Residual
from runtrue.trials import Changed, Curve, run

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(256, 16, generator=GENERATOR)
CROSSED = ((X[:, 0] > 0) ^ (X[:, 1] > 0)).long()
LABELS = X[:, :3].argmax(1)
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def chain(
    activation: Callable[[], nn.Module] | None, depth: int = 2, width: int = 32, outputs: int = 3
) -> nn.Sequential:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for n_in in (16, *[width] * (depth - 1)):
        parts += [nn.Linear(n_in, width), *([activation()] if activation else [])]
    return nn.Sequential(*parts, nn.Linear(width, outputs))


class Functional(nn.Module):
    """Weights as parameters, activations as functions."""

    def __init__(self, activation: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head = nn.Parameter(torch.randn(32, 16) / 4), nn.Linear(32, 3)
        self.second, self.activation = nn.Linear(32, 32), activation

    def forward(self, x: Tensor) -> Tensor:
        h = F.linear(x, self.first)
        h = self.second(self.activation(h) if self.activation else h)
        out: Tensor = self.head(self.activation(h) if self.activation else h)
        return out


def normed(width: int = 32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3))


class Dropping(nn.Module):
    def __init__(self, p: float, aware: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.module, self.p, self.aware = chain(nn.ReLU), nn.Dropout(p), p, aware

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(F.dropout(self.module(x), self.p, self.training if self.aware else True))
        return out


class Clamped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = chain(nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        for parameter in self.net.parameters():
            parameter.data.clamp_(-1e-3, 1e-3)
        out: Tensor = self.net(x)
        return out


def asleep() -> nn.Module:
    """Eight layers that fade without their norms, which a forward pre-hook puts to sleep."""
    torch.manual_seed(0)
    parts = [part for n in (16, *[32] * 7) for part in (nn.Linear(n, 32), nn.BatchNorm1d(32), nn.ReLU())]
    model = nn.Sequential(*parts, nn.Linear(32, 3))
    model.register_forward_pre_hook(sleep)
    return model


def sleep(model: nn.Module, _: Any) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()


def penalised(strength: float = 0.1) -> Task:
    net = chain(nn.ReLU)

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return (
            F.cross_entropy(outputs, labels) + strength * torch.stack([p.abs().sum() for p in net.parameters()]).sum()
        )

    return task(net, loss=loss)


def task(model: nn.Module, labels: Tensor = LABELS, **parts: Any) -> Task:
    given: dict[str, Any] = {"loss": nn.CrossEntropyLoss(), "optimizer": SGD, "epochs": 20} | parts
    return Task(model, (X, labels), **given)


def own_optimizer(model: nn.Module, **parts: Any) -> Task:
    return task(model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, **parts))


SICK: dict[str, tuple[str, Callable[[], Task]]] = {
    "no activations": ("missing-nonlinearity", lambda: task(chain(None, outputs=2), CROSSED)),
    "no activations, functions": ("missing-nonlinearity", lambda: task(Functional(None), CROSSED)),
    "softmax": ("saturating-activation", lambda: task(chain(partial(nn.Softmax, dim=1)))),
    "softmax, functions": ("saturating-activation", lambda: task(Functional(partial(torch.softmax, dim=-1)))),
    "narrow": ("too-little-capacity", lambda: own_optimizer(nets.mlp([16, 1, 8, 3], "relu", norm="batch"))),
    "batches of two": ("batch-too-small-for-norm", lambda: task(normed(), batch_size=2)),
    "batches of one": ("batch-too-small-for-norm", lambda: task(normed(), batch_size=1)),
    "asleep": ("eval-mode-while-training", lambda: task(asleep())),
    "decay": ("regularization-too-strong", lambda: own_optimizer(chain(nn.ReLU), weight_decay=2.0)),
    "penalty": ("regularization-too-strong", penalised),
    "clamped": ("regularization-too-strong", lambda: task(Clamped())),
    "dropout": ("dropout-too-strong", lambda: task(Dropping(0.9))),
    "dropout in evaluation": ("dropout-too-strong", lambda: task(Dropping(0.3, aware=False))),
    "sigmoids": ("vanishing-gradient", lambda: task(chain(nn.Sigmoid, depth=9))),
    "dead": ("dead-units", lambda: task(dead())),
    "plain SGD": ("learning-rate-too-low", lambda: task(chain(nn.ReLU), optimizer=partial(torch.optim.SGD, lr=1e-6))),
    "lost": ("learning-rate-too-high", lambda: own_optimizer(chain(nn.ReLU), weight_decay=1e-3)),
}


def dead() -> nn.Module:
    net = chain(nn.ReLU)
    nn.init.constant_(net.get_parameter("2.bias"), -50.0)
    return net


def proposed(cause: str, sick: Task, words: str = "", losses: tuple[float, ...] = (2.0, 2.0)) -> list[Remedy]:
    """The remedies for a cause, as a check would propose them; those with `words` in their names."""
    with sandbox(sick) as box:
        start = measure_start(box)
        box.start()
        measured = Measurements(measure_data(box), start, rate=0.05, reference=Curve(losses))
        found = [r for f in judge_all(measured, {cause}) for r in remedies_for(f, measured, box)]
    return [remedy for remedy in found if words in remedy.name]


def treated(remedy: Remedy, sick: Task) -> Task:
    torch.manual_seed(5)
    other = remedy.apply(sick)
    assert isinstance(other, Task)
    return other


def executed(remedy: Remedy, sick: Task) -> dict[str, Any]:
    """The code of a remedy, run with the names that a user has."""
    torch.manual_seed(5)
    other = sick.copy()
    names: dict[str, Any] = {"model": other.model, "optimizer": optimizer_of(other), "torch": torch, "nn": nn}
    exec(compile(remedy.code, remedy.name, "exec"), names)
    return names


def optimizer_of(given: Task) -> torch.optim.Optimizer:
    assert isinstance(given.model, nn.Module) and given.optimizer is not None
    if isinstance(given.optimizer, torch.optim.Optimizer):
        return given.optimizer
    return given.optimizer(list(given.model.parameters()))


def held(optimizer: torch.optim.Optimizer) -> set[int]:
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def state(model: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", SICK)
def test_every_remedy_keeps_the_units_and_leaves_the_task_alone(name: str) -> None:
    cause, build = SICK[name]
    sick = build()
    assert isinstance(sick.model, nn.Module)
    before, modules = state(sick.model), [str(m) for m in sick.model.modules()]
    found = proposed(cause, sick)
    assert found and len({r.name for r in found}) == len(found)
    for remedy in found:
        compile(remedy.code, remedy.name, "exec")
        cured = treated(remedy, sick)
        assert isinstance(cured.model, nn.Module) and cured.model is not sick.model
        assert cured.model.eval()(X[:8]).shape == sick.model.eval()(X[:8]).shape
        assert held(optimizer_of(cured)) >= {id(p) for p in cured.model.parameters()}, remedy.name
    sick.model.train()
    assert [str(m) for m in sick.model.modules()] == modules
    if name != "clamped":
        assert all(torch.equal(a, b) for a, b in zip(before.values(), state(sick.model).values()))


BY_CODE = ("no activations", "softmax", "narrow", "batches of two", "sigmoids", "dead")


@pytest.mark.parametrize("name", BY_CODE)
def test_the_code_gives_the_model_that_the_treatment_gives(name: str) -> None:
    cause, build = SICK[name]
    sick = build()
    structural = [r for r in proposed(cause, sick) if "model" in r.code and "runtrue" not in r.code]
    assert structural
    for remedy in structural:
        names, cured = executed(remedy, sick), treated(remedy, sick)
        ours: Any = cured.model
        torch.testing.assert_close(ours.eval()(X), names["model"].eval()(X), msg=remedy.name)
        assert state(ours).keys() == state(names["model"]).keys()
        assert "optimizer" not in remedy.code or held(names["optimizer"]) == {
            id(p) for p in names["model"].parameters()
        }


CURED: dict[str, tuple[float, int]] = {
    "no activations": (0.4, 1), "no activations, functions": (0.4, 1), "softmax": (0.5, 1), "softmax, functions": (0.5, 1),
    "narrow": (0.5, 1), "batches of two": (0.6, 2), "batches of one": (0.6, 1), "asleep": (0.5, 1), "decay": (0.5, 1),
    "clamped": (0.5, 1), "dropout": (0.6, 1), "sigmoids": (0.5, 9), "plain SGD": (0.75, 9),
}  # fmt: skip
"""Name: the share of the starting loss that a treated run ends below, and how many of the remedies may fail before one does."""


@pytest.mark.parametrize("name", CURED)
def test_a_remedy_makes_it_learn_where_it_did_not(name: str) -> None:
    cause, build = SICK[name]
    sick, (share, tries) = build(), CURED[name]
    with sandbox(sick) as box:
        refused = name == "batches of one"
        untreated = None if refused else run(box, steps=80)
        start = 1.0986 if refused or untreated is None else untreated.start
        ends = [run(box, remedy.treat, steps=80, evaluate=True).evaluated for remedy in proposed(cause, sick)[:tries]]
    assert min(ends) < share * start, ends
    assert untreated is None or min(ends) < 0.75 * untreated.end


# -- what each does


def test_activations_behind_a_normalization() -> None:
    net = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    relu, tanh = proposed("missing-nonlinearity", task(net, CROSSED))
    assert relu.code == "model[1] = nn.Sequential(model[1], nn.ReLU())" and not relu.safe
    assert tanh.name == "Tanh behind 1"


def test_functions_that_squash_are_called_otherwise() -> None:
    sick = task(Functional(partial(torch.softmax, dim=-1)))
    (remedy,) = proposed("saturating-activation", sick)
    cured, plain = treated(remedy, sick).model, treated(remedy, sick).model
    assert isinstance(cured, Rewired) and isinstance(plain, Rewired)
    net: Any = plain.network
    net.activation = torch.relu
    torch.testing.assert_close(cured(X), net(X))
    assert float(net.second.weight.std()) == pytest.approx((2 / 32) ** 0.5, rel=0.15) and not net.second.bias.any()


def test_an_activation_that_also_makes_the_output_is_not_exchanged() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.c, self.act = nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 1), nn.Sigmoid()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.act(self.c(self.act(self.b(self.act(self.a(x))))))
            return out

    sick = Task(Shared(), (X, CROSSED[:, None].float()), loss=F.binary_cross_entropy, optimizer=SGD)
    (remedy,) = proposed("saturating-activation", sick)
    model: Any = treated(remedy, sick).model
    net = model.network
    torch.testing.assert_close(model(X), torch.sigmoid(net.c(torch.relu(net.b(torch.relu(net.a(X)))))))


def test_units_that_start_alike_are_left_to_their_own_remedy() -> None:
    net: Any = chain(partial(nn.Softmax, dim=1))
    nn.init.zeros_(net[0].weight)
    nn.init.zeros_(net[0].bias)
    nn.init.zeros_(net[2].weight)
    (remedy,) = proposed("saturating-activation", task(net))
    model: Any = treated(remedy, task(net)).model
    assert not model[0].weight.any() and "'0'" not in remedy.code


def test_residual_connections_stand_around_layers_of_equal_shape() -> None:
    sick = task(chain(nn.Sigmoid, depth=9))
    (remedy,) = proposed("vanishing-gradient", sick, "residual")
    model: Any = treated(remedy, sick).model
    assert remedy.name == "residual connections around 8 layers"
    assert [isinstance(layer, Residual) for layer in model[::2]] == [False, *[True] * 8, False]
    plain: Any = sick.model
    h = plain[1](plain[0](X))
    for i in range(2, 18, 2):
        h = h + torch.sigmoid(plain[i](h))
    torch.testing.assert_close(model(X), plain[18](h))


def test_residual_connections_of_a_cnn_go_past_its_norms() -> None:
    parts = [part for _ in range(6) for part in (nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Sigmoid())]
    net = nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 4, 3, padding=1), *parts, nn.Flatten(), nn.Linear(64, 3)
    )
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(0.01)
    (remedy,) = proposed("vanishing-gradient", task(net), "residual")
    assert "('2', '3', '4')" in remedy.code and remedy.name == "residual connections around 6 layers"
    model: Any = treated(remedy, task(net)).model
    assert isinstance(model[2], Residual) and len(model[2].body) == 3 and model(X).shape == (256, 3)


def test_wider_layers_reach_an_optimizer_that_is_built() -> None:
    sick = SICK["narrow"][1]()
    first, second = proposed("too-little-capacity", sick)
    cured = treated(first, sick)
    model: Any = cured.model
    assert [model.linear1.weight.shape, model.norm1.weight.shape, model.linear2.weight.shape] == [
        (32, 16),
        (32,),
        (32, 32),
    ]
    assert held(optimizer_of(cured)) == {id(p) for p in model.parameters()}
    assert optimizer_of(cured).param_groups[0]["momentum"] == 0.9 and "optimizer = torch.optim.SGD" in first.code
    assert treated(second, sick).model.linear1.weight.shape == (64, 16)


def test_what_cannot_be_widened_has_no_remedy() -> None:
    class Waist(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(16, 2), nn.Linear(18, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.b(torch.cat([torch.relu(self.a(x)), x], 1))
            return out

    assert proposed("too-little-capacity", task(Waist())) == []


# -- batches and norms


def test_a_group_norm_keeps_the_parameters() -> None:
    sick = own_optimizer(normed()).replace(batch_size=2)
    (remedy,) = proposed("batch-too-small-for-norm", sick, "GroupNorm")
    cured = treated(remedy, sick)
    model: Any = cured.model
    assert isinstance(model[1], nn.GroupNorm) and (model[1].num_groups, model[1].num_channels) == (4, 32)
    assert held(optimizer_of(cured)) == {id(p) for p in model.parameters()}
    assert [groups_of(n) for n in (64, 32, 24, 16, 15, 7)] == [8, 4, 2, 2, 1, 1]


def test_larger_batches_hold_the_examples_of_several() -> None:
    sick = task(normed(), batch_size=2)
    with sandbox(sick) as box:
        start = measure_start(box)
        box.start()
        measured = Measurements(measure_data(box), start)
        (finding,) = judge_all(measured, {"batch-too-small-for-norm"})
        group, larger = remedies_for(finding, measured, box)
        assert "GroupNorm" in group.name and larger.name == "batches of 32" and larger.safe
        cured = larger.treat(box.start())
        assert isinstance(cured.train, Regrouped)
        inputs, labels = cured.train.change(box.batch(0))
        assert inputs.shape == (32, 16) and torch.equal(inputs[:2], box.batch(0)[0]) and labels.shape == (32,)
        rows = {tuple(row.tolist()) for row in X}
        assert all(tuple(row.tolist()) in rows for row in inputs)
        assert cured.batch_size == 32 and cured.train.settled() is sick.train


def test_the_larger_batch_is_first_where_torch_refuses() -> None:
    first, second = proposed("batch-too-small-for-norm", task(normed(), batch_size=1))
    assert first.name == "batches of 32" and "GroupNorm" in second.name
    few = Task(normed(), (X[:4], LABELS[:4]), loss=nn.CrossEntropyLoss(), batch_size=2)
    assert [r.name for r in proposed("batch-too-small-for-norm", few)] == ["GroupNorm instead of BatchNorm in 1 places"]


def test_a_loader_is_read_in_groups() -> None:
    pairs = [(X[i : i + 2], LABELS[i : i + 2]) for i in range(0, 10, 2)]
    joined = list(Groups(pairs, 2))
    assert [len(inputs) for inputs, _ in joined] == [4, 4, 2]
    assert torch.equal(torch.cat([inputs for inputs, _ in joined]), X[:10])
    assert torch.equal(torch.cat([labels for _, labels in Groups(lambda: iter(pairs), 3)]), LABELS[:10])
    named = together([{"x": X[:2], "y": LABELS[:2]}, {"x": X[2:3], "y": LABELS[2:3]}])
    assert torch.equal(named["x"], X[:3]) and torch.equal(named["y"], LABELS[:3])


def test_a_regrouped_source_settles_by_its_kind() -> None:
    dataset = TensorDataset(X, LABELS)
    loader = DataLoader(dataset, 2)
    identity: Callable[[Any], Any] = lambda batch: batch  # noqa: E731
    assert Regrouped(dataset, identity, 16).settled() is dataset
    assert isinstance(Regrouped(loader, identity, 16).settled(), Groups)
    shifted = Changed((X, LABELS + 1), lambda batch: (batch[0], batch[1] - 1))
    assert torch.equal(Regrouped(shifted, identity, 16).settled()[1], LABELS), "a change made before is kept"


# -- decay, penalty, dropout, modes


def test_decay_is_a_hundredth_then_none() -> None:
    sick = SICK["decay"][1]()
    weaker, none = proposed("regularization-too-strong", sick)
    for remedy, decay in ((weaker, 0.02), (none, 0.0)):
        for made in (executed(remedy, sick)["optimizer"], optimizer_of(treated(remedy, sick))):
            assert (
                made.param_groups[0]["weight_decay"] == pytest.approx(decay) and made.param_groups[0]["momentum"] == 0.9
            )
        assert remedy.safe


def test_decay_of_several_groups() -> None:
    net = chain(nn.ReLU)
    groups: list[dict[str, Any]] = [
        {"params": net[0].parameters(), "weight_decay": 9.0},
        {"params": net[2:].parameters()},
    ]
    sick = task(net, optimizer=torch.optim.AdamW(groups, lr=0.01, weight_decay=500.0))
    first = proposed("regularization-too-strong", sick)[0]
    for made in (executed(first, sick)["optimizer"], optimizer_of(treated(first, sick))):
        assert [group["weight_decay"] for group in made.param_groups] == pytest.approx([0.09, 5.0])


def test_a_penalty_is_weakened_where_it_stands() -> None:
    sick = penalised(0.1)
    weaker, none = proposed("regularization-too-strong", sick)
    for remedy, weight in ((weaker, 0.01), (none, 0.0)):
        cured = treated(remedy, sick)
        model: Any = cured.model
        assert isinstance(cured.loss, Parted)
        loss = cured.loss(model(X), LABELS)
        loss.backward()
        by_data = torch.autograd.grad(F.cross_entropy(model(X), LABELS), model[0].weight)[0]
        expected = by_data + weight * 0.1 * model[0].weight.detach().sign()
        torch.testing.assert_close(model[0].weight.grad, expected)
        assert float(loss.detach()) == pytest.approx(float(F.cross_entropy(model(X), LABELS).detach()))


def test_a_task_with_a_penalty_is_measured_by_its_data() -> None:
    with sandbox(penalised(0.1)) as box:
        start = measure_by_data(box)
        data, penalty = float(start.loss), start.regularizers.penalty
        assert penalty is not None and start.baseline is not None and start.baseline.constant < 1.1
        assert data == pytest.approx(penalty.data, rel=1e-5) and penalty.whole > 2 * data
        by_data = run(box, steps=10)
        assert isinstance(box.task.loss, Parted)
        box.task = box.task.replace(loss=box.task.loss.function)
        whole = run(box, steps=10)
    assert by_data.start == pytest.approx(data, rel=1e-5) and whole.start == pytest.approx(penalty.whole, rel=1e-5)


def test_a_step_has_a_penalty_too() -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        size = torch.stack([p.abs().sum() for p in model.parameters()]).sum()
        return F.cross_entropy(model(batch[0]), batch[1]) + 0.1 * size

    sick = task(chain(nn.ReLU), loss=None, step=step)
    first = proposed("regularization-too-strong", sick)[0]
    cured = treated(first, sick)
    assert isinstance(cured.step, Parted) and cured.step.weight == 0.01


def test_weights_are_left_to_the_optimizer() -> None:
    sick = task(Clamped())
    (remedy,) = proposed("regularization-too-strong", sick)
    cured = treated(remedy, sick)
    model: Any = cured.model
    before = state(model)
    model(X)
    assert all(torch.equal(before[name], value) for name, value in state(model).items())


def test_dropout_of_modules_and_functions() -> None:
    sick = task(Dropping(0.9))
    some, none = proposed("dropout-too-strong", sick)
    model: Any = treated(none, sick).model
    plain: Any = sick.model
    torch.testing.assert_close(model.train()(X), plain.net(X))
    assert treated(some, sick).model.network.module.p == 0.2
    assert executed(some, sick)["model"].module.p == 0.2 and some.safe


def test_no_dropout_in_evaluation_and_all_of_it_in_training() -> None:
    sick = task(Dropping(0.3, aware=False))
    (remedy,) = proposed("dropout-too-strong", sick)
    model: Any = treated(remedy, sick).model
    assert torch.equal(model.eval()(X), model(X)) and not torch.equal(model.train()(X), model(X))


def test_what_slept_is_awake_in_training_and_asleep_in_evaluation() -> None:
    sick = task(asleep())
    (remedy,) = proposed("eval-mode-while-training", sick)
    model: Any = treated(remedy, sick).model
    model.train()(X)
    first = model.network[1]
    assert bool(first.running_mean.any()) and remedy.safe
    mean = first.running_mean.clone()
    model.eval()(X)
    assert torch.equal(mean, first.running_mean)


def test_a_step_that_puts_to_sleep_is_rewired() -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model.eval()(batch[0]), batch[1])

    sick = task(normed(), loss=None, step=step)
    (remedy,) = proposed("eval-mode-while-training", sick)
    cured = treated(remedy, sick)
    model: Any = cured.model
    assert isinstance(cured.step, RewiredStep)
    cured.step(model, (X, LABELS))
    assert bool(model[1].running_mean.any())


# -- optimizers


def test_momentum_and_adam_are_the_last_resort() -> None:
    names = [r.name for r in proposed(*SICK["plain SGD"][:1], SICK["plain SGD"][1]())]
    assert names[-2:] == ["momentum 0.9", "Adam at 0.001"]
    lost = SICK["lost"][1]()
    assert all("learning rate" in r.name for r in proposed("learning-rate-too-high", lost)), "the loss did not rise"
    assert proposed("learning-rate-too-high", lost, losses=(2.0, 9.0))[-1].name == "Adam at 0.001"
    adam = task(chain(nn.ReLU), optimizer=partial(torch.optim.Adam, lr=1e-3))
    assert all("learning rate" in r.name for r in proposed("learning-rate-too-low", adam))


@pytest.mark.parametrize(("words", "kind"), [("momentum", torch.optim.SGD), ("Adam", torch.optim.Adam)])
def test_another_optimizer_by_code_and_by_treatment(words: str, kind: type[torch.optim.Optimizer]) -> None:
    net = chain(nn.ReLU)
    groups: list[dict[str, Any]] = [
        {"params": net[0].parameters(), "weight_decay": 0.1},
        {"params": net[2:].parameters()},
    ]
    both: list[Any] = [partial(torch.optim.SGD, lr=1e-6, weight_decay=0.1), torch.optim.SGD(groups, lr=1e-6)]
    for optimizer in both:
        sick = task(net, optimizer=optimizer)
        (remedy,) = proposed("learning-rate-too-low", sick, words)
        made: list[torch.optim.Optimizer] = [executed(remedy, sick)["optimizer"], optimizer_of(treated(remedy, sick))]
        for other in made:
            assert type(other) is kind and other.param_groups[0]["weight_decay"] == 0.1
            assert other.param_groups[0].get("momentum", 0.9) == 0.9 and len(held(other)) == 6
        assert [len(g["params"]) for g in made[0].param_groups] == [len(g["params"]) for g in made[1].param_groups]


def test_adamw_keeps_its_kind_of_decay() -> None:
    sick = task(chain(nn.ReLU), optimizer=partial(torch.optim.AdamW, lr=10.0, weight_decay=0.3))
    (remedy,) = proposed("learning-rate-too-high", sick, "AdamW at 0.001", losses=(2.0, 9.0))
    for other in (executed(remedy, sick)["optimizer"], optimizer_of(treated(remedy, sick))):
        assert type(other) is torch.optim.AdamW and other.param_groups[0]["weight_decay"] == 0.3
