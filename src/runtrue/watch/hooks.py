"""Hooks that see a training and never disturb it: an error of ours turns the hook off, a copy of the model holds none."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle


class Hook:
    """Calls a method of an object that it does not keep alive; what that raises goes to `fails`, once. Copied with the model
    that it hangs on, it does nothing; while torch.compile traces the model, neither."""

    __torch_unserializable__ = True  # torch need not warn that a tensor is saved without it

    def __init__(
        self, method: Callable[..., Any] | None = None, fails: Callable[[Exception], None] | None = None
    ) -> None:
        self.method = None if method is None else weakref.WeakMethod(method)
        self.fails = None if fails is None else weakref.WeakMethod(fails)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or self.method is None:
            return None
        method = self.method()
        if method is None:
            return None
        try:
            return method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 the training goes on, whatever happens here
            self.method = None
            fails = self.fails() if self.fails is not None else None
            if fails is not None:
                fails(error)
        return None

    def __deepcopy__(self, memo: Any) -> Hook:
        return Hook()

    def __reduce__(self) -> Any:
        """As something of Python's own that takes anything and does nothing: a saved model loads without this library."""
        return getattr, (nullcontext(), "__exit__")


class Hooks:
    """What is hung onto a model and its optimizers, to be taken off again. fails: told of an error in one of them."""

    def __init__(self, fails: Callable[[Exception], None]) -> None:
        self.fails = weakref.WeakMethod(fails)
        self.handles: list[RemovableHandle] = []

    def hook(self, method: Callable[..., Any]) -> Hook:
        return Hook(method, self.fails())

    def around_forward(self, model: nn.Module, before: Callable[..., Any], after: Callable[..., Any]) -> None:
        self.handles.append(model.register_forward_pre_hook(self.hook(before), with_kwargs=True))
        self.handles.append(model.register_forward_hook(self.hook(after), always_call=True))

    def around_step(self, optimizer: Optimizer, before: Callable[..., Any], after: Callable[..., Any]) -> None:
        self.handles.append(optimizer.register_step_pre_hook(self.hook(before)))
        self.handles.append(optimizer.register_step_post_hook(self.hook(after)))

    def on_gradient(self, parameter: nn.Parameter, fresh: Callable[..., Any]) -> None:
        """fresh: of a backward pass, before it is added to `parameter.grad`."""
        self.handles.append(parameter.register_hook(self.hook(fresh)))

    def on_sum(self, parameter: nn.Parameter, added: Callable[..., Any]) -> None:
        """added: after a backward pass has added to `parameter.grad`."""
        self.handles.append(parameter.register_post_accumulate_grad_hook(self.hook(added)))

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()


class Looked:
    """A closure of the user's, and a look at the gradients behind its first call in a step."""

    def __init__(
        self, closure: Callable[[], Any], look: Callable[[], None], fails: Callable[[Exception], None]
    ) -> None:
        self.closure, self.look, self.fails, self.done = closure, look, fails, False

    def __call__(self) -> Any:
        result = self.closure()
        if not self.done:
            self.done = True
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 the training goes on, whatever happens here
                self.fails(error)
        return result


def closure_of(args: Any, kwargs: Any) -> Callable[[], Any] | None:
    """The closure that an optimizer's step was called with; args[0] is the optimizer."""
    found: Callable[[], Any] | None = kwargs.get("closure", args[1] if len(args) > 1 else None)
    return found if callable(found) else None


def with_closure(args: Any, kwargs: Any, closure: Callable[[], Any]) -> tuple[Any, Any]:
    """The same arguments with another closure, where the first one stood."""
    if "closure" in kwargs:
        return args, {**kwargs, "closure": closure}
    return (args[0], closure, *args[2:]), kwargs
