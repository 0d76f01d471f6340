"""Readings of a real training step, on weights chosen so that the numbers are known by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue import Task
from runtrue.measure import Start, measure_data, measure_start
from runtrue.sandbox import sandbox

RATE = 0.5
SGD = partial(torch.optim.SGD, lr=RATE)
GENERATOR = torch.Generator().manual_seed(2)
X = torch.randn(40, 6, generator=GENERATOR)
Y = torch.randint(0, 3, (40,), generator=GENERATOR)


def start_of(model: nn.Module, x: Any = X, y: Any = Y, **parts: Any) -> Start:
    given: dict[str, Any] = {"loss": F.cross_entropy, "optimizer": SGD, "batch_size": 40} | parts
    with sandbox(Task(model, (x, y), **given)) as box:
        return measure_start(box)


def identity(size: int, scale: float = 1.0) -> nn.Linear:
    layer = nn.Linear(size, size)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(size) * scale)
        layer.bias.zero_()
    return layer


@pytest.mark.parametrize("inplace", [False, True])
def test_what_leaves_a_layer_and_what_stands_in_front_of_its_activation(inplace: bool) -> None:
    net = nn.Sequential(identity(6, 2.0), nn.ReLU(inplace), nn.Linear(6, 3))
    first = start_of(net).layers[0]
    raw, out = 2 * X, (2 * X).clamp(min=0)
    assert first.raw_std == pytest.approx(float(raw.std(correction=0)), rel=1e-5)
    assert first.raw_mean == pytest.approx(float(raw.mean()), abs=1e-6)
    assert first.std == pytest.approx(float(out.std(correction=0)), rel=1e-5)
    assert first.zero_fraction == pytest.approx(float((out == 0).float().mean()), abs=1e-6)
    assert first.activation == "relu"


def test_gain_is_the_spread_of_the_weight_times_the_root_of_fan_in() -> None:
    first = start_of(nn.Sequential(identity(6, 2.0), nn.Tanh(), nn.Linear(6, 3))).layers[0]
    share = 1 / 6  # of the entries are 2, the others 0
    assert first.gain == pytest.approx(2 * (share * (1 - share)) ** 0.5 * 6**0.5, rel=1e-5)


def test_the_update_is_what_the_optimizer_really_did() -> None:
    """Plain SGD moves by rate x gradient; Adam's first step moves every entry by its rate, whatever the gradient."""
    torch.manual_seed(0)
    net = nn.Linear(6, 3)
    expected = torch.autograd.grad(F.cross_entropy(net(X), Y), net.weight)[0]
    (plain,) = start_of(net).layers
    assert plain.grad_norm == pytest.approx(float(expected.norm()), rel=1e-5)
    assert plain.update_ratio == pytest.approx(RATE * float(expected.norm() / net.weight.norm()), rel=1e-4)
    (adam,) = start_of(net, optimizer=partial(torch.optim.Adam, lr=0.01)).layers
    assert adam.update_ratio == pytest.approx(0.01 * 18**0.5 / float(net.weight.norm()), rel=1e-3)


def test_the_gradient_at_the_output_of_a_layer() -> None:
    net = nn.Linear(6, 3)
    outputs = net(X).detach().requires_grad_()
    expected = torch.autograd.grad(F.cross_entropy(outputs, Y), outputs)[0].norm()
    (layer,) = start_of(net).layers
    assert layer.signal_norm == pytest.approx(float(expected), rel=1e-5)
    assert layer.to_dict()["grad_norm"] == layer.signal_norm


def test_a_unit_is_dead_only_if_no_example_of_any_batch_wakes_it() -> None:
    layer = identity(6)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([-100.0, 0, 0, 0, 0, 0]))
    x = X.clone()
    x[:, 1] = -1.0
    x[33, 1] = 5.0  # one example, in one of the later batches, wakes unit 1
    net = nn.Sequential(layer, nn.ReLU(), nn.Linear(6, 3))
    first = start_of(net, x=x, batch_size=10).layers[0]
    assert first.dead_fraction == pytest.approx(1 / 6)


