"""What the networks are put together from: activations and normalisations by name, convolutions, He's weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

Norm = Literal["batch"] | None
"""Batch normalisation, or none."""

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}


def activation_named(name: str) -> nn.Module:
    """A new activation layer. Raises ValueError that lists the names for a name not in `ACTIVATIONS`."""
    if name not in ACTIVATIONS:
        raise ValueError(f"there is no activation {name!r} here; there are: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def check_norm(norm: str | None) -> None:
    """Raises ValueError unless `norm` is None or "batch"."""
    if norm not in (None, "batch"):
        raise ValueError(f'norm must be "batch" or None, not {norm!r}')


def check_dropout(dropout: float) -> None:
    """Raises ValueError unless `dropout` is a probability below 1."""
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout is a probability, 0 <= p < 1, got {dropout}")


def conv(n_in: int, n_out: int, norm: Norm, stride: int = 1, kernel: int = 3) -> nn.Conv2d:
    """A convolution that keeps the image's size, or divides it by `stride`. It has a bias only without normalisation."""
    return nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2, bias=norm is None)


def norm2d(channels: int, norm: Norm) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


@torch.no_grad()
def draw_he(net: nn.Module) -> None:
    """Convolutions from N(0, 2 / fan_in), biases 0 ("Delving Deep into Rectifiers", He et al. 2015, eq. 10)."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                layer.bias.zero_()
