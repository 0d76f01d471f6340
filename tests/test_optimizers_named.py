"""The optimizers by name: every update against the formula of the notes or the paper, by hand in double precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from runtrue.optimizers import NAMES, named

Point = NDArray[np.float64]
START = np.array([-3.0, 1.5, 0.2])
CURVES = np.array([1.0, 7.0, 0.3])
MU, BETA2, EPS = 0.9, 0.999, 1e-8
STEPS = 25


def gradient(x: Point) -> Point:
    """Of Σ c x² / 2 + Σ x⁴ / 40: not linear, so that where it is taken matters."""
    found: Point = CURVES * x + x**3 / 10
    return found


def stepped(name: str, rates: Sequence[float], **settings: Any) -> list[Point]:
    """The weights after each step of torch's own optimizer, in double precision."""
    x = nn.Parameter(torch.tensor(START))
    optimizer = named(name, [x], lr=rates[0], **settings)
    found = []
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        ((torch.tensor(CURVES) * x.square() / 2).sum() + (x**4).sum() / 40).backward()
        optimizer.step()
        found.append(x.detach().numpy().copy())
    return found


def sgd(rates: Sequence[float], decay: float) -> list[Point]:
    x, found = START.copy(), []
    for rate in rates:
        x = x - rate * (gradient(x) + decay * x)
        found.append(x)
    return found


def momentum(rates: Sequence[float], decay: float) -> list[Point]:
    """N4.1: v = μ v - α ∇, x += v."""
    x, v, found = START.copy(), np.zeros(3), []
    for rate in rates:
        v = MU * v - rate * (gradient(x) + decay * x)
        x = x + v
        found.append(x)
    return found


def nesterov(rates: Sequence[float], decay: float) -> list[Point]:
    """N4.1: the gradient at x + μ v, where the momentum will have carried x; that point is what torch calls the weights."""
    x, v, found = START.copy(), np.zeros(3), []
    for rate in rates:
        ahead = x + MU * v
        v = MU * v - rate * (gradient(ahead) + decay * ahead)
        x = x + v
        found.append(x + MU * v)
    return found


def adam(rates: Sequence[float], decay: float) -> list[Point]:
    """Kingma and Ba 2015, algorithm 1; the decay is part of the gradient."""
    x, m, s, found = START.copy(), np.zeros(3), np.zeros(3), []
    for t, rate in enumerate(rates, 1):
        g = gradient(x) + decay * x
        m, s = MU * m + (1 - MU) * g, BETA2 * s + (1 - BETA2) * g**2
        x = x - rate * (m / (1 - MU**t)) / (np.sqrt(s / (1 - BETA2**t)) + EPS)
        found.append(x)
    return found


def adamw(rates: Sequence[float], decay: float) -> list[Point]:
    """Loshchilov and Hutter 2019, algorithm 2, with the rate as its schedule: the decay is beside the moments."""
    x, m, s, found = START.copy(), np.zeros(3), np.zeros(3), []
    for t, rate in enumerate(rates, 1):
        g = gradient(x)
        m, s = MU * m + (1 - MU) * g, BETA2 * s + (1 - BETA2) * g**2
        x = x - rate * ((m / (1 - MU**t)) / (np.sqrt(s / (1 - BETA2**t)) + EPS) + decay * x)
        found.append(x)
    return found


FORMULAS: dict[str, Callable[[Sequence[float], float], list[Point]]] = {
    "sgd": sgd, "momentum": momentum, "nesterov": nesterov, "adamw": adamw, "adam": adam,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_each_step_is_that_of_the_formula(name: str, decay: float) -> None:
    rates = [0.05] * STEPS
    for torchs, by_hand in zip(stepped(name, rates, weight_decay=decay), FORMULAS[name](rates, decay), strict=True):
        assert np.allclose(torchs, by_hand, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_and_while_the_rate_decays(name: str) -> None:
    rates = [0.05 * 0.9**step for step in range(STEPS)]
    for torchs, by_hand in zip(stepped(name, rates), FORMULAS[name](rates, 0.0), strict=True):
        assert np.allclose(torchs, by_hand, rtol=1e-9, atol=1e-12)


def test_when_the_rate_falls_torchs_momentum_slows_at_once() -> None:
    """torch: v = μ v + ∇, x -= α v. The notes' v still carries the old rate for a while."""
    rates = [0.05] * 5 + [0.0]
    torchs, notes = stepped("momentum", rates), momentum(rates, 0.0)
    assert np.array_equal(torchs[5], torchs[4]) and np.allclose(notes[5] - notes[4], MU * (notes[4] - notes[3]))


def test_groups_keep_their_own_settings() -> None:
    groups: list[dict[str, Any]] = [
        {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.5, "weight_decay": 0.0, "name": "biases"},
        {"params": [nn.Parameter(torch.zeros(1))]},
    ]
    for name in NAMES:
        first, second = named(name, [dict(group) for group in groups], lr=0.1, weight_decay=0.01).param_groups
        assert (first["lr"], first["weight_decay"], first["name"]) == (0.5, 0.0, "biases")
        assert (second["lr"], second["weight_decay"]) == (0.1, 0.01)


def test_an_unknown_name() -> None:
    with pytest.raises(
        ValueError, match="there is no optimizer 'lion' here; there are: sgd, momentum, nesterov, adamw"
    ):
        named("lion", [nn.Parameter(torch.zeros(1))], lr=0.1)
