"""What holds a network back, in numbers that are known by hand; and what the tape keeps of norms, dropouts and activations."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue import Task
from runtrue.calls import way
from runtrue.measure import Start, measure_start
from runtrue.regularizers import Decay, Regularizers
from runtrue.sandbox import sandbox
from runtrue.tape import Tape, record

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(2))
Y = torch.arange(40) % 3


def start_of(model: nn.Module, **parts: Any) -> Start:
    given: dict[str, Any] = {
        "loss": F.cross_entropy,
        "optimizer": partial(torch.optim.SGD, lr=0.5),
        "batch_size": 40,
    } | parts
    with sandbox(Task(model, (X, Y), **given)) as box:
        return measure_start(box)


def held_back(model: nn.Module, **parts: Any) -> Regularizers:
    return start_of(model, **parts).regularizers


def filled(value: float) -> nn.Linear:
    layer = nn.Linear(6, 3, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


# -- decay


def test_the_pull_of_decay_is_lambda_times_the_weight_over_the_gradient() -> None:
    layer = filled(0.5)
    (gradient,) = torch.autograd.grad(F.cross_entropy(layer(X), Y), layer.weight)
    decay = held_back(layer, optimizer=partial(torch.optim.SGD, lr=0.5, weight_decay=0.2)).decay
    assert decay is not None and (decay.weight_decay, decay.rate, decay.decoupled) == (0.2, 0.5, False)
    assert decay.ratio == pytest.approx(0.2 * 0.5 * 18**0.5 / float(gradient.norm()), rel=1e-5)


def test_the_pull_of_decoupled_decay_is_lambda_times_the_typical_weight() -> None:
    decay = held_back(filled(0.5), optimizer=partial(torch.optim.AdamW, lr=0.01, weight_decay=0.2)).decay
    assert decay is not None and decay.decoupled and decay.ratio == pytest.approx(0.2 * 0.5, rel=1e-6)


def test_what_decay_alone_leaves() -> None:
    """A weight whose gradient is zero, trained for 30 steps."""
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.5, weight_decay=0.1)
    for _ in range(30):
        weight.grad = torch.zeros(1)
        optimizer.step()
    assert Decay(0.1, 0.5, 1.0).kept(30) == pytest.approx(float(weight.detach()), rel=1e-5)
    assert Decay(10.0, 0.5, 1.0).kept(30) == 0.0


def test_the_strongest_group_counts_and_none_is_none() -> None:
    net = nn.Sequential(filled(0.5), nn.Linear(3, 3))
    groups = [
        {"params": net[0].parameters(), "weight_decay": 0.1},
        {"params": net[1].parameters(), "weight_decay": 9.0},
    ]
    decay = held_back(net, optimizer=torch.optim.SGD(groups, lr=0.1)).decay
    assert decay is not None and decay.weight_decay == 9.0
    assert held_back(net).decay is None


# -- penalty


def test_a_penalty_by_hand() -> None:
    """0.3 Σ w² of 18 weights of 0.5: value 1.35, gradient 0.6 w of norm 0.3 √18."""
    layer = filled(0.5)
    (by_data,) = torch.autograd.grad(F.cross_entropy(layer(X), Y), layer.weight)
    penalty = held_back(layer, loss=lambda o, t: F.cross_entropy(o, t) + 0.3 * layer.weight.square().sum()).penalty
    assert penalty is not None and not penalty.on_outputs
    assert penalty.data == pytest.approx(1.0986, abs=1e-4) and penalty.whole - penalty.data == pytest.approx(
        1.35, rel=1e-5
    )
    assert penalty.gradient == pytest.approx(0.3 * 18**0.5, rel=1e-5)
    assert penalty.data_gradient == pytest.approx(float(by_data.norm()), rel=1e-5)
    assert penalty.ratio == pytest.approx(penalty.gradient / penalty.data_gradient)


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (F.cross_entropy, None),
        (lambda o, t: -torch.log_softmax(o, 1)[range(len(t)), t].mean(), None),
        (lambda o, t: F.cross_entropy(o, t) + F.mse_loss(o, o * 0), None),
        (lambda o, t: 10 * F.cross_entropy(o, t), True),
        (lambda o, t: F.cross_entropy(o, t) + o.square().mean(), True),
    ],
    ids=["no penalty", "by hand", "two losses", "a factor", "on the outputs"],
)
def test_what_is_no_penalty_on_the_weights(loss: Any, told: bool | None) -> None:
    torch.manual_seed(0)
    penalty = held_back(nn.Linear(6, 3), loss=loss).penalty
    assert (penalty is None) if told is None else (penalty is not None and penalty.on_outputs)


def test_the_signal_and_the_step_are_those_of_the_whole_loss() -> None:
    """Taking the loss apart must not disturb what else is read."""
    layer = filled(0.5)

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs, labels) + 0.3 * layer.weight.square().sum()

    (gradient,) = torch.autograd.grad(loss(layer(X), Y), layer.weight)
    outputs = layer(X).detach().requires_grad_()
    (signal,) = torch.autograd.grad(F.cross_entropy(outputs, Y), outputs)
    (reading,) = start_of(layer, loss=loss).layers
    assert reading.grad_norm == pytest.approx(float(gradient.norm()), rel=1e-5)
    assert reading.signal_norm == pytest.approx(float(signal.norm()), rel=1e-5)
    assert reading.update_ratio == pytest.approx(0.5 * float(gradient.norm()) / (0.5 * 18**0.5), rel=1e-4)


# -- evaluation, writing, modes


class Restless(nn.Module):
    """Half of the first output's places are dropped, always; the rest is doubled."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.layer(x), 0.5)


