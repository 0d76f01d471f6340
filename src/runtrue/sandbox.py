"""The only place that copies and restores. Inside it the user's own model is trained; afterwards it is as it was.

What is trained must be what a closure of the loss sees, so no copy of the model is made: the values of its parameters and
buffers are kept (one copy) and written back, also after an error or Ctrl-C.
"""

from __future__ import annotations

import collections
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from runtrue import batches as data
from runtrue import optimizers
from runtrue.closures import reachable
from runtrue.task import Task, TaskError, blame, forward

Restore = Callable[[], None]
_SHALLOW = 100_000  # containers in a dataset with more items than this are not copied: nobody changes a list that long


@dataclass(eq=False)
class Sandbox:
    """The task inside: its model built, its batches drawn. `start()` brings back the initial state as often as needed."""

    task: Task
    batches: data.Batches
    device: torch.device
    seed: int
    _restore: Restore
    initial: dict[int, Tensor]
    """The values at the start, by id of the parameter or buffer: the one copy that is kept."""
    steps: int = 0
    """Training steps taken in here: what a check cost."""

    @property
    def model(self) -> nn.Module:
        assert isinstance(self.task.model, nn.Module)
        return self.task.model

    def start(self) -> Task:
        """Undo everything: weights, buffers, gradients, modes, layers added, random state. Returns the untreated task."""
        self._restore()
        seed_all(self.seed)
        return self.task

    def batch(self, step: int) -> Any:
        return data.to_device(self.batches.get(step), self.device)

    def optimizer(self, task: Task) -> torch.optim.Optimizer:
        """An optimizer for this task that is not the user's own object, whatever form the task gives it in."""
        if isinstance(task.optimizer, torch.optim.Optimizer):
            return optimizers.twin(task.optimizer)
        make = task.optimizer or optimizers.adam
        try:
            made = make(list(self._model_of(task).parameters()))
        except Exception as error:
            raise TaskError(f"the optimizer could not be built on the model's parameters: {blame(error)}") from error
        if not isinstance(made, torch.optim.Optimizer):
            raise TaskError(f"optimizer(params) returned an object of type {type(made).__name__}, not an Optimizer")
        return made

    def _model_of(self, task: Task) -> nn.Module:
        assert isinstance(task.model, nn.Module)
        return task.model

    def loss(self, task: Task, batch: Any) -> tuple[Any, Tensor]:
        """Outputs and loss of one batch in training mode; counts as a step."""
        self.steps += 1
        return forward(task, self._model_of(task), batch)


@contextmanager
def sandbox(task: Task, seed: int = 0) -> Iterator[Sandbox]:
    """Open the task. On leaving, also by an error or Ctrl-C, the user's objects are bit-identical to what they were:
    weights, buffers, gradients, modes, hooks, attributes, optimizer, random state, the loader's generators.

    Raises TaskError if the model cannot be built or there are no batches.
    """
    with ExitStack() as stack:
        stack.callback(_undisturbed(keep_random_state()))
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.callback(_undisturbed(keep_data(task.train)))
        seed_all(seed)
        built = task.built()
        assert isinstance(built.model, nn.Module)
        _refuse_unusable(built.model)
        modules = _all_modules(built)
        initial: dict[int, Tensor] = {}
        restore = keep_modules(modules, initial)
        stack.callback(_undisturbed(restore))
        drawn = data.draw(task.train, task.batch_size, seed)
        seed_all(seed)
        inside = _back_to_start(restore, built.model)
        yield Sandbox(built, drawn, device_of(built.model), seed, inside, initial)


def _back_to_start(restore: Restore, model: nn.Module) -> Restore:
    """Back to the start of the sandbox: as the user gave it, without gradients, in training mode.

    Parts that the user keeps in evaluation mode while the whole trains (frozen normalization) stay so.
    """

    def again() -> None:
        restore()
        for parameter in model.parameters():
            parameter.grad = None
        if not model.training:
            model.train()

    again()
    return again


def _refuse_unusable(model: nn.Module) -> None:
    if next(model.parameters(), None) is None:
        raise TaskError(f"the model ({type(model).__name__}) has no parameters: there is nothing to train")
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise TaskError(
                f"parameter {name} is on the meta device and has no values: load or initialise the model first"
            )
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise TaskError(
                f"parameter {name} belongs to a lazy layer that has not seen a batch: call the model once before the check"
            )


def _all_modules(task: Task) -> list[nn.Module]:
    """The model, and whatever else the loss, the step or the optimizer's function can reach."""
    assert isinstance(task.model, nn.Module)
    roots = [task.model]
    for part in (task.loss, task.step, task.metric, task.optimizer):
        roots += [m for m in reachable(part) if m not in roots]
    return roots


def device_of(model: nn.Module) -> torch.device:
    """Where the first parameter or buffer lies; the CPU for a model that has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


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


def keep_modules(roots: Iterable[nn.Module], initial: dict[int, Tensor]) -> Restore:
    """Everything of these modules: values (kept in `initial`), gradients, flags, structure, modes, hooks, attributes."""
    modules = list(dict.fromkeys(module for root in roots for module in root.modules()))
    tensors = {id(t): t for m in modules for t in (*m._parameters.values(), *m._buffers.values()) if t is not None}
    restores = [_keep_tensor(tensor, initial) for tensor in tensors.values()]
    restores += [_keep_attributes(module, set(tensors)) for module in modules]

    def restore() -> None:
        for part in reversed(restores):  # structure first: it brings back the tensors whose values follow
            part()

    return restore


def _keep_tensor(tensor: Tensor, initial: dict[int, Tensor] | None = None) -> Restore:
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
        return None if id(value) in known or not value.is_leaf else _keep_tensor(value)
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


def _undisturbed(restore: Restore) -> Restore:
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
            raise KeyboardInterrupt

    return guarded


def void(_: Any) -> None:
    """Nothing, whatever it is given: for calls made for their effect inside an expression."""
