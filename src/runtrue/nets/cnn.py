"""A plain small convolutional network: the healthy middle ground between a perceptron and a ResNet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from runtrue.nets.parts import Norm, activation_named, check_dropout, check_norm


def cnn(
    channels: Sequence[int] = (16, 32),
    classes: int = 10,
    in_channels: int = 1,
    norm: Norm = None,
    activation: str = "relu",
    size: int | tuple[int, int] = 28,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Images (B, in_channels, H, W) -> raw outputs (B, classes), weights as torch leaves them. `size` is (H, W), or both.

    One stage for each entry of `channels`: `convI` (3 by 3, padded), `normI` (if any), `actI`, `poolI` (2 by 2
    maximum), I from 1; then `flatten`, `dropout` (if any) and `head`. Dropout stands in front of the linear layer alone, as
    in Krizhevsky et al. 2012, section 4.2: there most of the weights are.

    Raises ValueError if there is no stage, or one without channels, if the image is too small for so many halvings, or for an
    unknown activation or normalisation, or a dropout outside 0 <= p < 1.

    >>> list(dict(cnn(channels=(8,)).named_children()))
    ['conv1', 'act1', 'pool1', 'flatten', 'head']
    """
    height, width = (size, size) if isinstance(size, int) else size
    side, stages = min(height, width), len(channels)
    if not channels or side >> stages < 1:
        most = side.bit_length() - 1
        raise ValueError(f"{stages} stages, each halving the side of {side} pixels: need 1 to {most}")
    if min(channels) < 1:
        raise ValueError(f"channels must be positive numbers, got {list(channels)}")
    check_norm(norm)
    check_dropout(dropout)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (n_in, n_out) in enumerate(zip((in_channels, *channels), channels), start=1):
        layers[f"conv{number}"] = nn.Conv2d(n_in, n_out, kernel_size=3, padding=1)
        if norm:
            layers[f"norm{number}"] = nn.BatchNorm2d(n_out)
        layers[f"act{number}"] = activation_named(activation)
        layers[f"pool{number}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    layers["head"] = nn.Linear(channels[-1] * (height >> stages) * (width >> stages), classes)
    return nn.Sequential(layers)
