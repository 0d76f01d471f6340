"""A last layer on kept features, solved instead of trained: with a penalty on its weights the cross-entropy has one minimum,
which L-BFGS finds in a second (Liu and Nocedal 1989). No learning rate, no number of epochs; how strong the penalty has to be
is told by cross-validation inside the training set, so that the validation set takes no part and its accuracy is an honest one.

Measured on 213 photographs in 7 classes (MobileNetV2, 160 pixels, stratified 5-fold, 5 seeds, seen whole): right answers 0.894 to
0.897 at decays from 1e-4 to 1e-2, with weighted classes 0.899 to 0.901; standardized features (3 seeds) 0.886 to 0.890.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue.finetune.features import Features

DECAYS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths of the penalty λ/2 · |W|² that are tried, for features brought to a mean square of 1."""
FOLDS = 5
ROUNDS, STEPS = 20, 10
"""Of L-BFGS: rounds of so many steps each. (Rounds of a single step get stuck in torch's: a line search ends with its round.)"""
ENOUGH = 1e-3  # a round that lowers the objective by less than this share of it is the last one

Told = Callable[[nn.Module, int], None]


@dataclass(frozen=True)
class Validated:
    """decay: the strength with the lowest loss on what was left out; losses, accuracies: of each that was tried."""

    decay: float
    losses: Mapping[float, float]
    accuracies: Mapping[float, float]


def validated(
    head: nn.Module, found: Features, parts: Tensor, *, decays: Sequence[float] = DECAYS, class_weights: Tensor | None = None
) -> Validated:  # fmt: skip
    """Cross-validation. parts: int64 (N,), the number of the fold of each; copies of one image have to be in the same."""
    folds = [int(k) for k in parts.unique()]
    losses, right = dict.fromkeys(decays, 0.0), dict.fromkeys(decays, 0.0)
    for decay in decays:
        for k in folds:
            away = parts == k
            kept, left = _at(found, ~away), _at(found, away)
            outputs = outputs_of(solved(head, kept, decay, class_weights), left)
            losses[decay] += float(F.cross_entropy(outputs, left.labels, reduction="sum")) / len(found)
            right[decay] += float((outputs.argmax(1) == left.labels).sum()) / len(found)
    return Validated(min(decays, key=lambda decay: losses[decay]), losses, right)


def solved(
    head: nn.Module, found: Features, decay: float, class_weights: Tensor | None = None, told: Told | None = None
) -> nn.Module:
    """A copy of the head (a Linear, or a convolution of 1 × 1) at the minimum of

        mean cross-entropy + decay/2 · |W|² · mean square of the features

    The weights that are returned are for the features as they are.

    told: called with the head after each round of L-BFGS, and the number of the round, from 1 on.
    """
    scaled = copy.deepcopy(head).float().eval()
    for parameter in scaled.parameters():
        nn.init.zeros_(parameter.requires_grad_(True))
    weight = scaled.weight
    assert isinstance(weight, Tensor)
    scale = float(found.inputs.square().mean().sqrt()) or 1.0
    inputs, labels = found.inputs / scale, found.labels
    parameters = list(scaled.parameters())
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=STEPS, max_eval=4 * STEPS, history_size=20, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        outputs = scaled(inputs).flatten(1)
        loss = F.cross_entropy(outputs, labels, class_weights) + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    last = float("inf")
    for number in range(1, ROUNDS + 1):
        with torch.enable_grad():
            optimizer.step(objective)
            now = float(objective().detach())
        if told is not None:
            told(_of_features(scaled, scale), number)
        if last - now < ENOUGH * abs(now):
            break
        last = now
    return _of_features(scaled, scale)


@torch.no_grad()
def _of_features(scaled: nn.Module, scale: float) -> nn.Module:
    """The head for features as they are, of the one for features brought to a mean square of 1."""
    head = copy.deepcopy(scaled)
    weight = head.weight
    assert isinstance(weight, Tensor)
    weight /= scale
    for parameter in head.parameters():
        parameter.grad = None
    return head


def folds_of(labels: Tensor, count: int = FOLDS, seed: int = 0) -> Tensor:
    """int64 (N,): a fold for each example, each class spread evenly over all of them."""
    draw = torch.Generator().manual_seed(seed)
    parts = torch.zeros(len(labels), dtype=torch.int64)
    for number in labels.unique():
        places = (labels == number).nonzero()[:, 0]
        parts[places[torch.randperm(len(places), generator=draw)]] = torch.arange(len(places)) % count
    return parts


@torch.no_grad()
def outputs_of(head: nn.Module, found: Features) -> Tensor:  # (N, classes)
    outputs: Tensor = head(found.inputs).flatten(1)
    return outputs


def _at(found: Features, which: Tensor) -> Features:
    return Features(found.inputs[which], found.labels[which])
