"""Penalties as values, to be attached to an optimizer: what each does to the weights in a step (N2.1).

All are on the weights that `penalised` names, as far as the optimizer holds them, each at the learning rate of its own group.
Clipping that comes before `step` does not see them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import nn
from torch.optim import Optimizer

from runtrue.penalties.attached import (
    Attached,
    Weights,
    after_update,
    before_update,
    check_optimizer,
    cut,
    pull,
    shrink,
    stepping,
    weights_of,
)
from runtrue.penalties.terms import check_limit, eligible, project, with_layers


@dataclass(frozen=True)
class L1:
    """λ Σ |w|: what is noise gets no weight at all (truncation).

    `proximal`: after each step, w becomes sign(w) max(|w| - α λ, 0), α the learning rate (the proximal operator of α λ |w|;
    Parikh and Boyd 2014, section 6.5.2). Weights that help too little become exactly 0, and stay there.
    `subgradient`: λ sign(w) is added to the gradient, as the penalty in a loss would do it: small weights are thrown to and fro
    across 0, and none stays there. With Adam the pull is divided by the gradient's size there, and not in the proximal form.

    >>> net = nn.Linear(3, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = net.weight.copy_(torch.tensor([[0.5, -0.5, 0.01]]))
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> _ = L1(strength=1.0).attach(net, optimizer)
    >>> net(torch.zeros(1, 3)).sum().backward()
    >>> optimizer.step()
    >>> [round(w, 6) for w in net.weight[0].tolist()]
    [0.4, -0.4, 0.0]
    """

    strength: float
    how: Literal["proximal", "subgradient"] = "proximal"
    everything: bool = False

    def __post_init__(self) -> None:
        _check("L1", self.strength, self.how, ("proximal", "subgradient"))

    def attach(self, model: nn.Module, optimizer: Optimizer) -> Attached:
        """Takes part in every step of `optimizer` from now on. Raises ValueError if it holds none of the model's weights."""
        weights = _weights("L1", model, optimizer, self.everything)
        act = partial(self._cut if self.how == "proximal" else self._pull, optimizer, weights)
        return Attached(((after_update if self.how == "proximal" else before_update)(optimizer, act),))

    @torch.no_grad()
    def _cut(self, optimizer: Optimizer, weights: Weights) -> None:
        for rate, group, _ in stepping(optimizer, weights):
            cut(group, rate * self.strength)

    @torch.no_grad()
    def _pull(self, optimizer: Optimizer, weights: Weights) -> None:
        for _, group, gradients in stepping(optimizer, weights):
            pull(optimizer, gradients, torch._foreach_sign(group), self.strength)


@dataclass(frozen=True)
class L2:
    """λ Σ w²: all weights shrink (shrinkage).

    `decoupled`: before the update, w becomes w (1 - 2 α λ), α the learning rate: AdamW's `weight_decay` = 2 λ (Loshchilov and
    Hutter 2019, algorithm 2), for any optimizer. `penalty`: 2 λ w is added to the gradient, as the penalty in a loss would do
    it: the `weight_decay` = 2 λ of SGD and Adam. With SGD without momentum both are the same.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> with torch.no_grad():
    ...     _ = net.weight.copy_(torch.tensor([[1.0, -2.0]]))
    >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> _ = L2(strength=0.5).attach(net, optimizer)
    >>> net(torch.zeros(1, 2)).sum().backward()
    >>> optimizer.step()
    >>> [round(w, 6) for w in net.weight[0].tolist()]
    [0.9, -1.8]
    """

    strength: float
    how: Literal["decoupled", "penalty"] = "decoupled"
    everything: bool = False

    def __post_init__(self) -> None:
        _check("L2", self.strength, self.how, ("decoupled", "penalty"))

    def attach(self, model: nn.Module, optimizer: Optimizer) -> Attached:
        """Takes part in every step of `optimizer` from now on. Raises ValueError if it holds none of the model's weights."""
        weights = _weights("L2", model, optimizer, self.everything)
        act = partial(self._shrink if self.how == "decoupled" else self._pull, optimizer, weights)
        return Attached((before_update(optimizer, act),))

    @torch.no_grad()
    def _shrink(self, optimizer: Optimizer, weights: Weights) -> None:
        for rate, group, _ in stepping(optimizer, weights):
            shrink(group, rate * (2 * self.strength))

    @torch.no_grad()
    def _pull(self, optimizer: Optimizer, weights: Weights) -> None:
        for _, group, gradients in stepping(optimizer, weights):
            pull(optimizer, gradients, group, 2 * self.strength)


@dataclass(frozen=True)
class ElasticNet:
    """λ₁ Σ |w| + λ₂ Σ w²: `L1` and `L2` at once (Zou and Hastie 2005, eq. 3).

    `proximal`: L1 by its proximal step, L2 decoupled. `penalty`: both pulls are added to the gradient.
    """

    l1: float
    l2: float
    how: Literal["proximal", "penalty"] = "proximal"
    everything: bool = False

    def __post_init__(self) -> None:
        for strength in (self.l1, self.l2):
            _check("ElasticNet", strength, self.how, ("proximal", "penalty"))

    def attach(self, model: nn.Module, optimizer: Optimizer) -> Attached:
        """Takes part in every step of `optimizer` from now on. Raises ValueError if it holds none of the model's weights."""
        as_penalty = self.how == "penalty"
        first = L1(self.l1, "subgradient" if as_penalty else "proximal", self.everything)
        second = L2(self.l2, "penalty" if as_penalty else "decoupled", self.everything)
        return Attached(first.attach(model, optimizer).handles + second.attach(model, optimizer).handles)


@dataclass(frozen=True)
class MaxNorm:
    """After each step, the incoming weights w of every unit become w · min(1, c / ‖w‖₂), as `max_norm_` does it.

    Attach it after L1, so that it has the last word.
    """

    limit: float

    def __post_init__(self) -> None:
        check_limit(self.limit)

    def attach(self, model: nn.Module, optimizer: Optimizer) -> Attached:
        """Takes part in every step of `optimizer` from now on. Raises ValueError if it holds none of the model's weights."""
        weights_of("MaxNorm", eligible(model), optimizer)
        pairs = with_layers(model)

        def act() -> None:
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            project([(layer, w) for layer, w in pairs if w.requires_grad and id(w) in held], self.limit)

        return Attached((after_update(optimizer, act),))


Penalty = L1 | L2 | ElasticNet | MaxNorm


def of(l1: float = 0.0, l2: float = 0.0, max_norm: float | None = None) -> tuple[Penalty, ...]:
    """The penalties that these strengths ask for, in the order in which to attach them: proximal L1, decoupled L2, max-norm.

    >>> of(l1=1e-5, max_norm=3.0)
    (L1(strength=1e-05, how='proximal', everything=False), MaxNorm(limit=3.0))
    """
    found: list[Penalty] = []
    if l1 and l2:
        found.append(ElasticNet(l1, l2))
    elif l1:
        found.append(L1(l1))
    elif l2:
        found.append(L2(l2))
    if max_norm is not None:
        found.append(MaxNorm(max_norm))
    return tuple(found)


def _check(name: str, strength: float, how: str, ways: tuple[str, ...]) -> None:
    if not 0 <= strength < math.inf:
        raise ValueError(f"{name}: a strength is a number from 0 up, got {strength!r}")
    if how not in ways:
        raise ValueError(f"{name}: how is one of {', '.join(ways)}, got {how!r}")


def _weights(name: str, model: nn.Module, optimizer: Optimizer, everything: bool) -> Weights:
    check_optimizer(name, optimizer)
    return weights_of(name, eligible(model, everything=everything), optimizer)
