"""Residual networks for small images, of any depth 6n + 2: He et al. 2015, "Deep Residual Learning", section 4.2.

One 3x3 convolution, then three stages of n blocks with 16, 32 and 64 channels, the image halved at the entrance of the
second and third stage, then the mean over the image and a linear layer. Each block has two convolutions: 6n + 2 layers.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue.nets.parts import Norm, check_norm

Shortcut = Literal["A", "B"] | None
"""How a block's input reaches its output. A: as it is, subsampled and padded with zero channels where the shape changes
(no parameters). B: a 1x1 convolution where the shape changes. None: not at all, a plain network."""

WIDTHS = (16, 32, 64)


class PadShortcut(nn.Module):
    """Option A: every second row and column, and zero channels behind the others. (B, C, H, W) -> (B, C', H/s, W/s)."""

    def __init__(self, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels, self.stride = extra_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.extra_channels))

    def extra_repr(self) -> str:
        return f"extra_channels={self.extra_channels}, stride={self.stride}"


class Block(nn.Module):
    """y = relu(F(x) + x) (He et al. 2015, eq. 1 and 2), F: two 3x3 convolutions. Without shortcut: y = relu(F(x))."""

    def __init__(self, n_in: int, n_out: int, stride: int, shortcut: Shortcut, norm: Norm) -> None:
        super().__init__()
        self.conv1 = _conv(n_in, n_out, norm, stride)
        self.norm1 = _norm(n_out, norm)
        self.act1 = nn.ReLU()
        self.conv2 = _conv(n_out, n_out, norm)
        self.norm2 = _norm(n_out, norm)
        self.shortcut = _shortcut(n_in, n_out, stride, shortcut, norm)
        self.act2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # (B, n_in, H, W) -> (B, n_out, H / stride, W / stride)
        y = self.act1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        out: Tensor = self.act2(y)
        return out


class ResNet(nn.Sequential):
    """Images (B, in_channels, H, W) -> raw outputs (B, classes). Build one with `resnet` or `plain`."""


def resnet(
    depth: int,
    classes: int = 10,
    in_channels: int = 3,
    shortcut: Shortcut = "A",
    norm: Norm = "batch",
) -> ResNet:
    """A residual network with `depth` = 6n + 2 layers of weights (He et al. 2015, section 4.2).

    Convolutions are drawn from N(0, 2 / fan_in) ("Delving Deep into Rectifiers", He et al. 2015, eq. 10) and have a
    bias only without normalisation; the head is as torch leaves it. Published sizes for 10 classes and 3 channels:
    depth 20 has 0.27 million parameters, 32 0.46, 44 0.66, 56 0.85, 110 1.7, 1202 19.4.

    Raises ValueError for a depth that is no 6n + 2 with n >= 1, naming the nearest ones, and for an unknown shortcut or
    normalisation.

    >>> sum(p.numel() for p in resnet(20).parameters())
    269722
    """
    blocks = _blocks_per_stage(depth)
    check_norm(norm)
    if shortcut not in ("A", "B", None):
        raise ValueError(f'shortcut must be "A", "B" or None, not {shortcut!r}')
    net = ResNet(_layers(blocks, classes, in_channels, shortcut, norm))
    _draw_weights(net)
    return net


def plain(depth: int, classes: int = 10, in_channels: int = 3, norm: Norm = "batch") -> ResNet:
    """The same network without shortcuts, and so with exactly as many parameters as option A: the paper's control."""
    return resnet(depth, classes, in_channels, shortcut=None, norm=norm)


def _blocks_per_stage(depth: int) -> int:
    """n of depth = 6n + 2."""
    blocks, rest = divmod(depth - 2, 6)
    if blocks >= 1 and rest == 0:
        return blocks
    below = 6 * blocks + 2
    near = [d for d in (below, below + 6) if d >= 8] or [8]
    raise ValueError(f"depth must be 6n + 2 with n >= 1, got {depth}; nearest: {' or '.join(map(str, near))}")


def _layers(blocks: int, classes: int, in_channels: int, shortcut: Shortcut, norm: Norm) -> OrderedDict[str, nn.Module]:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = _conv(in_channels, WIDTHS[0], norm)
    layers["norm"] = _norm(WIDTHS[0], norm)
    layers["act"] = nn.ReLU()
    n_in = WIDTHS[0]
    for stage, n_out in enumerate(WIDTHS, start=1):
        first = Block(n_in, n_out, 1 if stage == 1 else 2, shortcut, norm)
        rest = [Block(n_out, n_out, 1, shortcut, norm) for _ in range(blocks - 1)]
        layers[f"stage{stage}"] = nn.Sequential(first, *rest)
        n_in = n_out
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(n_in, classes)
    return layers


def _conv(n_in: int, n_out: int, norm: Norm, stride: int = 1, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2, bias=norm is None)


def _norm(channels: int, norm: Norm) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


def _shortcut(n_in: int, n_out: int, stride: int, shortcut: Shortcut, norm: Norm) -> nn.Module | None:
    if shortcut is None:
        return None
    if n_in == n_out and stride == 1:
        return nn.Identity()
    if shortcut == "A":
        return PadShortcut(n_out - n_in, stride)
    projection = OrderedDict(conv=_conv(n_in, n_out, norm, stride, kernel=1), norm=_norm(n_out, norm))
    return nn.Sequential(projection)


@torch.no_grad()
def _draw_weights(net: nn.Module) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                layer.bias.zero_()
