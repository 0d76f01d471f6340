"""A head trained on features that are computed once: what stands in front of it does not move, so an epoch need not pass it again
(N1.1, mode 1). The features are what the head itself is given, whatever the architecture in front.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue.finetune.dry import SurgeryError
from runtrue.keeping import keep_modes, keep_random_state

CLOSE = 1e-3
"""Largest difference between what the network gives and what its head makes of the features, as a share of the largest output:
sums in another order differ by 1e-6 (float32), another operation behind the head by far more."""


@dataclass(frozen=True)
class Features:
    """inputs: what the head was given, (N, …); labels: (N,)."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@torch.no_grad()
def features(
    model: nn.Module, head: str, batches: Iterable[tuple[Tensor, Tensor]], *, mirror: bool = False
) -> Features:
    """One pass over all batches in evaluation mode; modes and random state are as before. mirror: each image from the left and
    from the right, so that there are twice as many.

    Raises SurgeryError if the head is not called once in a pass, or something behind it changes what it gives: then only a
    training of the whole network can tell.
    """
    restore_modes = keep_modes(model)
    restore = keep_random_state()
    caught: list[Tensor] = []
    part = model.get_submodule(head)
    handle = part.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    inputs: list[Tensor] = []
    labels: list[Tensor] = []
    try:
        model.eval()
        for x, y in batches:
            for seen in (x, x.flip(-1)) if mirror else (x,):
                caught.clear()
                output = model(seen)
                _alone(part, head, caught, output, first=not inputs)
                inputs.append(caught[0].detach().cpu())
                labels.append(y.cpu())
    finally:
        handle.remove()
        restore_modes()
        restore()
    return Features(torch.cat(inputs), torch.cat(labels))


def _alone(part: nn.Module, head: str, caught: list[Tensor], output: Any, *, first: bool) -> None:
    """The network's output is what the head makes of what it was given."""
    if len(caught) != 1:
        raise SurgeryError(f"{head} is called {len(caught)} times in a forward pass: features cannot be kept for it")
    if not first:
        return
    found = part.forward(caught[0])
    given = getattr(output, "logits", output)
    same = isinstance(given, Tensor) and given.numel() == found.numel()
    if not same or float((given.flatten() - found.flatten()).abs().max()) > CLOSE * max(1e-9, float(found.abs().max())):
        raise SurgeryError(
            f"what the network gives is not what {head} makes of its features: something behind it changes them"
        )


@dataclass(frozen=True)
class Fitted:
    """A head with the weights of its best epoch. accuracy: of the validation, from 0 to 1; history: of each epoch."""

    head: nn.Module
    accuracy: float
    epoch: int
    history: tuple[dict[str, float], ...]


def fit(
    head: nn.Module, train: Features, val: Features, *, epochs: int = 100, lr: float = 1e-2, weight_decay: float = 1e-3,
    batch_size: int = 64, patience: int = 20, class_weights: Tensor | None = None, seed: int = 0,
) -> Fitted:  # fmt: skip
    """A copy of the head, trained by AdamW with a cosine to 0 over `epochs`; ends `patience` epochs behind the lowest loss of the
    validation.

    It starts from weights of 0: for one layer they are as good as any, and take no chance (the loss has one minimum).
    """
    head = copy.deepcopy(head).float().train()
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    scale = float(train.inputs.square().mean().sqrt()) or 1.0
    optimizer = torch.optim.AdamW(head.parameters(), lr / scale, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    draw = torch.Generator().manual_seed(seed)
    best, history = Fitted(head, -1.0, 0, ()), list[dict[str, float]]()
    lowest, kept = float("inf"), {name: value.clone() for name, value in head.state_dict().items()}
    for epoch in range(epochs):
        head.train()
        for rows in torch.randperm(len(train), generator=draw).split(batch_size):
            loss = F.cross_entropy(head(train.inputs[rows]).flatten(1), train.labels[rows], class_weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        row = judged(head, val)
        history.append({"epoch": epoch + 1, **row})
        if row["val_loss"] < lowest:
            lowest, kept = row["val_loss"], {name: value.clone() for name, value in head.state_dict().items()}
            best = Fitted(head, row["val_accuracy"], epoch + 1, ())
        elif epoch + 1 - best.epoch >= patience:
            break
    head.load_state_dict(kept)
    return Fitted(head.eval(), best.accuracy, best.epoch, tuple(history))


@torch.no_grad()
def judged(head: nn.Module, found: Features) -> dict[str, float]:
    head.eval()
    outputs = head(found.inputs).flatten(1)
    return {
        "val_loss": float(F.cross_entropy(outputs, found.labels)),
        "val_accuracy": float((outputs.argmax(1) == found.labels).float().mean()),
    }
