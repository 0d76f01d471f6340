"""Turn a training step into readings: a few numbers a layer, reduced where the tensors are, moved to the host once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from runtrue import stats
from runtrue.tape import Layer, LossCall


@dataclass(frozen=True)
class Reading:
    """One layer in one step. None: does not apply, or was not seen.

    mean, std: of what leaves the layer, behind its activation. raw_std: in front of the activation.
    zero_fraction, saturated_fraction: share of the elements. dead_fraction: share of the *units* that were zero for every
    example of every batch seen. gain: std(weight) · sqrt(fan_in), by which an independent input is amplified.
    signal_norm: norm of the loss's gradient with respect to the layer's output. grad_norm, weight_norm: of the weight.
    update_ratio: ‖weight after − weight before‖ / ‖weight before‖ of the real optimizer step. alike_rows: all units start with
    the same weights *and* receive the same gradient. trainable: the weight asks for a gradient. has_grad: it received one.
    fed_by: layers with nothing non-linear between them and this one; softly_fed_by: with a norm over features or a maximum
    between, and no activation. grouped: a convolution in groups, whose units see only some of the channels. channels_in: inputs
    of a layer, or of a convolution at one place.
    """

    layer: str
    kind: str
    activation: str | None
    normalized: bool
    units: int
    fan_in: int
    calls: int
    trainable: bool
    mean: float | None = None
    std: float | None = None
    raw_std: float | None = None
    raw_mean: float | None = None
    zero_fraction: float | None = None
    dead_fraction: float | None = None
    saturated_fraction: float | None = None
    gain: float | None = None
    signal_norm: float | None = None
    grad_norm: float | None = None
    weight_norm: float | None = None
    update_ratio: float | None = None
    alike_rows: bool = False
    has_grad: bool = True
    fed_by: tuple[str, ...] = ()
    softly_fed_by: tuple[str, ...] = ()
    grouped: bool = False
    channels_in: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For reports: "grad_norm" is the gradient at the layer's output, as in the lab; the weight's has a name of its own."""
        return {**vars(self), "grad_norm": self.signal_norm, "weight_grad_norm": self.grad_norm}


@dataclass(eq=False)
class Probe:
    """An observer for the tape. Holds scalars on the device and one mask a layer, never an activation."""

    values: dict[tuple[Layer, str], Tensor] = field(default_factory=dict)
    silent: dict[Layer, Tensor] = field(default_factory=dict)
    """Per layer: a mask over its units, True while a unit has been zero for every example."""
    losses: list[LossCall] = field(default_factory=list)
    _seen: set[tuple[Layer, str]] = field(default_factory=set)

    def begin_batch(self) -> None:
        """Layers called again are read once a batch: at their first call."""
        self._seen.clear()

    def layer_output(self, layer: Layer, output: Tensor) -> None:
        if self._again(layer, "raw") or not output.is_floating_point():
            return
        with torch.no_grad():
            moments = stats.moments(output)
        self._keep(layer, raw_mean=moments[0], raw_std=moments[1])
        if output.requires_grad:
            output.register_hook(lambda g: self._keep(layer, signal_norm=stats.norm(g)))

    def activation_output(self, layer: Layer, output: Tensor) -> None:
        if self._again(layer, "activation") or not output.is_floating_point():
            return
        with torch.no_grad():
            moments = stats.moments(output)
            self._keep(layer, out_mean=moments[0], out_std=moments[1], zero_fraction=stats.zero_fraction(output))
            self._keep(layer, saturated_fraction=stats.saturated_fraction(output, layer.activation))
            silent = stats.zero_fraction_per_unit(output, stats.unit_dim(output, layer.kind)) == 1.0
        before = self.silent.get(layer)
        self.silent[layer] = silent if before is None or before.shape != silent.shape else before & silent

    def loss_call(self, call: LossCall) -> None:
        self.losses.append(call)

    def _again(self, layer: Layer, what: str) -> bool:
        again = (layer, what) in self._seen
        self._seen.add((layer, what))
        return again

    def _keep(self, layer: Layer, **values: Tensor) -> None:
        """The first batch counts; later ones only sharpen the masks."""
        for name, value in values.items():
            self.values.setdefault((layer, name), value.detach())


