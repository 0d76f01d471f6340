"""Statistics of tensors: a few numbers for a large tensor, computed on its device, with nothing waiting for the device.

Every function takes a Tensor of any shape and real dtype (float, half, integer, bool; strided in any way), detaches it and
returns a small Tensor on the same device: float64 for float64 input, else float32. Values that are not finite are no error:
each function says what they do. Of no elements, a mean or a share is NaN, a norm is 0. `gather` moves many of these
numbers to the host in one transfer.

On the CPU a sum and a dot product cost about as much as reading the memory once, `torch.var_mean` thirty times that. So the
cheap sums come first, and a float64 pass follows only where float32 has lost the answer. On other devices the sums run in
float64 from the start (the memory is the limit there, not the arithmetic), since looking at a number would wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

CANCELLED = 1e-3
"""Below this share of mean(x²), x's variance is recomputed in float64: mean(x²) has a relative error of about 1e-6 in float32,
so that above the limit the variance is good to 1e-3 and the standard deviation to 5e-4."""
FAINT_SQUARE = 1e-34
"""mean(x²) below which float32 cannot be trusted: its squares end at 1.2e-38 (normal numbers), four decades lower."""
CHUNK = 2**18
"""Elements in one float32 dot product. Its relative error was 2e-7 at 2**18 elements and 2e-4 at 2**24."""

SATURATION_MARGIN = 0.05
"""How close to its bound a smooth activation counts as saturated, as a share of half its range. At |tanh| = 0.95 the slope is
1 - 0.95² = 0.0975: less than a tenth of the gradient comes through. For the sigmoid, (1 + tanh(z/2)) / 2, it is the same z."""

BOUNDS: dict[str, tuple[float, float, float]] = {
    "tanh": (-1.0, 1.0, SATURATION_MARGIN),
    "sigmoid": (0.0, 1.0, SATURATION_MARGIN),
    "softsign": (-1.0, 1.0, SATURATION_MARGIN),
    "hardtanh": (-1.0, 1.0, 0.0),
    "hardsigmoid": (0.0, 1.0, 0.0),
}
"""Bounded activation -> (low, high, margin). The hard ones have their full slope right up to the bound and none on it: margin 0.
A hardtanh with bounds of its own is not recognized."""


class Histogram(NamedTuple):
    """counts (bins,) and edges (bins + 1,); every bin is [low, high), the last one [low, high]. The rest is counted too."""

    counts: Tensor
    edges: Tensor
    below: Tensor
    above: Tensor
    not_finite: Tensor


def moments(x: Tensor) -> Tensor:
    """(mean, standard deviation) of all elements, shape (2,); std = sqrt(mean(x²) - mean(x)²), of the population.

    With a NaN or an infinity in x the std is NaN and the mean what IEEE arithmetic makes of the sum.
    """
    x = _floating(x)
    if x.numel() == 0:
        return x.new_full((2,), torch.nan)
    if x.dtype == torch.float64 or x.device.type == "mps":
        return _two_pass(x)
    if x.device.type != "cpu":
        mean, square = x.mean(dtype=torch.float64), _root_of_squares(x, torch.float64).square() / x.numel()
        return torch.stack((mean, (square - mean * mean).clamp(min=0).sqrt())).float()
    return torch.tensor(moments_on_host(x), dtype=torch.float32)


def moments_on_host(x: Tensor) -> tuple[float, float]:
    """`moments` of a float32 tensor on the CPU that is not empty, as numbers: what a packed tensor would cost is saved."""
    mean, square = float(x.sum()) / x.numel(), float(_square32(x)) / x.numel()
    variance = square - mean * mean
    if FAINT_SQUARE < square < math.inf and variance > CANCELLED * square:
        return mean, math.sqrt(variance)
    exact = _two_pass(x.double()).tolist()
    return exact[0], exact[1]


def norm(x: Tensor) -> Tensor:
    """‖x‖₂ = sqrt(Σ x²), shape (). NaN if x holds a NaN, else infinite if it holds an infinity; 0 of no elements."""
    x = _floating(x)
    if x.dtype == torch.float64 or x.device.type == "mps":
        return _root_of_squares(x, x.dtype)
    if x.device.type == "cpu":
        square = _square32(x)
        if FAINT_SQUARE * x.numel() < float(square) < math.inf:
            return square.sqrt()
    return _root_of_squares(x, torch.float64).float()


def norm_on_host(x: Tensor) -> float:
    """`norm` of a float32 tensor on the CPU, as a number."""
    square = float(_square32(x))
    return math.sqrt(square) if FAINT_SQUARE * x.numel() < square < math.inf else float(norm(x))


def rms(x: Tensor) -> Tensor:
    """Root mean square ‖x‖₂ / √n, shape (). What is not finite: as in `norm`; NaN of no elements."""
    total = norm(x)
    return total / torch.full_like(total, x.numel()).sqrt()


def global_norm(tensors: Sequence[Tensor]) -> Tensor:
    """‖·‖₂ over all elements of all tensors (the norm that gradient clipping looks at), shape (), on the first one's device."""
    real = [_floating(x) for x in tensors if x.numel()]
    if not real:
        return torch.zeros((), dtype=torch.float32)
    home = real[0].device
    total = _joined(torch._foreach_norm(real), home)
    least = math.sqrt(FAINT_SQUARE * sum(x.numel() for x in real))
    if home.type == "cpu" and not least < float(total) < math.inf:
        total = _joined([norm(x) for x in real], home)
    return total.to(max((x.dtype for x in real), key=lambda dtype: dtype.itemsize))


