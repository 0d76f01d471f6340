"""Modules of a model exchanged in place, by the paths that the tape names. Nothing here knows what is wrong with a model.

The sandbox restores structure and values; outside it, work on a copy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

MOST_LAYERS = 10_000  # a longer list holds data


class Wrapper(nn.Module):
    """A network around the user's own: it does something before or behind it."""

    network: nn.Module

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


def core(model: nn.Module | Any) -> nn.Module:
    """The user's own network, whatever was put around it: the paths of layers are counted from there."""
    assert isinstance(model, nn.Module)
    while isinstance(model, Wrapper):
        model = model.network
    return model


def module_at(model: nn.Module, name: str) -> nn.Module | None:
    """The module at this path; None for the model itself, or if there is none (a layer may be known by a parameter's name)."""
    try:
        return core(model).get_submodule(name) if name else None
    except AttributeError:
        return None


def unregistered(model: nn.Module) -> dict[str, nn.Module]:
    """Modules in plain lists, tuples and dicts of a network, by their place in it: they compute, and `parameters()` does not
    know them."""
    registered = set(model.modules())
    found: dict[str, nn.Module] = {}
    for prefix, holder in core(model).named_modules():
        for attribute, value in vars(holder).items():
            if attribute.startswith("_") or not isinstance(value, (list, tuple, dict)) or len(value) > MOST_LAYERS:
                continue
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(item, nn.Module) and item not in registered:
                    found.setdefault(f"{prefix + '.' if prefix else ''}{attribute}[{key!r}]", item)
    return found


def parameters_of(parts: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """The parameters of modules by their places, by place and name."""
    return {f"{place}.{name}": p for place, part in parts.items() for name, p in part.named_parameters()}


class Registered(Wrapper):
    """A network that knows the modules in its plain lists."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.beside = nn.ModuleList(unregistered(network).values())

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.network(*inputs, **named)


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """`module` in place of the one at this path."""
    parent, _, child = name.rpartition(".")
    setattr(core(model).get_submodule(parent), child, module)


def then(model: nn.Module, name: str, follower: nn.Module) -> None:
    """The module at this path, and `follower` behind it."""
    put(model, name, nn.Sequential(core(model).get_submodule(name), follower))


def spelled(name: str, model: str = "model") -> str:
    """The path as Python code: what stands left of an equals sign.

    >>> spelled("body.0.fc1"), spelled("3")
    ('model.body[0].fc1', 'model[3]')
    """
    parts = name.split(".")
    return model + "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in parts)


def made(module: nn.Module) -> str:
    """The code that makes a module of torch's with these settings.

    >>> made(nn.Linear(2, 3))
    'nn.Linear(in_features=2, out_features=3, bias=True)'
    """
    settings = re.sub(r"=([a-z]+)\b", r'="\1"', module.extra_repr())  # torch writes padding=same
    return f"nn.{type(module).__name__}({settings})"


class Residual(nn.Module):
    """y = x + F(x): the input takes a way past the layers (He et al. 2015, eq. 1; N5)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def bridge(model: nn.Module, names: Iterable[str]) -> None:
    """The modules at these paths, which follow one another, become one residual block in the place of the first."""
    first, *rest = names
    block = Residual(*(core(model).get_submodule(name) for name in (first, *rest)))
    for name in rest:
        put(model, name, nn.Identity())
    put(model, first, block)
