"""A LightningModule as a task: its own training_step, configure_optimizers and data, checked without a Trainer.

Neither `pytorch_lightning` nor `lightning` is imported here: a LightningModule is known by the names of its base classes.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from runtrue.keeping import keep_random_state, seed_all
from runtrue.lightning_task import data as batches_of
from runtrue.lightning_task.beside import data_module_in, epochs_in
from runtrue.lightning_task.code import spoken
from runtrue.lightning_task.inline import by_loss
from runtrue.lightning_task.optimizer import optimizer_of
from runtrue.lightning_task.parts import Parts, by_call
from runtrue.lightning_task.standin import Standin, attach, begin, is_data_module, is_module
from runtrue.lightning_task.step import Arriving, arriving
from runtrue.lightning_task.whole import WholeStep, made_by_networks
from runtrue.sandbox import sandbox
from runtrue.task import Task, TaskError, blame

__all__ = ["data_module_in", "epochs_in", "is_data_module", "is_module", "spoken", "task_of"]

LOOKED_AT = 2  # batches on which network and loss are told apart
LENGTHS = ("max_epochs", "epochs", "num_epochs", "n_epochs")
"""Names of hyperparameters that say how long."""


def task_of(module: Any, data: Any = None, *, epochs: int | None = None, seed: int = 0) -> Task:
    """The task of a LightningModule: an instance, a class or a function without required arguments.

    data: a LightningDataModule (instance or class), a DataLoader, a Dataset, an iterable of batches, a pair of tensors, or a
        function that returns one of these; without it, the module's own train_dataloader.
    epochs: how long the training is to be; else what the hyperparameters say. seed: of the weights of a class or function.

    An instance is copied: nothing of it is changed, now or by a check. Raises TaskError if the module cannot be trained with one
    loss and one optimizer, or if it has no data.
    """
    restore = keep_random_state()
    try:
        seed_all(seed)
        return _task_of(module, data, epochs, seed)
    finally:
        restore()


def _task_of(given: Any, data: Any, epochs: int | None, seed: int) -> Task:
    module = _own(given)
    epochs = epochs or batches_of.number(module, LENGTHS)
    standin = Standin(epochs)
    attach(module, standin)
    data = _made(data) if data is not None else None
    data_module = batches_of.data_module_of(module, data, standin)
    _set_up(module, data_module)
    attach(module, standin)  # parts that the setup brought
    found = batches_of.sources(module, data, data_module)
    loader = batches_of.as_loader(found.train, found.batch_size)
    standin.train_dataloader, standin.val_dataloaders = loader, found.val
    optimizer = optimizer_of(module, standin)
    begin(module)
    module.train()
    whole = Task(module, found.train, found.val, step=WholeStep(), optimizer=optimizer, epochs=epochs)
    return _told_apart(whole.replace(batch_size=found.batch_size), arriving(module, data_module), seed)


def _own(given: Any) -> nn.Module:
    """A module of our own: built if a class or function was given, copied if it is the user's."""
    made: Any = _made(given)
    if not isinstance(made, nn.Module) or not is_module(made):
        raise TaskError(f"{_name(given)} is of type {type(made).__name__}, not a LightningModule")
    if made is not given:
        return made
    trainer = getattr(made, "_trainer", None)
    memo = {} if trainer is None else {id(trainer): None}  # a Trainer brings loaders, loggers and processes along
    try:
        own: nn.Module = copy.deepcopy(made, memo)
        return own
    except Exception as error:
        raise TaskError(
            f"the module ({type(made).__name__}) cannot be copied: {blame(error)}. Give its class, or a function that builds it"
        ) from error


def _made(given: Any) -> Any:
    """What a class or function makes when it is called without arguments; anything else as it is."""
    if not isinstance(given, type) and (not callable(given) or isinstance(given, (nn.Module, Iterable, Dataset))):
        return given
    if is_data_module(given) and not isinstance(given, type):
        return given
    try:
        inspect.signature(given).bind()
    except TypeError as error:
        raise TaskError(
            f"{_name(given)} needs arguments ({error}): write a function without arguments that returns it, and name that"
        ) from error
    except ValueError:  # made in C, without a signature
        pass
    try:
        return given()
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(f"{_name(given)}() failed: {blame(error)}") from error


def _name(given: Any) -> str:
    return getattr(given, "__name__", type(given).__name__)


def _set_up(module: nn.Module, data_module: Any) -> None:
    """What Lightning calls before it asks for loaders and optimizers, in its order."""
    parts = [part for part in (data_module, module) if part is not None]
    for hook, arguments in (("prepare_data", ()), ("setup", ("fit",))):
        for part in parts:
            batches_of.call(part, hook, *arguments)
    batches_of.call(module, "configure_model")


def _told_apart(task: Task, arrive: Arriving, seed: int) -> Task:
    """The task with outputs and loss of their own, if its training_step can be told apart; else as it is, with its step."""
    module = task.model
    assert isinstance(module, nn.Module)
    loader = batches_of.as_loader(task.train, task.batch_size)
    parts = WholeStep() if isinstance(loader, Iterator) else _parts(task, module, loader, arrive, seed)
    if isinstance(parts, WholeStep):
        task = task.replace(step=parts)
        return task.replace(train=batches_of.prepared(loader, arrive)) if arrive.hooks else task
    if parts.forward is not None:
        vars(module)["forward"] = parts.forward
    apart = task.replace(step=None, loss=parts.loss)
    if parts.prepare is None and not arrive.hooks:
        return apart
    changes = (arrive,) if parts.prepare is None else (arrive, parts.prepare)
    val = None if task.val is None else batches_of.prepared(task.val, *changes)
    return apart.replace(train=batches_of.prepared(loader, *changes), val=val)


def _parts(task: Task, module: nn.Module, loader: Any, arrive: Arriving, seed: int) -> Parts | WholeStep:
    """A WholeStep for a training_step that cannot be told apart, for whatever reason: an error in it is met again by the check,
    which says what it is."""
    with sandbox(task.replace(train=batches_of.First(loader, LOOKED_AT)), seed) as box:
        for way in (by_call, by_loss):
            box.start()
            with contextlib.suppress(Exception):
                parts = way(module, [arrive(batch) for batch in box.batches])
                if parts is not None:
                    return parts
        box.start()
        with contextlib.suppress(Exception):
            return WholeStep(made_by_networks(module, arrive(box.batch(0))))
    return WholeStep()
