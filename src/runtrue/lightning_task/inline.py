"""A training_step that computes its outputs line by line, told apart at the one loss function of torch that it calls.

The network is the step up to that call, the loss is that call. Its value has to be what the step returns, to the bit; its target
has to be a tensor of the batch, but for shape and dtype.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from runtrue.batches import tensors_of
from runtrue.keeping import seed_all
from runtrue.lightning_task.parts import SEED, Parts, differs, exchanged, same, spoiled
from runtrue.lightning_task.step import Form, loss_of
from runtrue.tape import LOSSES


class _Reached(Exception):  # noqa: N818  no error: the way out of a step
    """The loss function was called. An Exception, so that hooks that name modules are told that they end."""


@dataclass(frozen=True, eq=False)
class LossOf:
    """(outputs, targets) -> loss: a call of a loss function of torch, with its options, as a training_step made it."""

    function: Callable[..., Tensor]
    args: tuple[Any, ...]
    """Those behind input and target."""
    kwargs: Mapping[str, Any]
    shape: tuple[int, ...] | None
    """Of one example's target, where the step gives it another than the batch has."""
    dtype: torch.dtype

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        fitted = targets if self.shape is None else targets.reshape(-1, *self.shape)
        return self.function(outputs, fitted.to(self.dtype), *self.args, **self.kwargs)


class Gate(TorchFunctionMode):
    """Notes the calls of loss functions; with `stop`, ends at the first."""

    def __init__(self, stop: bool) -> None:
        super().__init__()
        self.stop = stop
        self.calls: list[tuple[Callable[..., Tensor], Any, Any, tuple[Any, ...], dict[str, Any]]] = []
        self.results: list[Any] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if getattr(func, "__name__", "").strip("_") not in LOSSES:
            return func(*args, **named)
        rest = dict(named)
        given = args[0] if args else rest.pop("input", None)
        target = args[1] if len(args) > 1 else rest.pop("target", None)
        self.calls.append((func, given, target, args[2:], rest))
        if self.stop:
            raise _Reached
        self.results.append(func(*args, **named))
        return self.results[-1]


class UntilLoss:
    """`forward` of a module whose training_step is its network: from the inputs to what reaches the loss function."""

    def __init__(self, module: nn.Module, form: Form) -> None:
        self.module, self.form = module, form

    def __call__(self, *inputs: Any) -> Any:
        own = vars(self.module)
        held = own.pop("forward", None)  # the step may call the module's real one
        try:
            return until_loss(self.module, self.form.batch(inputs[0] if len(inputs) == 1 else inputs))
        finally:
            if held is not None:
                own["forward"] = held


def until_loss(module: nn.Module, batch: Any) -> Any:
    """What reaches the loss function."""
    with Gate(stop=True) as gate, contextlib.suppress(_Reached):
        loss_of(module, batch)
    return gate.calls[0][1]


@dataclass(frozen=True, eq=False)
class Pick:
    """A batch -> (inputs, targets), by their numbers among its tensors."""

    inputs: tuple[int, ...]
    target: int

    def __call__(self, batch: Any) -> tuple[Any, Any]:
        leaves = list(tensors_of(batch))
        found = tuple(leaves[i] for i in self.inputs)
        return (found[0] if len(found) == 1 else found), leaves[self.target]


def by_loss(module: nn.Module, batches: list[Any]) -> Parts | None:
    """Network and loss of a training_step that calls one loss function, at its end; None for another. As `by_call`."""
    module.eval()
    first = batches[0]
    gate, whole = _watched(module, first)
    if len(gate.calls) != 1 or (whole is not None and not same(whole, gate.results[0])):
        return None
    function, _, target, args, kwargs = gate.calls[0]
    place = next((i for i, leaf in enumerate(tensors_of(first)) if _is_from(leaf, target)), None)
    if place is None:
        return None
    leaf = list(tensors_of(first))[place]
    loss = LossOf(function, args, kwargs, None if leaf.shape == target.shape else tuple(target.shape[1:]), target.dtype)
    inputs = _inputs(module, first)
    if not inputs:
        return None
    pick, form = Pick(inputs, place), Form.of(first, inputs)
    if whole is not None and not all(_agrees(module, UntilLoss(module, form), loss, pick, batch) for batch in batches):
        return None
    plain = isinstance(first, (tuple, list)) and len(list(tensors_of(first))) == len(first)
    in_order = (*inputs, place) == tuple(range(len(first)))
    return Parts(loss, None if plain and in_order else pick, UntilLoss(module, form))


def _watched(module: nn.Module, batch: Any) -> tuple[Gate, Tensor | None]:
    """The loss functions that a step calls, and its loss; None if the only call of one failed."""
    with Gate(stop=False) as gate:
        try:
            return gate, loss_of(module, batch)
        except (IndexError, RuntimeError, ValueError, TypeError):
            if gate.calls and not gate.results:
                return gate, None
            raise


def _is_from(leaf: Tensor, target: Any) -> bool:
    """The target is this tensor of the batch, in a shape and dtype of its own."""
    if not isinstance(target, Tensor) or target.requires_grad or leaf.numel() != target.numel() or not leaf.ndim:
        return False
    return (
        target.ndim > 0
        and len(leaf) == len(target)
        and torch.equal(leaf.reshape(target.shape).to(target.dtype), target)
    )


def _inputs(module: nn.Module, batch: Any) -> tuple[int, ...]:
    """The tensors of a batch on which depends what reaches the loss function."""
    whole = until_loss(module, batch)
    return tuple(
        i
        for i, leaf in enumerate(tensors_of(batch))
        if any(differs(lambda b: until_loss(module, b), exchanged(batch, i, other), whole) for other in spoiled(leaf))
    )


def _agrees(module: nn.Module, forward: UntilLoss, loss: LossOf, pick: Pick, batch: Any) -> bool:
    seed_all(SEED)
    whole = loss_of(module, batch)
    inputs, targets = pick(batch)
    return same(loss(forward(*inputs) if isinstance(inputs, tuple) else forward(inputs), targets), whole)
