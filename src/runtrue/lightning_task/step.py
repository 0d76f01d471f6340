"""The user's training_step: called as Lightning calls it, and where it can be done, told apart into network and loss.

A step that calls the network once, `self(x)` or `self.net(x)`, can be: the network is run on what the step hands to it, and the
loss is the same step run again with the outputs in place of that call. What the step needs of a batch besides is the target.
Whether that is so is tried on the first batches, in evaluation mode: both ways have to give the same number, to the bit.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from runtrue.batches import map_tensors, size_of, tensors_of
from runtrue.keeping import seed_all
from runtrue.lightning_task.standin import NOT_THE_FIRST, overrides
from runtrue.surgery import core
from runtrue.task import TaskError, shapes

SEED, OTHER_SEED = (
    1,
    2,
)  # a step that draws random numbers outside of its network differs under the two, and is not told apart


# -- calling


def training_step(model: nn.Module, batch: Any) -> Tensor:
    """The loss that the module's training_step returns: a tensor, or a dict with "loss". For `Task(step=…)`."""
    module: Any = core(model)
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


# -- telling apart


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
        count = len(next(iter(given.values()))) if self.rows else 0
        number = iter(range(len(list(tensors_of(self.template)))))

        def fill(leaf: Tensor) -> Tensor:
            i = next(number)
            return given[i] if i in given else _hollow(leaf, count if self.rows else None)

        return map_tensors(self.template, fill)


def _hollow(leaf: Tensor, rows: int | None = None) -> Tensor:
    """Zeros that take no room."""
    shape = tuple(leaf.shape) if rows is None else (rows, *leaf.shape[1:])
    return torch.zeros((), dtype=leaf.dtype, device=leaf.device).expand(shape)


@dataclass(frozen=True, eq=False)
class StepLoss:
    """(outputs, targets) -> loss, by the module's own training_step with `outputs` in place of its call of the network."""

    module: nn.Module
    network: str
    """Path of what the step calls: "" is the module itself."""
    form: Form

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        with _answering(self.module, self.network, lambda *a, **k: outputs):
            return training_step(self.module, self.form.batch(targets))


@dataclass(frozen=True, eq=False)
class Prepare:
    """A batch of the loader -> (inputs, targets): what the training_step hands to the network, and what else it needs."""

    module: nn.Module
    network: str
    form: Form
    arrive: Arriving

    def __call__(self, batch: Any) -> tuple[Any, Any]:
        batch = self.arrive(batch)
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


@dataclass(frozen=True, eq=False)
class Parts:
    """A training_step told apart."""

    network: str
    form: Form
    plain: bool
    """Batches are (inputs, targets) as they come."""


class _Reached(BaseException):
    """The network was called with these arguments. No Exception: the user's `except Exception` must not catch it."""

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.call = (args, kwargs)


@dataclass(frozen=True, eq=False)
class Arriving:
    """What Lightning does with a batch before the training_step: the hooks around its transfer to the device."""

    hooks: tuple[Callable[[Any, int], Any], ...] = ()

    def __call__(self, batch: Any) -> Any:
        for hook in self.hooks:
            batch = hook(batch, 0)
        return map_tensors(batch, lambda t: t)


def arriving(module: nn.Module, data_module: Any) -> Arriving:
    """The hooks that the user wrote, of the data module and of the module."""
    return Arriving(
        tuple(
            getattr(holder, hook)
            for hook in ("on_before_batch_transfer", "on_after_batch_transfer")
            for holder in (data_module, module)
            if holder is not None and overrides(holder, hook)
        )
    )


