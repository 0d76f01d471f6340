"""Residual networks against a second implementation: functions that read the state dict, in double precision.

It shares no code with the networks and none of their modules: convolutions, maximum and matrix products are torch's own
functions, everything else is arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue.nets import imagenet_resnet, plain, resnet

State = Mapping[str, Tensor]
EPS, MOMENTUM = 1e-5, 0.1  # of torch's batch normalisation


class Computed:
    """A pass by hand: reads weights by name, and keeps what the running statistics become."""

    def __init__(self, state: State, training: bool) -> None:
        self.state, self.training = state, training
        self.read: set[str] = set()
        self.statistics: dict[str, Tensor] = {}

    def weight(self, name: str) -> Tensor:
        self.read.add(name)
        return self.state[name]

    def conv(self, z: Tensor, name: str, stride: int = 1, padding: int = 1) -> Tensor:
        z = F.conv2d(z, self.weight(f"{name}.weight"), stride=stride, padding=padding)
        bias = f"{name}.bias"
        return z + self.weight(bias)[:, None, None] if bias in self.state else z

    def norm(self, z: Tensor, name: str) -> Tensor:
        """Ioffe & Szegedy 2015, algorithm 1; in evaluation with the running statistics. Nothing if there is no such layer."""
        if f"{name}.weight" not in self.state:
            return z
        mean, variance = self.weight(f"{name}.running_mean"), self.weight(f"{name}.running_var")
        if self.training:
            count = z.numel() / z.shape[1]
            of_batch = z.sum((0, 2, 3)) / count
            spread = ((z - of_batch[:, None, None]) ** 2).sum((0, 2, 3))
            self.statistics[f"{name}.running_mean"] = (1 - MOMENTUM) * mean + MOMENTUM * of_batch
            self.statistics[f"{name}.running_var"] = (1 - MOMENTUM) * variance + MOMENTUM * spread / (count - 1)
            mean, variance = of_batch, spread / count
        scale = self.weight(f"{name}.weight") / (variance + EPS) ** 0.5
        return (z - mean[:, None, None]) * scale[:, None, None] + self.weight(f"{name}.bias")[:, None, None]

    def head(self, z: Tensor, name: str) -> Tensor:
        return z.sum((2, 3)) / (z.shape[2] * z.shape[3]) @ self.weight(f"{name}.weight").T + self.weight(f"{name}.bias")


def relu(z: Tensor) -> Tensor:
    return (z + z.abs()) / 2


def small(at: Computed, x: Tensor, depth: int, option: str | None) -> Tensor:
    """He et al. 2015, section 4.2."""
    x = relu(at.norm(at.conv(x, "conv"), "norm"))
    for stage in (1, 2, 3):
        for number in range((depth - 2) // 6):
            name, stride = f"stage{stage}.{number}", 2 if stage > 1 and number == 0 else 1
            y = relu(at.norm(at.conv(x, f"{name}.conv1", stride), f"{name}.norm1"))
            y = at.norm(at.conv(y, f"{name}.conv2"), f"{name}.norm2")
            if option == "B" and stride == 2:
                x = at.norm(at.conv(x, f"{name}.shortcut.conv", 2, padding=0), f"{name}.shortcut.norm")
            elif option is not None:
                x = x[:, :, ::stride, ::stride]
                x = torch.cat([x, torch.zeros_like(y)[:, x.shape[1] :]], dim=1)
            x = relu(y if option is None else x + y)
    return at.head(x, "head")


def large(at: Computed, x: Tensor, blocks: Sequence[int], bottleneck: bool) -> Tensor:
    """He et al. 2015, table 1, with the stride of a bottleneck in its 3x3 convolution."""
    x = F.max_pool2d(relu(at.norm(at.conv(x, "conv1", 2, padding=3), "bn1")), 3, 2, 1)
    for stage, count in enumerate(blocks, start=1):
        for number in range(count):
            name, stride = f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1
            strides = (1, stride, 1) if bottleneck else (stride, 1)
            sizes = (1, 3, 1) if bottleneck else (3, 3)
            y = x
            for i, (step, size) in enumerate(zip(strides, sizes, strict=True), start=1):
                y = at.norm(at.conv(y, f"{name}.conv{i}", step, size // 2), f"{name}.bn{i}")
                y = relu(y) if i < len(sizes) else y
            if x.shape != y.shape:
                x = at.norm(at.conv(x, f"{name}.downsample.0", stride, padding=0), f"{name}.downsample.1")
            x = relu(x + y)
    return at.head(x, "fc")


def stirred(net: nn.Module) -> nn.Module:
    """In double precision, every scale, shift, bias and statistic away from the 0 and 1 that would hide a mistake."""
    net.double()
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.3)
            elif value.dim() == 1:
                value.uniform_(0.5, 1.5)
    return net


def check(net: nn.Module, x: Tensor, training: bool, by_hand: Any) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    at = Computed(before, training)
    expected = by_hand(at, x)
    torch.testing.assert_close(net.train(training)(x), expected, rtol=1e-9, atol=1e-10)
    counts = {name for name in before if name.endswith("num_batches_tracked")}
    assert at.read == before.keys() - counts, "weights that no one has read"
    for name, value in net.state_dict().items():
        if name in counts:
            assert value == before[name] + training
        else:
            torch.testing.assert_close(value, at.statistics.get(name, before[name]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("option", ["A", "B", None])
@pytest.mark.parametrize("depth", [8, 20])
def test_networks_for_small_images(depth: int, option: Any, norm: Any, training: bool) -> None:
    torch.manual_seed(depth)
    net = resnet(depth, classes=5, in_channels=2, shortcut=option, norm=norm) if option else plain(depth, 5, 2, norm)
    x = torch.randn(3, 2, 10, 13, dtype=torch.float64)  # sides that no stage halves evenly
    check(stirred(net), x, training, lambda at, x: small(at, x, depth, option))


@pytest.mark.parametrize(
    ("depth", "blocks", "norm"),
    [(18, (2, 2, 2, 2), "batch"), (18, (2, 2, 2, 2), None), (34, (3, 4, 6, 3), "batch"), (50, (3, 4, 6, 3), "batch")],
)
def test_networks_for_large_images(depth: int, blocks: tuple[int, ...], norm: Any) -> None:
    torch.manual_seed(depth)
    net = stirred(imagenet_resnet(depth, classes=5, in_channels=2, norm=norm))
    x = torch.randn(2, 2, 37, 42, dtype=torch.float64)
    for training in (False, True):
        check(net, x, training, lambda at, x: large(at, x, blocks, bottleneck=depth == 50))


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_weights_of_torchvision_load_and_give_its_outputs(depth: int, tv_models: Any) -> None:
    torch.manual_seed(depth)
    theirs = stirred(getattr(tv_models, f"resnet{depth}")(num_classes=7))
    ours = imagenet_resnet(depth, classes=7).double()
    ours.load_state_dict(theirs.state_dict())  # strict: the same names, the same shapes
    x = torch.randn(2, 3, 50, 64, dtype=torch.float64)
    for training in (False, True):
        torch.testing.assert_close(ours.train(training)(x), theirs.train(training)(x), rtol=1e-9, atol=1e-10)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
