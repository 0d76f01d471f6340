"""Where the first value that is no number came from: which operation made it, not those that passed it on.

A step whose gradient is lost is run once more, before the optimizer spoils the weights: forward, with the random numbers that
it drew, and backward from the gradient that reached the outputs. Nothing that the replay does stays: it works on copies of
inputs and buffers, attributes and the random state are put back, and gradients are asked for without adding them up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from runtrue.keeping import keep_random_state
from runtrue.watch.loop import unwrapped
from runtrue.watch.trace import Trace, flaws, tensors

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
    """What went into a model in one forward pass, and the gradient that came back to its outputs. called: the model, or the
    one of several networks within it that ran."""

    model: nn.Module
    called: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    came_back: Callable[[], None]
    random: Tensor | None = None
    """State of torch's generator before the pass, on the CPU; None: no replay is possible."""
    back: dict[int, Tensor] = field(default_factory=dict)
    """By place among the tensors of the outputs."""

    def follow(self, outputs: Any) -> None:
        for place, output in enumerate(tensors(outputs)):
            if output.grad_fn is not None:
                output.register_hook(_Back(self, place))


@dataclass(frozen=True, eq=False)
class _Back:
    """A gradient reaches one of the outputs."""

    __torch_unserializable__ = True
    call: Call
    place: int

    def __call__(self, gradient: Tensor) -> None:
        if self.call.random is not None:
            self.call.back[self.place] = gradient.detach()
        self.call.came_back()


def find(call: Call) -> Origin | None:
    """None if nothing that is no number came up again."""
    model, given = unwrapped(call.model), tensors((call.args, call.kwargs))
    if (held := bad(flaws(given))) is not None:
        return Origin("inputs", kind=held)
    for name, parameter in model.named_parameters():
        if (held := bad(flaws(tensors(parameter)))) is not None:
            return Origin("weights", name, kind=held)
    if not alone(model):
        return None
    with undisturbed(model):
        if call.random is not None:
            torch.set_rng_state(call.random)
        return replayed(call, model)


def replayed(call: Call, model: nn.Module) -> Origin | None:
    trace = Trace(model)
    with torch.enable_grad(), trace:
        outputs = list(tensors(unwrapped(call.called).forward(*copied(call.args), **copied(call.kwargs))))
    if trace.made is not None:
        return Origin("forward", *trace.made)
    if (held := bad(flaws(iter(outputs)))) is not None:
        return Origin("outputs", kind=held)
    if any(flaws(iter(call.back.values()))):
        return Origin("loss", kind="NaN" if "NaN" in flaws(iter(call.back.values())) else "infinity")
    pairs = [(outputs[i], g) for i, g in call.back.items() if i < len(outputs) and outputs[i].requires_grad]
    wanted = [p for p in model.parameters() if p.requires_grad]
    if pairs and wanted:
        torch.autograd.grad([o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True)
    return None if trace.unmade is None else Origin("backward", *trace.unmade)


def bad(found: set[str]) -> str | None:
    """A NaN or +∞: no network wants these. −∞ is what a mask in front of a softmax has on purpose."""
    return "NaN" if "NaN" in found else "infinity" if "+inf" in found else None


def alone(model: nn.Module) -> bool:
    """A forward pass of this process talks to no other one: where one is lost, the others do not replay."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return True
    talks = any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())
    return not talks and not any(hasattr(p, "to_local") for p in model.parameters())


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """A forward pass inside changes no buffer, no attribute and no random state of those outside."""
    restore, modules = keep_random_state(), list(model.modules())
    attributes = [(m, dict(vars(m)), dict(m._buffers)) for m in modules]
    fresh: dict[int, Tensor] = {}
    try:
        for module in modules:
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = fresh.setdefault(id(buffer), buffer.detach().clone())
        yield
    finally:
        for module, before, buffers in attributes:
            vars(module).clear()
            vars(module).update(before)
            module._buffers.clear()
            module._buffers.update(buffers)
        restore()


def copied(value: Any) -> Any:
    """Tensors in a nest of tuples, lists and dicts, apart from those that were given."""
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if type(value) in (tuple, list):
        return type(value)(copied(item) for item in value)
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    return value
