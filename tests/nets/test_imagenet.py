"""ResNets for large images: the published sizes, the shapes of table 1, names, gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runtrue.nets import imagenet_resnet


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_published_sizes(depth: int, parameters: int) -> None:
    """As torchvision publishes them with its weights, to the last one: 11.69, 21.80 and 25.56 million."""
    with torch.device("meta"):
        net = imagenet_resnet(depth)
        assert count(net) == parameters
        layers = [m for name, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and "down" not in name]
        assert len(layers) == depth


@pytest.mark.parametrize(("depth", "wider"), [(18, 1), (34, 1), (50, 4)])
def test_sizes_of_the_images_are_those_of_table_1(depth: int, wider: int) -> None:
    with torch.device("meta"):
        x, seen = torch.zeros(1, 3, 224, 224), {}
        for name, layer in imagenet_resnet(depth).named_children():
            x = layer(x)
            seen[name] = tuple(x.shape[1:])
    assert seen["conv1"] == (64, 112, 112) and seen["maxpool"] == (64, 56, 56)
    for number, side in enumerate((56, 28, 14, 7), start=1):
        assert seen[f"layer{number}"] == (wider * 32 * 2**number, side, side)
    assert seen["fc"] == (1000,)


def test_names_are_those_of_torchvision() -> None:
    with torch.device("meta"):
        names = list(imagenet_resnet(50).state_dict())
    assert names[0] == "conv1.weight" and names[-1] == "fc.bias" and len(names) == 320
    for name in ("bn1.running_var", "layer1.0.downsample.1.bias", "layer3.5.conv3.weight", "layer4.2.bn3.weight"):
        assert name in names


@pytest.mark.parametrize("depth", [18, 50])
def test_every_parameter_receives_a_gradient(depth: int) -> None:
    net = imagenet_resnet(depth, classes=5, in_channels=1)
    F.cross_entropy(net(torch.randn(4, 1, 40, 40)), torch.arange(4)).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_weights_have_the_spread_of_he() -> None:
    for layer in imagenet_resnet(18).modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.in_channels * layer.kernel_size[0] ** 2
            assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.06)


@pytest.mark.parametrize("depth", [20, 101, 0])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=f"depth must be 18, 34, 50, not {depth}; `resnet` builds"):
        imagenet_resnet(depth)
