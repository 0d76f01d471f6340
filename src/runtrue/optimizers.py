"""Optimizers as values: a twin that shares nothing but the parameters, the same with another rate, the code that makes one."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

DEFAULT_RATE = 1e-3  # Adam's own default (Kingma and Ba 2015, algorithm 1)
BETA2 = 0.999  # the memory of Adam's squares, its own default (the same)
NAMES = ("sgd", "momentum", "nesterov", "adamw", "adam")
"""What `named` knows."""
_OWN_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


def named(
    name: str, groups: Iterable[Any], *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0
) -> Optimizer:
    """torch's optimizer of this name (N4.1) for these parameters or groups of parameters.

    `sgd`: x += -α ∇. `momentum`: v = μ v - α ∇, x += v, v from 0. `nesterov`: the gradient is taken where the momentum will
    have carried the weights, at x + μ v; torch keeps that point as the weights (Sutskever et al. 2013, eq. 3 and 4). torch
    multiplies by α when it adds v: at a constant rate that is the same, and when the rate changes, so does the whole of the
    next update. `adam` (Kingma and Ba 2015, algorithm 1) and `adamw` (Loshchilov and Hutter 2019, algorithm 2) take the
    momentum as β₁. `weight_decay` is for groups that have none of their own: part of the gradient, but for `adamw`, where it is
    decoupled. Raises ValueError for an unknown name.

    >>> named("nesterov", nn.Linear(2, 1).parameters(), lr=0.1).defaults["nesterov"]
    True
    """
    if name in ("adam", "adamw"):
        kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
        return kind(groups, lr=lr, betas=(momentum, BETA2), weight_decay=weight_decay)
    if name not in NAMES:
        raise ValueError(f"there is no optimizer {name!r} here; there are: {', '.join(NAMES)}")
    kept = 0.0 if name == "sgd" else momentum
    return torch.optim.SGD(groups, lr=lr, momentum=kept, nesterov=name == "nesterov", weight_decay=weight_decay)


def twin(optimizer: Optimizer, memo: dict[int, Any] | None = None) -> Optimizer:
    """An optimizer of the same class with the same settings and a copy of the state.

    It holds the same parameters, or their copies where `memo` (from `copy.deepcopy`) has them. Step hooks and a `step` that
    a scheduler wrapped stay with the original.
    """
    memo = dict(memo or {})
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            memo.setdefault(id(parameter), parameter)
    other: Optimizer = object.__new__(type(optimizer))
    own = {name: value for name, value in vars(optimizer).items() if name not in ("step", "state", "param_groups")}
    vars(other).update(
        {name: OrderedDict() if name in _OWN_HOOKS else _light(value, memo) for name, value in own.items()}
    )
    other.state = defaultdict(dict)
    for parameter, state in optimizer.state.items():
        other.state[memo.get(id(parameter), parameter)] = copy.deepcopy(state, memo)
    other.param_groups = [
        {name: _light(value, memo) for name, value in group.items()} for group in optimizer.param_groups
    ]
    return other


def _light(value: Any, memo: dict[int, Any]) -> Any:
    """A copy of a container (parameters in it as `memo` says) or of a tensor rate; anything else as it is."""
    if isinstance(value, list):
        return [_light(item, memo) for item in value]
    if isinstance(value, dict):
        return type(value)(value) if isinstance(value, OrderedDict) else {k: _light(v, memo) for k, v in value.items()}
    if isinstance(value, torch.Tensor):
        return memo[id(value)] if id(value) in memo else value.clone()
    return value


def adam(parameters: Iterable[nn.Parameter]) -> Optimizer:
    """What a task without an optimizer is trained with."""
    return torch.optim.Adam(parameters, lr=DEFAULT_RATE)


def with_rate(make: Callable[..., Optimizer] | Optimizer, factor: float) -> Callable[..., Optimizer] | Optimizer:
    """The same optimizer, or function that makes one, with every group's learning rate multiplied by `factor`."""
    if isinstance(make, Optimizer):
        return _scale(twin(make), factor)

    def scaled(parameters: Any) -> Optimizer:
        return _scale(make(parameters), factor)

    return scaled


