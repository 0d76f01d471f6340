"""Residual networks for small images, of any depth 6n + 2: He et al. 2015, "Deep Residual Learning", section 4.2.

One 3x3 convolution, then three stages of n blocks with 16, 32 and 64 channels, the image halved at the entrance of the
second and third stage, then the mean over the image and a linear layer. Each block has two convolutions: 6n + 2 layers.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from runtrue.nets.parts import Norm, check_dropout, check_norm, conv, draw_he, norm2d
from runtrue.nets.stage import Stage

Shortcut = Literal["A", "B"] | None
"""How a block's input reaches its output. A: as it is, subsampled and padded with zero channels where the shape changes
(no parameters). B: a 1x1 convolution where the shape changes. None: not at all, a plain network."""

WIDTHS = (16, 32, 64)
VERY_DEEP = 1000
"""Layers from which on a network is checkpointed by default."""


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

    def __init__(
        self, n_in: int, n_out: int, stride: int, shortcut: Shortcut, norm: Norm, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.conv1 = conv(n_in, n_out, norm, stride)
        self.norm1 = norm2d(n_out, norm)
        self.act1 = nn.ReLU()
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.conv2 = conv(n_out, n_out, norm)
        self.norm2 = norm2d(n_out, norm)
        self.shortcut = _shortcut(n_in, n_out, stride, shortcut, norm)
        self.act2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # (B, n_in, H, W) -> (B, n_out, H / stride, W / stride)
        y = self.act1(self.norm1(self.conv1(x)))
        if self.dropout is not None:
            y = self.dropout(y)
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
    dropout: float = 0.0,
    checkpoint: bool | None = None,
) -> ResNet:
    """A residual network with `depth` = 6n + 2 layers of weights (He et al. 2015, section 4.2).

    Convolutions are drawn from N(0, 2 / fan_in) ("Delving Deep into Rectifiers", He et al. 2015, eq. 10) and have a
    bias only without normalisation; the head is as torch leaves it. Published sizes for 10 classes and 3 channels:
    depth 20 has 0.27 million parameters, 32 0.46, 44 0.66, 56 0.85, 110 1.7, 1202 19.4.

    `dropout` switches off that share of the numbers between the two convolutions of each block, behind the ReLU
    (Zagoruyko & Komodakis 2016, "Wide Residual Networks", section 2.4); the paper of the network has none. `checkpoint`
    saves memory in training: each stage keeps little and computes it again on the way back; by default from 1000 layers on.

    Raises ValueError for a depth that is no 6n + 2 with n >= 1, naming the nearest ones, for an unknown shortcut or
    normalisation, and for a dropout outside 0 <= p < 1.

    >>> sum(p.numel() for p in resnet(20).parameters())
    269722
    """
    count = blocks_per_stage(depth)
    check_norm(norm)
    check_dropout(dropout)
    if shortcut not in ("A", "B", None):
        raise ValueError(f'shortcut must be "A", "B" or None, not {shortcut!r}')
    checkpointed = depth >= VERY_DEEP if checkpoint is None else checkpoint
    net = ResNet(_layers(count, classes, in_channels, shortcut, norm, dropout, checkpointed))
    draw_he(net)
    return net


def plain(
    depth: int,
    classes: int = 10,
    in_channels: int = 3,
    norm: Norm = "batch",
    dropout: float = 0.0,
    checkpoint: bool | None = None,
) -> ResNet:
    """The same network without shortcuts, and so with exactly as many parameters as option A: the paper's control."""
    return resnet(depth, classes, in_channels, None, norm, dropout, checkpoint)


def blocks_per_stage(depth: int) -> int:
    """n of depth = 6n + 2. Raises ValueError for any other depth, naming the nearest ones."""
    blocks, rest = divmod(depth - 2, 6)
    if blocks >= 1 and rest == 0:
        return blocks
    below = 6 * blocks + 2
    near = [d for d in (below, below + 6) if d >= 8] or [8]
    raise ValueError(f"depth must be 6n + 2 with n >= 1, got {depth}; nearest: {' or '.join(map(str, near))}")


def _layers(
    count: int, classes: int, in_channels: int, shortcut: Shortcut, norm: Norm, dropout: float, checkpointed: bool
) -> OrderedDict[str, nn.Module]:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = conv(in_channels, WIDTHS[0], norm)
    layers["norm"] = norm2d(WIDTHS[0], norm)
    layers["act"] = nn.ReLU()
    n_in = WIDTHS[0]
    for stage, n_out in enumerate(WIDTHS, start=1):
        first = Block(n_in, n_out, 1 if stage == 1 else 2, shortcut, norm, dropout)
        rest = [Block(n_out, n_out, 1, shortcut, norm, dropout) for _ in range(count - 1)]
        layers[f"stage{stage}"] = built = Stage(first, *rest)
        built.checkpointed = checkpointed
        n_in = n_out
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(n_in, classes)
    return layers


def _shortcut(n_in: int, n_out: int, stride: int, shortcut: Shortcut, norm: Norm) -> nn.Module | None:
    if shortcut is None:
        return None
    if n_in == n_out and stride == 1:
        return nn.Identity()
    if shortcut == "A":
        return PadShortcut(n_out - n_in, stride)
    projection = OrderedDict(conv=conv(n_in, n_out, norm, stride, kernel=1), norm=norm2d(n_out, norm))
    return nn.Sequential(projection)
