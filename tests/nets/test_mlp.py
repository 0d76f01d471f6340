"""Perceptrons: names, order, sizes, and outputs computed a second time with numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from runtrue.nets import mlp


def test_names_say_what_a_layer_is_and_the_norm_stands_in_front_of_the_activation() -> None:
    net = mlp([4, 3, 2, 5], "tanh", norm="batch", dropout=0.5)
    assert [name for name, _ in net.named_children()] == [
        "linear1", "norm1", "act1", "dropout1", "linear2", "norm2", "act2", "dropout2", "head",
    ]  # fmt: skip
    kinds = [nn.Linear, nn.BatchNorm1d, nn.Tanh, nn.Dropout]
    assert [type(layer) for layer in net] == [*kinds, *kinds, nn.Linear]


def test_two_sizes_are_a_linear_model() -> None:
    assert [name for name, _ in mlp([4, 2]).named_children()] == ["head"]


def test_outputs_are_those_of_the_matrices() -> None:
    net = mlp([6, 5, 4, 3], "tanh").double()
    x = torch.randn(7, 6, dtype=torch.float64)
    weights = {name: value.detach().numpy() for name, value in net.state_dict().items()}
    signal = x.numpy()
    for name in ("linear1", "linear2"):
        signal = np.tanh(signal @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])
    expected = signal @ weights["head.weight"].T + weights["head.bias"]
    np.testing.assert_allclose(net(x).detach().numpy(), expected, rtol=1e-12)


def test_normalised_input_of_the_activation_has_mean_0_and_spread_1_in_training() -> None:
    net = mlp([6, 5, 3], norm="batch")
    z = net[1](net[0](torch.randn(2000, 6)))  # (2000, 5)
    torch.testing.assert_close(z.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(0, unbiased=False), torch.ones(5), atol=1e-3, rtol=0)


def test_parameter_count() -> None:
    count = sum(p.numel() for p in mlp([784, 100, 10], norm="batch").parameters())
    assert count == (784 * 100 + 100) + 2 * 100 + (100 * 10 + 10)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"sizes": [4]}, "at least two positive numbers"),
        ({"sizes": [4, 0, 2]}, "at least two positive numbers"),
        ({"sizes": [4, 3, 2], "activation": "swoosh"}, "no activation 'swoosh' here; there are: relu"),
        ({"sizes": [4, 3, 2], "norm": "layer"}, "norm must be"),
        ({"sizes": [4, 3, 2], "dropout": 1.0}, "0 <= p < 1"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        mlp(**wrong)
