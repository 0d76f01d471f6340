"""What is read of layers at one step, while the forward pass and the backward pass run.

Numbers stay on the device where the tensors are, one each; nothing here waits. Of a large activation the first examples of the
batch are read: a batch is a sample already.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtrue import stats
from runtrue.tape import Layer, LossCall
from runtrue.watch.packets import Key

MOST_READ = 2**17
"""Numbers of one activation that are read at most, by whole examples."""
ENOUGH = 2**14
"""Numbers that suffice where `EXAMPLES` examples have them: the standard error of a mean is 0.008 standard deviations then, and
of a share 0.004."""
EXAMPLES = 32
IN_HISTOGRAM = 1024  # outputs of a layer that one histogram counts
Units = Tensor | NDArray[Any]  # NumPy's on the host: of a few hundred numbers each call costs more than its work
WINDOW = 8  # readings for which a unit has to be silent, at least, before it counts as dead


@dataclass(eq=False)
class Gauge:
    """Reads layers: an observer of the tape. Kept over a whole run: it knows which units were silent, and which layers have an
    activation, whose output alone is read then. fails: told of an error in a backward pass."""

    fails: Callable[[Exception], None]
    numbers: dict[Key, Tensor | float] = field(default_factory=dict)
    samples: dict[str, Tensor] | None = None
    """A few outputs of each layer, for a histogram; None if none is wanted."""
    _activated: set[str] = field(default_factory=set)
    _silent: dict[str, tuple[Units | None, Units | None, int]] = field(default_factory=dict)
    _seen: set[tuple[Layer, str]] = field(default_factory=set)

    def begin(self, histograms: bool) -> None:
        self.numbers, self.samples = {}, {} if histograms else None
        self._seen.clear()

    def end(self) -> None:
        """Nothing of the layers themselves is kept between readings."""
        self.numbers, self.samples = {}, None
        self._seen.clear()

    def layer_output(self, layer: Layer, output: Tensor) -> None:
        if self._passed(layer, "raw", output):
            return
        if output.grad_fn is not None:
            output.register_hook(Signal(layer.name, self.numbers, self.fails))
        if layer.name not in self._activated:
            with torch.no_grad():
                self._moments(layer, first_examples(output))

    def activation_output(self, layer: Layer, output: Tensor) -> None:
        self._activated.add(layer.name)
        if self._passed(layer, "activation", output):
            return
        with torch.no_grad():
            part = first_examples(output)
            self._moments(layer, part)
            zeros = stats.zero_fraction_per_unit(part, stats.unit_dim(part, layer.kind))
            units = zeros.numpy() if zeros.device.type == "cpu" else zeros
            self._keep(layer, zero_fraction=number(units.mean()), dead_fraction=self._dead(layer.name, units == 1))
            if layer.activation in stats.BOUNDS:
                self._keep(layer, saturated_fraction=stats.saturated_fraction(part, layer.activation))

    def loss_call(self, call: LossCall) -> None:
        """Losses are told by the user."""

    def _passed(self, layer: Layer, what: str, output: Tensor) -> bool:
        """A layer that is called again is read at its first call."""
        again = (layer, what) in self._seen
        self._seen.add((layer, what))
        return again or not output.is_floating_point() or output.numel() == 0

    def _moments(self, layer: Layer, part: Tensor) -> None:
        mean, std = stats.moments_on_host(part) if on_host(part) else stats.moments(part).unbind()
        self._keep(layer, mean=mean, std=std)
        if self.samples is not None:
            flat = part.reshape(-1)
            some = flat[:: max(1, len(flat) // IN_HISTOGRAM)][:IN_HISTOGRAM]
            self.samples[layer.name] = some.to(torch.float32, copy=True)  # a view would keep the whole activation

    def _dead(self, name: str, silent: Units) -> Tensor | float:
        """Share of the units that were silent in all readings of this window and of the one before."""
        now, before, count = self._silent.get(name, (None, None, 0))
        if now is None or now.shape != silent.shape:
            now, before, count = silent, None, 0
        elif count:
            now &= silent
        else:
            now = silent
        dead = now if before is None else now & before
        count += 1
        self._silent[name] = (now, before, count) if count < WINDOW else (silent, now, 0)
        found = torch.count_nonzero(dead) if isinstance(dead, Tensor) else np.count_nonzero(dead)
        return number(found) / max(1, len(silent))

    def _keep(self, layer: Layer, **values: Tensor | float) -> None:
        for what, value in values.items():
            self.numbers[layer.name, what] = value


@dataclass(frozen=True, eq=False)
class Signal:
    """Reads the gradient at the outputs of a layer, into the numbers of the reading that the forward pass belongs to."""

    __torch_unserializable__ = True
    name: str
    numbers: dict[Key, Tensor | float]
    fails: Callable[[Exception], None]

    def __call__(self, gradient: Tensor) -> None:
        try:
            with torch.no_grad():
                self.numbers[self.name, "signal_rms"] = rms(first_examples(gradient))
        except Exception as error:  # noqa: BLE001 the training goes on, whatever happens here
            self.fails(error)


def number(x: Any) -> Tensor | float:
    """As a number, where nobody has to be waited for."""
    return x if isinstance(x, Tensor) and x.device.type != "cpu" else float(x)


def rms(part: Tensor) -> Tensor | float:
    return stats.norm_on_host(part) / math.sqrt(part.numel()) if on_host(part) else stats.rms(part)


def on_host(x: Tensor) -> bool:
    """Its numbers can be had at once, as they are."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0


def first_examples(x: Tensor) -> Tensor:
    """The first examples of a batch: as many as make `ENOUGH` numbers and are `EXAMPLES` or more, but not more than `MOST_READ`
    numbers; at least one. To be called where no gradients are recorded."""
    if x.dim() < 2 or x.numel() <= ENOUGH:
        return x
    each = x.numel() // len(x)
    return x[: max(1, min(MOST_READ // each, max(EXAMPLES, ENOUGH // each)))]
