"""A plain small convolutional network: the healthy middle ground between a perceptron and a ResNet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from runtrue.nets.parts import Norm, activation_named, check_norm


def cnn(
    channels: Sequence[int] = (16, 32),
    classes: int = 10,
    in_channels: int = 1,
    norm: Norm = None,
    activation: str = "relu",
    size: int = 28,
) -> nn.Sequential:
    """Images (B, in_channels, size, size) -> raw outputs (B, classes), weights as torch leaves them.

    One stage for each entry of `channels`: `convI` (3 by 3, padded), `normI` (if any), `actI`, `poolI` (2 by 2
    maximum), I from 1; then `flatten` and `head`.

    Raises ValueError if there is no stage, if the image is too small for so many halvings, or for an unknown activation
    or normalisation.

    >>> list(dict(cnn(channels=(8,)).named_children()))
    ['conv1', 'act1', 'pool1', 'flatten', 'head']
    """
    side = size >> len(channels)
    if not channels or side < 1:
        most = size.bit_length() - 1
        raise ValueError(f"{len(channels)} stages, each halving the side of {size} pixels: need 1 to {most}")
    check_norm(norm)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (n_in, n_out) in enumerate(zip((in_channels, *channels), channels), start=1):
        layers[f"conv{number}"] = nn.Conv2d(n_in, n_out, kernel_size=3, padding=1)
        if norm:
            layers[f"norm{number}"] = nn.BatchNorm2d(n_out)
        layers[f"act{number}"] = activation_named(activation)
        layers[f"pool{number}"] = nn.MaxPool2d(2)
    layers["flatten"] = nn.Flatten()
    layers["head"] = nn.Linear(channels[-1] * side * side, classes)
    return nn.Sequential(layers)
