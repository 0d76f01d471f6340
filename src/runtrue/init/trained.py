"""Was a weight trained? Random matrices have laws that training breaks: a weight beyond them was not drawn.

The question matters because new initial weights destroy what a pretrained network knows. Nothing here looks at the size
of the weights: a start far too small or far too large is still a start.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

DOUBT = 14.0
"""Largest exponent of chance, e^-14 ≈ 1e-6: how seldom a drawn weight may pass for a trained one."""
LARGEST = 1024
"""Rows and columns looked at: more cost time and tell no more."""
POWER_STEPS = 30
"""Steps of the power iteration. Stopping early only underestimates: in doubt a weight counts as drawn."""


Origin = Literal["trained", "drawn", "unclear"]


def looks_trained(weight: Tensor) -> bool:
    """Whether chance alone cannot explain `weight` (C_out, ...), whatever its scale.

    For independent entries of one spread σ, m rows and n columns, with probability 1 - e^-DOUBT each:
    - the largest singular value stays below σ (√m + √n + √(2 DOUBT)): the edge of the Marchenko–Pastur law, with a
      margin that holds at finite size (Davidson & Szarek 2001, theorem II.13). Training raises a few directions far
      beyond it.
    - the squared length of every row and column stays within σ² (n - 2√(nt), n + 2√(nt) + 2t), t = DOUBT + ln(rows)
      (Laurent & Massart 2000, lemma 1). Training lengthens units that matter and, with weight decay, starves others.

    Zero rows and columns and copies of rows and columns are set aside first: they are how some starts look (zeros,
    constants, identity, all units alike) and how none learns. Small weights leave little to judge by. Measured:

    - wrongly "trained": 0 of 1,755 drawn weights from (4, 4) to (1000, 512), torch's default, N(0, 0.01²), N(0, 1), He,
      Xavier, U(0, 1), orthogonal, truncated normal, identity. Starts with most entries zero (`sparse_`) do pass for it.
    - MobileNetV2 trained on ImageNet: 42 of 53 layers; the others are narrow (C_in ≤ 32, or 9 weights a unit).
    - MLP 784-128-64-10 after 5 epochs of 20,000 Fashion-MNIST images (Adam 1e-3, SGD 0.1 and 0.01, two seeds): layer 1
      in 6 of 6 runs (with Adam and SGD 0.1 after ten steps), layer 2 in 6, the output layer in 2.

    >>> looks_trained(torch.nn.Linear(300, 100).weight)
    False
    >>> u, v = torch.linspace(-1, 1, 100), torch.linspace(-1, 1, 300)
    >>> looks_trained(torch.nn.Linear(300, 100).weight + u.outer(v))
    True
    """
    return origin(weight) == "trained"


@torch.no_grad()
def origin(weight: Tensor) -> Origin:
    """ "trained" as `looks_trained` has it; "unclear" where the shape leaves no room for such a sign; else "drawn".

    No singular value exceeds σ√(mn). Where that is below twice the edge, a direction with ¼ of all power stays hidden.

    >>> [origin(torch.randn(shape)) for shape in ((10, 64), (128, 784))]
    ['unclear', 'drawn']
    """
    if weight.dim() < 2 or weight.numel() == 0 or weight.is_meta or not weight.is_floating_point():
        return "drawn"
    if not weight.isfinite().all():
        return "drawn"
    matrix = _distinct(_sample(weight.detach().flatten(1)).double())  # (m, n)
    matrix = matrix - matrix.mean() if matrix.numel() else matrix
    sigma = float(matrix.square().mean().sqrt()) if min(matrix.shape) > 1 else 0.0
    if sigma <= 1e-9 * float(weight.abs().max()):
        return "unclear" if min(weight.flatten(1).shape) == 1 else "drawn"
    matrix = matrix / sigma
    if _largest_singular_value(matrix) > _edge(matrix) or _uneven(matrix) or _uneven(matrix.T):
        return "trained"
    return "unclear" if math.sqrt(matrix.numel()) < 2 * _edge(matrix) else "drawn"


def _sample(matrix: Tensor) -> Tensor:
    """Evenly spread rows and columns, LARGEST of each at most: a part of a drawn matrix is a drawn matrix."""
    rows, columns = (max(1, -(-side // LARGEST)) for side in matrix.shape)
    return matrix[::rows, ::columns]


def _distinct(matrix: Tensor) -> Tensor:
    """Without zero rows and columns, and every row and column once."""
    matrix = matrix[matrix.any(1)][:, matrix.any(0)]
    return _unique(_unique(matrix, 0), 1) if matrix.numel() else matrix


def _edge(matrix: Tensor) -> float:
    """Davidson & Szarek: P(s_max > √m + √n + t) < e^(-t²/2), for entries of unit spread (m, n)."""
    rows, columns = matrix.shape
    return math.sqrt(rows) + math.sqrt(columns) + math.sqrt(2 * DOUBT)


def _unique(matrix: Tensor, dim: int) -> Tensor:
    unique: Tensor = torch.unique(matrix, dim=dim)  # its own stubs leave it untyped
    return unique


def _largest_singular_value(matrix: Tensor) -> float:
    """By power iteration on WᵀW (m, n), from a start of its own that leaves the global random numbers alone."""
    small = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(small.shape[1], generator=generator, dtype=torch.float64).to(matrix.device)
    for _ in range(POWER_STEPS):
        vector = small.T @ (small @ (vector / vector.norm()))
    return float((small @ (vector / vector.norm())).norm())


def _uneven(matrix: Tensor) -> bool:
    """Laurent & Massart: a χ² of n degrees is > n + 2√(nt) + 2t or < n - 2√(nt) with probability e^-t each, per row."""
    rows, columns = matrix.shape
    t = DOUBT + math.log(rows)
    lengths = matrix.square().sum(1)  # (m,)
    longest, shortest = float(lengths.max()), float(lengths.min())
    return longest > columns + 2 * math.sqrt(columns * t) + 2 * t or shortest < columns - 2 * math.sqrt(columns * t)
