"""What a training loop does with its model and its optimizers, step by step: facts that no look at the parts can tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import Optimizer


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own network within what torch puts around it: the paths of layers are counted from there."""
    while True:
        inner = getattr(model, "_orig_mod", None)  # of torch.compile
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def called(model: nn.Module) -> list[nn.Module]:
    """What a training calls: the model, or the parts of a mere container of several networks."""
    return list(model.children()) if isinstance(model, (nn.ModuleList, nn.ModuleDict)) else [model]


def compiled(model: nn.Module) -> bool:
    """torch.compile runs this model, or a part of it: what happens inside cannot be seen."""
    return any(getattr(m, "_compiled_call_impl", None) is not None or hasattr(m, "_orig_mod") for m in model.modules())


def named_held(model: nn.Module, optimizer: Optimizer) -> dict[str, nn.Parameter]:
    """Parameters of an optimizer by their names in the model; those of another model by their place in the optimizer."""
    names = {id(p): name for name, p in unwrapped(model).named_parameters(remove_duplicate=False)}
    found: dict[str, nn.Parameter] = {}
    for g, group in enumerate(optimizer.param_groups):
        for i, parameter in enumerate(group["params"]):
            found[names.get(id(parameter), f"group {g}, parameter {i}")] = parameter
    return found


def depends_on_mode(module: nn.Module) -> bool:
    """Dropout that drops something, and normalization by the batch."""
    if isinstance(module, _DropoutNd):
        return module.p > 0
    return isinstance(module, _BatchNorm) or (
        isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) and module.dropout > 0
    )


@dataclass(eq=False)
class Loop:
    """Counts since the start. Keys: forward passes by ("gradient" or "free") and ("training" or "evaluation"); "backward";
    "step"; "empty step", which found no gradient; "early step", between a forward pass and its backward pass, where the backward
    pass of the step before came behind that step; "stepped in evaluation"; "untold loss"."""

    counts: Counter[str] = field(default_factory=Counter)
    _waiting: bool = False
    _trained_in: bool = True
    _stepped: bool = False
    _backward_first: bool = False
    """The first thing after the last step was a backward pass."""

    def forward(self, training: bool) -> None:
        kind = "gradient" if torch.is_grad_enabled() else "free"
        self.counts[f"{kind}, {'training' if training else 'evaluation'}"] += 1
        if kind == "gradient":
            self._waiting, self._trained_in = True, training
            self._follows(backward=False)

    def backward(self) -> None:
        """A gradient reached a parameter."""
        self.counts["backward"] += 1
        self._waiting = False
        self._follows(backward=True)

    def _follows(self, backward: bool) -> None:
        if self._stepped:
            self._stepped, self._backward_first = False, backward

    def came_back(self) -> None:
        """A gradient reached the outputs of the model."""
        self._waiting = False

    def step(self, optimizer: Optimizer, closure: bool) -> None:
        self.counts["step"] += 1
        if not closure and not any(p.grad is not None for p in parameters_of(optimizer)):
            self.counts["empty step"] += 1
        elif self._waiting and self._backward_first and not closure:
            self.counts["early step"] += 1
        if not self._trained_in:
            self.counts["stepped in evaluation"] += 1
        self._stepped = True


def parameters_of(optimizer: Optimizer) -> Iterator[nn.Parameter]:
    for group in optimizer.param_groups:
        yield from group["params"]


def facts(model: nn.Module, optimizers: Iterable[Optimizer]) -> dict[str, Any]:
    """How the model and its optimizers stand to each other; names and numbers, looked up when a step is read."""
    optimizers = list(optimizers)
    held = {id(p): p for one in optimizers for p in parameters_of(one)}
    still = {id(p) for one in optimizers for group in one.param_groups if _zero(group["lr"]) for p in group["params"]}
    core = unwrapped(model)
    named = dict(core.named_parameters())
    dependent = [(name, m) for name, m in core.named_modules() if depends_on_mode(m)]
    norms = [(name, m) for name, m in dependent if isinstance(m, _BatchNorm) and m.track_running_stats]
    return {
        "optimizers": len(optimizers),
        "parameters": len(named),
        "names": list(named),
        "foreign": len(held.keys() - {id(p) for p in model.parameters()}),
        "held": len(held),
        "held and asking": sum(p.requires_grad for p in held.values()),
        "not held": [name for name, p in named.items() if p.requires_grad and id(p) not in held],
        "frozen": [name for name, p in named.items() if not p.requires_grad],
        "at rate 0": [name for name, p in named.items() if id(p) in still],
        "by mode": [name for name, _ in dependent],
        "dropouts in training": [name for name, m in dependent if not isinstance(m, _BatchNorm) and m.training],
        "frozen norms that move": [name for name, m in norms if m.training and _frozen(m)],
    }


def _zero(rate: Any) -> bool:
    return not isinstance(rate, Tensor) and float(rate) == 0.0


def _frozen(norm: _BatchNorm) -> bool:
    own = list(norm.parameters(recurse=False))
    return bool(own) and not any(p.requires_grad for p in own)
