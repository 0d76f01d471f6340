"""Networks and losses with one activation left out or exchanged, and losses that see other outputs or targets.

For networks whose code cannot be edited from here: where an activation is a module of its own, it is exchanged in place;
where it is called as a function, the call is caught on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from runtrue.surgery import Wrapper
from runtrue.tape import is_activation

Loss = Callable[[Any, Any], Tensor]


class _Exchange(TorchFunctionMode):
    """The call of an activation that has `place` activations before it is replaced by `other`."""

    def __init__(self, place: int, other: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.place, self.other, self.seen = place, other, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if is_activation(func, args, kwargs or {}):
            self.seen += 1
            if self.seen == self.place + 1:
                given = args[0] if args else (kwargs or {})["input"]
                return self.other(given)
        return func(*args, **(kwargs or {}))


def same(x: Tensor) -> Tensor:
    return x


class Reactivated(Wrapper):
    """`network` with the activation that is called at `place` exchanged for `other`."""

    def __init__(self, network: nn.Module, place: int, other: Callable[[Tensor], Tensor]) -> None:
        super().__init__(network)
        self.place, self.other = place, other

    def forward(self, *inputs: Any, **named: Any) -> Any:
        with _Exchange(self.place, self.other):
            return self.network(*inputs, **named)


class Followed(Wrapper):
    """`network` with an activation behind it."""

    def __init__(self, network: nn.Module, activation: nn.Module) -> None:
        super().__init__(network)
        self.activation = activation

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.activation(self.network(*inputs, **named))


class ReactivatedLoss:
    """A loss with the activation that it calls at `place` exchanged for `other`."""

    def __init__(self, loss: Loss, place: int, other: Callable[[Tensor], Tensor]) -> None:
        self.loss, self.place, self.other = loss, place, other

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        with _Exchange(self.place, self.other):
            return self.loss(outputs, targets)


class _Align(TorchFunctionMode):
    """Two tensors of as many numbers in other shapes, which torch would broadcast, meet in the shape of the first."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if len(args) > 1 and self._apart(args[0], args[1]):
            args = (args[0], args[1].reshape(args[0].shape), *args[2:])
        elif args and self._apart(args[0], named.get("target")):
            named["target"] = named["target"].reshape(args[0].shape)
        return func(*args, **named)

    def _apart(self, one: Any, other: Any) -> bool:
        both = isinstance(one, Tensor) and isinstance(other, Tensor)
        return both and one.dim() > 0 < other.dim() and one.shape != other.shape and one.numel() == other.numel()


class SameShape:
    """A loss in which outputs meet targets in one shape, wherever in it they meet."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        with _Align():
            return self.loss(outputs, targets)


class Turned:
    """A loss with its sign turned back."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        return -self.loss(outputs, targets)


class MeanOverBatch:
    """A loss that was summed over the batch, as the mean."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        return self.loss(outputs, targets) / max(1, len(targets))


TINY = 1e-7  # about the spacing of float32 numbers at 1: a probability below it cannot be told from 0


def log_of_shares(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of probabilities (N, C, …): the mean of -ln p of the right class. targets: labels, or shares like outputs."""
    logs = outputs.clamp_min(TINY).log()
    if targets.is_floating_point():
        return -(targets.reshape(outputs.shape) * logs).sum(1).mean()
    return F.nll_loss(logs, targets)


def classes_of_shares(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of raw outputs (N, C) with one-hot rows or shares (N, C)."""
    return F.cross_entropy(outputs, targets.reshape(outputs.shape))


def numbers(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of any shape."""
    return F.mse_loss(outputs, targets.reshape(outputs.shape).to(outputs.dtype))


def labels(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of raw outputs (N, C, …) with labels (N, …)."""
    return F.cross_entropy(outputs, targets)


def yes_or_no(outputs: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of probabilities of any shape."""
    return F.binary_cross_entropy(outputs.clamp(0, 1), targets.reshape(outputs.shape).to(outputs.dtype))


def yes_or_no_logits(outputs: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of raw outputs of any shape."""
    return F.binary_cross_entropy_with_logits(outputs, targets.reshape(outputs.shape).to(outputs.dtype))


def log_softmax(x: Tensor) -> Tensor:
    return x.log_softmax(1 if x.dim() > 1 else 0)


def softmax(x: Tensor) -> Tensor:
    return x.softmax(1 if x.dim() > 1 else 0)


MODULES: Mapping[Callable[[Tensor], Tensor], Callable[[], nn.Module]] = {
    same: nn.Identity,
    torch.sigmoid: nn.Sigmoid,
    log_softmax: lambda: nn.LogSoftmax(dim=1),
    softmax: lambda: nn.Softmax(dim=1),
    torch.relu: nn.ReLU,
}
"""The module that does what a function does."""
