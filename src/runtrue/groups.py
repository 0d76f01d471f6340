"""Parameter groups: which weights decay, and which layers learn at a rate of their own (N1.1, N2.1).

>>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
>>> for group in parameter_groups(net, lr=0.1, weight_decay=1e-4, head=10):
...     print(group["name"], group["lr"], group["weight_decay"], len(group["params"]))
weights 0.1 0.0001 1
biases and norms 0.1 0.0 1
2 weights 1.0 0.0001 1
2 biases and norms 1.0 0.0 1
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from torch import nn

from runtrue.penalties import penalised

NEAREST = 3
"""Names that an error about an unknown prefix offers."""


def parameter_groups(
    model: nn.Module,
    lr: float,
    *,
    weight_decay: float = 0.0,
    rates: Mapping[str, float] | None = None,
    head: float = 1.0,
) -> list[dict[str, Any]]:
    """Groups for any optimizer of torch: each with "name", "params", "lr" and "weight_decay".

    No decay on biases and normalization parameters, as for penalties. `rates` maps the name of a layer, or the beginning of
    names ("features.0"), to a factor on `lr`; where several fit, the longest counts. `head` is the factor of the last layer
    (N1.1: a new head learns faster than what is in front of it). What has a factor of 0, and what is frozen, is in no group:
    `left_out` names it, and whoever freezes a layer turns its gradients off. Weights and the rest are parted even without
    decay, so that a saved state of the optimizer fits later on.

    Raises ValueError for a name that no layer with parameters has, a factor below 0, or if nothing is left to train.
    """
    factors = _factors(rates or {}, head_of(model), head)
    _check(model, factors)
    decays = {id(p) for p in penalised(model)}
    found: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        prefix = _longest(name, factors)
        if not parameter.requires_grad or factors[prefix] == 0:
            continue
        weight = id(parameter) in decays
        rate, decay = lr * factors[prefix], weight_decay if weight else 0.0
        empty = {"name": _titled(prefix, weight), "params": [], "lr": rate, "weight_decay": decay}
        found.setdefault((prefix, weight), empty)["params"].append(parameter)
    if not found:
        raise ValueError("no parameter is left to train: all are frozen, or have a factor of 0")
    return [found[key] for key in sorted(found, key=lambda key: (list(factors).index(key[0]), not key[1]))]


def left_out(model: nn.Module, rates: Mapping[str, float] | None = None, *, head: float = 1.0) -> tuple[str, ...]:
    """The names of the parameters that are in no group: frozen, or with a factor of 0."""
    factors = _factors(rates or {}, head_of(model), head)
    _check(model, factors)
    return tuple(
        name for name, p in model.named_parameters() if not p.requires_grad or factors[_longest(name, factors)] == 0
    )


def head_of(model: nn.Module) -> str:
    """The name of the last layer that has a weight matrix of its own; "" if there is none, or the model is that layer."""
    owners = [
        name for name, layer in model.named_modules() if any(p.dim() > 1 for p in layer.parameters(recurse=False))
    ]
    return owners[-1] if owners else ""


def _factors(rates: Mapping[str, float], head: str, factor: float) -> dict[str, float]:
    """Prefix -> factor, "" for all that no other fits. A rate that is given for the head counts more than `head`."""
    return {"": 1.0, **({head: factor} if factor != 1 else {}), **rates}


def _check(model: nn.Module, factors: Mapping[str, float]) -> None:
    names = [name for name, _ in model.named_parameters()]
    for prefix, factor in factors.items():
        if not 0 <= factor < math.inf:
            raise ValueError(f"the factor of {prefix!r} must be a number from 0 up, got {factor!r}")
        if not any(_fits(name, prefix) for name in names):
            known = sorted({part for name in names for part in _beginnings(name)})
            near = get_close_matches(prefix, known, NEAREST, cutoff=0.0)
            raise ValueError(f"no layer with parameters is called {prefix!r}; nearest: {', '.join(near)}")


def _fits(name: str, prefix: str) -> bool:
    return not prefix or name == prefix or name.startswith(f"{prefix}.")


def _longest(name: str, prefixes: Iterable[str]) -> str:
    return max((prefix for prefix in prefixes if _fits(name, prefix)), key=len)


def _beginnings(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _titled(prefix: str, weight: bool) -> str:
    return f"{prefix} {'weights' if weight else 'biases and norms'}".strip()
