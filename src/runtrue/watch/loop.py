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


def named_held(model: nn.Module, optimizer: Optimizer) -> dict[str, nn.Parameter]:
    """Parameters of an optimizer by their names in the model; those of another model by their place in the optimizer."""
    names = {id(p): name for name, p in model.named_parameters(remove_duplicate=False)}
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
        self.counts["backward"] += 1
        self._waiting = False
        self._follows(backward=True)

    def _follows(self, backward: bool) -> None:
        if self._stepped:
            self._stepped, self._backward_first = False, backward

    def step(self, optimizer: Optimizer, closure: bool) -> None:
        self.counts["step"] += 1
        if not closure and not any(p.grad is not None for p in parameters_of(optimizer)):
            self.counts["empty step"] += 1
        elif self._waiting and self._backward_first and not closure:
            self.counts["early step"] += 1
        if not self._trained_in:
            self.counts["stepped in evaluation"] += 1
        self._stepped = True


@dataclass(eq=False)
class Witness:
    """One small parameter of an optimizer, seen in every step: whether gradients were cleared, clipped, or lost."""

    parameter: nn.Parameter
    loop: Loop
    wanted: bool = False
    """This step is read."""
    stepped: bool = False
    stale: Tensor | None = None
    """() bool: what lies in the gradient is in part of batches before the last step; None if not."""
    before: Tensor | None = None
    """Norm of the gradient as the backward pass left it; kept in a step that is read."""
    lost: bool = False
    """A gradient was no number. Told on the CPU alone, where asking waits for nobody."""

    def fresh(self, gradient: Tensor) -> None:
        """A backward pass brought a gradient, which is not added yet."""
        self.loop.backward()
        old = self.parameter.grad
        if old is None or old.is_sparse:
            self.stale = None
        else:
            dirty = old.detach().abs().sum() > 0
            was = torch.ones_like(dirty) if self.stepped else self.stale
            self.stale = None if was is None else was & dirty
        self.stepped = False
        if gradient.device.type == "cpu" and not gradient.is_sparse:
            self.lost = self.lost or not abs(float(gradient.sum())) < float("inf")

    def added(self, parameter: nn.Parameter) -> None:
        self.before = self.norm() if self.wanted else None

    def norm(self) -> Tensor:
        gradient = self.parameter.grad
        assert gradient is not None
        return gradient.detach().norm()


def witness_among(parameters: Iterable[nn.Parameter], loop: Loop) -> Witness | None:
    """The last bias that has a gradient, or else the smallest weight."""
    known = [p for p in parameters if p.grad is not None and not p.grad.is_sparse and p.is_leaf]
    flat = [p for p in known if p.dim() < 2]
    chosen = flat[-1] if flat else min(known, key=lambda p: p.numel(), default=None)
    return None if chosen is None else Witness(chosen, loop)


def parameters_of(optimizer: Optimizer) -> Iterator[nn.Parameter]:
    for group in optimizer.param_groups:
        yield from group["params"]


def facts(model: nn.Module, optimizers: Iterable[Optimizer]) -> dict[str, Any]:
    """How the model and its optimizers stand to each other; names and numbers, looked up when a step is read."""
    optimizers = list(optimizers)
    held = {id(p) for one in optimizers for p in parameters_of(one)}
    still = {id(p) for one in optimizers for group in one.param_groups if _zero(group["lr"]) for p in group["params"]}
    named = dict(model.named_parameters())
    dependent = [(name, m) for name, m in model.named_modules() if depends_on_mode(m)]
    norms = [(name, m) for name, m in dependent if isinstance(m, _BatchNorm) and m.track_running_stats]
    return {
        "optimizers": len(optimizers),
        "parameters": len(named),
        "names": list(named),
        "foreign": len(held - {id(p) for p in model.parameters()}),
        "held": len(held),
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