def test_saturation_is_of_bounded_activations_alone() -> None:
    for activation, expected in ((nn.Tanh(), 1.0), (nn.Sigmoid(), 1.0), (nn.ReLU(), 0.0)):
        net = nn.Sequential(identity(6, 1e4), activation, nn.Linear(6, 3))
        assert start_of(net).layers[0].saturated_fraction == expected


def test_units_that_start_alike_and_stay_alike() -> None:
    def net(first: float, last: float) -> nn.Module:
        body, head = nn.Linear(6, 4), nn.Linear(4, 3)
        for layer, value in ((body, first), (head, last)):
            if value == value:
                nn.init.constant_(layer.weight, value)
                nn.init.constant_(layer.bias, 0.0)
        return nn.Sequential(body, nn.Tanh(), head)

    random = float("nan")
    assert start_of(net(0.0, 0.0)).layers[0].alike_rows
    assert start_of(net(0.3, 0.2)).layers[0].alike_rows
    assert not start_of(net(random, 0.0)).layers[0].alike_rows, "a head that starts at zero is healthy"
    assert not start_of(net(0.0, random)).layers[0].alike_rows, "its units receive different gradients"


class Everything(nn.Module):
    """A module used twice, tied weights, an LSTM, attention, an embedding, a dict as output."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 8)
        self.memory = nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.twice = nn.Linear(8, 8)
        self.head = nn.Linear(8, 9)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # (B, T) -> (B, 9)
        h, _ = self.memory(self.words(x))
        h, _ = self.attention(h, h, h)
        h = F.relu_(self.twice(F.gelu(self.twice(h))))
        return {"logits": self.head(h.mean(1)), "hidden": h}


def test_every_kind_of_layer_has_finite_readings() -> None:
    words = torch.randint(0, 9, (40, 5), generator=GENERATOR)
    start = start_of(Everything(), x=words, loss=lambda o, t: F.cross_entropy(o["logits"], t))
    rows = {r.layer: r for r in start.layers}
    assert list(rows) == ["words", "memory", "attention", "twice", "head"]
    assert rows["twice"].calls == 2 and rows["twice"].activation == "gelu"
    for row in rows.values():
        assert row.std is not None and 0 < row.std < 10 and row.update_ratio and row.grad_norm, row


def test_wiring_names_what_is_missing() -> None:
    class Partial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut, self.frozen, self.head, self.idle = (
                nn.Linear(6, 6),
                nn.Linear(6, 6),
                nn.Linear(6, 3),
                nn.Linear(2, 2),
            )
            self.frozen.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.frozen(self.cut(x).detach()))

    model = Partial()
    wiring = start_of(model, optimizer=torch.optim.SGD(model.cut.parameters(), lr=RATE)).wiring
    assert wiring.frozen == ("frozen.weight", "frozen.bias")
    assert wiring.without_gradient == ("cut.weight", "cut.bias")
    assert wiring.idle == ("idle.weight", "idle.bias")
    assert wiring.not_held == ("head.weight", "head.bias", "idle.weight", "idle.bias")
    assert (wiring.total, wiring.foreign) == (8, 0)
    assert [(c.operation, c.where) for c in wiring.cuts] == [("detach", "")]


def test_the_data_of_all_forms_are_read_alike() -> None:
    both = [(X[:25], Y[:25]), (X[25:], Y[25:])]
    for train in ((X, Y), both):
        with sandbox(Task(nn.Linear(6, 3), train, loss=F.cross_entropy)) as box:
            (inputs,) = measure_data(box).inputs
        assert inputs.examples == 40 and inputs.whole
        assert inputs.std == pytest.approx(float(X.std(correction=0)), rel=1e-5)
        assert inputs.feature_means == pytest.approx(X.mean(0).tolist(), abs=1e-6)
