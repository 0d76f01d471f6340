"""What the user's configure_optimizers returns, in each of the forms that Lightning takes: one optimizer, and the rate of its
schedule that a run at one constant rate is to have."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from runtrue.lightning_task.standin import Standin
from runtrue.task import TaskError, blame

MOST_STEPS = 20_000  # of a schedule that is followed step by step: a fraction of a second


@dataclass(frozen=True, eq=False)
class Configured:
    """parameters -> Optimizer, by the module's own configure_optimizers, at constant rates. For `Task(optimizer=…)`.

    What a treatment puts around the module (`parameters` that the module does not know) joins the first group.
    """

    module: nn.Module
    rates: tuple[float, ...] | None = None
    """A rate for each group, in place of the one that the schedule begins with."""
    schedules: tuple[str, ...] = ()
    """Their classes, for the words of a report."""
    peak: float = 1.0
    """The highest rate of the schedule over the one that is used."""

    def __call__(self, parameters: Any) -> Optimizer:
        optimizer, _ = configured(self.module)
        for group, rate in zip(optimizer.param_groups, self.rates or ()):
            group["lr"] = rate
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        own = held | {id(p) for p in self.module.parameters()}
        optimizer.param_groups[0]["params"] += [p for p in parameters if id(p) not in own]
        return optimizer


def optimizer_of(module: nn.Module, standin: Standin) -> Configured:
    """The task's optimizer. Raises TaskError if configure_optimizers fails, or returns what a check cannot train with."""
    kind = type(module).__name__
    if not getattr(module, "automatic_optimization", True):
        raise TaskError(
            f"{kind} steps its optimizers itself (automatic_optimization = False), so a check cannot tell a step from the "
            "next. What can be checked is a part of it: a function that returns runtrue.Task(model, train, step=(model, batch) "
            "-> loss, optimizer=…) for one loss and one optimizer"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a schedule is followed without steps of the optimizer between
        optimizer, schedulers = configured(module)
        standin.optimizers[:] = [optimizer]
        standin.lr_scheduler_configs[:] = [SimpleNamespace(**s) for s in schedulers]
        names = tuple(type(s["scheduler"]).__name__ for s in schedulers)
        rates, highest = planned_rates(optimizer, schedulers, standin)
        return Configured(module, rates, names, highest / rates[0] if rates and rates[0] > 0 else 1.0)


def configured(module: Any) -> tuple[Optimizer, list[dict[str, Any]]]:
    """The one optimizer, and its schedulers in Lightning's dictionaries."""
    kind = type(module).__name__
    try:
        made = module.configure_optimizers()
    except Exception as error:
        raise TaskError(f"{kind}.configure_optimizers failed: {blame(error)}") from error
    optimizers, schedulers = _forms(made)
    if len(optimizers) > 1:
        names = ", ".join(type(o).__name__ for o in optimizers)
        raise TaskError(
            f"{kind}.configure_optimizers returned {len(optimizers)} optimizers ({names}): a check trains with one loss and one "
            "optimizer. Check each part by itself, as runtrue.Task(model, train, step=…, optimizer=…)"
        )
    if not optimizers or not isinstance(optimizers[0], Optimizer):
        said = "None: Lightning would train nothing" if made is None else f"an object of type {type(made).__name__}"
        raise TaskError(
            f"{kind}.configure_optimizers returned {said}. Return an optimizer, or a dict with "
            "'optimizer' and 'lr_scheduler'"
        )
    return optimizers[0], [_config(s) for s in schedulers]


def _forms(made: Any) -> tuple[list[Any], list[Any]]:
    """(optimizers, schedulers) of: an optimizer; a list of them; (optimizers, schedulers); a dict; a list of dicts."""
    if isinstance(made, Mapping):
        return [made.get("optimizer")], [made["lr_scheduler"]] if made.get("lr_scheduler") is not None else []
    if not isinstance(made, (list, tuple)):
        return [made], []
    if len(made) == 2 and isinstance(made[0], (list, tuple)):
        return list(made[0]), list(made[1]) if isinstance(made[1], (list, tuple)) else [made[1]]
    parts = [_forms(one) for one in made]
    return [o for part in parts for o in part[0]], [s for part in parts for s in part[1]]


def _config(scheduler: Any) -> dict[str, Any]:
    given = dict(scheduler) if isinstance(scheduler, Mapping) else {"scheduler": scheduler}
    return {"interval": "epoch", "frequency": 1} | given


def planned_rates(
    optimizer: Optimizer, schedulers: Sequence[dict[str, Any]], standin: Standin
) -> tuple[tuple[float, ...] | None, float]:
    """The rate of each group at which a run without schedule begins, and the highest of the first group.

    It is the schedule's first rate, or its mean over the plan where that is larger, as with a warmup, which begins near 0. None
    where nothing changes the rates. Follows the schedulers, which moves the rates of `optimizer`.
    """
    followed = [s for s in schedulers if not isinstance(s.get("scheduler"), ReduceLROnPlateau)]
    if not followed:
        return None, math.nan
    per_epoch = standin.num_training_batches
    stepwise = any(s["interval"] == "step" for s in followed)
    steps = int(min(MOST_STEPS, per_epoch * standin.max_epochs if stepwise else standin.max_epochs))
    every = [s["frequency"] * (1 if s["interval"] == "step" or not stepwise else per_epoch) for s in followed]
    seen = [_rates(optimizer)]
    for step in range(1, max(1, steps)):
        for scheduler, period in zip(followed, every):
            if math.isfinite(period) and step % max(1, int(period)) == 0 and not _advance(scheduler["scheduler"]):
                return None, math.nan
        seen.append(_rates(optimizer))
    groups = list(zip(*seen))
    return tuple(max(rates[0], sum(rates) / len(rates)) for rates in groups), max(groups[0])


def _rates(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _advance(scheduler: Any) -> bool:
    """False for a scheduler that wants more than to be told that a step is over."""
    step: Callable[[], Any] = scheduler.step
    try:
        step()
    except Exception:  # noqa: BLE001  the user's own class: its rates stay as they began
        return False
    return True
