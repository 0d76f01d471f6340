"""Multilayer perceptrons, as in N1.2 to N1.6: linear, then normalisation, then activation."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import nn

from runtrue.nets.parts import Norm, activation_named, check_dropout, check_norm


def mlp(
    sizes: Sequence[int],
    activation: str = "relu",
    norm: Norm = None,
    dropout: float = 0.0,
    flatten: bool = False,
) -> nn.Sequential:
    """A perceptron (B, sizes[0]) -> (B, sizes[-1]) with raw outputs, its weights as torch leaves them.

    Each hidden layer is `linearI`, `normI` (if any), `actI`, `dropoutI` (if any), I from 1; the last layer is `head`.
    The normalisation stands in front of the activation (Ioffe & Szegedy 2015, section 3.2). A linear layer that a
    normalisation follows keeps its bias, so that the same weights can be compared with and without normalisation.
    `dropout` is the probability that a hidden unit is switched off (Srivastava et al. 2014). With `flatten` the first layer
    is `flatten`, which makes a row of numbers of each image: sizes[0] is channels times height times width.

    Raises ValueError for fewer than two sizes, a size below 1, an unknown activation or normalisation, or a dropout
    outside 0 <= p < 1.

    >>> list(dict(mlp([784, 100, 10], norm="batch").named_children()))
    ['linear1', 'norm1', 'act1', 'head']
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must be at least two positive numbers (inputs, ..., outputs), got {list(sizes)}")
    check_dropout(dropout)
    check_norm(norm)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if flatten:
        layers["flatten"] = nn.Flatten()
    for number, (n_in, n_out) in enumerate(pairwise(sizes[:-1]), start=1):
        for kind, layer in _hidden(n_in, n_out, activation, norm, dropout):
            layers[f"{kind}{number}"] = layer
    layers["head"] = nn.Linear(sizes[-2], sizes[-1])
    return nn.Sequential(layers)


def _hidden(n_in: int, n_out: int, activation: str, norm: Norm, dropout: float) -> Iterator[tuple[str, nn.Module]]:
    yield "linear", nn.Linear(n_in, n_out)
    if norm:
        yield "norm", nn.BatchNorm1d(n_out)
    yield "act", activation_named(activation)
    if dropout:
        yield "dropout", nn.Dropout(dropout)
