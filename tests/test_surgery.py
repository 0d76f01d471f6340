"""Operations on a model: modules exchanged by path, functions called by a rule, hidden layers widened, losses taken apart."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue.lossparts import Parted, parts
from runtrue.rewiring import (
    ActivationAfter,
    AsInTraining,
    DropoutAt,
    OtherActivations,
    Rewired,
    RewiredStep,
    Unwritten,
)
from runtrue.surgery import (
    Registered,
    Residual,
    bridge,
    made,
    module_at,
    parameters_of,
    put,
    spelled,
    then,
    unregistered,
)
from runtrue.widening import NotAChainError, widened

X = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))


def net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Sequential(nn.Linear(6, 6), nn.Tanh()), nn.Linear(6, 3))


# -- modules


def test_modules_by_their_path() -> None:
    model = net()
    inner: Any = model[2][0]
    assert module_at(model, "2.0") == inner
    assert [module_at(model, name) for name in ("2.7", "", "0.weight")] == [None] * 3
    first: Any = model[0]
    put(model, "2.1", nn.ReLU())
    then(model, "3", nn.Sigmoid())
    assert [type(module) for module in (model[2][1], model[3])] == [nn.ReLU, nn.Sequential]
    behind: Any = model[3][0]
    by_hand = torch.sigmoid(behind(torch.relu(inner(torch.tanh(first(X))))))
    torch.testing.assert_close(model(X), by_hand)


MODULES = [
    nn.Linear(3, 4, bias=False), nn.Conv2d(3, 8, 3, stride=2, padding=1, dilation=2), nn.Conv1d(2, 4, 5, padding="same"),
    nn.BatchNorm2d(5, eps=1e-3, momentum=0.2), nn.BatchNorm1d(4, affine=False), nn.LayerNorm(7), nn.GroupNorm(2, 8), nn.PReLU(4),
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=lambda m: type(m).__name__)
def test_the_code_of_a_module_makes_it(module: nn.Module) -> None:
    again = eval(made(module), {"nn": nn})
    assert type(again) is type(module) and again.extra_repr() == module.extra_repr()
    assert [p.shape for p in again.parameters()] == [p.shape for p in module.parameters()]


def test_the_spelling_of_a_path_reaches_the_module() -> None:
    model: Any = nn.ModuleDict({"body": net(), "list": nn.ModuleList([nn.Linear(1, 2)])})
    for name, module in model.named_modules():
        if name:
            assert eval(spelled(name), {"model": model}) is module
    names = {"model": model, "nn": nn}
    exec(f"{spelled('body.2.0')} = nn.Identity()\n{spelled('list.0')} = nn.ReLU()", names)
    assert isinstance(model["body"][2][0], nn.Identity) and isinstance(model["list"][0], nn.ReLU)


class Listed(nn.Module):
    """Three layers where `parameters()` does not look, and one where it does."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Linear(4, 4), nn.Linear(4, 4)]
        self.named = {"gate": nn.Linear(4, 4)}
        self._teacher = [nn.Linear(4, 4)]  # hidden on purpose
        self.known = nn.ModuleList([nn.Linear(4, 4)])
        self.alias = [self.known[0]]
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.hidden, self.named["gate"], *self.known):
            x = torch.relu(layer(x))
        scores: Tensor = self.head(x)
        return scores


def test_layers_in_plain_lists_and_dicts() -> None:
    net = Listed()
    found = unregistered(net)
    assert found == {"hidden[0]": net.hidden[0], "hidden[1]": net.hidden[1], "named['gate']": net.named["gate"]}
    outer = unregistered(nn.Sequential(net))
    assert list(outer) == ["0.hidden[0]", "0.hidden[1]", "0.named['gate']"]
    assert parameters_of(found)["hidden[1].bias"] is net.hidden[1].bias
    known = Registered(net)
    assert len(list(known.parameters())) == len(list(net.parameters())) + 6 and not unregistered(known)
    assert torch.equal(known(torch.ones(1, 4)), net(torch.ones(1, 4)))


def test_a_bridge_adds_the_input_to_what_the_layers_make_of_it() -> None:
    model = net()
    plain: Any = copy.deepcopy(model)
    bridge(model, ("2.0", "2.1"))
    h = torch.tanh(plain[0](X))
    torch.testing.assert_close(model(X), plain[3](h + torch.tanh(plain[2][0](h))))
    assert isinstance(model[2][0], Residual) and isinstance(model[2][1], nn.Identity)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters())


def test_a_residual_of_nothing_keeps_the_gradient() -> None:
    """N5: through a block whose layers give 0 the gradient passes as it is."""
    layer = nn.Linear(6, 6)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    x = X.clone().requires_grad_()
    Residual(layer)(x).square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * X)


# -- functions


