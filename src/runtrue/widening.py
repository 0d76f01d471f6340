"""Hidden layers made wider, where the layers of a model form a plain chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Wide:
    """A module that has to be made anew, and what takes its place."""

    name: str
    module: nn.Module


class NotAChainError(ValueError):
    """The layers of the model are no plain chain. Says which one and why."""


_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_NORMS = (*_BATCH_NORMS, nn.LayerNorm, nn.GroupNorm)


def widened(model: nn.Module, run: Callable[[], Any], width: Callable[[int], int]) -> list[Wide]:
    """New modules for a model whose weight layers form chains: each hidden width w becomes width(w).

    Their weights are as torch leaves them. `run` makes one forward pass. A chain ends at a module of another kind (an LSTM, an
    attention), and its last layer keeps its outputs. The model is left as it is; `put` each of the modules to widen it, and run
    it: what functions do between the layers is not seen here.

    Raises NotAChainError if a layer of a chain is called twice, shares its weight, works in groups, is of a class of its own, or
    does not fit the one before; and if there is no hidden layer.
    """
    chains: list[list[tuple[str, nn.Module]]] = [[]]
    for name, module in _called(model, run):
        if isinstance(module, (nn.Linear, *_CONVS, *_NORMS, nn.PReLU)):
            chains[-1].append((name, module))
        else:
            chains.append([])
    found = [wide for chain in chains for wide in _chain(chain, width)]
    if not found:
        raise NotAChainError("there is no hidden layer between two layers of a chain")
    if len({wide.name for wide in found}) < len(found):
        raise NotAChainError("a layer is called more than once")
    old = [id(p) for wide in found for p in model.get_submodule(wide.name).parameters()]
    others = [id(p) for _, m in model.named_modules(remove_duplicate=False) for p in m.parameters(recurse=False)]
    if any(others.count(p) > 1 for p in old):
        raise NotAChainError("layers share a weight")
    return found


def _chain(chain: list[tuple[str, nn.Module]], width: Callable[[int], int]) -> list[Wide]:
    layers = [i for i, (_, module) in enumerate(chain) if isinstance(module, (nn.Linear, *_CONVS))]
    if len(layers) < 2:
        return []
    found: list[Wide] = []
    before = before_new = _inputs(chain[layers[0]][1])
    for place, index in enumerate(layers):
        name, layer = chain[index]
        repeat = _repeats(name, _inputs(layer), before)
        last = place == len(layers) - 1
        now = _outputs(layer)
        new = now if last else max(now, width(now))
        found.append(Wide(name, _layer(layer, before_new * repeat, new)))
        between = chain[index + 1 : layers[place + 1]] if new != now else []
        found += [Wide(other, _between(other, module, layer, new)) for other, module in between]
        before, before_new = now, new
    return found


def _called(model: nn.Module, run: Callable[[], Any]) -> list[tuple[str, nn.Module]]:
    """Modules with parameters of their own, and normalizations without, in the order of their calls."""
    names = {module: name for name, module in model.named_modules()}
    order: list[tuple[str, nn.Module]] = []
    hooks = [
        module.register_forward_hook(lambda m, *_: order.append((names[m], m)))
        for module in names
        if isinstance(module, _NORMS) or next(module.parameters(recurse=False), None) is not None
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return order


def _inputs(layer: nn.Module) -> int:
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)  # type: ignore[arg-type]


def _outputs(layer: nn.Module) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]


def _repeats(name: str, inputs: int, before: int) -> int:
    """How many inputs of a layer come from each unit before it: 1, or the places of a map that was flattened."""
    if inputs % before:
        raise NotAChainError(f"{name} takes {inputs} inputs, which are no multiple of the {before} units before it")
    return inputs // before


def _layer(layer: nn.Module, inputs: int, outputs: int) -> nn.Module:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    where = {"device": weight.device, "dtype": weight.dtype}
    if type(layer) is nn.Linear:
        return nn.Linear(inputs, outputs, layer.bias is not None, **where)
    if type(layer) not in _CONVS:
        raise NotAChainError(f"a layer is of the class {type(layer).__name__}")
    assert isinstance(layer, _CONVS)
    if layer.groups != 1 or layer.padding_mode != "zeros":
        raise NotAChainError("a convolution works in groups, or pads with something other than zeros")
    shape = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    return type(layer)(inputs, outputs, *shape, bias=layer.bias is not None, **where)  # type: ignore[arg-type]


def _between(name: str, module: nn.Module, layer: nn.Module, new: int) -> nn.Module:
    """The normalization or PReLU behind a layer, for `new` units."""
    now, weight = _outputs(layer), layer.weight
    assert isinstance(weight, Tensor)
    where: Any = {"device": weight.device, "dtype": weight.dtype}
    if type(module) in _BATCH_NORMS and module.num_features % now == 0:  # type: ignore[operator]
        features = module.num_features // now * new  # type: ignore[operator]
        return type(module)(features, module.eps, module.momentum, module.affine, module.track_running_stats, **where)
    if type(module) is nn.LayerNorm and module.normalized_shape == (now,):
        return nn.LayerNorm(new, module.eps, module.elementwise_affine, module.bias is not None, **where)
    if type(module) is nn.GroupNorm and module.num_channels == now and new % module.num_groups == 0:
        return nn.GroupNorm(module.num_groups, new, module.eps, module.affine, **where)
    if type(module) is nn.PReLU and module.num_parameters in (1, now):
        return nn.PReLU(1 if module.num_parameters == 1 else new, **where)
    raise NotAChainError(f"{name} ({type(module).__name__}) stands between two layers and does not fit {now} units")
