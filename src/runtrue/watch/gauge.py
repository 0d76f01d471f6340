"""What is read at one step: of layers while the forward pass runs, of parameters around the optimizer's step.

Numbers stay on the device where the tensors are, one each; nothing here waits. Of a large activation the first examples of the
batch are read (a batch is a sample already), of a large parameter some of its rows, spread over all of them: so a reading
costs little beside the step it reads, and needs no copy of a whole network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from runtrue import stats
from runtrue.tape import Layer, LossCall

MOST_READ = 2**17
"""Numbers of one activation that are read, by whole examples. Of so many the standard error of a mean is 0.003 standard
deviations, and of a share 0.0014."""
MOST_ROWS = 2**20
"""Numbers of one parameter whose change is followed, by whole rows; smaller parameters are followed whole."""
MOST_MEAN = 2**16  # numbers of one parameter that its mean and its share of zeros are taken of, by whole rows
IN_HISTOGRAM = 1024  # outputs of a layer that one histogram counts
WINDOW = 8  # readings for which a unit has to be silent, at least, before it counts as dead

Key = tuple[str, str]
"""(layer or parameter, what was read): ("layers.0", "std"), ("layers.0.weight", "grad_norm")."""


@dataclass(eq=False)
class Gauge:
    """Reads layers: an observer of the tape. Kept over a whole run: it knows which units were silent, and which layers have an
    activation, whose output alone is read then."""

    numbers: dict[Key, Tensor] = field(default_factory=dict)
    samples: dict[str, Tensor] | None = None
    """A few outputs of each layer, for a histogram; None if none is wanted."""
    _activated: set[str] = field(default_factory=set)
    _silent: dict[str, tuple[Tensor, Tensor | None, int]] = field(default_factory=dict)
    _seen: set[tuple[Layer, str]] = field(default_factory=set)

    def begin(self, histograms: bool) -> None:
        self.numbers, self.samples = {}, {} if histograms else None
        self._seen.clear()

    def layer_output(self, layer: Layer, output: Tensor) -> None:
        if self._passed(layer, "raw", output):
            return
        if output.requires_grad:
            output.register_hook(lambda gradient: self._signal(layer, gradient))
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
            self._keep(layer, zero_fraction=zeros.mean(), dead_fraction=self._dead(layer.name, zeros == 1))
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
        mean, std = stats.moments(part).unbind()
        self._keep(layer, mean=mean, std=std)
        if self.samples is not None:
            flat = part.reshape(-1)
            self.samples[layer.name] = flat[:: max(1, len(flat) // IN_HISTOGRAM)][:IN_HISTOGRAM].float()

    def _dead(self, name: str, silent: Tensor) -> Tensor:
        """Share of the units that were silent in all readings of this window and of the one before."""
        now, before, count = self._silent.get(name, (silent, None, 0))
        if now.shape != silent.shape:
            now, before, count = silent, None, 0
        now = now & silent
        both = now if before is None else now & before
        count += 1
        self._silent[name] = (torch.ones_like(silent), now, 0) if count == WINDOW else (now, before, count)
        return both.float().mean()

    def _signal(self, layer: Layer, gradient: Tensor) -> None:
        self._keep(layer, signal_rms=stats.rms(first_examples(gradient)))

    def _keep(self, layer: Layer, **values: Tensor) -> None:
        for what, value in values.items():
            self.numbers[layer.name, what] = value


def first_examples(x: Tensor) -> Tensor:
    """The first examples of a batch, as many as make `MOST_READ` numbers; at least one."""
    x = x.detach()
    if x.dim() < 2 or x.numel() <= MOST_READ:
        return x
    return x[: max(1, MOST_READ * len(x) // x.numel())]


def spread_rows(x: Tensor, most: int) -> Tensor:
    """Rows of a parameter, evenly spread, as many as make `most` numbers; the whole of a small one."""
    x = x.detach()
    if x.dim() < 2 or x.numel() <= most:
        return x
    return x[:: -(-x.numel() // most)]


@dataclass(eq=False)
class Step:
    """One optimizer's step: gradients and weights before it, and what it changed."""

    numbers: dict[Key, Tensor]
    followed: dict[str, nn.Parameter] = field(default_factory=dict)
    before: list[Tensor] = field(default_factory=list)

    @torch.no_grad()
    def begin(self, named: Mapping[str, nn.Parameter]) -> None:
        """named: parameters of the optimizer that have a gradient, all on one device."""
        dense = {name: p for name, p in named.items() if p.grad is not None and not p.grad.is_sparse and p.numel()}
        if not dense:
            return
        local = {name: (_local(p), _local(p.grad)) for name, p in dense.items()}
        weights, gradients = [w for w, _ in local.values()], [g for _, g in local.values()]
        self._tell(local, "grad_norm", torch._foreach_norm(gradients))
        self._tell(local, "weight_norm", torch._foreach_norm(weights))
        for name, (weight, gradient) in local.items():
            if weight.dim() > 1:
                self._means(name, weight, gradient)
        self.followed = dense
        self.before = [spread_rows(weight, MOST_ROWS).clone() for weight in weights]

    def _means(self, name: str, weight: Tensor, gradient: Tensor) -> None:
        part = spread_rows(gradient, MOST_MEAN)
        self.numbers[name, "grad_mean"] = part.mean(dtype=torch.float32)
        self.numbers[name, "grad_zero"] = stats.zero_fraction(part)
        self.numbers[name, "weight_mean"] = spread_rows(weight, MOST_MEAN).mean(dtype=torch.float32)

    def _tell(self, names: Iterable[str], what: str, values: Iterable[Tensor]) -> None:
        for name, value in zip(names, values, strict=True):
            self.numbers[name, what] = value

    @torch.no_grad()
    def end(self) -> None:
        """‖w after − w before‖ / ‖w before‖ of the rows that are followed."""
        if not self.followed:
            return
        sizes = torch._foreach_norm(self.before)
        torch._foreach_sub_(self.before, [spread_rows(_local(p), MOST_ROWS) for p in self.followed.values()])
        self._tell(self.followed, "moved", torch._foreach_norm(self.before))
        self._tell(self.followed, "moved_from", sizes)
        self.followed, self.before = {}, []


def _local(tensor: Tensor | None) -> Tensor:
    """This process's shard of a distributed tensor; the tensor itself otherwise."""
    assert tensor is not None
    local = getattr(tensor, "to_local", None)
    found = (local() if local is not None else tensor).detach()
    assert isinstance(found, Tensor)
    return found
