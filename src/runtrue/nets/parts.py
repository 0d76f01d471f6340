"""What the networks are put together from: activations and normalisations by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

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