def test_two_evaluation_passes_are_compared() -> None:
    """Of two draws d, d' of 0 or 2 with even odds E(d - d')² = E d² = 2: the difference is about as large as the outputs."""
    found = held_back(Restless())
    (call,) = found.active_in_evaluation
    assert (call.where, call.p, call.layers_before, call.goes_on) == ("", 0.5, 1, False)
    assert found.evaluation_spread == pytest.approx(1.0, abs=0.35)
    quiet = held_back(nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)))
    assert quiet.active_in_evaluation == () and quiet.evaluation_spread == 0 and len(quiet.dropouts) == 1


def test_the_modes_are_as_before_when_the_passes_are_done() -> None:
    net = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    net[2].eval()
    with sandbox(Task(net, (X, Y), loss=F.cross_entropy)) as box:
        measure_start(box)
        assert [m.training for m in net.modules()] == [True, True, True, False]


class Halving(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.other = nn.Linear(6, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.layer.weight.mul_(0.5)
        out: Tensor = self.other(self.layer(x))
        return out


def test_weights_that_the_forward_pass_writes_into() -> None:
    ((name, ratio),) = held_back(Halving()).overwritten
    assert name == "layer.weight" and ratio == pytest.approx(0.5, rel=1e-6)


class Overriding(nn.Sequential):
    """As detection code has it: the normalization never trains."""

    def train(self, mode: bool = True) -> Overriding:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
        return self


def test_a_train_of_its_own_is_called_as_any_loop_would() -> None:
    inner = Overriding(nn.Linear(6, 3), nn.BatchNorm1d(3))
    model = nn.Sequential(inner, nn.BatchNorm1d(3))
    assert all(m.training for m in model.modules()), "nobody has called it yet"
    norms = held_back(model).norms
    assert [(n.where, n.own_statistics, n.fresh) for n in norms] == [("0.1", False, True), ("1", True, False)]
    assert all(m.training for m in model.modules()), "the user's modes are as they were"


# -- the tape


def test_norms_tell_how_much_they_average_over() -> None:
    net = nn.Sequential(nn.Conv1d(2, 4, 1), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(12, 5), nn.BatchNorm1d(5))
    tape = record(lambda: net(torch.randn(7, 2, 3)), net)
    assert [(n.where, n.layers, n.rows, n.values, n.own_statistics) for n in tape.norms] == [
        ("1", ("0",), 7, 21, True), ("4", ("3",), 7, 7, True),
    ]  # fmt: skip


def test_a_norm_is_told_also_where_torch_refuses_the_batch() -> None:
    net = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))
    tape = Tape(net)
    with pytest.raises(ValueError, match="more than 1 value per channel"), tape.recording():
        net(X[:1])
    assert [(n.where, n.values) for n in tape.norms] == [("1", 1)]


