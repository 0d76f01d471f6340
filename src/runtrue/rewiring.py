"""A model whose functions are called in another way: for what its code calls itself, where no module can be exchanged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from runtrue.calls import DROPOUTS
from runtrue.surgery import Wrapper
from runtrue.tape import activation_of


class Rule(Protocol):
    """How one call of a torch function is made. `seen` counts the calls of this pass, by a key that the rule chooses."""

    def __call__(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], seen: Counter[str]
    ) -> Any: ...


class _Rewiring(TorchFunctionMode):
    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule, self.seen = rule, Counter[str]()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        return self.rule(func, name if name.startswith("__") else name.strip("_"), args, dict(kwargs or {}), self.seen)


class Rewired(Wrapper):
    """A network whose functions are called by a rule: for what its code calls itself, where no module can be exchanged."""

    def __init__(
        self, network: nn.Module, rule: Rule, *, only_training: bool = False, only_evaluation: bool = False
    ) -> None:
        super().__init__(network)
        self.rule = rule
        self.only_training, self.only_evaluation = only_training, only_evaluation

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if (self.only_training and not self.training) or (self.only_evaluation and self.training):
            return self.network(*inputs, **named)
        with _Rewiring(self.rule):
            return self.network(*inputs, **named)


class RewiredStep:
    """A user's step (model, batch) -> loss, with the functions inside called by a rule while the model trains."""

    def __init__(self, step: Callable[[nn.Module, Any], Tensor], rule: Rule) -> None:
        self.step, self.rule = step, rule

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        with _Rewiring(self.rule):
            return self.step(model, batch)


@dataclass(frozen=True)
class OtherActivations:
    """Activations, by name and place in the order of their calls, become `other` (a function of torch.nn.functional)."""

    calls: tuple[tuple[str, int], ...]
    other: str = "relu"

    def __call__(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], seen: Counter[str]
    ) -> Any:
        activation = activation_of(name, args, kwargs)
        if activation is None:
            return func(*args, **kwargs)
        number = seen[activation]
        seen[activation] += 1
        if (activation, number) not in self.calls:
            return func(*args, **kwargs)
        return getattr(F, self.other)(args[0] if args else kwargs["input"])


@dataclass(frozen=True, eq=False)
class ActivationAfter:
    """What a function makes of one of these weights goes through `activation` (a function of torch)."""

    weights: tuple[nn.Parameter, ...]
    activation: str = "relu"

    def __call__(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], seen: Counter[str]
    ) -> Any:
        result = func(*args, **kwargs)
        used = isinstance(result, Tensor) and any(a is w for a in (*args, *kwargs.values()) for w in self.weights)
        return getattr(torch, self.activation)(result) if used and not name.startswith("__get") else result


@dataclass(frozen=True, eq=False)
class AsInTraining:
    """Dropout as in training, and batch normalization where its running mean is one of these, whatever their modes."""

    running_means: tuple[Tensor, ...] = ()

    def __call__(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], seen: Counter[str]
    ) -> Any:
        mean = args[1] if len(args) > 1 else kwargs.get("running_mean")
        if name in DROPOUTS:
            return _with(func, args, kwargs, 2, "training", True)
        if name == "batch_norm" and any(mean is known for known in self.running_means):
            return _with(func, args, kwargs, 5, "training", True)
        return func(*args, **kwargs)


@dataclass(frozen=True)
class DropoutAt:
    """Dropout with at most this probability."""

    most: float

    def __call__(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], seen: Counter[str]
    ) -> Any:
        if name in DROPOUTS:
            p = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
            return _with(func, args, kwargs, 1, "p", min(float(p), self.most))
        if name == "scaled_dot_product_attention" and kwargs.get("dropout_p"):
            kwargs["dropout_p"] = min(kwargs["dropout_p"], self.most)
        return func(*args, **kwargs)


WRITERS = {
    "clamp",
    "clamp_min",
    "clamp_max",
    "clip",
    "renorm",
    "mul",
    "div",
    "copy",
    "fill",
    "zero",
    "sub",
    "add",
    "__set__",
}
"""Functions that write into their first argument (those that end with an underscore, and the setter of `.data`)."""


@dataclass(frozen=True, eq=False)
class Unwritten:
    """Nothing is written into these parameters, whatever the code does in place; what it would have written is thrown away."""

    parameters: tuple[nn.Parameter, ...]

    def __call__(
        self, func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any], seen: Counter[str]
    ) -> Any:
        writes = name in WRITERS and getattr(func, "__name__", "").endswith("_")
        if writes and args and isinstance(args[0], Tensor) and self._is_one(args[0]):
            return args[0]
        return func(*args, **kwargs)

    def _is_one(self, tensor: Tensor) -> bool:
        with torch._C.DisableTorchFunction():
            return any(tensor.data_ptr() == p.data_ptr() for p in self.parameters)


def _with(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], at: int, name: str, value: Any
) -> Any:
    """The call with one of its arguments exchanged, whether it was given by place or by name."""
    if len(args) > at:
        return func(*args[:at], value, *args[at + 1 :], **kwargs)
    return func(*args, **{**kwargs, name: value})
