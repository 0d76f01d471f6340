"""What is read of layers at one step, while the forward pass and the backward pass run.

Numbers stay on the device where the tensors are, one each; nothing here waits. Of a large activation the first examples of the
batch are read: a batch is a sample already. What is small and lies on the host waits in a block, to be counted with others of its
shape.
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
from runtrue.watch import rows
from runtrue.watch.packets import Key
from runtrue.watch.rows import ROOM, Block, Rows, on_host

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

    def __post_init__(self) -> None:
        self._block = Block(self._count)

    def begin(self, histograms: bool) -> None:
        self.numbers, self.samples = {}, {} if histograms else None
        self._seen.clear()
        self._block.clear()

    def settle(self) -> None:
        """The numbers of this reading are wanted."""
        try:
            self._block.settle()
        except Exception as error:  # noqa: BLE001 what else was read is of use
            self.fails(error)

    def end(self) -> None:
        """Nothing of the layers themselves is kept between readings."""
        self.begin(histograms=False)

    def layer_output(self, layer: Layer, output: Tensor) -> None:
        if self._passed(layer, "raw", output):
            return
        if output.grad_fn is not None:
            output.register_hook(Signal(self, layer.name, self.numbers))
        if layer.name in self._activated:
            return
        if (small := small_on_host(output)) is not None:
            self._block.add(Plain(), layer.name, small)
            return
        with torch.no_grad():
            self._moments(layer, first_examples(output))

    def activation_output(self, layer: Layer, output: Tensor) -> None:
        self._activated.add(layer.name)
        if self._passed(layer, "activation", output):
            return
        dim = stats.unit_dim(output, layer.kind)
        if output.dim() and (small := small_on_host(output)) is not None:
            self._block.add(Activated(dim, layer.activation), layer.name, small)
            return
        with torch.no_grad():
            part = first_examples(output)
            self._moments(layer, part)
            zeros = stats.zero_fraction_per_unit(part, dim)
            units = zeros.numpy() if zeros.device.type == "cpu" else zeros
            self._keep(layer, zero_fraction=number(units.mean()), dead_fraction=self._dead(layer.name, units == 1))
            if layer.activation in stats.BOUNDS:
                self._keep(layer, saturated_fraction=stats.saturated_fraction(part, layer.activation))

    def signal(self, name: str, numbers: dict[Key, Tensor | float], gradient: Tensor) -> None:
        """The gradient at the outputs of a layer. numbers: of the reading that its forward pass belongs to."""
        if numbers is not self.numbers:
            return
        if (small := small_on_host(gradient)) is not None:
            self._block.add(Backward(), name, small)
            return
        with torch.no_grad():
            part = first_examples(gradient)
            self.numbers[name, "signal_rms"] = (
                stats.norm_on_host(part) / math.sqrt(part.numel()) if on_host(part) else stats.rms(part)
            )

    def _count(self, what: Plain | Activated | Backward, names: list[str], found: Rows) -> None:
        flat = found.reshape(len(found), -1)
        if isinstance(what, Backward):
            self._tell(names, "signal_rms", (rows.norms(flat) / math.sqrt(flat.shape[1])).tolist())
            return
        for key, values in zip(("mean", "std"), rows.moments(flat)):
            self._tell(names, key, values.tolist())
        if self.samples is not None:
            for name, row in zip(names, flat):
                self.samples[name] = torch.from_numpy(row[:: max(1, len(row) // IN_HISTOGRAM)][:IN_HISTOGRAM].copy())
        if isinstance(what, Activated):
            zeros = np.equal(found, 0)
            self._tell(names, "zero_fraction", rows.shares(zeros))
            silent = rows.all_along(zeros, what.dim)
            self._tell(names, "dead_fraction", [self._dead(name, row) for name, row in zip(names, silent)])
            if what.activation in stats.BOUNDS:
                parts = map(torch.from_numpy, flat)
                self._tell(
                    names, "saturated_fraction", [float(stats.saturated_fraction(x, what.activation)) for x in parts]
                )

    def _tell(self, names: list[str], what: str, values: list[Any]) -> None:
        for name, value in zip(names, values, strict=True):
            self.numbers[name, what] = value

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


@dataclass(frozen=True)
class Plain:
    """Outputs of a layer without an activation wait to be counted."""


@dataclass(frozen=True)
class Activated:
    """Outputs of an activation; dim: of the units, where the examples come first."""

    dim: int
    activation: str | None


@dataclass(frozen=True)
class Backward:
    """Gradients at the outputs of layers."""


@dataclass(frozen=True, eq=False)
class Signal:
    """Hangs on the output of a layer in the graph."""

    __torch_unserializable__ = True
    gauge: Gauge
    name: str
    numbers: dict[Key, Tensor | float]

    def __call__(self, gradient: Tensor) -> None:
        try:
            self.gauge.signal(self.name, self.numbers, gradient)
        except Exception as error:  # noqa: BLE001 the training goes on, whatever happens here
            self.gauge.fails(error)


def number(x: Any) -> Tensor | float:
    """As a number, where nobody has to be waited for."""
    return x if isinstance(x, Tensor) and x.device.type != "cpu" else float(x)


def small_on_host(x: Tensor) -> Rows | None:
    """The first examples of a float32 tensor on the host, where they are few enough to wait in a block; None otherwise."""
    if not on_host(x):
        return None
    found: Rows = x.detach().numpy()
    found = found[: examples_of(x)] if x.dim() > 1 else found
    return found if found.size <= ROOM // 2 else None


def first_examples(x: Tensor) -> Tensor:
    """To be called where no gradients are recorded."""
    return x[: examples_of(x)] if x.dim() > 1 else x


def examples_of(x: Tensor) -> int:
    """Of the first examples of a batch: as many as make `ENOUGH` numbers and are `EXAMPLES` or more, but no more than `MOST_READ`
    numbers; at least one, all of a small one."""
    if x.numel() <= ENOUGH:
        return len(x)
    each = x.numel() // len(x)
    return max(1, min(MOST_READ // each, max(EXAMPLES, ENOUGH // each)))
