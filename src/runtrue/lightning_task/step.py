"""The user's training_step, called as Lightning calls it; and batches around the few tensors that matter to a part of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from runtrue.batches import map_tensors, size_of, tensors_of, to_device
from runtrue.lightning_task.standin import NOT_THE_FIRST, overrides
from runtrue.sandbox import device_of
from runtrue.surgery import core
from runtrue.task import TaskError, blame, shapes


def training_step(model: nn.Module, batch: Any) -> Tensor:
    """The loss of a batch. For `Task(step=…)`; its errors are TaskErrors, which name the user's own line."""
    module = core(model)
    try:
        return loss_of(module, batch)
    except TaskError:
        raise
    except Exception as error:
        name = type(module).__name__
        raise TaskError(f"{name}.training_step cannot take this batch, {shapes(batch)}: {blame(error)}") from error


def loss_of(module: Any, batch: Any) -> Tensor:
    """What the module's training_step returns: a tensor, or a dict with "loss"."""
    name = type(module).__name__
    result = module.training_step(*(batch, NOT_THE_FIRST, 0)[: _arguments(type(module))])
    if isinstance(result, Mapping):
        if "loss" not in result:
            raise TaskError(
                f"{name}.training_step returned a dict without 'loss' (it has: {', '.join(map(str, result))})"
            )
        result = result["loss"]
    if result is None:
        raise TaskError(
            f"{name}.training_step returned no loss (None) for the batch {shapes(batch)}: Lightning skips such a batch, "
            "and a check has nothing to train on. Return the loss, or leave such batches out of the data"
        )
    if not isinstance(result, Tensor):
        raise TaskError(f"{name}.training_step returned an object of type {type(result).__name__}, not a loss tensor")
    return result


def _arguments(kind: type) -> int:
    """How many of (batch, batch_idx, dataloader_idx) the method takes."""
    names = list(inspect.signature(kind.training_step).parameters)[1:]  # type: ignore[attr-defined]
    if "dataloader_iter" in names:
        raise TaskError(
            f"{kind.__name__}.training_step draws its own batches (dataloader_iter), which a check cannot follow"
        )
    if "optimizer_idx" in names:
        raise TaskError(f"{kind.__name__}.training_step takes optimizer_idx, which Lightning 2 does not know any more")
    return min(len(names), 3)


@dataclass(frozen=True, eq=False)
class Arriving:
    """What Lightning does with a batch before the training_step: the hooks around its transfer to the device."""

    module: nn.Module
    hooks: tuple[Callable[[Any, int], Any], ...] = ()

    def __call__(self, batch: Any) -> Any:
        device = device_of(self.module)
        for hook in self.hooks:
            batch = hook(to_device(batch, device), 0)
        return to_device(batch, device)


def arriving(module: nn.Module, data_module: Any) -> Arriving:
    """The hooks that the user wrote, of the data module and of the module."""
    return Arriving(
        module,
        tuple(
            getattr(holder, hook)
            for hook in ("on_before_batch_transfer", "on_after_batch_transfer")
            for holder in (data_module, module)
            if holder is not None and overrides(holder, hook)
        ),
    )


@dataclass(frozen=True, eq=False)
class Form:
    """What a batch looks like, and which of its tensors are the target (by their number)."""

    template: Any
    rows: bool
    """The tensors have a common first dimension: one row an example."""
    wanted: tuple[int, ...]

    @classmethod
    def of(cls, batch: Any, wanted: tuple[int, ...]) -> Form:
        return cls(map_tensors(batch, _hollow), size_of(batch) > 0, wanted)

    def targets(self, batch: Any) -> Any:
        """The tensor that is wanted; several in a tuple."""
        leaves = list(tensors_of(batch))
        found = tuple(leaves[i] for i in self.wanted)
        return found[0] if len(found) == 1 else found

    def batch(self, targets: Any) -> Any:
        """A batch around these targets; all else in it is zeros, of the shape that it would have."""
        given = dict(zip(self.wanted, tensors_of(targets)))
        first = next(iter(given.values()))
        number = count()

        def fill(leaf: Tensor) -> Tensor:
            i = next(number)
            return given[i] if i in given else _hollow(leaf, len(first) if self.rows else None, first.device)

        return map_tensors(self.template, fill)


def _hollow(leaf: Tensor, rows: int | None = None, device: torch.device | None = None) -> Tensor:
    """Zeros that take no room."""
    shape = tuple(leaf.shape) if rows is None else (rows, *leaf.shape[1:])
    return torch.zeros((), dtype=leaf.dtype, device=device or leaf.device).expand(shape)


@contextmanager
def answering(module: nn.Module, network: str, answer: Callable[..., Any]) -> Iterator[None]:
    """`answer` stands in for the forward of this part."""
    own = vars(module.get_submodule(network))
    before = own.get("forward")
    own["forward"] = answer
    try:
        yield
    finally:
        del own["forward"]
        if before is not None:
            own["forward"] = before
