"""Data that can be trained on: without the broken rows, with labels that the outputs have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from runtrue.batches import map_tensors, size_of, tensors_of
from runtrue.findings import Finding, Remedy
from runtrue.measure import Measurements
from runtrue.remedies.registry import remedy
from runtrue.sandbox import Sandbox
from runtrue.task import split
from runtrue.trials import Changed


def finite_rows(batch: Any) -> Any:
    """The examples of a batch in which every value is finite."""
    count = size_of(batch)
    if count == 0:
        return batch
    keep = torch.ones(count, dtype=torch.bool)
    for tensor in tensors_of(batch):
        keep &= torch.isfinite(torch.as_tensor(tensor)).reshape(count, -1).all(1).cpu()
    return map_tensors(batch, lambda t: t[keep.to(t.device)])


@remedy("non-finite-data")
def drop_rows(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    code = (
        "keep = torch.isfinite(inputs).flatten(1).all(1)  # and the same for the targets, if they can be NaN\n"
        "inputs, targets = inputs[keep], targets[keep]"
    )
    yield Remedy(
        "leave out the examples that are not finite",
        False,
        code,
        lambda task: task.replace(train=Changed(task.train, finite_rows)),
    )


@remedy("labels-out-of-range")
def relabel(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Labels 1 … C become 0 … C-1; binary targets low/high become 0/1. Other ranges need a decision by the user."""
    low, high = finding.evidence["lowest"], finding.evidence["highest"]
    classes, loss = finding.evidence["outputs"], finding.evidence["loss"]
    binary = str(loss).startswith("binary")
    if binary and high > low:
        code = f"targets = (targets - {low:g}) / {high - low:g}  # 0 … 1"
        yield Remedy("scale the targets to 0 … 1", True, code, _on_targets(lambda t: (t - low) / (high - low)))
    elif low == 1 and high <= classes:
        yield Remedy("count labels from 0", True, "targets = targets - 1", _on_targets(lambda t: t - 1))


def _on_targets(change: Any) -> Any:
    def on_batch(batch: Any) -> tuple[Any, Any]:
        inputs, targets = split(batch)
        return inputs, _changed(targets, change)

    return lambda task: task.replace(train=Changed(task.train, on_batch))


def _changed(targets: Any, change: Any) -> Any:
    return map_tensors(targets, lambda t: _same_type(change(t), t))


def _same_type(changed: Tensor, original: Tensor) -> Tensor:
    return changed.to(original.dtype)