@pytest.mark.parametrize(
    ("module", "p"),
    [
        (nn.LSTM(6, 6, 2, dropout=0.3), [0.3]), (nn.LSTM(6, 6, 1), []), (nn.GRU(6, 6, 3, dropout=0.2), [0.2]),
        (nn.Dropout(0.4), [0.4]), (nn.Dropout(0.0), []), (nn.AlphaDropout(0.1), [0.1]),
    ],
)  # fmt: skip
def test_dropout_wherever_it_happens(module: nn.Module, p: list[float]) -> None:
    for mode in (True, False):
        calls = record(partial(module.train(mode), X[None]), module).dropouts
        assert [(c.p, c.training) for c in calls] == [(value, mode) for value in p]


def test_dropout_of_attention_and_of_packed_sequences() -> None:
    attention, packed = nn.MultiheadAttention(6, 2, dropout=0.2), nn.utils.rnn.pack_sequence([X[:4], X[:2]])
    assert [c.p for c in record(lambda: attention(X, X, X), attention).dropouts] == [0.2]
    lstm = nn.LSTM(6, 6, 2, dropout=0.3)
    assert [(c.p, c.training) for c in record(lambda: lstm(packed), lstm).dropouts] == [(0.3, True)]
    plain = record(lambda: F.scaled_dot_product_attention(X[None], X[None], X[None], dropout_p=0.1), lstm)
    assert [c.p for c in plain.dropouts] == [0.1]


def test_activations_know_what_they_are_for() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.act = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            h = self.act(self.a(x))
            h = h * torch.sigmoid(self.b(h))
            return torch.softmax(self.c(h.flip(0)), 1)

    net = Parts()
    found = [
        (c.name, c.where, c.number, c.layers, c.module, c.feeds, c.gate)
        for c in record(lambda: net(X), net).activations
    ]
    assert found == [
        ("relu", "act", 0, ("a",), True, True, True), ("sigmoid", "", 0, ("b",), False, False, True),
        ("softmax", "", 0, ("c",), False, False, False),
    ]  # fmt: skip


def test_what_keeps_a_line_straight() -> None:
    one, two = torch.ones(2, 2), torch.ones(2, 2)

    def constant(tensor: Tensor) -> bool:
        return tensor is two

    assert way("mul", [one, two], constant) == "linear" and way("mul", [one, one], constant) == "bent"
    assert [way(name, [one], constant) for name in ("reshape", "add", "mean", "batch_norm")] == ["linear"] * 4
    assert [way(name, [one], constant) for name in ("layer_norm", "max_pool2d")] == ["soft"] * 2
    assert [way(name, [one], constant) for name in ("exp", "abs", "pow", "something_new")] == ["bent"] * 4


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * x * grad


def test_what_a_function_of_its_own_does_is_taken_for_non_linear() -> None:
    class Squared(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = Square.apply(x)  # type: ignore[no-untyped-call]
            return out

    for between, fed in ((Squared(), ()), (nn.Identity(), ("0",)), (nn.Dropout(0.1), ("0",))):
        net = nn.Sequential(nn.Linear(6, 6), between, nn.Linear(6, 3))
        assert start_of(net).layers[1].fed_by == fed
