"""The classifier of a network that others trained, exchanged for one with other classes (N1.1, mode 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from runtrue.finetune.changing import MOST_WORDS, part
from runtrue.finetune.dry import Flow, SurgeryError, example_for, flow
from runtrue.surgery import put

COUNTS = ("num_classes", "n_classes", "num_labels")
"""Attributes under which networks keep the number of their classes: told the new one, where they have it."""

ENDS = ("aux", "head", "classifier", "logits")
"""In the names of classifiers that stand beside the last one."""


def replace_head(model: nn.Module, classes: int, *, name: str | None = None) -> tuple[str, ...]:
    """A new last layer with `classes` outputs; returns the names of the parts that are new, in place.

    It is found as the last layer with a weight matrix: so it stands in every classifier of timm, torchvision and Hugging Face. A
    layer beside it with as many outputs (the auxiliary classifiers of Inception and GoogLeNet, the second head of a distilled
    DeiT) is exchanged too, and a network of timm's that ends in features is given a head. `name` names another layer. The new
    weights are drawn as torch does (uniform, ±1/√inputs), on the same device and in the same precision.

    Raises SurgeryError, and leaves the network as it was, if there is no such layer, if it is neither a Linear nor a 1 × 1
    convolution, or if the network does not run with the new one (tried where the input can be told, see `example_for`).
    """
    if classes < 2:
        raise SurgeryError(f"a classifier needs at least 2 classes, got {classes}")
    if name is None and getattr(model, "num_classes", None) == 0 and hasattr(model, "reset_classifier"):
        return _grown(model, classes)
    last = name or last_layer(model)
    head = part(model, last, "replace_head") if last else model
    _refuse(last, head)
    wide = outputs_of(head)
    twins = [
        n for n, m in model.named_modules() if is_classifier(m) and outputs_of(m) == wide and _beside(model, n, last)
    ]
    failed = None
    for chosen in dict.fromkeys([(*twins, last), (last,)]):
        failed = _exchanged(model, chosen, classes)
        if failed is None:
            _tell(model, wide, classes)
            return chosen
    assert failed is not None
    raise failed


def _refuse(last: str, head: nn.Module) -> None:
    if not is_classifier(head):
        raise SurgeryError(
            f"the last layer, {last or 'the model itself'}, is {type(head).__name__}, not a Linear or a 1 × 1 convolution: name "
            "the classifier (name=…), or exchange it with `swap`"
        )
    if not last:
        raise SurgeryError("the model is a single layer: there is nothing behind which a head could be put")
    if "pooler" in last.split("."):
        raise SurgeryError(
            f"the network ends in features, not in classes: its last layer is {last}. Take it with a classifier "
            "(…ForSequenceClassification, …ForImageClassification)"
        )


def _grown(model: Any, classes: int) -> tuple[str, ...]:
    """timm's own way, for a network without a head."""
    before = set(model.modules())
    model.reset_classifier(classes)
    new = [n for n, m in model.named_modules() if m not in before and list(m.parameters(recurse=False))]
    if not new:
        raise SurgeryError(
            f"{type(model).__name__} ends in features, and takes no classifier: put one behind it (nn.Sequential)"
        )
    return tuple(new)


def _exchanged(model: nn.Module, names: Sequence[str], classes: int) -> SurgeryError | None:
    """The layers of these names are new, and the network runs. If it does not, and did before, all is put back: says why."""
    was = {name: model.get_submodule(name) for name in names}
    new = {name: renewed(module, classes) for name, module in was.items()}
    _put_all(model, new)
    example = example_for(model)
    now = flow(model, example) if example is not None else Flow()
    if now.error is None:
        return None
    _put_all(model, was)
    if flow(model, example).error is not None:  # the example is what the network does not take
        _put_all(model, new)
        return None
    error = SurgeryError(
        f"the last layer, {names[-1]}, is no classifier: with another number of outputs ({now.outputs.get(names[-1])}) "
        f"{now.broke_at or 'the network itself'} fails: {' '.join(str(now.error).split())[:MOST_WORDS]}. Name the classifier "
        "(name=…)"
    )
    error.__cause__ = now.error
    return error


def _put_all(model: nn.Module, parts: Mapping[str, nn.Module]) -> None:
    for name, module in parts.items():
        put(model, name, module)


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


def _beside(model: nn.Module, name: str, last: str) -> bool:
    """Where the paths part, the name says that it is an end of the network, or that of the list in which both are does: others
    may have as many outputs by chance."""
    ours, other = name.split("."), last.split(".")
    parted = next((i for i, (one, two) in enumerate(zip(ours, other)) if one != two), None)
    if parted is None:
        return False
    listed = isinstance(model.get_submodule(".".join(ours[:parted])), nn.ModuleList)
    words = ".".join(ours[: parted + 1]) if listed else ours[parted]
    return any(word in words.lower() for word in ENDS)


def _tell(model: nn.Module, was: int, classes: int) -> None:
    """Networks that know how many classes they have learn the new number."""
    for holder in (model, getattr(model, "config", None)):
        for attribute in COUNTS:
            if holder is not None and getattr(holder, attribute, None) == was:
                setattr(holder, attribute, classes)