def weight_values(layers: list[Layer], initial: Mapping[int, Tensor]) -> dict[tuple[Layer, str], Tensor]:
    """Norms of each layer's weight, gradient and last update. `initial`: the value before the step, by id of the parameter."""
    values: dict[tuple[Layer, str], Tensor] = {}
    with torch.no_grad():
        for layer in layers:
            weight = layer.weight
            if weight is None:
                continue
            before = initial.get(id(weight), weight)
            values[layer, "weight_norm"] = stats.norm(before)
            gradient = dense(weight.grad) if isinstance(weight, nn.Parameter) else None
            if gradient is not None:
                values[layer, "grad_norm"] = stats.norm(gradient)
                values[layer, "grad_spread"] = row_spread(gradient)
            values[layer, "update_norm"] = change_norm(weight, before)
            values[layer, "weight_std"] = stats.moments(before)[1]
            values[layer, "row_spread"] = row_spread(before)
            values[layer, "bias_spread"] = row_spread(initial.get(id(layer.bias), layer.bias))
    return values


def dense(gradient: Tensor | None) -> Tensor | None:
    """A sparse gradient (of an embedding) as the values it has."""
    return gradient.coalesce().values() if gradient is not None and gradient.is_sparse else gradient


def change_norm(after: Tensor, before: Tensor) -> Tensor:
    """‖after − before‖, a part at a time: the difference of a large weight would be a copy of it."""
    parts = zip(after.detach().reshape(-1).split(PART), before.reshape(-1).split(PART))
    total: Tensor = torch.stack([stats.norm(a - b) for a, b in parts]).norm()
    return total


def row_spread(weight: Tensor | None) -> Tensor:
    """max over units of ‖row − first row‖, relative to the largest row's norm; 0 if all rows are equal (also all zero)."""
    if weight is None or weight.numel() == 0:
        return torch.zeros(())
    rows = weight.detach().flatten(1) if weight.dim() > 1 else weight.detach().unsqueeze(1)
    parts = rows.split(max(1, PART // rows.shape[1]))
    size = torch.stack([part.norm(dim=1).max() for part in parts]).max()
    apart = torch.stack([(part - rows[:1]).norm(dim=1).max() for part in parts]).max()
    return torch.where(size > 0, apart / size, torch.zeros_like(size))


PART = 2**18  # numbers taken at a time where a difference is formed: 1 MB of float32
SPREAD_NONE = 1e-5  # float32 sums of equal terms in another order differ by about 1e-7 of their size


def readings(layers: list[Layer], probe: Probe, weights: Mapping[tuple[Layer, str], Tensor]) -> tuple[Reading, ...]:
    """All numbers in one transfer, a row a layer in the order of the calls."""
    dead = {(layer, "dead_fraction"): mask.float().mean() for layer, mask in probe.silent.items()}
    wanted = {**probe.values, **weights, **dead}
    names = {f"{i}": key for i, key in enumerate(wanted)}
    host = stats.gather({name: wanted[key] for name, key in names.items()})
    table: dict[tuple[Layer, str], float] = {names[name]: value for name, value in host.items()}
    return tuple(_reading(layer, {what: v for (of, what), v in table.items() if of is layer}) for layer in layers)


_DIRECT = ("raw_mean", "raw_std", "zero_fraction", "dead_fraction", "saturated_fraction", "signal_norm")


def _reading(layer: Layer, found: Mapping[str, float]) -> Reading:
    weight = layer.weight
    units = weight.shape[0] if weight is not None and weight.dim() > 0 else 0
    fan_in = weight[0].numel() if weight is not None and weight.dim() > 1 else 1
    norm, update = found.get("weight_norm"), found.get("update_norm")
    gain = found["weight_std"] * fan_in**0.5 if "weight_std" in found else None
    spreads = [found.get(name, 1.0) for name in ("row_spread", "grad_spread")] + [found.get("bias_spread", 0.0)]
    return Reading(
        layer=layer.name,
        kind=layer.kind,
        activation=layer.activation,
        normalized=layer.normalized,
        units=units,
        fan_in=fan_in,
        calls=layer.calls,
        trainable=weight is not None and weight.requires_grad,
        gain=gain,
        grad_norm=found.get("grad_norm"),
        weight_norm=norm,
        update_ratio=update / norm if update is not None and norm else None,
        alike_rows=all(spread < SPREAD_NONE for spread in spreads),
        has_grad="grad_norm" in found,
        fed_by=tuple(other.name for other in layer.fed_by),
        softly_fed_by=tuple(other.name for other in layer.softly_fed_by),
        grouped=getattr(layer.module, "groups", 1) > 1,
        channels_in=weight.shape[1] if weight is not None and weight.dim() > 1 else 1,
        mean=found.get("out_mean", found.get("raw_mean")),
        std=found.get("out_std", found.get("raw_std")),
        **{name: found.get(name) for name in _DIRECT},
    )
