"""The classifier of a network that others trained, exchanged for one with other classes (N1.1, mode 1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from runtrue.finetune.dry import SurgeryError
from runtrue.surgery import put

COUNTS = ("num_classes", "n_classes", "num_labels")
"""Attributes under which networks keep the number of their classes: told the new one, where they have it."""


def replace_head(model: nn.Module, classes: int, *, name: str | None = None) -> tuple[str, ...]:
    """A new last layer with `classes` outputs; returns the names of the parts that are new, in place.

    It is found as the last layer with a weight matrix: so it stands in every classifier of timm, torchvision and Hugging Face. A
    layer beside it with as many outputs (the auxiliary classifiers of Inception and GoogLeNet, the second head of a distilled
    DeiT) is exchanged too. `name` names another layer. The new weights are drawn as torch does (uniform, ±1/√inputs), on the
    same device and in the same precision.

    Raises SurgeryError if there is no such layer, or it is neither a Linear nor a convolution of 1 × 1.
    """
    if classes < 2:
        raise SurgeryError(f"a classifier needs at least 2 classes, got {classes}")
    last = name or last_layer(model)
    head = _part(model, last)
    if not is_classifier(head):
        raise SurgeryError(
            f"the last layer, {last or 'the model itself'}, is {type(head).__name__}, not a Linear or a 1 × 1 convolution: name "
            "the classifier (name=…), or exchange it with `swap`"
        )
    if not last:
        raise SurgeryError("the model is a single layer: there is nothing behind which a head could be put")
    wide = outputs_of(head)
    twins = [
        n
        for n, m in model.named_modules()
        if n != last and is_classifier(m) and outputs_of(m) == wide and _ends(model, n)
    ]
    for one in (*twins, last):
        put(model, one, renewed(_part(model, one), classes))
    _tell(model, wide, classes)
    return (*twins, last)


def last_layer(model: nn.Module) -> str:
    """The name of the last module that has a weight matrix of its own; raises SurgeryError if there is none."""
    owners: list[str] = [n for n, m in model.named_modules() if any(p.dim() > 1 for p in m.parameters(recurse=False))]
    if not owners:
        raise SurgeryError("the network has no layer with weights")
    return owners[-1]


def is_classifier(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1))


def outputs_of(module: nn.Module) -> int:
    return int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)  # type: ignore[arg-type]


def renewed(head: nn.Module, classes: int) -> nn.Module:
    weight = head.weight
    assert isinstance(weight, torch.Tensor)
    where: dict[str, Any] = {"bias": head.bias is not None, "device": weight.device, "dtype": weight.dtype}
    if isinstance(head, nn.Linear):
        return nn.Linear(head.in_features, classes, **where).train(head.training)
    assert isinstance(head, nn.Conv2d)
    where["stride"] = head.stride
    return nn.Conv2d(head.in_channels, classes, 1, **where).train(head.training)


def _part(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise SurgeryError(f"no part of the network is called {name!r}") from None


def _ends(model: nn.Module, name: str) -> bool:
    """A layer whose name says that it is an end of the network: others may have as many outputs by chance."""
    return any(word in name.lower() for word in ("aux", "head", "classifier", "logits", "fc"))


def _tell(model: nn.Module, was: int, classes: int) -> None:
    """Networks that know how many classes they have learn the new number."""
    for holder in (model, getattr(model, "config", None)):
        for attribute in COUNTS:
            if holder is not None and getattr(holder, attribute, None) == was:
                setattr(holder, attribute, classes)
