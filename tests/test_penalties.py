"""Penalties against sums made by hand, their gradients, and the projection against torch's own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from runtrue.penalties import elastic_net, l1, l2, max_norm_, penalised


def filled(*weights: float) -> nn.Linear:
    net = nn.Linear(len(weights), 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([weights]))
        net.bias.fill_(100.0)
    return net


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=8), st.floats(0, 10), st.floats(0, 10))
def test_sums_by_hand(weights: list[float], a: float, b: float) -> None:
    net = filled(*weights)
    size, square = sum(abs(w) for w in weights), sum(w * w for w in weights)
    assert l1(net, a).item() == pytest.approx(a * size, rel=1e-5, abs=1e-30)
    assert l2(net, b).item() == pytest.approx(b * square, rel=1e-5, abs=1e-30)
    assert elastic_net(net, a, b).item() == pytest.approx(a * size + b * square, rel=1e-5, abs=1e-30)


def test_pulls_by_hand() -> None:
    net = filled(3.0, -0.5, 0.0)
    l1(net, 0.1).backward()
    assert net.weight.grad.tolist() == [pytest.approx([0.1, -0.1, 0.0])] and net.bias.grad is None
    net.zero_grad()
    l2(net, 0.1).backward()
    assert net.weight.grad.tolist() == [pytest.approx([0.6, -0.1, 0.0])]


def test_l2_is_the_weight_decay_of_sgd_at_twice_the_strength() -> None:
    torch.manual_seed(0)
    penalty, decay = filled(3.0, -0.5), filled(3.0, -0.5)
    inputs = torch.randn(8, 2)
    plain = torch.optim.SGD(penalty.parameters(), lr=0.1, momentum=0.9)
    groups: list[dict[str, Any]] = [{"params": [decay.weight], "weight_decay": 0.06}, {"params": [decay.bias]}]
    decays = torch.optim.SGD(groups, 0.1, 0.9)
    for _ in range(5):
        for net, optimizer, strength in ((penalty, plain, 0.03), (decay, decays, 0.0)):
            optimizer.zero_grad()
            loss = net(inputs).square().mean() + l2(net, strength)
            loss.backward()
            optimizer.step()
    assert torch.allclose(penalty.weight, decay.weight, rtol=1e-5)


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norms = nn.ModuleList(
            [
                nn.BatchNorm2d(4),
                nn.InstanceNorm2d(4, affine=True),
                nn.GroupNorm(2, 4),
                nn.LayerNorm([4, 2]),
                nn.RMSNorm(4),
            ]
        )
        self.embed = nn.Embedding(5, 4)
        self.head = nn.Linear(4, 5)
        self.head.weight = self.embed.weight  # shared: counts once
        self.scale = nn.Parameter(torch.ones(4))
        self.frozen = nn.Linear(4, 4)
        self.frozen.requires_grad_(False)


def test_biases_normalization_and_frozen_weights_are_spared() -> None:
    net = Mixed()
    assert {id(p) for p in penalised(net)} == {id(net.conv.weight), id(net.embed.weight)}
    everything = penalised(net, everything=True)
    assert len(everything) == len({id(p) for p in everything}) == 2 + 1 + 2 * 4 + 1 + 1 + 1
    wanted = sum(float(w.detach().double().abs().sum()) for w in (net.conv.weight, net.embed.weight))
    assert l1(net, 0.5).item() == pytest.approx(0.5 * wanted, rel=1e-5)


def test_nothing_to_penalise_says_so() -> None:
    with pytest.raises(ValueError, match="no weight that a penalty could be on"):
        l2(nn.BatchNorm1d(3), 0.1)


def test_max_norm_by_hand() -> None:
    net = nn.Linear(2, 3)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]))
        net.bias.fill_(9.0)
    max_norm_(net, 1.0)
    assert net.weight.tolist() == [pytest.approx([0.6, 0.8]), pytest.approx([0.3, 0.4]), [0.0, 0.0]]
    assert net.bias.tolist() == [9.0] * 3 and net.weight.requires_grad


Layer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d


def units(layer: Layer) -> list[NDArray[Any]]:
    """The incoming weights of each unit, found by asking which weights move its output: independent of `by_unit`."""
    found = []
    shape = (1, 4, 5, 5) if not isinstance(layer, nn.Linear) else (1, 4)
    for unit in range(layer(torch.ones(shape)).shape[1]):
        (gradient,) = torch.autograd.grad(layer(torch.ones(shape))[0, unit].sum(), [layer.weight])
        found.append(layer.weight.detach()[gradient != 0].numpy())
    return found


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(4, 6),
        nn.Conv2d(4, 6, 3, groups=2),
        nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        nn.ConvTranspose2d(4, 6, 3),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
    ],
    ids=["linear", "grouped", "channels last", "transposed", "transposed and grouped"],
)
def test_max_norm_bounds_what_comes_into_each_unit(layer: Layer) -> None:
    nn.init.normal_(layer.weight, 0.0, 1.0)
    with torch.no_grad():
        layer.weight[:, 0].mul_(0.01)  # so that some stay as they are
    before = units(layer)
    limit = float(np.median([np.linalg.norm(unit) for unit in before]))
    max_norm_(layer, limit)
    for old, new in zip(before, units(layer)):
        assert np.allclose(new, old * min(1.0, limit / np.linalg.norm(old)), rtol=1e-5)


def test_max_norm_is_torchs_renorm() -> None:
    net = nn.Linear(20, 10)
    wanted: Tensor = torch.renorm(net.weight.detach() * 3, 2, 0, 1.0)
    with torch.no_grad():
        net.weight.mul_(3)
    max_norm_(net, 1.0)
    assert torch.allclose(net.weight, wanted, rtol=1e-5)


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan, math.inf])
def test_a_limit_that_is_none(limit: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        max_norm_(nn.Linear(2, 2), limit)
