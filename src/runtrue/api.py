"""`runtrue.check` as people call it: with a task, or with the parts of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from runtrue import diagnosis, lightning_task
from runtrue.report import Report
from runtrue.task import Task, TaskError


def check(
    task: Task | nn.Module | Callable[[], nn.Module],
    train: Any = None,
    *,
    budget: float = 60.0,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    seed: int = 0,
    **parts: Any,
) -> Report:
    """Find out whether a task will train; if not, why, what cures it, and the proof.

    task: a `Task`, or a model, with the other parts of a `Task` by name (`train=`, `loss=`, `optimizer=`, …); or a
        LightningModule, with its data module or loader as `train=` unless it has its own.
    budget: seconds. only, skip: cause ids to look for, or not. seed: of the batches, the dropout and the new weights.

    The model, the optimizer, the data and the random state are bit-identical afterwards. Raises `TaskError` if the task cannot be
    run, ValueError for an unknown cause id.

    >>> import torch, runtrue
    >>> x = torch.randn(64, 4)
    >>> report = runtrue.check(torch.nn.Linear(4, 1), train=(x, x @ torch.ones(4, 1)), loss=torch.nn.MSELoss(),
    ...                        optimizer=lambda params: torch.optim.SGD(params, lr=0.1), budget=10)
    >>> report.ok
    True
    """
    if lightning_task.is_module(task):
        return _of_lightning(task, train, parts, budget=budget, only=only, skip=skip, seed=seed)
    if not isinstance(task, Task):
        task = Task(task, train, **_known(parts))
    elif train is not None or parts:
        given = ", ".join([*(["train"] if train is not None else []), *parts])
        raise TaskError(f"a Task was given, and {given} besides: put them into the Task (task.replace(...))")
    return diagnosis.check(task, budget=budget, only=only, skip=skip, seed=seed)


def _of_lightning(module: Any, data: Any, parts: dict[str, Any], **how: Any) -> Report:
    """By the module's own step and optimizer; only how long it is planned for is asked besides."""
    if odd := sorted(set(_known(parts)) - {"epochs"}):
        raise TaskError(f"a LightningModule brings its {', '.join(odd)} itself: leave that out")
    task = lightning_task.task_of(module, data, epochs=parts.get("epochs"), seed=how["seed"])
    return lightning_task.spoken(diagnosis.check(task, **how), task)


def _known(parts: dict[str, Any]) -> dict[str, Any]:
    names = ("val", "loss", "optimizer", "metric", "step", "epochs", "batch_size")
    for name in parts:
        if name not in names:
            raise TypeError(f"check() got an unexpected argument {name!r}; a task has train, {', '.join(names)}")
    return parts
