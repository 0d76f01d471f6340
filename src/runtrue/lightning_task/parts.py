"""A training_step told apart into network and loss, so that a check sees outputs and targets.

A step that calls the network once, `self(x)` or `self.net(x)`: the network is run on what the step hands to it, and the loss is
the same step run again with the outputs in place of that call. What the step needs of a batch besides is the target. Whether
that is so is tried on the first batches, in evaluation mode: both ways have to give the same number, to the bit.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from runtrue.batches import map_tensors, tensors_of
from runtrue.keeping import seed_all
from runtrue.lightning_task.step import Form, answering, loss_of, training_step
from runtrue.task import TaskError

SEED, OTHER_SEED = (
    1,
    2,
)  # a step that draws random numbers outside of its network differs under the two, and is not told apart


@dataclass(frozen=True, eq=False)
class Parts:
    """A training_step told apart."""

    loss: Callable[[Any, Any], Tensor]
    prepare: Callable[[Any], tuple[Any, Any]] | None
    """A batch -> (inputs, targets); None where batches are that as they come."""
    forward: Callable[..., Any] | None = None
    """What the module's own forward has to be exchanged for; None if it is what the step calls."""


@dataclass(frozen=True, eq=False)
class StepLoss:
    """(outputs, targets) -> loss, by the module's own training_step with `outputs` in place of its call of the network."""

    module: nn.Module
    network: str
    """Path of what the step calls: "" is the module itself."""
    form: Form

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        with answering(self.module, self.network, lambda *a, **k: outputs):
            return training_step(self.module, self.form.batch(targets))


@dataclass(frozen=True, eq=False)
class Prepare:
    """A batch of the loader -> (inputs, targets): what the training_step hands to the network, and what else it needs."""

    module: nn.Module
    network: str
    form: Form

    def __call__(self, batch: Any) -> tuple[Any, Any]:
        return inputs_of(self.module, self.network, batch), self.form.targets(batch)


class Through:
    """`forward` of a module whose training_step calls one of its parts: that part."""

    def __init__(self, module: nn.Module, network: str) -> None:
        self.module, self.network = module, network

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return self.module.get_submodule(self.network)(*inputs, **named)


@dataclass(frozen=True)
class Call:
    """A call of a part with parameters that no other such part made."""

    network: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class _Reached(BaseException):
    """The network was called with these arguments. No Exception: the user's `except Exception` must not catch it."""

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.call = (args, kwargs)


def by_call(module: nn.Module, batches: list[Any]) -> Parts | None:
    """Network and loss of the training_step, or None if it is no single call of a network, then a loss of its outputs and some
    of the batch. Moves buffers and random numbers: to be called inside of a sandbox."""
    calls, failed = outermost_calls(module, batches[0])
    if len(calls) != 1 or any(t.requires_grad for t in tensors_of((calls[0].args, calls[0].kwargs))):
        return None
    call, first = calls[0], batches[0]
    handed = [id(t) for t in tensors_of((call.args, call.kwargs))]
    if failed:  # of the loss, as a rule: a label out of range. The check will see it, given the two parts
        wanted = tuple(i for i, leaf in enumerate(tensors_of(first)) if id(leaf) not in handed)
        return _parts(module, call, first, wanted) if wanted and handed else None
    module.eval()
    wanted = _wanted(module, call.network, first)
    if not wanted or not all(_agrees(module, call.network, Form.of(first, wanted), batch) for batch in batches):
        return None
    return _parts(module, call, first, wanted)


def _parts(module: nn.Module, call: Call, batch: Any, wanted: tuple[int, ...]) -> Parts:
    form = Form.of(batch, wanted)
    plain = (
        isinstance(batch, (tuple, list))
        and len(list(tensors_of(batch))) == len(batch) >= 2
        and not call.kwargs
        and len(call.args) == len(batch) - 1
        and all(a is b for a, b in zip(call.args, batch))
        and wanted == (len(batch) - 1,)
    )
    return Parts(
        StepLoss(module, call.network, form),
        None if plain else Prepare(module, call.network, form),
        Through(module, call.network) if call.network else None,
    )