def zero_fraction(x: Tensor) -> Tensor:
    """Share of the elements that are exactly 0, shape (). A NaN or an infinity is an element that is not 0."""
    return _share(zeros(x))


def zero_fraction_per_unit(x: Tensor, dim: int) -> Tensor:
    """For each of the F units along `dim`, the share of its elements that are 0, shape (F,)."""
    return _share_per_unit(zeros(x), dim)


def dead_fraction(x: Tensor, dim: int) -> Tensor:
    """Share of the units along `dim` that are 0 for every sample in x, shape (). NaN without samples or units."""
    per_unit = zero_fraction_per_unit(x, dim)
    return torch.where(per_unit.isnan(), per_unit, (per_unit == 1).to(per_unit.dtype)).mean()


def saturated_fraction(x: Tensor, activation: str | None) -> Tensor:
    """Share of the elements that stand at a bound of `activation` ("tanh", … see `BOUNDS`), shape (); x is its output.

    0 for an activation without bounds. A NaN is not saturated.
    """
    return _share(_saturated(x, activation))


def saturated_fraction_per_unit(x: Tensor, activation: str | None, dim: int) -> Tensor:
    """For each of the F units along `dim`, the share of its elements that are saturated, shape (F,)."""
    return _share_per_unit(_saturated(x, activation), dim)


def unit_dim(x: Tensor, kind: str = "linear") -> int:
    """The dimension along which x has its units: 1 for maps of a convolution (N, C, …), else the last: (N, F), (N, T, F)."""
    return 1 if kind == "conv" and x.dim() > 1 else -1


def histogram(x: Tensor, bins: int, low: float, high: float) -> Histogram:
    """Counts of x in `bins` equal bins from `low` to `high`; what lies outside, and what is not finite, is counted apart.

    Raises ValueError if there is no bin or no room between `low` and `high`.
    """
    if bins < 1 or not low < high or not math.isfinite(high - low):
        raise ValueError(
            f"a histogram needs at least one bin and low < high, both finite; got bins={bins}, low={low}, high={high}"
        )
    wide = _wide(_floating(x)).flatten()
    edges = torch.linspace(low, high, bins + 1, dtype=wide.dtype, device=x.device)
    finite = wide.isfinite()
    place = torch.bucketize(wide, edges, right=True)  # (n,): 0 below, i in bin i, bins + 1 at or above the last edge
    place = torch.where(finite, place - (wide == edges[-1]).long(), bins + 2)
    counts = torch.zeros(bins + 3, dtype=torch.long, device=x.device).scatter_add_(0, place, torch.ones_like(place))
    return Histogram(counts[1 : bins + 1], edges, counts[0], counts[bins + 1], counts[bins + 2])


