"""A training_step that is run as a whole. How good its outputs are is told by its calls of torch's loss functions; not by those
whose target a network makes (a teacher, a slow copy): untrained, the network agrees with its own copy perfectly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from runtrue.keeping import seed_all
from runtrue.lightning_task.inline import Gate
from runtrue.lightning_task.parts import SEED
from runtrue.lightning_task.step import loss_of, training_step
from runtrue.tape import LOSSES


@dataclass(frozen=True, eq=False)
class WholeStep:
    """(model, batch) -> loss. hidden: numbers of the calls of loss functions that nobody outside is to see."""

    hidden: frozenset[int] = frozenset()

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        if not self.hidden:
            return training_step(model, batch)
        with _Hide(self.hidden):
            return training_step(model, batch)


class _Hide(TorchFunctionMode):
    """Calls of loss functions, by their numbers, that the modes around this one do not see."""

    def __init__(self, hidden: frozenset[int]) -> None:
        super().__init__()
        self.hidden, self.seen = hidden, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "").strip("_") in LOSSES:
            self.seen += 1
            if self.seen - 1 in self.hidden:
                with torch._C.DisableTorchFunction():
                    return func(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def made_by_networks(module: nn.Module, batch: Any) -> frozenset[int]:
    """The calls of loss functions whose target is another if the weights are others. Moves the weights: for a sandbox."""
    module.eval()
    before = _targets(module, batch)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5).add_(0.01)
    after = _targets(module, batch)
    if len(before) != len(after):
        return frozenset()
    return frozenset(i for i, (one, other) in enumerate(zip(before, after)) if not _equal(one, other))


def _targets(module: nn.Module, batch: Any) -> list[Any]:
    seed_all(SEED)
    with Gate(stop=False) as gate:
        loss_of(module, batch)
    return [target for _, _, target, _, _ in gate.calls]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    return one is other or not isinstance(one, Tensor)
