"""Which operation makes the first value that is no number, in a forward pass and in the backward pass behind it.

Looking at a value waits for its device: for the CPU alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules import module as module_hooks
from torch.overrides import TorchFunctionMode

from runtrue.batches import tensors_of
from runtrue.watch.listening import leave

TOLD = {"masked_fill", "where", "full", "full_like", "new_full", "fill", "setitem", "tensor", "scatter", "index_fill"}
"""Operations that write an infinity where they are told to."""
RAW = {"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided", "resize"}
"""Memory as it is found: what it holds was made by nobody."""
Found = tuple[str, str, str]
"""(path of the module, torch's function, "NaN" or "infinity")."""


class Trace(TorchFunctionMode):
    """Looks at every operation: its output, and in the backward pass the gradients at its inputs. made: the first operation of
    the forward pass with sound inputs whose output is not; unmade: the same of the backward pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = {module: name for name, module in model.named_modules()}
        self.stack: list[nn.Module] = []
        self.made: Found | None = None
        self.unmade: Found | None = None
        self._nodes: set[Node] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").strip("_")
        if name in ("get", "set"):  # an attribute
            return func(*args, **kwargs)
        before = flaws(tensors((args, kwargs)))
        told = {"NaN" if math.isnan(x) else "inf" for x in numbers((args, kwargs)) if not math.isfinite(x)}
        told |= {"inf"} if name in TOLD else set()
        output = func(*args, **kwargs)
        if self.made is None and name not in RAW:
            self._judge(name, before, told, flaws(tensors(output)))
        self._follow_back(name, output)
        return output

    def _judge(self, name: str, before: set[str], told: set[str], after: set[str]) -> None:
        """A NaN is made of anything but NaN; an infinity of finite numbers alone. What was asked for is not made."""
        if "NaN" in after and "NaN" not in before | told:
            self.made = (self.place, name, "NaN")
        elif after - {"NaN"} and not before and "inf" not in told:
            self.made = (self.place, name, "infinity")

    def _follow_back(self, name: str, output: Any) -> None:
        """Nodes of the graph that came with this operation: of several, if it is written in Python."""
        ends = [t.grad_fn for t in tensors(output) if t.grad_fn is not None]
        place = self.place
        while ends:
            node = ends.pop()
            if node in self._nodes or "AccumulateGrad" in node.name():
                continue
            self._nodes.add(node)
            node.register_hook(lambda into, out: self._back(place, name, into, out))
            ends += [earlier for earlier, _ in node.next_functions if earlier is not None]

    def _back(self, place: str, name: str, into: Any, out: Any) -> None:
        """into: gradients at the inputs of an operation, made of those at its outputs, out."""
        if self.unmade is None and not flaws(tensors(out)):
            made = flaws(tensors(into))
            if made:
                self.unmade = (place, name, "NaN" if "NaN" in made else "infinity")

    @property
    def place(self) -> str:
        return self.names.get(self.stack[-1], "") if self.stack else ""

    def __enter__(self) -> Trace:
        self._handles = [
            module_hooks.register_module_forward_pre_hook(lambda module, _: self.stack.append(module)),
            module_hooks.register_module_forward_hook(self._left, always_call=True),
        ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        leave(self)
        for handle in self._handles:
            handle.remove()

    def _left(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """What no function of torch was seen to make (an extension's kernel), its module made."""
        if self.made is None and "NaN" in flaws(tensors(output)) and not flaws(tensors(inputs)):
            self.made = (self.place, type(module).__name__, "NaN")
        if self.stack:
            self.stack.pop()


def flaws(values: Iterator[Tensor]) -> set[str]:
    """Which of "NaN", "+inf" and "-inf" they hold."""
    found: set[str] = set()
    for value in values:
        value = value.detach()
        if not bool(torch.isfinite(value).all()):
            kinds = (("NaN", torch.isnan), ("+inf", torch.isposinf), ("-inf", torch.isneginf))
            found |= {kind for kind, test in kinds if bool(test(value).any())}
    return found


def tensors(value: Any) -> Iterator[Tensor]:
    """The floating tensors in a nest of tuples, lists and mappings."""
    for found in tensors_of(value):
        if isinstance(found, Tensor) and found.is_floating_point() and found.layout is torch.strided:
            yield found


def numbers(value: Any) -> Iterator[float]:
    """The Python floats, the same way."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from numbers(item)
