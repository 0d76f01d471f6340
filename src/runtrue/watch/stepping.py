"""What is read of parameters at one step: gradients and weights before the optimizer's step, and what it changed.

Numbers stay on the device where the tensors are, one each; nothing here waits. Of a large parameter some rows are read, spread
over all of them: so a reading costs little beside the step it reads, and needs no copy of a whole network. Of a parameter that is
spread over processes its own shard is read: norms are the shard's, means are weighted by its size, to be brought together by
`ranks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from runtrue import stats
from runtrue.watch.packets import Key

MOST_ROWS = 2**20
"""Numbers of one parameter whose change is followed, by whole rows; smaller parameters are followed whole."""
MOST_MEAN = 2**16  # numbers of one parameter that its mean and its share of zeros are taken of, by whole rows


@dataclass(eq=False)
class Step:
    """One optimizer's step. sizes: how many numbers a parameter has whose mean is read."""

    numbers: dict[Key, Tensor]
    sizes: dict[str, int]
    followed: dict[str, nn.Parameter] = field(default_factory=dict)
    before: list[Tensor] = field(default_factory=list)

    @torch.no_grad()
    def begin(self, named: Mapping[str, nn.Parameter]) -> None:
        """Between the backward pass and the step. Sparse gradients are left out."""
        dense = {name: p for name, p in named.items() if p.grad is not None and p.grad.layout is torch.strided}
        if not dense:
            return
        weights, gradients = [local(p) for p in dense.values()], [local(p.grad) for p in dense.values()]
        self._tell(dense, "grad_norm", norms(gradients))
        self._tell(dense, "weight_norm", norms(weights))
        for (name, parameter), weight, gradient in zip(dense.items(), weights, gradients):
            if weight.dim() > 1 and parameter.numel():
                self._means(name, parameter, weight, gradient)
        self.followed = dense
        self.before = [spread_rows(weight, MOST_ROWS).clone() for weight in weights]

    def _means(self, name: str, parameter: nn.Parameter, weight: Tensor, gradient: Tensor) -> None:
        self.sizes[name] = parameter.numel()
        if not weight.numel():
            zero = torch.zeros((), device=weight.device)
            self.numbers |= {(name, "grad_mean"): zero, (name, "grad_zero"): zero, (name, "weight_mean"): zero}
            return
        part, share = spread_rows(gradient, MOST_MEAN), shards(parameter) * weight.numel() / parameter.numel()
        found = {
            "grad_mean": part.mean(dtype=torch.float32), "grad_zero": stats.zero_fraction(part),
            "weight_mean": spread_rows(weight, MOST_MEAN).mean(dtype=torch.float32),
        }  # fmt: skip
        for what, mean in found.items():
            self.numbers[name, what] = mean if share == 1 else mean * share

    def _tell(self, names: Iterable[str], what: str, values: Iterable[Tensor]) -> None:
        for name, value in zip(names, values, strict=True):
            self.numbers[name, what] = value

    @torch.no_grad()
    def end(self) -> None:
        """‖w after − w before‖ and ‖w before‖ of the rows that are followed."""
        if not self.followed:
            return
        self._tell(self.followed, "moved_from", norms(self.before))
        torch._foreach_sub_(self.before, [spread_rows(local(p), MOST_ROWS) for p in self.followed.values()])
        self._tell(self.followed, "moved", norms(self.before))
        self.followed, self.before = {}, []


def spread_rows(x: Tensor, most: int) -> Tensor:
    """Rows of a parameter, evenly spread, as many as make `most` numbers; the whole of a small one."""
    x = x.detach()
    if x.dim() < 2 or x.numel() <= most:
        return x
    return x[:: -(-x.numel() // most)]


def norms(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """‖·‖₂ of each; in float32 where a half could not hold it."""
    if all(t.dtype in (torch.float32, torch.float64) for t in tensors):
        return torch._foreach_norm(list(tensors))
    return [torch.linalg.vector_norm(t, dtype=torch.promote_types(t.dtype, torch.float32)) for t in tensors]


def local(tensor: Tensor | None) -> Tensor:
    """This process's shard of a distributed tensor; the tensor itself otherwise."""
    assert tensor is not None
    to_local = getattr(tensor, "to_local", None)
    found = (to_local() if to_local is not None else tensor).detach()
    assert isinstance(found, Tensor)
    return found


def shards(parameter: Tensor) -> int:
    """Into how many parts a distributed tensor is cut: times this and its share of all numbers, the mean of a part is to be
    averaged over the processes. 1 for a tensor that is whole."""
    placements, found = getattr(parameter, "placements", ()), 1
    for dimension, placement in enumerate(placements):
        if placement.is_shard():
            found *= parameter.device_mesh.size(dimension)  # type: ignore[attr-defined]  # of DTensor
    return found
