"""Which layers get new weights, and which are left alone and why: decided before anything is touched."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from runtrue.init.passes import Widths, as_found, call, in_order
from runtrue.init.schemes import Fans, fans
from runtrue.init.trained import origin
from runtrue.tape import Layer, Tape, record

NO_FANS = Fans(1, 1)
"""Of a layer that is left alone: nobody asks."""


@dataclass(frozen=True)
class Applied:
    """What was done to one layer. `scheme` and `std` (of new weights) are None where it was left alone: `reason`."""

    layer: str
    scheme: str | None
    activation: str | None
    std: float | None
    reason: str = ""
    weight: str = ""
    """Path of the weight in the model, "layers.0.weight"; `bias` likewise, None if there is none to zero."""
    bias: str | None = None
    gain: float = 1.0
    slope: float = 0.0
    groups: int = 1
    plain: bool = True
    """torch.nn.init finds the same spread from the weight's shape alone."""


@dataclass(frozen=True, eq=False)
class Target:
    """A layer of the tape with what its new weights depend on; with a `reason`, it is left alone."""

    layer: Layer
    weight: Tensor
    paths: tuple[str, str | None]
    size: Fans = NO_FANS
    reason: str = ""

    @property
    def bias(self) -> Tensor | None:
        return self.layer.bias if self.paths[1] else None

    @property
    def groups(self) -> int:
        return getattr(self.layer.module, "groups", 1) if _is_own(self.layer) else 1

    def applied(self, scheme: str | None, std: float | None, gain: float = 1.0, slope: float = 0.0) -> Applied:
        name, activation = self.layer.name, self.layer.activation
        weight, bias = self.paths
        plain = scheme is None or self._is_plain(scheme)
        return Applied(name, scheme, activation, std, self.reason, weight, bias, gain, slope, self.groups, plain)

    def _is_plain(self, scheme: str) -> bool:
        """Whether the shape alone gives what the scheme asks for: n_in, and Xavier n_out too."""
        shape = fans(self.weight)
        return self.size == shape if scheme.startswith("xavier") else self.size.n_in == shape.n_in


def targets(
    model: nn.Module, example: Any, trace: Tape | None, only: Collection[str] | None, include_pretrained: bool
) -> list[Target]:
    """Every layer that ran, in order of its first call, those left alone with their reason; `only` drops the rest."""
    widths = Widths()
    if trace is not None:
        layers = trace.layers
    elif example is not None:
        with as_found(model):
            layers = record(lambda: call(model, example), model, widths).layers
    else:
        layers = in_order(model)
    if not layers:
        raise ValueError("no layer with weights ran; was the model called?")
    paths = {id(parameter): name for name, parameter in model.named_parameters()}
    elsewhere = {id(layer.weight) for layer in layers if layer.kind not in ("linear", "conv")}
    found = [_target(layer, layer.weight, paths, elsewhere, widths.of) for layer in layers if layer.weight is not None]
    found = list({id(target.weight): target for target in reversed(found)}.values())[::-1]
    if not include_pretrained:
        found = _spare_pretrained(found)
    return _restricted(found, only)


def _target(layer: Layer, weight: Tensor, paths: dict[int, str], elsewhere: set[int], widths: dict[int, int]) -> Target:
    bias = paths.get(id(layer.bias)) if layer.bias is not None and layer.bias.requires_grad else None
    own = paths.get(id(weight), ""), bias
    reason = _reason(layer, weight, own[0], elsewhere)
    if reason:
        return Target(layer, weight, own, reason=reason)
    if _is_own(layer):
        assert layer.module is not None
        size = fans(layer.module)
    else:
        size = fans(weight)
        width = widths.get(id(weight), weight.shape[0] if layer.bias is None else layer.bias.shape[0])
        if weight.dim() == 2 and weight.shape[0] != width == weight.shape[1]:  # held as (inputs, outputs)
            size = Fans(size.n_out, size.n_in)
    return Target(layer, weight, own, size)


def _is_own(layer: Layer) -> bool:
    """Whether the module is one whose attributes (groups, stride) speak of this weight."""
    return isinstance(layer.module, (nn.Linear, nn.Bilinear, _ConvNd)) and layer.module.weight is layer.weight


def _reason(layer: Layer, weight: Tensor, path: str, elsewhere: set[int]) -> str:
    """Why a layer cannot be given new weights by fan-in and fan-out; "" if it can."""
    if layer.kind not in ("linear", "conv"):
        return f"{layer.kind}: has a structure of its own"
    if not path:
        return "its weight is computed from other parameters (weight norm, a parametrization)"
    if id(weight) in elsewhere:
        return "shares its weight with a layer that is no linear map (an embedding)"
    if not weight.requires_grad:
        return "frozen: requires_grad is False"
    if weight.dim() < 2 or not weight.is_floating_point() or weight.numel() == 0:
        return f"its weight is no matrix of real numbers: {weight.dtype}, shape {tuple(weight.shape)}"
    return ""


def _spare_pretrained(found: list[Target]) -> list[Target]:
    """A layer that looks trained vouches for those in front of it, and for those behind that are too small to tell.

    New layers come last (a head on a backbone). Leaving it as it was drawn is harmless, redrawing a trained one is not.
    """
    origins = [origin(target.weight) for target in found]
    last = max((i for i, came in enumerate(origins) if came == "trained"), default=-1)
    if last < 0:
        return found
    reasons = {"trained": "looks trained", "unclear": "too small to tell, in a network that looks trained", "drawn": ""}
    before = "comes before a layer that looks trained"
    return [
        replace(target, reason=target.reason or reasons[came] or (before if i < last else ""))
        for i, (target, came) in enumerate(zip(found, origins))
    ]


def _restricted(found: list[Target], only: Collection[str] | None) -> list[Target]:
    """Those named, or inside a module named."""
    if only is None:
        return found
    only = [only] if isinstance(only, str) else list(only)

    def named(target: Target, name: str) -> bool:
        return f"{target.layer.name}.".startswith(f"{name}.")

    unknown = [name for name in only if not any(named(target, name) for target in found)]
    if unknown:
        raise ValueError(f"only: no layer {unknown} ran; those that ran: {[target.layer.name for target in found]}")
    return [target for target in found if any(named(target, name) for name in only)]
