"""Small parameters whose gradients are looked at in every step: what they see, the whole loop did."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runtrue.watch.loop import Loop
from runtrue.watch.stepping import dense_and_real


@dataclass(eq=False)
class Witness:
    """One small parameter of an optimizer: tells whether gradients were cleared and clipped."""

    parameter: nn.Parameter
    loop: Loop
    wanted: bool = False
    """This step is read."""
    stepped: bool = False
    stale: Tensor | None = None
    """() bool: what lies in the gradient is in part of batches before the last step; None if not."""
    before: Tensor | None = None
    """Norm of the gradient as the backward pass left it; kept in a step that is read."""

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

    def added(self, parameter: nn.Parameter) -> None:
        self.before = self.norm() if self.wanted else None

    def norm(self) -> Tensor:
        gradient = self.parameter.grad
        assert gradient is not None
        found: Tensor = gradient.detach().norm(dtype=torch.float64 if gradient.device.type != "mps" else torch.float32)
        return found

    def clipped(self) -> Tensor | None:
        """Share of the gradient that is left of what the backward pass brought; None if that was not read."""
        return None if self.before is None or self.parameter.grad is None else self.norm() / self.before


@dataclass(eq=False)
class Sentinel:
    """Tells when the gradient of a parameter is no number. On the CPU alone, where asking waits for nobody."""

    parameter: nn.Parameter
    lost: Callable[[], None]

    def fresh(self, gradient: Tensor) -> None:
        """Of a weight one row is looked at: a value that is lost at a layer's input reaches all rows."""
        if gradient.device.type != "cpu" or gradient.is_sparse or not gradient.numel():
            return
        if not abs(float((gradient if gradient.dim() < 2 else gradient[0]).sum())) < float("inf"):
            self.lost()


def known(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Those with a gradient that a hook can see: dense and real, and whole in this process."""
    return [p for p in parameters if dense_and_real(p.grad) and p.is_leaf and not hasattr(p, "to_local")]


def witness_among(parameters: Iterable[nn.Parameter], loop: Loop) -> Witness | None:
    """The last bias that has a gradient, or else the smallest weight."""
    found = known(parameters)
    flat = [p for p in found if p.dim() < 2]
    chosen = flat[-1] if flat else min(found, key=lambda p: p.numel(), default=None)
    return None if chosen is None else Witness(chosen, loop)


def sentinels_among(parameters: Iterable[nn.Parameter], lost: Callable[[], None]) -> list[Sentinel]:
    """At both ends: what a forward pass loses reaches the last weight or bias, what a backward pass loses only those before."""
    found = known(parameters)
    flat, weights = [p for p in found if p.dim() < 2], [p for p in found if p.dim() >= 2]
    chosen = (flat or weights)[:1] + flat[-1:] + weights[-1:]
    return [Sentinel(p, lost) for p in {id(p): p for p in chosen}.values()]