def tell_apart(module: nn.Module, batches: list[Any]) -> Parts | None:
    """Network and loss of the training_step, or None if it is no single call of a network, then a loss of its outputs and some
    of the batch. Moves buffers and random numbers: to be called inside of a sandbox."""
    calls, failed = outermost_calls(module, batches[0])
    if len(calls) != 1 or any(t.requires_grad for t in tensors_of((calls[0].args, calls[0].kwargs))):
        return None
    call, first = calls[0], batches[0]
    handed = [id(t) for t in tensors_of((call.args, call.kwargs))]
    leaves = list(tensors_of(first))
    if failed:  # of the loss, as a rule: a label out of range. The check will see it, given the two parts
        wanted = tuple(i for i, leaf in enumerate(leaves) if id(leaf) not in handed)
        return _parts(call, first, wanted, leaves) if wanted and handed else None
    try:
        module.eval()
        wanted = _wanted(module, call.network, first)
        form = Form.of(first, wanted)
        if not wanted or not all(_agrees(module, call.network, form, batch) for batch in batches):
            return None
    except Exception:  # noqa: BLE001  whatever it is, the step can still be run as a whole
        return None
    return _parts(call, first, wanted, leaves)


def _parts(call: Call, batch: Any, wanted: tuple[int, ...], leaves: list[Any]) -> Parts:
    plain = (
        isinstance(batch, (tuple, list))
        and len(leaves) == len(batch) >= 2
        and not call.kwargs
        and len(call.args) == len(batch) - 1
        and all(a is b for a, b in zip(call.args, batch))
        and wanted == (len(batch) - 1,)
    )
    return Parts(call.network, Form.of(batch, wanted), plain)


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
        with _answering(module, "", forward):
            training_step(module, batch)
        return found, False
    except Exception:  # noqa: BLE001  the check itself will meet the same error, and say what it is
        return found, True
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _answering(module: nn.Module, network: str, answer: Callable[..., Any]) -> Iterator[None]:
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


def inputs_of(module: nn.Module, network: str, batch: Any) -> Any:
    """What the training_step hands to the network, in the form in which a task's batch holds it."""

    def reached(*args: Any, **kwargs: Any) -> Any:
        raise _Reached(args, kwargs)

    try:
        with torch.no_grad(), _answering(module, network, reached):
            training_step(module, batch)
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
    whole = _loss(module, network, outputs, batch)
    return tuple(
        i
        for i, leaf in enumerate(leaves)
        if any(_differs(module, network, outputs, _exchanged(batch, i, other), whole) for other in _spoiled(leaf))
    )


def _differs(module: nn.Module, network: str, outputs: Any, batch: Any, whole: Tensor) -> bool:
    try:
        return not _same(_loss(module, network, outputs, batch), whole)
    except Exception:  # noqa: BLE001  it looks at these values, or it could not mind them
        return True


def _spoiled(leaf: Tensor) -> list[Tensor]:
    """The same tensor with values that no loss leaves without effect."""
    if leaf.is_floating_point() or leaf.is_complex():
        return [torch.full_like(leaf, torch.nan)]
    return [torch.zeros_like(leaf), torch.ones_like(leaf)]


def _exchanged(batch: Any, place: int, other: Tensor) -> Any:
    number = iter(range(len(list(tensors_of(batch)))))
    return map_tensors(batch, lambda t: other if next(number) == place else t)


def _agrees(module: nn.Module, network: str, form: Form, batch: Any) -> bool:
    """The step as a whole and in its parts give the same number, whatever random numbers the parts draw."""
    seed_all(SEED)
    whole = training_step(module, batch)
    seed_all(SEED)
    inputs = inputs_of(module, network, batch)
    outputs = _outputs(module, network, inputs)
    loss = StepLoss(module, network, form)
    seed_all(OTHER_SEED)
    return _same(loss(outputs, form.targets(batch)), whole)


def _outputs(module: nn.Module, network: str, inputs: Any) -> Any:
    part = module.get_submodule(network)
    if isinstance(inputs, Mapping):
        return part(**inputs)
    return part(*inputs) if isinstance(inputs, tuple) else part(inputs)


def _loss(module: nn.Module, network: str, outputs: Any, batch: Any) -> Tensor:
    with _answering(module, network, lambda *a, **k: outputs):
        return training_step(module, batch)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())
