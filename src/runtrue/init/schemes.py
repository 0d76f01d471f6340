"""Initial weights: one function a scheme, its formula in plain sight. All fill in place and return the tensor.

Every scheme answers one question: how large must a weight's spread be so that the signal neither dies nor blows up on
its way through the layers? n_in and n_out are the number of inputs of one output and of outputs of one input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn

RECTIFIERS = frozenset(("relu", "relu6", "leaky_relu", "elu", "celu", "gelu", "silu", "mish", "hardswish", "softplus"))
"""Activations that let one side pass and damp the other: half of the signal's power is lost, whatever the bend."""


class Fans(NamedTuple):
    """n_in: inputs that one output sums over. n_out: outputs that one input reaches."""

    n_in: float
    n_out: float


def fans(layer: Tensor | nn.Module) -> Fans:
    """Inputs of one output and outputs of one input, of a weight (C_out, C_in, *kernel) or of the layer that holds it.

    A bare weight tells nothing of groups and transposition; the layer does. With g groups (C_out, C_in / g, *kernel) an
    input reaches only C_out / g channels. A transposed convolution holds (C_in, C_out / g, *kernel), and stride s
    spreads its kernel: an output sums over only 1 / s of it per axis. A stride of an ordinary convolution does the same
    to n_out, which the papers and torch leave out, and so do we.

    >>> fans(torch.empty(64, 3, 7, 7))
    Fans(n_in=147, n_out=3136)
    >>> fans(nn.Conv2d(32, 32, 3, groups=32))
    Fans(n_in=9, n_out=9)
    >>> fans(torch.empty(10))
    Traceback (most recent call last):
    ...
    ValueError: fans need a weight of at least 2 dimensions (outputs, inputs, ...), got shape (10,)
    """
    weight = layer if isinstance(layer, Tensor) else getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() < 2:
        shape = tuple(weight.shape) if isinstance(weight, Tensor) else None
        raise ValueError(f"fans need a weight of at least 2 dimensions (outputs, inputs, ...), got shape {shape}")
    kernel = math.prod(weight.shape[2:])
    groups = getattr(layer, "groups", 1)
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        spread = math.prod(layer.stride)
        return Fans(weight.shape[0] // groups * kernel / spread, weight.shape[1] * kernel)
    return Fans(weight.shape[1] * kernel, weight.shape[0] // groups * kernel)


def gain_for(activation: str | None, slope: float = 0.01) -> float:
    """The factor that makes up for what the activation behind a layer takes from the signal.

    - relu and its family: √2. Half of a symmetric input is cut off: E[relu(z)²] = ½ E[z²] (He et al. 2015, eq. 8 to
      10). elu, gelu, silu and mish bend but are relu for large inputs; of N(0, 1) they keep 0.36 to 0.65, relu 0.5.
    - leaky_relu: √(2 / (1 + a²)), since E[f(z)²] = ½ (1 + a²) E[z²] (He et al. 2015, eq. 15).
    - tanh, softsign and no activation: 1. Their slope at 0 is 1, and gain 1 is where a gradient neither fades nor
      explodes with depth (Glorot & Bengio 2010, sec. 4.2; Schoenholz et al. 2017). torch's 5/3 for tanh keeps the
      outputs larger and lets the gradient of deep networks grow.
    - sigmoid: 1. Its slope is ¼ at most, so a deep stack fades; a gain of 4 would repair the slope and saturate gates.
    - selu: 1, with n_in alone (Klambauer et al. 2017, sec. 2): its constants were chosen for Var w = 1 / n_in.

    >>> round(gain_for("relu"), 4), round(gain_for("leaky_relu", slope=0.2), 4), gain_for("tanh"), gain_for(None)
    (1.4142, 1.3868, 1.0, 1.0)
    """
    if activation == "leaky_relu":
        return math.sqrt(2 / (1 + slope**2))
    return math.sqrt(2) if activation in RECTIFIERS else 1.0


def zeros(weight: Tensor, generator: Generator | None = None) -> Tensor:
    """w = 0: right for biases; in a weight it makes all units alike, for ever (N1.2). `generator` is not used.

    >>> zeros(torch.ones(2))
    tensor([0., 0.])
    """
    return constant(weight, 0.0, generator)


def constant(weight: Tensor, value: float, generator: Generator | None = None) -> Tensor:
    """w = value: the units stay alike, as with zeros (N1.2). `generator` is not used.

    >>> constant(torch.zeros(2), 3.0)
    tensor([3., 3.])
    """
    return nn.init.constant_(weight, value)


def normal(weight: Tensor, std: float, generator: Generator | None = None) -> Tensor:
    """w ~ N(0, std²). With a std that ignores the number of inputs the signal dies or saturates (N1.2, N1.3).

    >>> normal(torch.empty(500, 500), std=0.01).std().item()  # doctest: +ELLIPSIS
    0.0...
    """
    return _drawn(weight, lambda w: nn.init.normal_(w, 0.0, std, generator), generator)


def uniform(weight: Tensor, bound: float, generator: Generator | None = None) -> Tensor:
    """w ~ U(-bound, bound), of std bound / √3.

    >>> bool(uniform(torch.empty(500), bound=0.5).abs().max() <= 0.5)
    True
    """
    return _drawn(weight, lambda w: nn.init.uniform_(w, -bound, bound, generator), generator)


def xavier_normal(
    weight: Tensor, gain: float = 1.0, *, size: Fans | None = None, generator: Generator | None = None
) -> Tensor:
    """w ~ N(0, g² · 2 / (n_in + n_out)): between what the signal (1 / n_in) and the gradient (1 / n_out) ask for.

    Glorot & Bengio 2010, eq. 12 (the variance; eq. 16 is its uniform form). `size`: `fans(layer)`, if it has groups.

    >>> xavier_normal(torch.empty(20, 30)).shape
    torch.Size([20, 30])
    """
    return normal(weight, xavier_std(size or fans(weight), gain), generator)


def xavier_uniform(
    weight: Tensor, gain: float = 1.0, *, size: Fans | None = None, generator: Generator | None = None
) -> Tensor:
    """w ~ U(-b, b), b = g √6 / √(n_in + n_out): Glorot & Bengio 2010, eq. 16.

    >>> bool(xavier_uniform(torch.empty(20, 30)).abs().max() <= math.sqrt(6 / 50))
    True
    """
    return uniform(weight, math.sqrt(3) * xavier_std(size or fans(weight), gain), generator)


def he_normal(
    weight: Tensor,
    slope: float = 0.0,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    *,
    size: Fans | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """w ~ N(0, 2 / ((1 + a²) n)), a the slope of the negative side: He et al. 2015, eq. 10 (n_in), 14 (n_out), 15 (a).

    >>> he_normal(torch.empty(20, 30), slope=0.2).shape
    torch.Size([20, 30])
    """
    return normal(weight, he_std(size or fans(weight), slope, mode), generator)


def he_uniform(
    weight: Tensor,
    slope: float = 0.0,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    *,
    size: Fans | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """w ~ U(-b, b), b = √(6 / ((1 + a²) n)): the variance of `he_normal` (He et al. 2015, eq. 10, 14, 15).

    >>> bool(he_uniform(torch.empty(20, 30)).abs().max() <= math.sqrt(6 / 30))
    True
    """
    return uniform(weight, math.sqrt(3) * he_std(size or fans(weight), slope, mode), generator)


def lecun_normal(weight: Tensor, *, size: Fans | None = None, generator: Generator | None = None) -> Tensor:
    """w ~ N(0, 1 / n_in): LeCun et al. 1998, eq. 16; what selu was made for (Klambauer et al. 2017, sec. 2).

    >>> lecun_normal(torch.empty(20, 30)).shape
    torch.Size([20, 30])
    """
    return normal(weight, lecun_std(size or fans(weight)), generator)


def orthogonal(weight: Tensor, gain: float = 1.0, *, groups: int = 1, generator: Generator | None = None) -> Tensor:
    """W Wᵀ = g² I or Wᵀ W = g² I, whichever the shape (rows, columns) allows: no direction is stretched or squeezed.

    Saxe et al. 2013, sec. 3. Each group of a grouped convolution is a matrix of its own.

    >>> w = orthogonal(torch.empty(3, 5))
    >>> torch.allclose(w @ w.T, torch.eye(3), atol=1e-6)
    True
    """

    def fill(w: Tensor) -> None:
        for part in w.chunk(groups):
            nn.init.orthogonal_(part, gain, generator)

    return _drawn(weight, fill, generator)


def xavier_std(size: Fans, gain: float = 1.0) -> float:
    """g √(2 / (n_in + n_out)).

    >>> xavier_std(Fans(20, 30))
    0.2
    """
    return gain * math.sqrt(2 / (size.n_in + size.n_out))


def he_std(size: Fans, slope: float = 0.0, mode: Literal["fan_in", "fan_out"] = "fan_in") -> float:
    """√(2 / ((1 + a²) n)), n the inputs or the outputs.

    >>> he_std(Fans(50, 10))
    0.2
    """
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode is 'fan_in' or 'fan_out', got {mode!r}")
    return math.sqrt(2 / ((1 + slope**2) * (size.n_in if mode == "fan_in" else size.n_out)))


def lecun_std(size: Fans) -> float:
    """√(1 / n_in).

    >>> lecun_std(Fans(25, 10))
    0.2
    """
    return math.sqrt(1 / size.n_in)


@torch.no_grad()
def _drawn(weight: Tensor, fill: Callable[[Tensor], object], generator: Generator | None) -> Tensor:
    """Fill in place; on the generator's device where that is another, so that one seed serves every device."""
    if generator is None or generator.device.type == weight.device.type:
        fill(weight)
        return weight
    drawn = torch.empty(weight.shape, dtype=weight.dtype, device=generator.device)
    fill(drawn)
    return weight.copy_(drawn)
