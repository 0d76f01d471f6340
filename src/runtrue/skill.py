"""How good predictions are, on a scale that no loss function changes: 0 like the best constant prediction, 1 perfect.

Losses of two variants cannot be compared where the remedy changes the loss, and some faults put a floor under the loss itself
(a softmax in front of cross-entropy cannot go below ln(1 + (C - 1)/e)). The share of right answers, and R², can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from runtrue.tape import LossCall

CLASSES = ("cross_entropy", "nll_loss", "multi_margin_loss")
AROUND_ZERO = (
    "binary_cross_entropy_with_logits", "soft_margin_loss", "multilabel_soft_margin_loss", "hinge_embedding_loss",
)  # fmt: skip
"""Losses whose predictions are logits: 0 is the line between no and yes."""
NUMBERS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "gaussian_nll_loss", "binary_cross_entropy")
LOST = -1.0  # predictions that are no numbers, or worse than this


def of_calls(calls: Sequence[LossCall]) -> float | None:
    """Mean skill over the losses of a task, each from its calls on several batches; None where none can be told.

    calls: in the order in which they were made. A task that calls k losses a batch has calls 0, k, 2k, … of the first.
    """
    each = _by_place(calls)
    found = [skill for group in each if (skill := _of_one(group)) is not None]
    return sum(found) / len(found) if found and len(found) == len(each) else None


def _by_place(calls: Sequence[LossCall]) -> list[list[LossCall]]:
    names = [call.name for call in calls]
    period = next((k for k in range(1, len(names) + 1) if names == (names[:k] * len(names))[: len(names)]), 0)
    return [list(calls[place::period]) for place in range(period)] if period else []


def _of_one(calls: Sequence[LossCall]) -> float | None:
    if not all(isinstance(call.target, Tensor) for call in calls):
        return None
    name, ignored = calls[0].name, calls[0].options.get("ignore_index", -100)
    try:
        if name in CLASSES and not calls[0].target.is_floating_point():
            predicted = torch.cat([_best_class(call.input).flatten() for call in calls])
            labels = torch.cat([call.target.flatten() for call in calls])
            return of_labels(predicted[labels != ignored], labels[labels != ignored])
        if name in (*CLASSES, *AROUND_ZERO, *NUMBERS):
            pairs = [_aligned(call.input, call.target) for call in calls]
            rows, wanted = (torch.cat([pair[side] for pair in pairs]) for side in (0, 1))
            return of_numbers(rows, wanted, 0.0 if name in AROUND_ZERO else None)
    except (RuntimeError, IndexError, ValueError):  # predictions and targets of shapes that only this loss understands
        return None
    return None


def of_outputs(outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> float | None:
    """The same from what the model gave and what was wanted, for a loss that is none of torch's; None if they do not fit."""
    try:
        if not targets[0].is_floating_point() and outputs[0].dim() == targets[0].dim() + 1 and outputs[0].shape[1] > 1:
            return of_labels(
                torch.cat([_best_class(o).flatten() for o in outputs]), torch.cat([t.flatten() for t in targets])
            )
        pairs = [_aligned(o, t) for o, t in zip(outputs, targets)]
        return of_numbers(torch.cat([o for o, _ in pairs]), torch.cat([t for _, t in pairs]))
    except (RuntimeError, IndexError, ValueError):
        return None


def of_labels(predicted: Tensor, labels: Tensor) -> float | None:
    """(accuracy - m) / (1 - m), where m is the share of the most frequent label; -1 stands for outputs that are no numbers.

    Where one label has most of the rows (m past half way from an equal share to all), the same of the balanced accuracy (the
    mean recall of the C labels, with m = 1 / C), if that is better: a network that knows rare labels may be right less often
    than one that always says the same.
    predicted, labels: (N,) whole numbers; a prediction of -1 is wrong. None if there is but one label.
    """
    if labels.numel() == 0 or not bool((labels != labels[0]).any()):
        return None
    if bool((predicted < 0).all()):
        return LOST
    names, place, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    right = (predicted == labels).double()
    most = float(counts.max()) / labels.numel()
    recall = torch.zeros(len(names), dtype=torch.double).index_add_(0, place.cpu(), right.cpu()) / counts.cpu()
    plain, chance = (float(right.mean()) - most) / (1 - most), 1 / len(names)
    return max(plain, (float(recall.mean()) - chance) / (1 - chance)) if most > (1 + chance) / 2 else plain


def of_numbers(predicted: Tensor, wanted: Tensor, threshold: float | None = None) -> float | None:
    """predicted, wanted: (N, K). One-hot rows are read as labels; columns of two values as no and yes, told apart at
    `threshold` (the middle of the two if None); anything else as numbers: R² = 1 - Σ(p - w)² / Σ(w - mean)².

    None if all rows of `wanted` are the same.
    """
    wanted, predicted = wanted.double(), predicted.double()
    if wanted.numel() == 0 or not bool((wanted != wanted[:1]).any()):
        return None
    if not bool(torch.isfinite(predicted).all()):
        return LOST
    if wanted.shape[1] > 1 and _one_hot(wanted):
        return of_labels(predicted.argmax(1), wanted.argmax(1))
    low, high = float(wanted.min()), float(wanted.max())
    if bool(((wanted == low) | (wanted == high)).all()):
        line = (low + high) / 2 if threshold is None else threshold
        truth = wanted == high
        if wanted.shape[1] == 1:
            return of_labels((predicted > line).long().flatten(), truth.long().flatten())
        right = float(((predicted > line) == truth).double().mean())
        share = truth.double().mean(0)
        most = float(torch.maximum(share, 1 - share).mean())
        return (right - most) / (1 - most)
    left = float((predicted - wanted).square().sum())
    there = float((wanted - wanted.mean(0)).square().sum())
    return max(LOST, 1 - left / there) if math.isfinite(left) else LOST


def _best_class(scores: Tensor) -> Tensor:
    """(N, C, …) -> (N, …): the class with the highest score; -1 where scores are no numbers."""
    dim = 1 if scores.dim() > 1 else 0
    best = scores.argmax(dim)
    return torch.where(torch.isfinite(scores).all(dim), best, torch.full_like(best, -1))


def _aligned(given: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Both as (N, K); (N, 1) against (N,) means the same numbers, whatever a loss makes of it."""
    if given.numel() != wanted.numel():
        raise ValueError("as many predictions as targets are needed")
    rows = wanted.reshape(len(wanted), -1) if wanted.dim() > 1 else wanted.reshape(-1, 1)
    return given.detach().reshape(rows.shape), rows.detach()


def _one_hot(rows: Tensor) -> bool:
    return bool(((rows == 0) | (rows == 1)).all()) and bool((rows.sum(1) == 1).all())
