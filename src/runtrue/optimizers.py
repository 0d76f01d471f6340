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
_OWN_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


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
