"""By what a trained network is judged: higher is better, 1 is perfect, NaN if an output is no number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """`value(outputs, targets)`, and `chance(targets)`: what the best constant prediction reaches."""

    name: str
    value: Callable[[Tensor, Tensor], float]
    chance: Callable[[Tensor], float]

    def __call__(self, outputs: Tensor, targets: Tensor) -> float:
        found = self.value(outputs, targets) if bool(torch.isfinite(outputs).all()) else math.nan
        return found if math.isfinite(found) else math.nan

    def skill(self, value: float, targets: Tensor) -> float:
        """0 for the best constant prediction, 1 for perfect; minus infinity for NaN."""
        chance = self.chance(targets)
        return (value - chance) / (1 - chance) if math.isfinite(value) else -math.inf


def _most_common(labels: Tensor) -> float:
    return float(labels.flatten().unique(return_counts=True)[1].max() / labels.numel())


def _larger_side(targets: Tensor) -> float:
    share = targets.double().reshape(len(targets), -1).mean(0)
    return float(torch.maximum(share, 1 - share).mean())


def _argmax(outputs: Tensor, labels: Tensor) -> float:
    return float((outputs.argmax(1) == labels).double().mean())


def _side_of(threshold: float) -> Callable[[Tensor, Tensor], float]:
    def share(outputs: Tensor, targets: Tensor) -> float:
        return float(((outputs > threshold) == (targets.reshape(outputs.shape) > 0.5)).double().mean())

    return share


def _rounded(outputs: Tensor, labels: Tensor) -> float:
    return (
        _argmax(outputs, labels) if outputs.shape[1] > 1 else float((outputs[:, 0].round() == labels).double().mean())
    )


def _balanced(outputs: Tensor, labels: Tensor) -> float:
    right = (outputs.argmax(1) == labels).double()
    return float(torch.stack([right[labels == label].mean() for label in labels.unique()]).mean())


def _r2(outputs: Tensor, targets: Tensor) -> float:
    outputs, targets = outputs.double(), targets.double()
    return float(1 - ((outputs.reshape(targets.shape) - targets) ** 2).mean() / targets.var(correction=0))


def _r2_by_column(outputs: Tensor, targets: Tensor) -> float:
    outputs, targets = outputs.double(), targets.double()
    return float(1 - ((outputs - targets) ** 2).mean() / targets.var(0, correction=0).mean())


accuracy = Metric("accuracy", _argmax, _most_common)
"""Share of the rows whose largest output is at their label. Outputs (N, C, …), labels (N, …)."""

probability = Metric("accuracy at 0.5", _side_of(0.5), _larger_side)
"""Outputs are probabilities: the share that lies on the side of 0.5 on which the 0/1 target stands, over all elements."""

logit = Metric("accuracy at 0", _side_of(0.0), _larger_side)
"""The same for log odds."""

rounded = Metric("accuracy", _rounded, _most_common)
"""As `accuracy`; a single output is a label after rounding."""

balanced = Metric("balanced accuracy", _balanced, lambda labels: 1 / len(labels.unique()))
"""Mean over the classes of the share of their rows that is right."""

r2 = Metric("R²", _r2, lambda targets: 0.0)
"""1 − mean squared error / variance of the targets, over all elements: 0 for the mean of the targets."""

r2_by_column = Metric("R²", _r2_by_column, lambda targets: 0.0)
"""The same against the mean of each column: what sets the columns apart is no merit."""


GOAL = 0.1  # a cured task may stay below the healthy one by this share of the healthy one's metric


def goal(healthy: float) -> float:
    """What has to be reached to count as restored."""
    return healthy - GOAL * abs(healthy)


def reaches(value: float, healthy: float) -> bool:
    """NaN reaches nothing."""
    return value >= goal(healthy)
