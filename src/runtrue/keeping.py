"""How to put things back: random state, modules, data. Each `keep_…` returns the function that restores."""

from __future__ import annotations

import collections
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

Restore = Callable[[], None]
_SHALLOW = 100_000  # containers with more items than this are not copied: nobody changes a list that long in place


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def keep_random_state() -> Restore:
    """Python, NumPy, torch on the CPU and on every CUDA device in use."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else []

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)

    return restore


def keep_modes(model: nn.Module) -> Restore:
    """Whether each module trains."""
    modes = {module: module.training for module in model.modules()}

    def restore() -> None:
        for module, mode in modes.items():
            module.training = mode

    return restore


def keep_modules(roots: Iterable[nn.Module], initial: dict[int, Tensor]) -> Restore:
    """Everything of these modules: values (kept in `initial`), gradients, flags, structure, modes, hooks, attributes."""
    modules = list(dict.fromkeys(module for root in roots for module in root.modules()))
    tensors = {id(t): t for m in modules for t in (*m._parameters.values(), *m._buffers.values()) if t is not None}
    restores = [keep_tensor(tensor, initial) for tensor in tensors.values()]
    restores += [_keep_attributes(module, set(tensors)) for module in modules]

    def restore() -> None:
        for part in reversed(restores):  # structure first: it brings back the tensors whose values follow
            part()

    return restore


def keep_tensor(tensor: Tensor, initial: dict[int, Tensor] | None = None) -> Restore:
    """Value, storage, gradient and flag. The user's gradient is put aside, not copied: nothing in here can reach it."""
    storage, value, gradient = tensor.data, tensor.detach().clone(), tensor.grad
    needs = tensor.requires_grad
    if initial is not None:
        initial[id(tensor)] = value

    def restore() -> None:
        if not tensor.is_leaf:
            return
        with torch.no_grad():
            storage.copy_(value)
        if tensor.data_ptr() != storage.data_ptr() or tensor.shape != storage.shape:
            tensor.data = storage
        tensor.requires_grad_(needs)
        tensor.grad = gradient

    return restore


def _keep_attributes(holder: Any, known: set[int]) -> Restore:
    """The attributes of an object: which there are, and the contents of those that can change in place."""
    before = dict(vars(holder))
    contents = [keep for value in before.values() if (keep := _keep_content(value, known)) is not None]

    def restore() -> None:
        vars(holder).clear()
        vars(holder).update(before)
        for keep in contents:
            keep()

    return restore


def _keep_content(value: Any, known: set[int], depth: int = 2) -> Restore | None:
    """How to restore what can change inside a value; None if nothing can (or if it is too long to copy)."""
    if isinstance(value, Tensor):
        return None if id(value) in known or not value.is_leaf else keep_tensor(value)
    if isinstance(value, torch.Generator):
        state = value.get_state()
        return lambda: void(value.set_state(state))
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator.state
        return lambda: setattr(value.bit_generator, "state", bits)
    if isinstance(value, (np.random.RandomState, random.Random)):
        return _keep_generator(value)
    if isinstance(value, (dict, list, set, collections.deque)) and len(value) <= _SHALLOW:
        return _keep_container(value, known, depth)
    return None


def _keep_generator(value: Any) -> Restore:
    if isinstance(value, random.Random):
        python = value.getstate()
        return lambda: value.setstate(python)
    numpy = value.get_state()
    return lambda: void(value.set_state(numpy))


def _keep_container(value: Any, known: set[int], depth: int) -> Restore:
    before: Any = dict(value) if isinstance(value, dict) else list(value)
    items = before.values() if isinstance(value, dict) else before
    nested = [k for item in items if depth > 0 and (k := _keep_content(item, known, depth - 1)) is not None]

    def restore() -> None:
        value.clear()
        value.extend(before) if isinstance(value, (list, collections.deque)) else value.update(before)
        for keep in nested:
            keep()

    return restore


def keep_data(source: Any) -> Restore:
    """Generators, counters and flags of a loader, its samplers and its dataset. Tensors in them are read, never written."""
    holders: list[Any] = []
    _collect_holders(source, holders)
    tensors = {id(v) for h in holders for v in vars(h).values() if isinstance(v, Tensor)}
    restores = [_keep_attributes(holder, tensors) for holder in holders]

    def restore() -> None:
        for part in reversed(restores):
            part()

    return restore


def _collect_holders(source: Any, into: list[Any], depth: int = 4) -> None:
    if (
        depth == 0
        or isinstance(source, (Tensor, np.ndarray, nn.Module, type, str, bytes))
        or any(source is h for h in into)
    ):
        return
    if isinstance(source, (DataLoader, Dataset, Sampler)) or (
        hasattr(source, "__iter__") and hasattr(source, "__dict__")
    ):
        into.append(source)
        for value in list(vars(source).values()):
            if isinstance(value, (DataLoader, Dataset, Sampler)) or (
                hasattr(value, "__dict__") and not callable(value)
            ):
                _collect_holders(value, into, depth - 1)


def undisturbed(restore: Restore) -> Restore:
    """A restore that a second Ctrl-C cannot break off: it is held back until all is restored."""

    def guarded() -> None:
        if threading.current_thread() is not threading.main_thread():
            restore()
            return
        pressed: list[Any] = []
        handler = signal.signal(signal.SIGINT, lambda *a: pressed.append(a))
        try:
            restore()
        finally:
            signal.signal(signal.SIGINT, handler)
        if pressed and sys.exc_info()[0] is None:
            signal.raise_signal(signal.SIGINT)  # to the handler that the user has

    return guarded


def void(_: Any) -> None:
    """Nothing, whatever it is given: for calls made for their effect inside an expression."""
