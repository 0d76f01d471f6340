"""Which operation made the first value that is no number: not those that passed it on.

A step whose gradient is lost is run once more, before the optimizer spoils the weights: forward, and backward from the gradient
that reached the outputs. The first operation with finite inputs and an output that is not is the one. Nothing that the replay
does stays: random state, buffers and gradients are put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules import module as module_hooks
from torch.overrides import TorchFunctionMode

from runtrue.keeping import keep_random_state

MASKS = {"masked_fill", "masked_fill_", "where", "full", "full_like", "new_full", "fill", "setitem", "tensor"}
"""Operations that write −∞ where they are told to."""

Where = Literal["inputs", "weights", "forward", "outputs", "loss", "backward"]


@dataclass(frozen=True)
class Origin:
    """`layer`: the path of the module, "" for the model itself; of weights, the parameter. `operation`: torch's function."""

    where: Where
    layer: str = ""
    operation: str = ""
    kind: str = "NaN"

    def __str__(self) -> str:
        at = f" in {self.layer or 'the model'}"
        said = {
            "inputs": f"the inputs of the batch hold {self.kind}",
            "weights": f"{self.layer} held {self.kind} before this step: an update had made it",
            "forward": f"`{self.operation}`{at} made {self.kind} of finite inputs, in the forward pass",
            "outputs": f"the outputs hold {self.kind}; which operation made it was not seen",
            "loss": f"the outputs are finite: the loss, or its gradient, made {self.kind}",
            "backward": f"the gradient of `{self.operation}`{at} is {self.kind}, of a finite one",
        }
        return said[self.where]


@dataclass(eq=False)
class Call:
    """What went into the model in this step, and the gradient that came back to its outputs. Until the next forward pass."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    back: dict[int, Tensor] = field(default_factory=dict)
    """By place among the tensors of the outputs."""

    def came_back(self, place: int, gradient: Tensor) -> None:
        self.back[place] = gradient.detach()


def find(call: Call) -> Origin | None:
    """None if nothing that is no number came up again: dropout drew other units, or another model made it."""
    for tensor in tensors((call.args, call.kwargs)):
        if lost(tensor):
            return Origin("inputs", kind=named(tensor))
    for name, parameter in call.model.named_parameters():
        if lost(parameter):
            return Origin("weights", name, kind=named(parameter))
    restore, buffers = keep_random_state(), [(b, b.detach().clone()) for b in call.model.buffers()]
    try:
        return replayed(call)
    finally:
        restore()
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def replayed(call: Call) -> Origin | None:
    trace = Trace(call.model)
    with torch.enable_grad(), trace.recording():
        outputs = list(tensors(call.model.forward(*call.args, **call.kwargs)))
    if trace.made is not None:
        return trace.made
    if any(lost(output) for output in outputs):
        return Origin("outputs", kind=next(named(o) for o in outputs if lost(o)))
    if any(lost(gradient) for gradient in call.back.values()):
        return Origin("loss", kind=next(named(g) for g in call.back.values() if lost(g)))
    pairs = [(outputs[i], g) for i, g in call.back.items() if i < len(outputs) and outputs[i].requires_grad]
    wanted = [p for p in call.model.parameters() if p.requires_grad]
    if pairs and wanted:
        torch.autograd.grad([o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True)
    return trace.unmade


class Trace(TorchFunctionMode):
    """Looks at every operation: its output, and in the backward pass the gradients at its inputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = {module: name for name, module in model.named_modules()}
        self.stack: list[nn.Module] = []
        self.made: Origin | None = None
        self.unmade: Origin | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        if name in ("get", "set"):  # an attribute
            return func(*args, **kwargs)
        inputs = list(tensors((args, kwargs)))
        sound, masked = not any(map(beyond, inputs)), any(map(hides, inputs)) or name in MASKS
        output = func(*args, **kwargs)
        produced = next((t for t in tensors(output) if beyond(t) or (hides(t) and not masked)), None)
        if produced is not None and self.made is None and sound:
            self.made = Origin("forward", self.place, name, named(produced))
        self.follow_back(name, inputs, output)
        return output

    def follow_back(self, name: str, inputs: list[Tensor], output: Any) -> None:
        """The gradient at the output comes first; if it is finite and that of an input is not, this operation made it."""
        ends = [t for t in tensors(output) if t.requires_grad and not any(t is i for i in inputs)]
        if not ends:
            return
        place, whole = self.place, {"finite": False}

        def at_output(gradient: Tensor) -> None:
            whole["finite"] = not lost(gradient)

        def at_node(grads_in: Any, grads_out: Any) -> None:
            bad = next((g for g in grads_in if isinstance(g, Tensor) and lost(g)), None)
            if bad is not None and whole["finite"] and self.unmade is None:
                self.unmade = Origin("backward", place, name, named(bad))

        for end in ends:
            end.register_hook(at_output)
            if end.grad_fn is not None:
                end.grad_fn.register_hook(at_node)

    @property
    def place(self) -> str:
        return self.names.get(self.stack[-1], "") if self.stack else ""

    def recording(self) -> Recording:
        return Recording(self)


class Recording:
    """The trace entered, with global hooks that tell which module runs."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def __enter__(self) -> None:
        stack = self.trace.stack
        self.handles = [
            module_hooks.register_module_forward_pre_hook(lambda module, _: stack.append(module)),
            module_hooks.register_module_forward_hook(lambda *_: stack.pop() and None, always_call=True),
        ]
        self.trace.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.trace.__exit__(*error)
        for handle in self.handles:
            handle.remove()


def tensors(value: Any) -> Iterator[Tensor]:
    """The floating tensors in a nest of tuples, lists and mappings."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)


def lost(tensor: Tensor) -> bool:
    """The tensor holds a NaN or an infinity."""
    return not bool(torch.isfinite(tensor.detach()).all())


def beyond(tensor: Tensor) -> bool:
    """It holds a NaN or +∞: no network wants these."""
    return bool((tensor.detach().isnan() | tensor.detach().isposinf()).any())


def hides(tensor: Tensor) -> bool:
    """It holds −∞: what a mask in front of a softmax has on purpose, and the logarithm of 0 has not."""
    return bool(tensor.detach().isneginf().any())


def named(tensor: Tensor) -> str:
    return "NaN" if bool(torch.isnan(tensor.detach()).any()) else "infinity"
