"""What batch normalizations do while a network is fine-tuned: three policies, and which one is taken, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from runtrue.finetune.still import norms_without

FEW_IMAGES = 1000
SMALL_BATCH = 16
"""Below these the statistics of a batch say less of the images than those that the network brings: of 32 values of a channel the
mean is uncertain by a fifth of their spread, and the running averages end up at those of the last few batches."""


@dataclass(frozen=True)
class Policy:
    """name: train, freeze-statistics or freeze-all; why: in words."""

    name: str
    why: str

    def describe(self) -> str:
        return f"{self.name}: {self.why}"


def policy(asked: str, model: nn.Module, fresh: frozenset[str], images: int, batch: int) -> Policy:
    count = sum(1 for _ in norms_without(model, fresh))
    if count == 0:
        return Policy("train" if asked == "auto" else asked, "the network has no batch normalization with statistics")
    if asked != "auto":
        return Policy(asked, "as you said")
    if images < FEW_IMAGES or batch < SMALL_BATCH:
        small = f"{images} images are few" if images < FEW_IMAGES else f"batches of {batch} are small"
        return Policy(
            "freeze-statistics",
            f"{small} (limits: {FEW_IMAGES} images, {SMALL_BATCH} a batch): the statistics that the network brings are better than "
            "theirs, and stay; scale and shift are trained",
        )
    return Policy("train", f"{images} images in batches of {batch} are enough to follow their statistics")


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
