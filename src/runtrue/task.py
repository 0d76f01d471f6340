"""A task: what is to be trained. Model, data, loss, optimizer, and how long the user means to train."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from runtrue.closures import rebind


class TaskError(Exception):
    """The task cannot be run as it was given. Says what, where, how much against which limit, and what to do."""


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be trained.

    model: an `nn.Module`, or a function without arguments that builds one.
    train, val: a DataLoader, a Dataset, any iterable of batches, a function that returns one of these, or a pair
        (inputs, targets) of tensors with examples along the first dimension. Several inputs: a tuple or a dict of tensors.
    loss: (outputs, targets) -> scalar tensor.
    optimizer: parameters -> Optimizer (for instance `functools.partial(torch.optim.SGD, lr=0.1)`), or an Optimizer
        that holds the parameters of `model`. Without one, Adam at 1e-3 is used and the report says so.
    metric: (outputs, targets) -> number. It and `val` stay with the task (`fix` hands them on); no check reads them yet.
    step: (model, batch) -> loss, for batches that are no (inputs, targets) pair.
    epochs: how long the user means to train: a learning rate is too low *for a plan*.
    batch_size: for tensors and datasets; a DataLoader brings its own.

    Raises TaskError if the parts cannot make a task, and says which.
    """

    model: nn.Module | Callable[[], nn.Module]
    train: Any
    val: Any = None
    loss: Callable[[Any, Any], Tensor] | None = None
    optimizer: Callable[..., torch.optim.Optimizer] | torch.optim.Optimizer | None = None
    metric: Callable[[Any, Any], Any] | None = None
    step: Callable[[nn.Module, Any], Tensor] | None = None
    epochs: int | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module) and not callable(self.model):
            raise TaskError(f"model must be an nn.Module or a function that builds one, not {_kind(self.model)}")
        if self.train is None:
            raise TaskError("the task has no training data: pass train= a DataLoader, a Dataset or (inputs, targets)")
        if self.loss is None and self.step is None:
            raise TaskError(
                "the task has no loss: pass loss=(outputs, targets) -> scalar, or step=(model, batch) -> loss"
            )
        for name in ("loss", "step", "metric"):
            part = getattr(self, name)
            if part is not None and not callable(part):
                raise TaskError(f"{name} must be a function, not {_kind(part)}")
            if isinstance(part, type):
                raise TaskError(f"{name} is the class {part.__name__}, not an instance of it: write {part.__name__}()")
        self._validate_optimizer()
        for name in ("batch_size", "epochs"):
            number = getattr(self, name)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise TaskError(f"{name} must be a whole number of at least 1, not {number!r}")

    def _validate_optimizer(self) -> None:
        if self.optimizer is not None and not callable(self.optimizer) and not hasattr(self.optimizer, "param_groups"):
            raise TaskError(
                f"optimizer must be an Optimizer or a function params -> Optimizer, not {_kind(self.optimizer)}"
            )
        if isinstance(self.optimizer, torch.optim.Optimizer) and not isinstance(self.model, nn.Module):
            raise TaskError(
                "the optimizer is already built, but the model is a function that builds a new one: the optimizer cannot hold "
                "its parameters. Pass the model itself, or a function params -> Optimizer"
            )

    def replace(self, **changes: Any) -> Task:
        """The same task with these parts exchanged."""
        return replace(self, **changes)

    def built(self) -> Task:
        """The same task with its model built, if it was a function."""
        if isinstance(self.model, nn.Module):
            plain = getattr(self.model, "_orig_mod", self.model)  # torch.compile's wrapper: the same parameters inside
            return self if plain is self.model else self.replace(model=plain)
        try:
            model = self.model()
        except Exception as error:
            raise TaskError(f"the function that builds the model failed: {blame(error)}") from error
        if not isinstance(model, nn.Module):
            raise TaskError(f"the function that builds the model returned {_kind(model)}, not an nn.Module")
        return self.replace(model=model)

    def copy(self) -> Task:
        """The same task on a copy of the model. An optimizer, a loss or a step that holds the model holds the copy.

        The data are shared, not copied.
        """
        memo: dict[int, Any] = {}
        task = self.built()
        model = copy.deepcopy(task.model, memo)
        parts = {name: rebind(getattr(task, name), memo) for name in ("loss", "step", "metric", "optimizer")}
        return task.replace(model=model, **parts)


def forward(task: Task, model: nn.Module, batch: Any) -> tuple[Any, Tensor]:
    """Outputs (None where `step` hides them) and loss of one batch.

    Raises TaskError if the model cannot take the batch, or if the loss is no scalar tensor.
    """
    if task.step is not None:
        return None, _scalar(_attempt(task.step, (model, batch), "step cannot take this batch, {1}"), "step")
    inputs, targets = split(batch)
    outputs = _attempt(call_model, (model, inputs), "the model cannot take this batch, inputs {1}")
    assert task.loss is not None
    loss = _attempt(task.loss, (outputs, targets), "the loss cannot take outputs {0} with targets {1}")
    return outputs, _scalar(loss, "loss")


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Several inputs in a tuple or list are passed one by one, those in a dict by name."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


def split(batch: Any) -> tuple[Any, Any]:
    """(inputs, targets) of a batch: its last part is the target, what stands before it the input or inputs."""
    if isinstance(batch, (tuple, list)) and len(batch) >= 2:
        inputs = batch[0] if len(batch) == 2 else tuple(batch[:-1])
        return inputs, batch[-1]
    raise TaskError(
        f"a batch is {shapes(batch)}, not a pair (inputs, targets): "
        "pass step=(model, batch) -> loss, which says what to do with it"
    )


def shapes(value: Any) -> str:
    """A batch in words: dtype and shape of each tensor in it."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {shapes(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(shapes(item) for item in value[:8])}{', …' if len(value) > 8 else ''}]"
    return _kind(value)


def blame(error: BaseException) -> str:
    """An error in one line with the user's own line of code: the deepest frame that is neither torch's nor ours."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "/runtrue/" not in f.filename.replace("\\", "/") and "/torch/" not in f.filename]
    message = " ".join(str(error).split())
    where = f" (in {own[-1].filename}, line {own[-1].lineno}: {own[-1].line})" if own and own[-1].line else ""
    return f"{type(error).__name__}: {message}{where}"


def _attempt(call: Callable[..., Any], arguments: tuple[Any, ...], what: str) -> Any:
    """`what` failed, in words; {0} and {1} stand for the shapes of the arguments."""
    try:
        return call(*arguments)
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(f"{what.format(*map(shapes, arguments))}: {blame(error)}") from error


def _scalar(loss: Any, name: str) -> Tensor:
    if not isinstance(loss, Tensor):
        raise TaskError(
            f"{name} returned {_kind(loss)}, not a tensor: return the loss itself, without .item() or float()"
        )
    if loss.numel() != 1:
        raise TaskError(
            f"{name} returned a tensor of shape {tuple(loss.shape)}, not a scalar: take its mean, or use reduction='mean'"
        )
    if loss.is_complex() or not loss.is_floating_point():
        raise TaskError(
            f"{name} returned {loss.dtype}, which carries no gradient: a loss is a real floating-point number"
        )
    return loss.reshape(())


def _kind(value: Any) -> str:
    return f"an object of type {type(value).__name__}" if value is not None else "None"
