"""Forward passes through somebody else's model that leave no trace: modes, buffers and random numbers come back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

from runtrue.tape import ACTIVATIONS, Layer, LossCall

HOW_TO_GIVE_AN_EXAMPLE = (
    "to see which activation follows each layer, give an input as the model takes it: example=x, a tuple (x, y) for "
    "several inputs, or a dict for keywords; only a plain nn.Sequential of torch's own layers needs none"
)
_BY_CLASS = {name.replace("_", ""): activation for name, activation in ACTIVATIONS.items()}


class Widths:
    """Observes how many channels come out of each weight: a bare `x @ w` holds its weight as (inputs, outputs)."""

    def __init__(self) -> None:
        self.of: dict[int, int] = {}

    def layer_output(self, layer: Layer, output: Tensor) -> None:
        self.of[id(layer.weight)] = output.shape[-1] if output.dim() else 1

    def activation_output(self, layer: Layer, output: Tensor) -> None: ...

    def loss_call(self, call: LossCall) -> None: ...


def call(model: nn.Module, example: Any) -> Any:
    """model(x), model(*tuple) or model(**dict).

    >>> call(nn.Bilinear(2, 3, 4), (torch.ones(5, 2), torch.ones(5, 3))).shape
    torch.Size([5, 4])
    """
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, tuple) else model(example)


@contextmanager
def as_found(model: nn.Module, batch_statistics: bool = False) -> Iterator[None]:
    """For a forward pass as in training, without dropout and gradients; modes, buffers and random numbers come back.

    Training mode, because evaluation takes fused paths in torch's transformers that hide their layers. BatchNorm uses
    the batch's own statistics only if told, since they need more than one example; one that was frozen stays frozen.

    >>> net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).eval()
    >>> with as_found(net, batch_statistics=True):
    ...     _ = net(torch.randn(8, 3))
    >>> net.training, net[0].running_mean
    (False, tensor([0., 0., 0.]))
    """
    modes = [(module, module.training) for module in model.modules()]
    named = [(module, key, b) for module in model.modules() for key, b in module._buffers.items()]
    buffers = [(module, key, b, b.clone()) for module, key, b in named if b is not None and not is_lazy(b)]
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(sorted(devices)), torch.no_grad():
        try:
            for module, training in modes:
                batch = batch_statistics and (training or not model.training)
                module.training = batch if isinstance(module, _BatchNorm) else not isinstance(module, _DropoutNd)
            yield
        finally:
            for module, training in modes:
                module.training = training
            for module, key, buffer, value in buffers:
                module._buffers[key] = buffer.copy_(value)


def in_order(model: nn.Module) -> list[Layer]:
    """The layers of a plain nn.Sequential with the activation behind each, as a forward pass would find them.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(True), nn.Linear(2, 2))
    >>> [(layer.name, layer.activation) for layer in in_order(net)]
    [('0', 'relu'), ('2', None)]
    """
    layers: dict[int, Layer] = {}
    waiting: Layer | None = None
    for name, module in _flat(model):
        activation = _BY_CLASS.get(type(module).__name__.lower())
        weight = getattr(module, "weight", None)
        if activation is not None:
            if waiting is not None:
                waiting.activation, waiting.slope = activation, _slope(module)
            waiting = None
        elif isinstance(module, (nn.Linear, _ConvNd, nn.Embedding)):
            kind = "conv" if isinstance(module, _ConvNd) else "linear" if isinstance(module, nn.Linear) else "embedding"
            layer = Layer(name, kind, module, module.weight, getattr(module, "bias", None))
            waiting = layers.setdefault(id(weight), layer)
            waiting = waiting if waiting is layer else None
    return list(layers.values())


def _flat(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules of nested nn.Sequentials in order; an error where the order of the calls could be another."""
    if type(model) is not nn.Sequential:
        raise ValueError(HOW_TO_GIVE_AN_EXAMPLE)
    for key, child in model._modules.items():
        if type(child) is nn.Sequential:
            yield from _flat(child, f"{prefix}{key}.")
        elif child is not None:
            if not type(child).__module__.startswith("torch.nn.modules") or any(True for _ in child.children()):
                raise ValueError(f"{prefix}{key} is a {type(child).__name__}: {HOW_TO_GIVE_AN_EXAMPLE}")
            yield f"{prefix}{key}", child


def _slope(module: nn.Module) -> float | None:
    if isinstance(module, nn.PReLU):
        return float(module.weight.detach().mean())
    return getattr(module, "negative_slope", None)
