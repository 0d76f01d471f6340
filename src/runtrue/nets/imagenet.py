"""Residual networks for large images: ResNet-18, 34 and 50 of He et al. 2015, "Deep Residual Learning", table 1.

The names of the weights are those of torchvision, and so is the one difference from the paper: where a bottleneck halves the
image it does so in its 3x3 convolution, not in the 1x1 in front of it. So weights that torchvision's networks were trained to
can be loaded, and give the same outputs.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from runtrue.nets.parts import Norm, check_dropout, check_norm, conv, draw_he, norm2d
from runtrue.nets.stage import Stage

WIDTHS = (64, 128, 256, 512)
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Blocks of the four stages by depth (table 1)."""
WIDER = 4
"""Channels that leave a bottleneck over those inside of it (table 1)."""


class BasicBlock(nn.Module):
    """y = relu(F(x) + x) (He et al. 2015, eq. 1 and 2), F: two 3x3 convolutions (figure 5, left)."""

    def __init__(self, n_in: int, width: int, stride: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.conv1 = conv(n_in, width, norm, stride)
        self.bn1 = norm2d(width, norm)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.conv2 = conv(width, width, norm)
        self.bn2 = norm2d(width, norm)
        self.downsample = _projection(n_in, width, stride, norm)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # (B, n_in, H, W) -> (B, width, H / stride, W / stride)
        y = self.relu(self.bn1(self.conv1(x)))
        if self.dropout is not None:
            y = self.dropout(y)
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu2(y + (x if self.downsample is None else self.downsample(x)))
        return out


class Bottleneck(nn.Module):
    """The same with F: 1x1, 3x3 and 1x1 convolutions, the last of them to four times as many channels (figure 5, right)."""

    def __init__(self, n_in: int, width: int, stride: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.conv1 = conv(n_in, width, norm, kernel=1)
        self.bn1 = norm2d(width, norm)
        self.relu = nn.ReLU()
        self.conv2 = conv(width, width, norm, stride)
        self.bn2 = norm2d(width, norm)
        self.relu2 = nn.ReLU()
        self.dropout = nn.Dropout(dropout) if dropout else None
        self.conv3 = conv(width, WIDER * width, norm, kernel=1)
        self.bn3 = norm2d(WIDER * width, norm)
        self.downsample = _projection(n_in, WIDER * width, stride, norm)
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # (B, n_in, H, W) -> (B, 4 width, H / stride, W / stride)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        if self.dropout is not None:
            y = self.dropout(y)
        y = self.bn3(self.conv3(y))
        out: Tensor = self.relu3(y + (x if self.downsample is None else self.downsample(x)))
        return out


class ImageNetResNet(nn.Sequential):
    """Images (B, in_channels, H, W) -> raw outputs (B, classes). Build one with `imagenet_resnet`."""


def imagenet_resnet(
    depth: int,
    classes: int = 1000,
    in_channels: int = 3,
    norm: Norm = "batch",
    dropout: float = 0.0,
    checkpoint: bool = False,
) -> ImageNetResNet:
    """ResNet-18, 34 or 50 (He et al. 2015, table 1), meant for images of about 224 by 224 pixels.

    A 7x7 convolution and a maximum, each of which halves the image, then four stages. The names of the weights are
    torchvision's: its weights for the same depth can be loaded with `load_state_dict`. Convolutions are drawn from
    N(0, 2 / fan_in) ("Delving Deep into Rectifiers", He et al. 2015, eq. 10) and have a bias only without normalisation.
    For 1000 classes depth 18 has 11.69 million parameters, 34 21.80, 50 25.56.

    `dropout` stands in front of each block's last convolution, behind the ReLU, as in `resnet`. `checkpoint` saves memory in
    training: each stage keeps little and computes it again on the way back.

    Raises ValueError for another depth, an unknown normalisation, or a dropout outside 0 <= p < 1.

    >>> import torch
    >>> with torch.device("meta"):
    ...     sum(p.numel() for p in imagenet_resnet(18).parameters())
    11689512
    """
    if depth not in BLOCKS:
        raise ValueError(f"depth must be {', '.join(map(str, BLOCKS))}, not {depth}; `resnet` builds 6n + 2 layers")
    check_norm(norm)
    check_dropout(dropout)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = conv(in_channels, WIDTHS[0], norm, stride=2, kernel=7)
    layers["bn1"] = norm2d(WIDTHS[0], norm)
    layers["relu"] = nn.ReLU()
    layers["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
    n_in = WIDTHS[0]
    for number, (count, width) in enumerate(zip(BLOCKS[depth], WIDTHS, strict=True), start=1):
        stage, n_in = _stage(depth, count, n_in, width, norm, dropout, checkpoint, stride=1 if number == 1 else 2)
        layers[f"layer{number}"] = stage
    layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(n_in, classes)
    net = ImageNetResNet(layers)
    draw_he(net)
    return net


def _stage(
    depth: int, count: int, n_in: int, width: int, norm: Norm, dropout: float, checkpoint: bool, stride: int
) -> tuple[Stage, int]:
    """The blocks of a stage, the first of which changes the shape; and the channels that leave it."""
    block, n_out = (Bottleneck, WIDER * width) if depth >= 50 else (BasicBlock, width)
    first = block(n_in, width, stride, norm, dropout)
    rest = [block(n_out, width, 1, norm, dropout) for _ in range(count - 1)]
    stage = Stage(first, *rest)
    stage.checkpointed = checkpoint
    return stage, n_out


def _projection(n_in: int, n_out: int, stride: int, norm: Norm) -> nn.Sequential | None:
    """Option B: a 1x1 convolution where the shape changes."""
    if n_in == n_out and stride == 1:
        return None
    return nn.Sequential(conv(n_in, n_out, norm, stride, kernel=1), norm2d(n_out, norm))
