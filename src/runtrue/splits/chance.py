"""How likely chance alone is to give such numbers. Computed here: no library of statistics is needed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def chi_square_p(statistic: float, freedom: int) -> float:
    """P(χ² ≥ statistic) with `freedom` degrees of freedom: the regularized upper incomplete gamma function at half of both.

    >>> round(chi_square_p(3.841, 1), 4), round(chi_square_p(18.307, 10), 4)
    (0.05, 0.05)
    """
    if freedom < 1 or not statistic > 0:
        return 1.0
    half = torch.tensor([freedom / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))


def homogeneity_p(table: Tensor) -> float:
    """Pearson's test that all rows of a table of counts (groups, kinds) come from one distribution (Pearson 1900)."""
    table = table.double()
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    expected = table.sum(1, keepdim=True) * table.sum(0) / table.sum()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    return chi_square_p(float(((table - expected).square() / expected).sum()), freedom)


def all_on_one_side_p(count: int, side: int, other: int) -> float:
    """P that `count` given rows all fall among the `side` of `side + other` rows, split at random (hypergeometric):
    C(side, count) / C(side + other, count).

    >>> round(all_on_one_side_p(3, 10, 20), 6)  # 10/30 · 9/29 · 8/28
    0.029557
    """
    if count > side:
        return 0.0
    whole = side + other
    return math.exp(
        math.lgamma(side + 1) - math.lgamma(side - count + 1) + math.lgamma(whole - count + 1) - math.lgamma(whole + 1)
    )


def permutation_p(statistics: Sequence[float] | Tensor) -> float:
    """P of the first statistic among those of permutations: (1 + how many others are as large) / (1 + how many others).

    Never 0 (Phipson and Smyth 2010, equation 2), and exact: under chance the first is one of them like all others.

    >>> permutation_p([3.0, 1.0, 2.0, 3.0, 0.5])
    0.4
    """
    values = torch.as_tensor(statistics, dtype=torch.float64)
    return float((values >= values[0]).sum()) / len(values)
