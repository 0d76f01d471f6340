"""Inputs of any form as a few tables of at most about a thousand numbers a row, in which a relation may show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from runtrue.batches import tensors_of

WIDE = 1024  # numbers a row: more are pooled (images) or folded (everything else)
BUCKETS = 256  # for tokens
PLACES = 32  # of tokens, that are compared with one another
BINS = 256  # of a spectrum
COUNTED = 512  # rows whose values are counted: 9 bits a column at most
FEW = 16  # features of a sequence whose products over time are looked at


def views(inputs: Any) -> dict[str, Tensor]:
    """Tables (n, d) by name; columns mean the same in every batch of the same shapes.

    "plain": the values, and of tokens their counts as well. "values": the values alone, where "plain" has more. "spectrum": what
    does not depend on place. "moments": products of two features of a sequence, over its length. "alike": which places hold the
    same token.
    """
    found: dict[str, list[Tensor]] = {}
    for item in tensors_of(inputs):
        tensor = torch.as_tensor(item).detach().cpu()
        if tensor.dim() and not tensor.is_complex():
            for name, table in _views_of(tensor):
                found.setdefault(name, []).append(table)
    return {name: fold(torch.cat(tables, 1)) for name, tables in found.items()}


def _views_of(tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    rows = len(tensor)
    words = not tensor.is_floating_point() and tensor.dtype not in (torch.uint8, torch.bool) and tensor.dim() <= 2
    values = tensor.float().reshape(rows, -1)
    if words:
        yield "plain", torch.cat([fold(values), *tokens(tensor.reshape(rows, -1))], 1)
        yield "values", fold(values)
        if 1 < values.shape[1] <= PLACES:
            yield "alike", same_token(values)
    elif tensor.dim() == 4:
        small = pooled(tensor.float())
        yield "plain", small.reshape(rows, -1)
        yield "spectrum", torch.fft.rfft2(small).abs().log1p().reshape(rows, -1)
    else:
        yield "plain", fold(values)
        if tensor.dim() == 3:
            yield "spectrum", spectrum(tensor.float().movedim(1, -1))
            yield "moments", moments(fold_last(tensor.float()))
        elif values.shape[1] >= FEW:
            yield "spectrum", spectrum(values)


def pooled(images: Tensor) -> Tensor:
    """(N, C, H, W) with at most about WIDE numbers an image."""
    channels = images.shape[1]
    side = max(1, math.isqrt(WIDE // min(channels, WIDE)))
    height, width = (min(side, size) for size in images.shape[2:])
    small: Tensor = F.adaptive_avg_pool2d(images, (height, width))
    return small


def fold(values: Tensor) -> Tensor:
    """(n, d) to at most WIDE columns: each number goes, with a random sign, into one of them (count sketch, Charikar 2002).

    Distances are kept in the mean.
    """
    width = values.shape[1]
    if width <= WIDE:
        return values
    generator = torch.Generator().manual_seed(0)
    place = torch.randint(0, WIDE, (width,), generator=generator)
    sign = torch.randint(0, 2, (width,), generator=generator) * 2.0 - 1
    return torch.zeros(len(values), WIDE).index_add_(1, place, values * sign)


def fold_last(sequences: Tensor) -> Tensor:
    """(N, T, F) with at most FEW features."""
    return sequences if sequences.shape[-1] <= FEW else F.adaptive_avg_pool1d(sequences, FEW)


def tokens(words: Tensor) -> tuple[Tensor, Tensor]:
    """(n, T) whole numbers: how often each occurs, and which stands where; both hashed into buckets."""
    rows, width = words.shape
    ones = torch.ones(rows, width)
    values = words.long()
    places = values * 7919 + torch.arange(width) * 104729  # primes, so that the buckets are hit evenly
    counted = torch.zeros(rows, BUCKETS).scatter_add_(1, values % BUCKETS, ones)
    return counted, torch.zeros(rows, BUCKETS).scatter_add_(1, places % BUCKETS, ones)


def same_token(words: Tensor) -> Tensor:
    """(n, T): whether two places hold the same token, for every pair of places."""
    first, second = torch.triu_indices(words.shape[1], words.shape[1], offset=1)
    return (words[:, first] == words[:, second]).float()


def spectrum(series: Tensor) -> Tensor:
    """Size of the frequencies along the last dimension, (n, …, T) to at most BINS a row and signal."""
    sizes = torch.fft.rfft(series).abs().log1p()
    signals: Tensor = sizes.reshape(len(sizes), -1, sizes.shape[-1])
    bins = max(1, BINS // max(1, signals.shape[1]))
    return (F.adaptive_avg_pool1d(signals, bins) if signals.shape[2] > bins else signals).flatten(1)


def moments(sequences: Tensor) -> Tensor:
    """(n, T, F): the mean over T of x·xᵀ, and of each step with the one after it, (n, 2F²)."""
    length = sequences.shape[1]
    same = torch.einsum("nti,ntj->nij", sequences, sequences) / max(1, length)
    after = torch.einsum("nti,ntj->nij", sequences[:, :-1], sequences[:, 1:]) / max(1, length - 1)
    return torch.cat([same.flatten(1), after.flatten(1)], 1)


def bits(table: Tensor) -> float:
    """How many bits a row carries at most: the entropies of the columns, summed (subadditivity: Cover and Thomas 2006, 2.6.6).

    >>> bits(torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 2.0], [1.0, 3.0]]))  # a half and a half: 1; a half and two quarters: 1.5
    2.5
    """
    ordered = table[:COUNTED].T.sort(1).values.contiguous()
    if ordered.numel() == 0:
        return 0.0
    alike = torch.searchsorted(ordered, ordered, right=True) - torch.searchsorted(ordered, ordered)
    return float((math.log2(ordered.shape[1]) - alike.double().log2().mean(1)).sum())
