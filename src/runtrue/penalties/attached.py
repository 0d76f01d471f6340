"""How a penalty takes part in an optimizer's steps: by step hooks, so that it works in any loop that calls `step`.

What acts before the update has to see the step's own gradients and the weights that they were computed at. Where the step is
given a closure that computes them (Lightning, SAM), it acts at the end of that closure. Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.utils.hooks import RemovableHandle

Weights = Mapping[int, nn.Parameter]
"""The weights that a penalty is on, by their identity."""
Rate = float | Tensor
SHOWN = 3  # names in an error message


@dataclass(frozen=True)
class Attached:
    """A penalty on an optimizer's steps, until it is removed."""

    handles: tuple[RemovableHandle, ...]

    def remove(self) -> None:
        """Ends it. The weights stay as they are; to remove it twice does nothing."""
        for handle in self.handles:
            handle.remove()


def before_update(optimizer: Optimizer, act: Callable[[], None]) -> RemovableHandle:
    """Has `act` called in each step when its gradients are there and its weights are still the old ones."""

    def hook(_: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            act()
            return None

        def and_then() -> Any:
            loss = closure()
            act()
            return loss

        return ((args[0], and_then, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "closure": and_then})

    return optimizer.register_step_pre_hook(hook)


def after_update(optimizer: Optimizer, act: Callable[[], None]) -> RemovableHandle:
    """Has `act` called at the end of each step."""
    return optimizer.register_step_post_hook(lambda *_: act())


def weights_of(name: str, weights: Mapping[str, nn.Parameter], optimizer: Optimizer) -> Weights:
    """Those that the optimizer holds. Raises ValueError, for the penalty of this name, if these are none."""
    if not weights:
        raise ValueError(
            f"{name}: the model has no weight to be on: all its parameters are biases, or of normalization"
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if not any(id(weight) in held for weight in weights.values()):
        names = ", ".join([*list(weights)[:SHOWN], *(["..."] if len(weights) > SHOWN else [])])
        raise ValueError(
            f"{name}: the optimizer holds none of the model's {len(weights)} weights ({names}): attach it to the optimizer that "
            "was made from this model's own parameters, not from those of a copy"
        )
    return {id(weight): weight for weight in weights.values()}


def check_optimizer(name: str, optimizer: Optimizer) -> None:
    """Raises ValueError for an optimizer in whose steps a pull on the weights has no meaning."""
    if isinstance(optimizer, LBFGS):
        raise ValueError(
            f"{name}: LBFGS evaluates the loss several times a step and has to see the penalty in it: add penalties.l1(model, "
            "...) or penalties.l2(model, ...) to the loss instead"
        )
    if not all("lr" in group for group in optimizer.param_groups):
        raise ValueError(f"{name}: a group of {type(optimizer).__name__} has no learning rate (`lr`) to go by")


def stepping(optimizer: Optimizer, weights: Weights) -> Iterator[tuple[Rate, list[Tensor], list[Tensor]]]:
    """For each group its rate, and the weights and gradients that this step is about: a weight without a gradient rests, as
    it does for the optimizer itself. Groups are read at each step: one may come, a layer thaw, a schedule go on."""
    for group in optimizer.param_groups:
        found = [p for p in group["params"] if id(p) in weights and p.grad is not None]
        if found:
            yield rate_of(optimizer, group), found, [p.grad for p in found]


def rate_of(optimizer: Optimizer, group: Mapping[str, Any]) -> Rate:
    """The group's rate; 0 in a step that will be skipped.

    A gradient scaler leaves it to a fused optimizer to skip a step with infinite gradients, and says so in a tensor on the
    device. For others it does not call `step` at all.
    """
    rate: Rate = group["lr"]
    skipped: Tensor | None = getattr(optimizer, "found_inf", None)
    if skipped is not None:
        rate = rate * (1 - skipped.clamp(max=1))
    return rate.reshape(()) if isinstance(rate, Tensor) else rate


def pull(optimizer: Optimizer, gradients: list[Tensor], by: list[Tensor] | tuple[Tensor, ...], strength: float) -> None:
    """gradient += strength · by; times the scale of the gradients, where a fused optimizer has yet to divide by it."""
    scale: Tensor | None = getattr(optimizer, "grad_scale", None)
    if scale is None:
        torch._foreach_add_(gradients, by, alpha=strength)
    else:
        torch._foreach_add_(gradients, torch._foreach_mul(by, scale * strength))


def shrink(weights: list[Tensor], by: Rate) -> None:
    """w (1 - by), in place."""
    torch._foreach_mul_(weights, 1 - by)


def cut(weights: list[Tensor], by: Rate) -> None:
    """sign(w) max(|w| - by, 0), in place, as w less w clamped to ± by: what is smaller than that becomes exactly 0."""
    high: Any = [by] * len(weights) if isinstance(by, Tensor) else by
    low: Any = [-by] * len(weights) if isinstance(by, Tensor) else -by
    clamped = torch._foreach_clamp_max(weights, high)
    torch._foreach_clamp_min_(clamped, low)
    torch._foreach_sub_(weights, clamped)
