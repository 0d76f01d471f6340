"""The small convolutional network: shapes, names, and one output computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from runtrue.nets import cnn


def test_names_and_order() -> None:
    names = [name for name, _ in cnn(norm="batch").named_children()]
    assert names == ["conv1", "norm1", "act1", "pool1", "conv2", "norm2", "act2", "pool2", "flatten", "head"]


@pytest.mark.parametrize(("channels", "in_channels", "size"), [((16, 32), 1, 28), ((4, 8, 16), 3, 32), ((2,), 1, 9)])
def test_shapes(channels: tuple[int, ...], in_channels: int, size: int) -> None:
    net = cnn(channels, classes=7, in_channels=in_channels, size=size)
    assert net(torch.zeros(2, in_channels, size, size)).shape == (2, 7)


def test_parameter_count() -> None:
    count = sum(p.numel() for p in cnn().parameters())
    assert count == (9 * 16 + 16) + (9 * 16 * 32 + 32) + (32 * 7 * 7 * 10 + 10)


def test_a_network_of_ones_sums_the_brightest_neighbourhood() -> None:
    net = cnn(channels=(1,), classes=1, size=4)
    for parameter in net.parameters():
        nn.init.constant_(parameter, 0.0 if parameter.dim() == 1 else 1.0)
    # On a 4 by 4 image of ones a 3 by 3 sum is 9 inside: each of the four 2 by 2 pools holds one such pixel.
    assert net(torch.ones(1, 1, 4, 4)).item() == pytest.approx(36.0)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"channels": ()}, "0 stages"),
        ({"channels": (4,) * 5}, "5 stages, each halving the side of 28 pixels: need 1 to 4"),
        ({"norm": "group"}, "norm must be"),
        ({"activation": "swoosh"}, "no activation 'swoosh'"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        cnn(**wrong)
