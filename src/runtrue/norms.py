"""Batch normalization put in front of the activations of a network that has none there (Ioffe and Szegedy 2015, section 3.2).

>>> import torch
>>> from runtrue.tape import record
>>> net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
>>> names = places(record(lambda: net(torch.ones(1, 4)), net), net)
>>> names
('0',)
>>> insert(net, names)
>>> [type(layer).__name__ for layer in net[0]]
['Linear', 'BatchNorm1d']
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from runtrue.surgery import core, module_at, then
from runtrue.tape import Tape

NORMS = (
    (nn.Linear, nn.BatchNorm1d),
    (nn.Conv1d, nn.BatchNorm1d),
    (nn.Conv2d, nn.BatchNorm2d),
    (nn.Conv3d, nn.BatchNorm3d),
)
"""Kinds of layers, and the normalization of their outputs."""


def places(tape: Tape, model: nn.Module) -> tuple[str, ...]:
    """Layers that an activation follows with no normalization between, by their paths. Not the last: it makes the outputs."""
    kinds = tuple(kind for kind, _ in NORMS)
    return tuple(
        layer.name
        for layer in tape.layers[:-1]
        if layer.activation
        and not layer.normalized
        and layer.calls == 1
        and isinstance(module_at(model, layer.name), kinds)
    )


@contextmanager
def sequences(model: nn.Module) -> Iterator[set[str]]:
    """Paths of the linear layers that are given sequences, (N, T, F), while it is entered: BatchNorm1d would take T for the
    features there."""
    found: set[str] = set()

    def note(name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        if output.dim() > 2:
            found.add(name)

    linears = [(name, m) for name, m in core(model).named_modules() if isinstance(m, nn.Linear)]
    handles = [layer.register_forward_hook(partial(note, name)) for name, layer in linears]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def insert(model: nn.Module, names: Iterable[str]) -> None:
    """Each named layer followed by a batch normalization, on its device. An optimizer that is built already has to be told."""
    for name in names:
        layer = core(model).get_submodule(name)
        weight = layer.weight
        assert isinstance(weight, nn.Parameter)
        norm = next(norm for kind, norm in NORMS if isinstance(layer, kind))
        then(model, name, norm(len(weight)).to(weight.device))


def code(names: Iterable[str]) -> str:
    """The same as code to paste."""
    return (
        f"for name in {tuple(names)!r}:\n"
        "    layer = model.get_submodule(name)\n"
        "    norm = nn.BatchNorm1d(layer.out_features) if isinstance(layer, nn.Linear) else nn.BatchNorm2d(layer.out_channels)\n"
        '    parent, _, child = name.rpartition(".")\n'
        "    setattr(model.get_submodule(parent), child, nn.Sequential(layer, norm))"
    )
