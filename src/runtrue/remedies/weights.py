"""Better initial weights: by the activation that follows each layer, or by the data (LSUV)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from runtrue import batches, init
from runtrue.findings import Finding, Remedy
from runtrue.measure import Measurements
from runtrue.remedies.registry import remedy
from runtrue.sandbox import Sandbox
from runtrue.tape import Tape, record
from runtrue.task import Task, forward

EXAMPLES = 64  # enough to trace, and for the variances that LSUV measures

WEIGHTS = ("init-too-small", "init-too-large", "init-symmetric", "vanishing-gradient", "exploding-gradient", "dead-units")


@remedy(*WEIGHTS)
def reinitialise(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Xavier, He or LeCun for each layer, by the activation that follows it (N1.4, N1.5)."""
    batch = batches.head(box.batch(0), EXAMPLES)

    def treat(task: Task) -> Task:
        _apply(task, batch)
        return task

    applied = _apply(box.start(), batch)
    box.start()
    if applied:
        schemes = " and ".join(dict.fromkeys(a.scheme for a in applied))
        yield Remedy(f"initialise with {schemes}", True, init.code_for(applied), treat)


def _apply(task: Task, batch: Any) -> list[init.Applied]:
    assert isinstance(task.model, nn.Module)
    return init.apply(task.model, "auto", trace=trace(task, batch))


def trace(task: Task, batch: Any) -> Tape:
    """What a forward pass of this task does; modes and running statistics stay as they are."""
    model = task.model
    assert isinstance(model, nn.Module)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            return record(lambda: forward(task, model, batch), model)
    finally:
        for module, mode in modes.items():
            module.training = mode
