"""New weights for a model, each layer by the activation that follows it in a real forward pass."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Generator, nn

from runtrue.init import schemes
from runtrue.init.lsuv import unit_variance
from runtrue.init.passes import HOW_TO_GIVE_AN_EXAMPLE
from runtrue.init.plan import Applied, Target, targets
from runtrue.init.schemes import RECTIFIERS, Fans, gain_for, he_std, lecun_std, xavier_std
from runtrue.tape import Tape

SCHEMES = (
    "auto", "lsuv", "he_normal", "he_uniform", "xavier_normal", "xavier_uniform", "lecun_normal", "orthogonal", "zeros"
)  # fmt: skip


def apply(
    model: nn.Module,
    scheme: str = "auto",
    *,
    example: Any = None,
    only: Collection[str] | None = None,
    include_pretrained: bool = False,
    generator: Generator | None = None,
    trace: Tape | None = None,
) -> list[Applied]:
    """Draw new weights in place for the linear and convolution layers that run; say for each what was done.

    "auto" looks at what follows the layer, also when it is called as a function or after a residual sum: He for relu
    and its family (leaky_relu with its slope), LeCun for selu, Xavier for tanh, sigmoid and no activation (the output).
    The other schemes do the same for all layers; "lsuv" is `lsuv` with its defaults.

    `example` is an input as the model takes it: a tensor, a tuple for several, a dict for keywords; `trace` a tape of a
    pass already made. `only` restricts to the layers or modules named. Biases of new layers become 0. Left alone, each
    with its reason: normalizations, embeddings, recurrent and attention layers (their gates and projections have a
    start of their own), weights computed from others, frozen weights, and, unless `include_pretrained`, weights that
    `looks_trained` and all in front of them.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> for done in apply(net):
    ...     print(done.layer, done.scheme, done.activation, round(done.std, 3))
    0 he_normal relu 0.707
    2 xavier_normal None 0.447
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown scheme {scheme!r}; there are {', '.join(SCHEMES)}")
    if scheme == "lsuv" and example is None:
        raise ValueError(f"lsuv measures the outputs on an example; {HOW_TO_GIVE_AN_EXAMPLE}")
    found = targets(model, example, None if scheme == "lsuv" else trace, only, include_pretrained)
    if scheme == "lsuv":
        return unit_variance(model, example, found, generator=generator)
    with torch.no_grad():
        return [target.applied(None, None) if target.reason else _fill(target, scheme, generator) for target in found]


def scheme_for(activation: str | None) -> str:
    """The scheme that "auto" picks for what follows a layer.

    >>> [scheme_for(activation) for activation in ("relu", "selu", "tanh", None)]
    ['he_normal', 'lecun_normal', 'xavier_normal', 'xavier_normal']
    """
    if activation in RECTIFIERS:
        return "he_normal"
    return "lecun_normal" if activation == "selu" else "xavier_normal"


def _fill(target: Target, scheme: str, generator: Generator | None) -> Applied:
    """One layer: its weight by the scheme, its bias zero."""
    activation = target.layer.activation
    slope = (target.layer.slope or 0.0) if activation == "leaky_relu" else 0.0
    scheme = scheme_for(activation) if scheme == "auto" else scheme
    gain = gain_for(activation, slope) if scheme == "orthogonal" else 1.0
    if scheme == "orthogonal":
        schemes.orthogonal(target.weight, gain, groups=target.groups, generator=generator)
        std = float(target.weight.double().square().mean().sqrt())
    else:
        std = _std(scheme, target.size, slope)
        if scheme.endswith("uniform"):
            schemes.uniform(target.weight, math.sqrt(3) * std, generator)
        else:
            schemes.normal(target.weight, std, generator)
    if target.bias is not None:
        schemes.zeros(target.bias)
    return target.applied(scheme, std, gain, slope)


def _std(scheme: str, size: Fans, slope: float) -> float:
    if scheme.startswith("he"):
        return he_std(size, slope)
    if scheme.startswith("xavier"):
        return xavier_std(size)
    return lecun_std(size) if scheme == "lecun_normal" else 0.0
