"""What a network says of a set of images: losses, accuracies, and each picture with what it was taken for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue.datasets import Split
from runtrue.keeping import keep_modes


@dataclass(frozen=True)
class Judged:
    """outputs: raw, (N, classes); labels: (N,)."""

    outputs: Tensor
    labels: Tensor

    @property
    def loss(self) -> float:
        return float(F.cross_entropy(self.outputs, self.labels))

    @property
    def accuracy(self) -> float:
        return float((self.outputs.argmax(1) == self.labels).float().mean())

    def row(self, name: str) -> dict[str, float]:
        return {f"{name}_loss": self.loss, f"{name}_accuracy": self.accuracy}


@torch.no_grad()
def judged(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Judged:
    """In evaluation mode; modes are as before."""
    restore_modes = keep_modes(model)
    try:
        model.eval()
        pairs = [(raw(model(inputs)).float().cpu(), labels.cpu()) for inputs, labels in batches]
    finally:
        restore_modes()
    return Judged(torch.cat([outputs for outputs, _ in pairs]), torch.cat([labels for _, labels in pairs]))


class Count:
    """Losses and right answers so far; no number is waited for before the `row`."""

    def __init__(self) -> None:
        self.loss, self.right = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.int64)
        self.examples = 0

    def add(self, loss: Tensor, outputs: Tensor, labels: Tensor) -> None:
        """loss: the mean over these labels."""
        self.loss += loss.detach().double() * len(labels)
        self.right += (outputs.argmax(1) == labels).sum()
        self.examples += len(labels)

    def row(self) -> dict[str, float]:
        return {"train_loss": float(self.loss) / self.examples, "train_accuracy": float(self.right) / self.examples}


def raw(output: Any) -> Tensor:
    """(B, classes), of a network that gives more than that (logits among other things, auxiliary classifiers)."""
    found = getattr(output, "logits", output)
    if isinstance(found, (tuple, list)):
        found = found[0]
    assert isinstance(found, Tensor)
    return found.flatten(1)


def confusion(found: Judged, classes: int) -> list[list[int]]:
    """How many of each class (row) were taken for each (column)."""
    places = found.labels * classes + found.outputs.argmax(1)
    return torch.bincount(places, minlength=classes * classes).reshape(classes, classes).tolist()


def mistakes(found: Judged, split: Split, names: Sequence[str], most: int) -> list[dict[str, Any]]:
    """The surest of the wrong answers first: file, true and given class, and the probability of both."""
    shares = found.outputs.softmax(1)
    given = shares.argmax(1)
    wrong = (given != found.labels).nonzero()[:, 0]
    order = wrong[shares[wrong, given[wrong]].argsort(descending=True)]
    return [
        {
            "file": str(split.paths[place]) if split.paths else f"image {place}",
            "place": place,
            "true": names[int(found.labels[place])],
            "predicted": names[int(given[place])],
            "confidence": float(shares[place, given[place]]),
            "of_true": float(shares[place, found.labels[place]]),
        }
        for place in order[:most].tolist()
    ]
