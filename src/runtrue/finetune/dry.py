"""A network tried on an example without a trace: which shapes flow through which layer, and at which layer it breaks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from runtrue.keeping import keep_modes, keep_random_state

Shape = tuple[int, ...]
WORDS = 16  # of a text
SIDE = 224  # of an image for a network that does not say: that of ImageNet (Krizhevsky et al. 2012)


class SurgeryError(ValueError):
    """A change of a network does not fit it: names the layer, and both shapes."""


@dataclass(eq=False)
class Flow:
    """inputs, outputs: shapes of the first tensor that each module was given and gave. order: modules as they were entered."""

    inputs: dict[str, Shape] = field(default_factory=dict)
    outputs: dict[str, Shape] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    result: Any = None
    error: Exception | None = None
    broke_at: str = ""
    """The innermost module that raised; "" if the network's own forward did."""

    def before(self, name: str) -> tuple[str, Shape | None]:
        """The module that gave its output last before this one was entered, and what it gave."""
        place = self.order.index(name) if name in self.order else len(self.order)
        done = [one for one in self.order[:place] if one in self.outputs and not name.startswith(f"{one}.")]
        return (done[-1], self.outputs[done[-1]]) if done else ("the input", self.inputs.get(""))


@torch.no_grad()
def flow(model: nn.Module, example: Any) -> Flow:
    """One forward pass in evaluation mode. Modes, statistics and random state are as before; an error is kept, not raised."""
    found, stack = Flow(), list[str]()
    restore_modes = keep_modes(model)
    restore = keep_random_state()
    with _told(model, found, stack):
        try:
            model.eval()
            found.result = model(**example) if isinstance(example, dict) else model(*_tuple(example))
        except Exception as error:  # noqa: BLE001 whatever the user's network raises is what is to be told
            found.error, found.broke_at = error, stack[-1] if stack else ""
        finally:
            restore_modes()
            restore()
    return found


@contextmanager
def _told(model: nn.Module, found: Flow, stack: list[str]) -> Iterator[None]:
    handles = []
    for name, module in model.named_modules():

        def enter(_: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            stack.append(name)
            found.order.append(name)
            if (first := _first((args, kwargs))) is not None:
                found.inputs.setdefault(name, tuple(first.shape))

        def leave(_: nn.Module, args: Any, output: Any, name: str = name) -> None:
            stack.pop()
            if (first := _first(output)) is not None:
                found.outputs[name] = tuple(first.shape)

        handles += [module.register_forward_pre_hook(enter, with_kwargs=True), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _first(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return next((found for part in parts if (found := _first(part)) is not None), None)


def _tuple(example: Any) -> tuple[Any, ...]:
    return example if isinstance(example, tuple) else (example,)


def example_for(model: nn.Module, side: int = SIDE) -> Tensor | None:
    """Two inputs such as the first layer takes, all 0, in its precision and where it lies; None if that cannot be told.

    A network that names its input's size (timm's default_cfg, torchvision's image_size, Hugging Face's config) gets that.
    """
    for module in model.modules():
        like = next(iter(module.parameters(recurse=False)), None)
        shape = _shape_for(module, model, side)
        if shape is not None and like is not None:
            words = isinstance(module, nn.Embedding)
            return torch.zeros(2, *shape, dtype=torch.long if words else like.dtype, device=like.device)
    return None


def _shape_for(first: nn.Module, model: nn.Module, side: int) -> Shape | None:
    """Of one input, without the batch."""
    if isinstance(first, nn.Conv2d):
        return _image_of(model) or (first.in_channels, *[_side_of(model) or side] * 2)
    if isinstance(first, nn.Conv1d):
        return first.in_channels, side
    if isinstance(first, nn.Linear):
        return _image_of(model) or (first.in_features,)
    return (WORDS,) if isinstance(first, nn.Embedding) else None


def _image_of(model: nn.Module) -> Shape | None:
    """As timm writes it: channels, height, width."""
    return tuple((getattr(model, "default_cfg", None) or {}).get("input_size", ())) or None


def _side_of(model: nn.Module) -> int | None:
    named = getattr(model, "image_size", None) or getattr(getattr(model, "config", None), "image_size", None)
    return named if isinstance(named, int) else None
