"""What batch normalizations do while a network is fine-tuned: three policies, and which one is taken, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runtrue.finetune.preparation import untouched, with_statistics
from runtrue.finetune.still import norms_without
from runtrue.keeping import keep_modes

SMALL_BATCH = 16
"""Images in a step below which the statistics of a batch say too little of the data: of 8 values of a channel the mean is
uncertain by a third of their spread. With larger ones they are followed, since that forgives rates that are too high: on the
photographs of the bench (171 to train with, 5 folds, 2 seeds, batches of 32, 10 epochs of AdamW at 1e-3) they ended at 0.878
with statistics that follow and at 0.843 with frozen ones; by SGD at 1e-2 at 0.873 and 0.754, the worst fold at 0.31: frozen,
nothing brings activations back that a step has made too large."""


@dataclass(frozen=True)
class Policy:
    """name: train, freeze-statistics or freeze-all; why: in words."""

    name: str
    why: str

    def describe(self) -> str:
        return f"{self.name}: {self.why}"


def policy(asked: str, model: nn.Module, fresh: frozenset[str], batch: int) -> Policy:
    """batch: images in a step."""
    if not any(True for _ in norms_without(model, fresh)):
        return Policy("train" if asked == "auto" else asked, "the network has no batch normalization with statistics")
    if asked != "auto":
        return Policy(asked, "as you said")
    if batch < SMALL_BATCH:
        return Policy(
            "freeze-statistics",
            f"the statistics of {batch} images a step (limit {SMALL_BATCH}) say less than those that the network brings, which "
            "stay; scale and shift are trained",
        )
    return Policy(
        "train",
        f"{batch} images a step (limit {SMALL_BATCH}) are enough to follow their statistics, and frozen ones collapse at rates "
        "that these bear",
    )


@torch.no_grad()
def filled(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Normalizations that have seen nothing yet get the statistics of these images; how many there were. A head that is solved
    on what a mean of 0 and a variance of 1 make of the layers in front fits no longer as soon as they are trained."""
    new = [norm for _, norm in with_statistics(model) if untouched(norm)]
    if not new:
        return 0
    before = [norm.momentum for norm in new]
    restore_modes = keep_modes(model)
    model.eval()
    for norm in new:
        norm.train()
        norm.momentum = None  # the mean of all batches
    try:
        for inputs, _ in batches:
            if len(inputs) > 1:  # a single vector has no variance
                model(inputs)
    finally:
        for norm, momentum in zip(new, before, strict=True):
            norm.momentum = momentum
        restore_modes()
    return len(new)


@contextmanager
def held(model: nn.Module, fresh: frozenset[str], name: str) -> Iterator[None]:
    """The policy in force inside. Normalizations whose parameters are new follow their batches in any case."""
    norms = [] if name == "train" else [norm for _, norm in norms_without(model, fresh)]
    handles = [norm.register_forward_pre_hook(_stay) for norm in norms]
    frozen = [p for norm in norms if name == "freeze-all" for p in norm.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for parameter in frozen:
            parameter.requires_grad_(True)


def _stay(norm: nn.Module, inputs: object) -> None:
    norm.training = False