class ByHand(nn.Module):
    """Everything that can be rewired is called as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.head = nn.Parameter(torch.randn(6, 6)), nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sigmoid(F.linear(x, self.weight))
        h = F.dropout(torch.sigmoid(self.head(h)), 0.9, self.training)
        return torch.tanh(self.norm(h))


def rewired(rule: Any, **when: bool) -> tuple[ByHand, Rewired]:
    torch.manual_seed(0)
    model = ByHand()
    return model, Rewired(model, rule, **when)


def test_one_of_two_activations_of_a_name_becomes_another() -> None:
    model, other = rewired(OtherActivations((("sigmoid", 1),)))
    model.eval()
    h = torch.sigmoid(F.linear(X, model.weight))
    torch.testing.assert_close(other.eval()(X), torch.tanh(model.norm(torch.relu(model.head(h)))))


def test_an_activation_behind_a_weight() -> None:
    model, other = rewired(ActivationAfter((model_weight := nn.Parameter(torch.zeros(1)),)))
    model.eval()
    torch.testing.assert_close(other.eval()(X), model(X)), "a weight that nobody uses"
    other.rule = ActivationAfter((model.weight, model_weight))
    h = torch.sigmoid(torch.relu(F.linear(X, model.weight)))
    torch.testing.assert_close(other(X), torch.tanh(model.norm(torch.sigmoid(model.head(h)))))


def test_a_copy_of_a_rewired_model_follows_its_own_weights() -> None:
    model, other = rewired(ActivationAfter(()))
    other.rule = ActivationAfter((model.weight,))
    twin = copy.deepcopy(other.eval())
    with torch.no_grad():
        model.weight.zero_()
    assert isinstance(twin.rule, ActivationAfter) and twin.rule.weights[0] is twin.network.weight
    assert not torch.equal(twin(X), other(X))


def test_dropout_at_most() -> None:
    model, other = rewired(DropoutAt(0.0))
    torch.testing.assert_close(other.train()(X), other(X))
    assert not torch.equal(model(X), model(X))


def test_dropout_only_in_evaluation() -> None:
    class Restless(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.5)

    other = Rewired(Restless(), DropoutAt(0.0), only_evaluation=True)
    assert torch.equal(other.eval()(X), X)
    kept = other.train()(X) != 0
    assert 0.2 < float(kept.float().mean()) < 0.8


def test_what_sleeps_is_as_in_training_while_the_wrapper_trains() -> None:
    model, other = rewired(AsInTraining(()), only_training=True)
    assert model.norm.running_mean is not None
    other.rule = AsInTraining((model.norm.running_mean,))
    other.train()
    model.eval()
    before = other(X)
    assert float(before.detach().atanh().mean(0).abs().max()) < 1e-5, "normalized by the batch"
    assert bool(model.norm.running_mean.any()), "its running statistics move"
    assert not torch.equal(before, other(X)), "dropout drops"
    other.eval()
    assert torch.equal(other(X), other(X)) and torch.equal(other(X), model(X))
    other.train()
    other.rule, model.norm.training = AsInTraining(()), False
    mean = model.norm.running_mean.clone()
    other(X)
    assert torch.equal(mean, model.norm.running_mean), "a norm that is not among them stays asleep"


@pytest.mark.parametrize(
    "write", [lambda p: p.data.clamp_(-0.1, 0.1), lambda p: p.mul_(0.5), lambda p: p.copy_(torch.zeros_like(p))]
)
def test_weights_are_left_alone(write: Callable[[Tensor], object]) -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                write(self.layer.weight)
            return F.relu_(self.layer(x))  # what is written into something else stays

    model = Writing()
    weight = model.layer.weight.detach().clone()
    out = Rewired(model, Unwritten(tuple(model.parameters())))(X)
    assert torch.equal(weight, model.layer.weight) and float(out.detach().min()) == 0
    model(X)
    assert not torch.equal(weight, model.layer.weight)


def test_a_step_is_rewired_as_a_whole() -> None:
    model = ByHand()
    step = RewiredStep(lambda m, batch: m(batch).square().mean() + torch.sigmoid(batch).mean() * 0, DropoutAt(0.0))
    assert torch.equal(step(model.train(), X), step(model, X))


# -- wider layers


class Named(nn.Module):
    """As users write them: attributes and functions."""

    def __init__(self, hidden: int = 2) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, hidden, 3, padding=1), nn.BatchNorm2d(hidden)
        self.fc1, self.slope, self.fc2 = nn.Linear(hidden * 4, 3), nn.PReLU(3), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        out: Tensor = self.fc2(self.slope(self.fc1(h.flatten(1))))
        return out


def wide(model: nn.Module, x: Tensor, width: Callable[[int], int] = lambda w: 4 * w) -> list[str]:
    new = widened(model, lambda: model(x), width)
    for item in new:
        put(model, item.name, item.module)
    return [f"{item.name} {tuple(p.shape)}" for item in new for p in list(item.module.parameters())[:1]]


def test_hidden_layers_and_what_stands_between_are_wider() -> None:
    model, x = Named(), torch.randn(2, 1, 4, 4)
    assert wide(model, x) == ["conv (8, 1, 3, 3)", "norm (8,)", "fc1 (12, 32)", "slope (12,)", "fc2 (5, 12)"]
    assert model(x).shape == (2, 5)


def test_settings_are_kept() -> None:
    model: Any = nn.Sequential(
        nn.Linear(3, 2, bias=False),
        nn.LayerNorm(2, 1e-3),
        nn.Linear(2, 4, dtype=torch.float32),
        nn.BatchNorm1d(4, affine=False),
        nn.Linear(4, 1),
    )
    wide(model, torch.randn(5, 3), lambda w: 8)
    assert model[0].bias is None and model[1].eps == 1e-3 and not model[3].affine and model[3].num_features == 8


class Sums(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        out: Tensor = self.c(h + torch.relu(self.b(h)))
        return out


def test_sums_of_equal_widths_stay_possible() -> None:
    model = Sums()
    assert wide(model, X) == ["a (16, 6)", "b (16, 16)", "c (2, 16)"] and model(X).shape == (12, 2)


class Twice(nn.Module):
    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        if tied:
            self.b.weight = self.a.weight
        self.tied = tied

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c(self.b(self.a(x)) if self.tied else self.a(self.a(x)))
        return out


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "one layer": (lambda: nn.Linear(6, 3), "no hidden layer"),
    "a layer called twice": (lambda: Twice(tied=False), "more than once"),
    "a shared weight": (lambda: Twice(tied=True), "share a weight"),
    "groups": (lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Conv1d(2, 4, 1, groups=2), nn.Conv1d(4, 4, 1)), "in groups"),
    "a class of its own": (lambda: nn.Sequential(Own(6, 4), nn.Linear(4, 2)), "class Own"),
    "two inputs to one layer": (lambda: nn.Sequential(Joined()), "no multiple of the 4 units"),
}  # fmt: skip


class Own(nn.Linear):
    pass


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(torch.cat([self.a(x), x], 1))
        return out


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_chain_is_refused(name: str) -> None:
    build, words = REFUSED[name]
    model = build()
    with pytest.raises(NotAChainError, match=words):
        wide(model, X)


def test_a_chain_ends_where_something_else_begins() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.lstm = nn.Linear(3, 4), nn.LSTM(4, 5, batch_first=True)
            self.head = nn.Sequential(nn.Linear(5, 2), nn.ReLU(), nn.Linear(2, 3))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.lstm(self.into(x))[0])
            return out

    model, x = Reads(), torch.randn(2, 7, 3)
    assert wide(model, x) == ["head.0 (8, 5)", "head.2 (3, 8)"] and model(x).shape == (2, 7, 3)


# -- losses


def test_a_loss_and_its_penalty_by_hand() -> None:
    layer = nn.Linear(6, 3)
    targets = torch.arange(12) % 3
    with torch.no_grad():
        layer.weight.fill_(0.5)
        layer.bias.zero_()
    whole, data = parts(lambda: F.cross_entropy(layer(X), targets) + 0.1 * layer.weight.square().sum())
    assert data is not None
    assert float(data.detach()) == pytest.approx(1.0986, abs=1e-4)  # ln 3: all outputs alike
    assert float((whole - data).detach()) == pytest.approx(0.1 * 18 * 0.25, rel=1e-5)


@pytest.mark.parametrize("weight", [1.0, 0.01, 0.0])
def test_a_parted_loss_has_the_value_of_the_data_and_the_gradient_of_both(weight: float) -> None:
    torch.manual_seed(0)
    layer, targets = nn.Linear(6, 3), torch.arange(12) % 3

    def loss(outputs: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(outputs, wanted) + 0.7 * layer.weight.abs().sum()

    value = Parted(loss, weight)(layer(X), targets)
    (gradient,) = torch.autograd.grad(value, layer.weight)
    data = F.cross_entropy(layer(X), targets)
    (by_data,) = torch.autograd.grad(data, layer.weight, retain_graph=True)
    assert float(value.detach()) == pytest.approx(float(data.detach()), rel=1e-6)
    torch.testing.assert_close(gradient, by_data + weight * 0.7 * layer.weight.detach().sign())
    assert Parted(Parted(loss, 1.0), weight).function is loss


def test_parts_that_are_not_known_are_passed_on() -> None:
    def two(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, targets) + F.l1_loss(outputs, targets)

    def by_hand(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean() + 3

    for loss in (two, by_hand):
        assert parts(partial(loss, X, X + 1))[1] is None
        assert torch.equal(Parted(loss, 0.0)(X, X + 1), loss(X, X + 1))