def gather(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The numbers of many one-element tensors, by name: one transfer for each device that they lie on.

    Raises ValueError, naming the entry, for a tensor of another size.
    """
    by_device: dict[torch.device, list[str]] = {}
    for name, value in values.items():
        if value.numel() != 1:
            raise ValueError(
                f"gather takes one number a name; {name!r} has shape {tuple(value.shape)}: reduce it first"
            )
        by_device.setdefault(value.device, []).append(name)
    found: dict[str, float] = {}
    for names in by_device.values():
        found.update(
            zip(names, torch.stack([_wide(values[n].detach()).reshape(()) for n in names]).tolist(), strict=True)
        )
    return {name: found[name] for name in values}


def _floating(x: Tensor) -> Tensor:
    """x detached, as float32 or float64: halves and small integers as float32, which holds them exactly, others as float64."""
    x = x.detach()
    if x.is_complex():
        raise TypeError(f"statistics are of real numbers, not of {x.dtype}: take x.abs() or torch.view_as_real(x)")
    if x.dtype in (torch.float32, torch.float64):
        return x
    exact = x.is_floating_point() or x.dtype in (torch.bool, torch.uint8, torch.int8, torch.int16)
    return x.float() if exact else _wide(x)


def _wide(x: Tensor) -> Tensor:
    """x in float64, or in float32 on Apple's devices, which have no float64."""
    return x.float() if x.device.type == "mps" else x.double()


def _two_pass(x: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, correction=0)
    return torch.stack((mean, variance.sqrt()))


def _square32(x: Tensor) -> Tensor:
    """Σ x², as float32 dot products over chunks."""
    flat = x if x.dim() == 1 else x.reshape(-1)
    if flat.numel() <= CHUNK:
        return torch.dot(flat, flat)
    return torch.stack([torch.dot(chunk, chunk) for chunk in torch.split(flat, CHUNK)]).sum()


def _root_of_squares(x: Tensor, dtype: torch.dtype) -> Tensor:
    """√(Σ x²), summed in `dtype`: elements are widened as they are read, not before."""
    found: Tensor = torch.linalg.vector_norm(x, dtype=dtype)
    return found


def _joined(norms: Sequence[Tensor], home: torch.device) -> Tensor:
    """The norm over all parts from the norms of the parts, on the device `home`."""
    wide = torch.stack([_wide(part.to(home)) for part in norms])
    return _root_of_squares(wide, wide.dtype)


def zeros(x: Tensor) -> Tensor:
    """1 where x is 0, else 0, as float32: written straight into floats, whose sum is ten times as quick as that of bools."""
    x = x.detach()
    return torch.eq(x, 0, out=torch.empty_like(x, dtype=torch.float32))


def _saturated(x: Tensor, activation: str | None) -> Tensor:
    """1 where x is at a bound of the activation, else 0, as float32."""
    if activation not in BOUNDS:
        return torch.zeros_like(x.detach(), dtype=torch.float32)
    low, high, margin = BOUNDS[activation]
    middle, reach = (high + low) / 2, (1 - margin) * (high - low) / 2
    distance = (_floating(x) - middle).abs_() if middle else _floating(x).abs()
    return torch.ge(distance, reach, out=distance).float()


def _share(marks: Tensor) -> Tensor:
    """Mean of zeros and ones, float32."""
    return marks.mean()


def _share_per_unit(marks: Tensor, dim: int) -> Tensor:
    """Mean over all dimensions but `dim`, the last ones first: a sum along the memory is much the quickest."""
    marks = marks.reshape(1) if marks.dim() == 0 else marks
    dim %= marks.dim()
    units = marks.shape[dim]
    each = marks.numel() // units if units else 0
    for other in reversed(range(marks.dim())):
        if other != dim:
            marks = marks.sum(other, keepdim=True)
    return marks.reshape(units) / each
