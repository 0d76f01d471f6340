"""Penalties as sums over the weights, the projection onto a largest norm, and which weights they are on (N2.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

NORMS = (
    nn.modules.batchnorm._NormBase,  # batch and instance normalization
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


def penalised(model: nn.Module, *, everything: bool = False) -> list[nn.Parameter]:
    """The parameters that a penalty is on: weights that train, each once, also where layers share one.

    Not on biases and not on the scales and shifts of normalization layers, unless `everything`. They are few and cannot
    memorise; a bias that shrinks moves the outputs away from the mean of the targets; and a scale γ that is drawn to 0
    (where the network wants it near 1) silences its channel, which is not what a small weight does. A parameter with
    fewer than two dimensions counts as a bias, whatever its name.
    """
    return [p for p in eligible(model, everything=everything).values() if p.requires_grad]


def eligible(model: nn.Module, *, everything: bool = False) -> dict[str, nn.Parameter]:
    """The same by name, with those that are frozen now: they may train later."""
    spared = set() if everything else {id(p) for layer in model.modules() for p in _spared(layer)}
    return {name: p for name, p in model.named_parameters() if id(p) not in spared}


def _spared(layer: nn.Module) -> Iterator[nn.Parameter]:
    own = layer.parameters(recurse=False)
    return own if isinstance(layer, NORMS) else (p for p in own if p.dim() < 2)


def l1(model: nn.Module, strength: float, *, everything: bool = False) -> Tensor:
    """λ Σ |w|. Its pull λ sign(w) is the same for every weight: those that help too little go to 0 (truncation)."""
    return strength * _sum([w.abs().sum() for w in penalised(model, everything=everything)])


def l2(model: nn.Module, strength: float, *, everything: bool = False) -> Tensor:
    """λ Σ w². Its pull 2 λ w is in proportion to the weight: all shrink, none goes to 0 (shrinkage).

    With plain SGD this is `weight_decay` = 2 λ. With Adam it is not: there the pull is divided by the gradient's size, as
    the rest is (Loshchilov and Hutter 2019, section 2), which is why AdamW decays the weights beside the loss.
    """
    return strength * _sum([w.square().sum() for w in penalised(model, everything=everything)])


def elastic_net(model: nn.Module, l1_strength: float, l2_strength: float, *, everything: bool = False) -> Tensor:
    """λ₁ Σ |w| + λ₂ Σ w²: both at once (Zou and Hastie 2005, eq. 3)."""
    return l1(model, l1_strength, everything=everything) + l2(model, l2_strength, everything=everything)


def _sum(parts: list[Tensor]) -> Tensor:
    if not parts:
        raise ValueError(
            "the model has no weight that a penalty could be on: all are frozen, biases, or of normalization"
        )
    return torch.stack([part.to(parts[0].device) for part in parts]).sum()


def max_norm_(model: nn.Module, limit: float) -> None:
    """Project: every unit's incoming weights w become w · min(1, c / ‖w‖₂) (Srivastava et al. 2014, section 5.1).

    Changes the model in place; call it after each step of the optimizer. A unit is a row of a linear layer, an output
    channel of a convolution, or a row of an embedding. Frozen weights, biases and normalization are left alone.
    Raises ValueError if `limit` is not above 0.
    """
    check_limit(limit)
    project([(layer, weight) for layer, weight in with_layers(model) if weight.requires_grad], limit)


def check_limit(limit: float) -> None:
    if not 0 < limit < math.inf:
        raise ValueError(f"the limit of a norm is a number above 0, got {limit!r}")


def with_layers(model: nn.Module) -> list[tuple[nn.Module, nn.Parameter]]:
    """The weights that a penalty may be on, each with the first layer that holds it: its shape alone does not tell its units."""
    wanted = {id(weight) for weight in eligible(model).values()}
    found: dict[int, tuple[nn.Module, nn.Parameter]] = {}
    for layer in model.modules():
        for weight in layer.parameters(recurse=False):
            if id(weight) in wanted:
                found.setdefault(id(weight), (layer, weight))
    return list(found.values())


@torch.no_grad()
def project(weights: Sequence[tuple[nn.Module, Tensor]], limit: float) -> None:
    """w / max(1, ‖w‖₂ / c) for every unit of these weights, in place: within the limit that is w, to the last bit."""
    if not weights:
        return
    seen = [by_unit(layer, weight) for layer, weight in weights]
    excess = torch._foreach_div([torch.linalg.vector_norm(w, dim=dims, keepdim=True) for w, dims in seen], limit)
    torch._foreach_clamp_min_(excess, 1.0)
    torch._foreach_div_([w for w, _ in seen], excess)


def by_unit(layer: nn.Module, weight: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """A view of the weight, and the dimensions over which the incoming weights of one unit lie.

    A transposed convolution holds (C_in, C_out / g, *kernel) for g groups; everything else has its units first.
    """
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        grouped = weight.unflatten(0, (layer.groups, -1))  # (g, C_in / g, C_out / g, *kernel)
        return grouped, (1, *range(3, grouped.dim()))
    return weight, tuple(range(1, weight.dim()))
