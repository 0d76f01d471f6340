"""Another learning rate, found by trials and not by a rule alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.optim import Optimizer

from runtrue import optimizers
from runtrue.findings import Finding, Remedy
from runtrue.measure import Measurements
from runtrue.remedies.registry import remedy
from runtrue.sandbox import Sandbox
from runtrue.task import Task
from runtrue.wrapping import MeanOverBatch

LOWER = (0.1, 0.01, 1e-3, 1e-4)
HIGHER = (10.0, 100.0, 1e3, 1e4, 1e5)
MOMENTUM = 0.9
FROM_ZERO = (1e-3, 1e-2, 0.1)  # the usual rates of Adam and SGD


@remedy("learning-rate-too-high")
def mean_over_batch(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """The mean over the batch, where the loss is the sum: a sum makes every step as many times as long as there are examples."""
    outputs, now = measured.start.outputs, box.optimizer(box.task)
    if outputs is None or not outputs.sums or box.task.loss is None or not isinstance(now, torch.optim.SGD):
        return

    def treat(task: Task) -> Task:
        return task if task.loss is None else task.replace(loss=MeanOverBatch(task.loss))

    code = "loss = loss_fn(outputs, targets) / len(targets)  # or reduction='mean'"
    yield Remedy("the mean over the batch instead of the sum", True, code, treat, rescales_loss=True)


@remedy("learning-rate-too-high")
def lower_rate(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """A tenth, a hundredth, …: the trial tells which."""
    yield from (_times(factor, box) for factor in LOWER)


@remedy("learning-rate-too-low")
def raise_rate(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Ten times, a hundred times, …: the trial tells which."""
    if measured.rate == 0:
        yield from (_at(rate, box) for rate in FROM_ZERO)
    else:
        yield from (_times(factor, box) for factor in HIGHER)


@remedy("learning-rate-too-low")
def add_momentum(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Momentum 0.9 for plain SGD, which carries it about ten times as far (N4.1)."""
    now = box.optimizer(box.task)
    if not isinstance(now, torch.optim.SGD) or any(group["momentum"] for group in now.param_groups):
        return
    code = f'for group in optimizer.param_groups:\n    group["momentum"] = {MOMENTUM:g}'
    if len(now.param_groups) == 1:
        code = "optimizer = " + optimizers.code(now, momentum=MOMENTUM)

    def treat(task: Task) -> Task:
        return task.replace(optimizer=optimizers.with_momentum(task.optimizer or optimizers.adam, MOMENTUM))

    yield Remedy(f"momentum {MOMENTUM:g}", True, code, treat)


@remedy("learning-rate-too-high", "learning-rate-too-low")
def adam_instead(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Adam at 1e-3, the last resort: it finds a rate for each weight by itself (Kingma and Ba 2015)."""
    now = box.optimizer(box.task)
    if isinstance(now, torch.optim.Adam) and optimizers.rate(now) == optimizers.DEFAULT_RATE:
        return

    def treat(task: Task) -> Task:
        return task.replace(optimizer=optimizers.adam_on_the_same(task.optimizer or optimizers.adam))

    made = optimizers.adam_on_the_same(now)
    assert isinstance(made, Optimizer)
    code = "optimizer = " + optimizers.code(made)
    if len(now.param_groups) > 1:
        groups = '[{"params": g["params"], "weight_decay": g.get("weight_decay", 0)} for g in optimizer.param_groups]'
        code = "optimizer = " + optimizers.code(made, groups, weight_decay=0)
    yield Remedy(f"{type(made).__name__} at {optimizers.DEFAULT_RATE:g}", True, code, treat)


def _at(rate: float, box: Sandbox) -> Remedy:
    def treat(task: Task) -> Task:
        return task.replace(optimizer=optimizers.at_rate(task.optimizer or optimizers.adam, rate))

    code = "optimizer = " + optimizers.code(box.optimizer(box.task), lr=rate)
    return Remedy(f"learning rate {rate:.3g}", True, code, treat, rate=rate)


def _times(factor: float, box: Sandbox) -> Remedy:
    def treat(task: Task) -> Task:
        return task.replace(optimizer=optimizers.with_rate(task.optimizer or optimizers.adam, factor))

    now = box.optimizer(box.task)
    rate = optimizers.rate(now) * factor
    return Remedy(f"learning rate {rate:.3g}", True, code_with_rate(now, factor), treat, rate=rate)


def code_with_rate(optimizer: Optimizer, factor: float) -> str:
    if len(optimizer.param_groups) == 1:
        return "optimizer = " + optimizers.code(optimizer, lr=optimizers.rate(optimizer) * factor)
    return f'for group in optimizer.param_groups:\n    group["lr"] *= {factor:g}'
