"""Keeps what a step began with until it is over, and seeks the origin of a value that is no number, once a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from runtrue.watch import origin
from runtrue.watch.trace import tensors


class Seeker:
    """came_back: called when a gradient reaches the outputs of the model."""

    def __init__(self, model: nn.Module, came_back: Callable[[], None]) -> None:
        self._model, self._came_back = model, came_back
        self._first = next(model.parameters(), None)
        self._call: origin.Call | None = None
        self._suspect: origin.Call | None = None
        self._sought = False

    def forward_begins(self, called: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        self._call = origin.Call(self._model, called, args, kwargs, self._came_back)
        if not self._sought and self._on_cpu(args, kwargs):
            self._call.random = torch.get_rng_state()

    def forward_ends(self, outputs: Any) -> None:
        if self._call is not None:
            self._call.follow(outputs)

    def lost(self) -> None:
        """A gradient that is no number arrived: of the forward pass that was the last one, as far as anybody knows."""
        if self._suspect is None and not self._sought:
            self._suspect = self._call

    def seek(self) -> str:
        """To be called before the weights are changed. What was found, in words; "" if nothing is to be sought, or was found."""
        suspect, self._suspect = self._suspect, None
        if suspect is None or suspect.random is None:
            return ""
        self._sought = True
        try:
            found = origin.find(suspect)
        except Exception:  # noqa: BLE001 the replay is a guess at what the user's code does: it may refuse
            return ""
        return "" if found is None else str(found)

    def forget(self) -> None:
        """The step is over: nothing of its batch is kept."""
        self._call = None

    def _on_cpu(self, args: Any, kwargs: Mapping[str, Any]) -> bool:
        if self._first is not None and self._first.device.type != "cpu":
            return False
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):  # as most networks are called
            return args[0].device.type == "cpu"
        return all(t.device.type == "cpu" for t in tensors((args, kwargs)))
