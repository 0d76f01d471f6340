"""By what a trained network is judged: higher is better, 1 is perfect, NaN if an output is no number."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor], float]


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """Share of the rows whose largest output is at their label. Outputs (N, C, …), labels (N, …)."""
    return _share(outputs, outputs.argmax(1) == labels)


def at_threshold(threshold: float, outputs: Tensor, targets: Tensor) -> float:
    """Share of the outputs that lie on the side of `threshold` on which their 0/1 target stands."""
    wanted = targets.reshape(outputs.shape) > 0.5
    return _share(outputs, (outputs > threshold) == wanted)


probability = partial(at_threshold, 0.5)
"""Outputs are probabilities."""

logit = partial(at_threshold, 0.0)
"""Outputs are log odds."""


def r2(outputs: Tensor, targets: Tensor) -> float:
    """1 − mean squared error / variance of the targets, over all elements: 0 for the mean of the targets."""
    outputs, targets = outputs.double(), targets.double()
    value = float(1 - ((outputs.reshape(targets.shape) - targets) ** 2).mean() / targets.var(correction=0))
    return value if math.isfinite(value) else math.nan


def _share(outputs: Tensor, right: Tensor) -> float:
    return float(right.double().mean()) if bool(torch.isfinite(outputs).all()) else math.nan


GOAL = 0.1  # a cured task may stay below the healthy one by this share of the healthy one's metric


def goal(healthy: float) -> float:
    """What has to be reached to count as restored."""
    return healthy - GOAL * abs(healthy)


def reaches(value: float, healthy: float) -> bool:
    """NaN reaches nothing."""
    return value >= goal(healthy)
