"""ResNets: the published sizes, the equations recomputed, and the depth that can be built."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue.nets import plain, resnet
from runtrue.nets.resnet import Block, PadShortcut


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)],
)
def test_published_sizes(depth: int, parameters: int) -> None:
    """He et al. 2015, table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 million."""
    with torch.device("meta"):
        assert count(resnet(depth)) == parameters
        assert count(plain(depth)) == parameters, "option A has no parameters of its own"


def test_option_b_adds_two_projections_with_their_normalisation() -> None:
    assert count(resnet(20, shortcut="B")) - count(resnet(20)) == (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)


def test_without_normalisation_the_convolutions_have_biases() -> None:
    channels = 16 * 7 + 32 * 6 + 64 * 6  # each had a scale and a shift; now it has a bias
    assert count(resnet(20, norm=None)) == 269_722 - channels


def test_a_network_of_depth_1202_can_be_built_and_has_as_many_layers() -> None:
    with torch.device("meta"):
        net = resnet(1202)
        weights = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        assert len(weights) == 1202
        assert round(count(net) / 1e6, 1) == 19.4


def test_shortcut_a_against_numpy() -> None:
    x = torch.randn(2, 3, 6, 8)
    expected = np.zeros((2, 5, 3, 4), dtype=np.float32)
    for row in range(3):
        for column in range(4):
            expected[:, :3, row, column] = x.numpy()[:, :, 2 * row, 2 * column]
    np.testing.assert_array_equal(PadShortcut(2, 2)(x).numpy(), expected)


def functional_block(block: Block, x: Tensor, stride: int, shortcut: Tensor | None) -> Tensor:
    """Equation 2 of the paper with batch statistics, from the block's weights alone."""

    def normalised(z: Tensor) -> Tensor:  # γ = 1 and β = 0 at the start
        mean, variance = z.mean((0, 2, 3), keepdim=True), z.var((0, 2, 3), unbiased=False, keepdim=True)
        return (z - mean) / (variance + 1e-5).sqrt()

    y = normalised(F.conv2d(x, block.conv1.weight, stride=stride, padding=1)).clamp(min=0)
    y = normalised(F.conv2d(y, block.conv2.weight, padding=1))
    return (y if shortcut is None else y + shortcut).clamp(min=0)


def test_a_block_that_halves_the_image_against_the_equation() -> None:
    block, x = Block(4, 6, 2, "A", "batch"), torch.randn(3, 4, 8, 8)
    bridge = torch.cat([x[:, :, ::2, ::2], torch.zeros(3, 2, 4, 4)], dim=1)
    torch.testing.assert_close(block(x), functional_block(block, x, 2, bridge))


def test_a_block_that_keeps_the_shape_adds_its_input() -> None:
    block, x = Block(4, 4, 1, "A", "batch"), torch.randn(3, 4, 8, 8)
    torch.testing.assert_close(block(x), functional_block(block, x, 1, x))


def test_a_plain_block_adds_nothing() -> None:
    block, x = Block(4, 4, 1, None, "batch"), torch.randn(3, 4, 8, 8)
    torch.testing.assert_close(block(x), functional_block(block, x, 1, None))


def test_with_all_convolutions_at_zero_the_input_passes_through_the_stages() -> None:
    """y = relu(0 + x): what leaves the third stage is the first convolution's output, subsampled by four."""
    net = resnet(8, in_channels=1).eval()
    blocks = [m for m in net.modules() if isinstance(m, Block)]
    for block in blocks:
        nn.init.zeros_(block.conv2.weight)
    start = net[:3](torch.randn(2, 1, 32, 32))
    end = net[3:6](start)
    assert end.shape == (2, 64, 8, 8)
    torch.testing.assert_close(end[:, :16], start[:, :, ::4, ::4])
    assert not end[:, 16:].any()


def test_weights_have_the_spread_of_he() -> None:
    for layer in resnet(20).modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 5000:
            fan_in = layer.in_channels * 9
            assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.06)


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("shortcut", ["A", "B", None])
def test_every_parameter_receives_a_gradient(size: int, shortcut: Any) -> None:
    net = resnet(8, classes=5, in_channels=1, shortcut=shortcut)
    out = net(torch.randn(4, 1, size, size))
    assert out.shape == (4, 5)
    F.cross_entropy(out, torch.arange(4)).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@pytest.mark.parametrize(
    ("depth", "nearest"),
    [(18, "14 or 20"), (34, "32 or 38"), (21, "20 or 26"), (2, "8"), (7, "8"), (0, "8"), (-9, "8")],
)
def test_other_depths_are_refused_with_the_nearest_ones(depth: int, nearest: str) -> None:
    with pytest.raises(ValueError, match=f"6n \\+ 2 .* got {depth}; nearest: {nearest}"):
        resnet(depth)


def test_wrong_shortcut_and_norm_are_named() -> None:
    with pytest.raises(ValueError, match='shortcut must be "A", "B" or None'):
        resnet(20, shortcut="C")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="norm must be"):
        resnet(20, norm="layer")  # type: ignore[arg-type]
