"""Hooks that see a training and never disturb it: an error of ours turns the hook off, a copy of the model holds none."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle


class Hook:
    """Calls a method of an object that it does not keep alive; what that raises goes to `fails`, once. Copied or pickled with the
    model that it hangs on, it does nothing; while torch.compile traces the model, neither."""

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
        return Hook, ()


class Hooks:
    """What is hung onto a model and its optimizers, to be taken off again. fails: told of an error in one of them."""

    def __init__(self, fails: Callable[[Exception], None]) -> None:
        self.fails = weakref.WeakMethod(fails)
        self.handles: list[RemovableHandle] = []

    def hook(self, method: Callable[..., Any]) -> Hook:
        return Hook(method, self.fails())

    def before_and_after_forward(self, model: nn.Module, before: Callable[..., Any], after: Callable[..., Any]) -> None:
        self.handles.append(model.register_forward_pre_hook(self.hook(before), with_kwargs=True))
        self.handles.append(model.register_forward_hook(self.hook(after), always_call=True))

    def around_step(self, optimizer: Optimizer, before: Callable[..., Any], after: Callable[..., Any]) -> None:
        self.handles.append(optimizer.register_step_pre_hook(self.hook(before)))
        self.handles.append(optimizer.register_step_post_hook(self.hook(after)))

    def on_gradient(self, parameter: nn.Parameter, fresh: Callable[..., Any], added: Callable[..., Any]) -> None:
        """fresh: of a backward pass, before it is added to `parameter.grad`; added: afterwards."""
        self.handles.append(parameter.register_hook(self.hook(fresh)))
        self.handles.append(parameter.register_post_accumulate_grad_hook(self.hook(added)))

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
