"""Mode "head": a new last layer on features that are computed once; all else stands still, and that is proved (N1.1, mode 1)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from runtrue.datasets import Images, Loader, Split
from runtrue.finetune.features import Features, features
from runtrue.finetune.solve import Validated, folds_of, outputs_of, solved, validated
from runtrue.finetune.still import Still
from runtrue.tuning.judging import Judged
from runtrue.tuning.network import Start

AT_ONCE = 32  # images in one pass
Row = dict[str, Any]


@dataclass(frozen=True)
class Headed:
    """What came of it. moved: what did not stand still (nothing); decay: strength of the penalty, chosen by cross-validation."""

    history: tuple[Row, ...]
    choice: Validated
    moved: tuple[str, ...]
    still: int

    def describe(self) -> str:
        tried = ", ".join(f"{decay:g}: {share:.1%}" for decay, share in self.choice.accuracies.items())
        return (
            f"λ = {self.choice.decay:g} on the weights of the head, by cross-validation inside the training set (right answers: "
            f"{tried})"
        )


def batches(split: Split, start: Start, size: int = AT_ONCE) -> Loader:
    """In their order, as the network wants them."""
    return Loader(split, size, mean=start.wants.mean, std=start.wants.std, shuffle=False)


def train(start: Start, images: Images, seed: int, class_weights: Tensor | None, told: Callable[[Row], None]) -> Headed:
    """Put the best head for these images on the network, in place.

    Raises SurgeryError for a network whose head does not stand alone at its end.
    """
    began = time.monotonic()
    held = Still(start.model, start.fresh)
    try:
        plain = features(start.model, start.head, batches(images.train, start))
        turned = features(start.model, start.head, mirrored(batches(images.train, start)))
        val = features(start.model, start.head, batches(images.val, start))
        both = Features(torch.cat([plain.inputs, turned.inputs]), torch.cat([plain.labels, turned.labels]))
        head = start.model.get_submodule(start.head)
        parts = folds_of(plain.labels, seed=seed).repeat(2)
        choice = validated(head, both, parts, class_weights=class_weights)
        history: list[Row] = []

        def seen(now: nn.Module, number: int) -> None:
            row = {"epoch": number - 1, "step": number, "lr": 0.0, "seconds": time.monotonic() - began}
            for name, found in (("train", plain), ("val", val)):
                row |= Judged(outputs_of(now, found), found.labels).row(name)
            history.append(row)
            told(row)

        best = solved(head, both, choice.decay, class_weights, told=seen)
        with torch.no_grad():
            for mine, theirs in zip(head.parameters(), best.parameters(), strict=True):
                mine.copy_(theirs)
        return Headed(tuple(history), choice, tuple(held.moved()), len(held.before))
    finally:
        held.release()


def mirrored(loader: Iterable[tuple[Tensor, Tensor]]) -> Iterable[tuple[Tensor, Tensor]]:
    return ((inputs.flip(-1), labels) for inputs, labels in loader)
