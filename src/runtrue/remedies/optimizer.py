"""Another learning rate, found by trials and not by a rule alone."""

from __future__ import annotations

from collections.abc import Iterator

from torch.optim import Optimizer

from runtrue import optimizers
from runtrue.findings import Finding, Remedy
from runtrue.measure import Measurements
from runtrue.remedies.registry import remedy
from runtrue.sandbox import Sandbox
from runtrue.task import Task

LOWER = (0.1, 0.01, 1e-3, 1e-4)
HIGHER = (10.0, 100.0, 1e3, 1e4, 1e5)
FROM_ZERO = (1e-3, 1e-2, 0.1)  # the usual rates of Adam and SGD


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


def _at(rate: float, box: Sandbox) -> Remedy:
    def treat(task: Task) -> Task:
        return task.replace(optimizer=optimizers.at_rate(task.optimizer or optimizers.adam, rate))

    code = "optimizer = " + optimizers.code(box.optimizer(box.task), lr=rate)
    return Remedy(f"learning rate {rate:.3g}", True, code, treat)


def _times(factor: float, box: Sandbox) -> Remedy:
    def treat(task: Task) -> Task:
        return task.replace(optimizer=optimizers.with_rate(task.optimizer or optimizers.adam, factor))

    now = box.optimizer(box.task)
    rate = optimizers.rate(now) * factor
    return Remedy(f"learning rate {rate:.3g}", True, code_with_rate(now, factor), treat)


def code_with_rate(optimizer: Optimizer, factor: float) -> str:
    if len(optimizer.param_groups) == 1:
        return "optimizer = " + optimizers.code(optimizer, lr=optimizers.rate(optimizer) * factor)
    return f'for group in optimizer.param_groups:\n    group["lr"] *= {factor:g}'