def outermost_calls(module: nn.Module, batch: Any) -> tuple[list[Call], bool]:
    """Calls of parts with parameters in one training_step, without those inside of others; and whether the step failed."""
    found: list[Call] = []
    depth = 0

    def enter(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        nonlocal depth
        if depth == 0:
            found.append(Call(name, args, dict(kwargs)))
        depth += 1

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    own = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        enter("", args, kwargs)
        try:
            return own(*args, **kwargs)
        finally:
            leave()

    handles = []
    for name, part in module.named_modules():
        if name and any(True for _ in part.parameters()):
            before = functools.partial(lambda n, m, a, k: enter(n, a, k), name)
            handles.append(part.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(part.register_forward_hook(leave, always_call=True))
    try:
        with answering(module, "", forward):
            loss_of(module, batch)
        return found, False
    except Exception:  # noqa: BLE001  the check itself will meet the same error, and say what it is
        return found, True
    finally:
        for handle in handles:
            handle.remove()


def inputs_of(module: nn.Module, network: str, batch: Any) -> Any:
    """What the training_step hands to the network, in the form in which a task's batch holds it."""

    def reached(*args: Any, **kwargs: Any) -> Any:
        raise _Reached(args, kwargs)

    try:
        with torch.no_grad(), answering(module, network, reached):
            loss_of(module, batch)
    except _Reached as stop:
        return _as_inputs(*stop.call, module.get_submodule(network))
    raise TaskError(
        f"{type(module).__name__}.training_step called its network on the first batch, and not on a later one"
    )


def _as_inputs(args: tuple[Any, ...], kwargs: Mapping[str, Any], part: nn.Module) -> Any:
    if kwargs:
        return dict(inspect.signature(part.forward).bind(*args, **kwargs).arguments) if args else dict(kwargs)
    return args[0] if len(args) == 1 and isinstance(args[0], Tensor) else tuple(args)


def _wanted(module: nn.Module, network: str, batch: Any) -> tuple[int, ...]:
    """The tensors of a batch on which the loss depends once the outputs are there."""
    leaves = list(tensors_of(batch))
    outputs = _outputs(module, network, inputs_of(module, network, batch))
    run = functools.partial(_loss, module, network, outputs)
    whole = run(batch)
    return tuple(
        i
        for i, leaf in enumerate(leaves)
        if any(differs(run, exchanged(batch, i, other), whole) for other in spoiled(leaf))
    )


def differs(run: Callable[[Any], Tensor], batch: Any, whole: Tensor) -> bool:
    """True if `run` makes something else of this batch, or fails on it."""
    try:
        return not same(run(batch), whole)
    except Exception:  # noqa: BLE001  it looks at these values, or it could not mind them
        return True


def spoiled(leaf: Tensor) -> list[Tensor]:
    """The same tensor with values that no loss leaves without effect."""
    if leaf.is_floating_point() or leaf.is_complex():
        return [torch.full_like(leaf, torch.nan)]
    return [torch.zeros_like(leaf), torch.ones_like(leaf)]


def exchanged(batch: Any, place: int, other: Tensor) -> Any:
    number = count()
    return map_tensors(batch, lambda t: other if next(number) == place else t)


def _agrees(module: nn.Module, network: str, form: Form, batch: Any) -> bool:
    """The step as a whole and in its parts give the same number, whatever random numbers the parts draw."""
    seed_all(SEED)
    whole = loss_of(module, batch)
    seed_all(SEED)
    inputs = inputs_of(module, network, batch)
    outputs = _outputs(module, network, inputs)
    loss = StepLoss(module, network, form)
    seed_all(OTHER_SEED)
    return same(loss(outputs, form.targets(batch)), whole)


def _outputs(module: nn.Module, network: str, inputs: Any) -> Any:
    part = module.get_submodule(network)
    if isinstance(inputs, Mapping):
        return part(**inputs)
    return part(*inputs) if isinstance(inputs, tuple) else part(inputs)


def _loss(module: nn.Module, network: str, outputs: Any, batch: Any) -> Tensor:
    with answering(module, network, lambda *a, **k: outputs):
        return loss_of(module, batch)


def same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())