def at_rate(make: Callable[..., Optimizer] | Optimizer, rate: float) -> Callable[..., Optimizer] | Optimizer:
    """The same optimizer, or function that makes one, with this learning rate in every group."""

    def given(parameters: Any) -> Optimizer:
        made = twin(make) if isinstance(make, Optimizer) else make(parameters)
        for group in made.param_groups:
            group["lr"] = rate
        return made

    return given(None) if isinstance(make, Optimizer) else given


def without_decay(make: Callable[..., Optimizer] | Optimizer) -> Callable[..., Optimizer] | Optimizer:
    """The same optimizer, or function that makes one, with no weight decay in any group."""
    return with_decay(make, 0.0)


def with_decay(make: Callable[..., Optimizer] | Optimizer, factor: float) -> Callable[..., Optimizer] | Optimizer:
    """The same optimizer, or function that makes one, with every group's weight decay multiplied by `factor`."""

    def given(parameters: Any) -> Optimizer:
        made = twin(make) if isinstance(make, Optimizer) else make(parameters)
        for group in made.param_groups:
            if group.get("weight_decay"):
                group["weight_decay"] *= factor
        return made

    return given(None) if isinstance(make, Optimizer) else given


def with_momentum(make: Callable[..., Optimizer] | Optimizer, momentum: float) -> Callable[..., Optimizer] | Optimizer:
    """The same optimizer, or function that makes one, with this momentum in every group that knows one."""

    def given(parameters: Any) -> Optimizer:
        made = twin(make) if isinstance(make, Optimizer) else make(parameters)
        for group in made.param_groups:
            if "momentum" in group:
                group["momentum"] = momentum
        return made

    return given(None) if isinstance(make, Optimizer) else given


def adam_on_the_same(make: Callable[..., Optimizer] | Optimizer) -> Callable[..., Optimizer] | Optimizer:
    """Adam at 1e-3 on the parameters that this optimizer, or function that makes one, holds; each group keeps its decay.

    An AdamW stays one: its decay means something else.
    """

    def given(parameters: Any) -> Optimizer:
        made = make if isinstance(make, Optimizer) else make(parameters)
        kind = torch.optim.AdamW if isinstance(made, torch.optim.AdamW) else torch.optim.Adam
        groups = [
            {"params": list(group["params"]), "weight_decay": group.get("weight_decay", 0.0)}
            for group in made.param_groups
        ]
        return kind(groups, lr=DEFAULT_RATE)

    return given(None) if isinstance(make, Optimizer) else given


def _scale(optimizer: Optimizer, factor: float) -> Optimizer:
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * factor
    if "lr" in optimizer.defaults:
        optimizer.defaults["lr"] = optimizer.defaults["lr"] * factor
    return optimizer


def rebuilt(optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """A fresh optimizer of the same class and settings (those of its first group) that holds these parameters."""
    other = twin(optimizer)
    other.state = defaultdict(dict)
    group = {name: value for name, value in other.param_groups[0].items() if name != "params"}
    other.param_groups = [{"params": list(parameters), **group}]
    if hasattr(other, "_params"):  # LBFGS keeps its own list
        other._params = other.param_groups[0]["params"]
    return other


def rate(optimizer: Optimizer) -> float:
    """The learning rate of the first group."""
    return float(optimizer.param_groups[0].get("lr", float("nan")))


def code(optimizer: Optimizer, parameters: str = "model.parameters()", **changes: Any) -> str:
    """The line that builds this optimizer: its class and every setting of the first group that is not the class's default."""
    group = {k: v for k, v in optimizer.param_groups[0].items() if k not in ("params", "initial_lr")} | changes
    probe = _defaults_of(type(optimizer))
    shown = {k: v for k, v in group.items() if k == "lr" or (k in probe and _plain(v) and v != probe[k])}
    module = "torch.optim." if type(optimizer).__module__.startswith("torch.optim") else ""
    settings = "".join(f", {name}={_number(value)}" for name, value in shown.items())
    return f"{module}{type(optimizer).__name__}({parameters}{settings})"


def _defaults_of(kind: type[Optimizer]) -> dict[str, Any]:
    try:
        return dict(kind([nn.Parameter(torch.zeros(1))], lr=1.0).defaults)  # type: ignore[call-arg]
    except (TypeError, ValueError):
        return {}


def _plain(value: Any) -> bool:
    return isinstance(value, (int, float, bool, tuple))


def _number(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        value = float(value)
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
