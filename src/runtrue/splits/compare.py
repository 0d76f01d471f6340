"""Rows beside rows: batches of one epoch, twins in one split, the same rows in both, one split beside the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from runtrue.splits.chance import homogeneity_p, permutation_p
from runtrue.splits.facts import Order, Overlap, Repeats, Shift
from runtrue.splits.rows import Rows

GROUP = 8  # rows at least: labels of fewer are too few to be alike or not
GROUPS = 4
PERMUTATIONS = 199
UNIT = math.log(1.75)  # of the spread's logarithm, that counts as much as an offset of one standard deviation


def order(train: Rows, everywhere: Rows) -> Order | None:
    """How alike the labels in a batch are. `everywhere`: rows of the whole set, where `train` is only its beginning."""
    if train.kind == "unknown" or everywhere.kind != train.kind:
        return None
    group = _groups(train.batch)
    beginning = everywhere is not train
    found = [_order(group, *columns, beginning) for columns in _classes(train, everywhere)]
    return max((o for o in found if o is not None), key=lambda o: o.between, default=None)


def _groups(batch: Tensor) -> Tensor:
    """Neighbouring batches put together until they have GROUP rows."""
    size = int(torch.bincount(batch)[0])
    return batch // math.ceil(GROUP / size)


def _classes(train: Rows, everywhere: Rows) -> list[tuple[Tensor, Tensor]]:
    """Classes of the rows, and everywhere: the labels, or the quarter that a target lies in, column by column."""
    if train.kind == "classes":
        names = sorted({*train.names, *everywhere.names})
        return [(numbered(train, names), numbered(everywhere, names))]
    pairs = []
    for own, all_of in zip(train.codes.T, everywhere.codes.T):
        finite = all_of[torch.isfinite(all_of)]
        if len(finite):
            edges = finite.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=finite.dtype)).unique()
            pairs.append(
                tuple(torch.bucketize(c.nan_to_num(float(finite[0])).contiguous(), edges) for c in (own, all_of))
            )
    return pairs  # type: ignore[return-value]


def numbered(rows: Rows, names: Sequence[int | float]) -> Tensor:
    """The class of each row by its place in `names`; -1 where it has none."""
    places = torch.tensor([*(names.index(name) for name in rows.names), -1])
    return places[rows.codes]


def _order(group: Tensor, codes: Tensor, everywhere: Tensor, beginning: bool) -> Order | None:
    """Goodman and Kruskal's τ (1954) of label on batch, as an excess over what random batches have, (k − 1)/(n − 1)."""
    group, codes, everywhere = group[codes >= 0], codes[codes >= 0], everywhere[everywhere >= 0]
    _, group = group.unique(return_inverse=True)
    groups, rows = int(group.max()) + 1 if len(group) else 0, len(codes)
    if groups < GROUPS or rows <= groups or not len(everywhere):
        return None
    kinds = int(max(codes.max(), everywhere.max())) + 1
    table = torch.zeros(groups, kinds).index_put_((group, codes), torch.ones(rows), accumulate=True)
    whole = torch.bincount(everywhere, minlength=kinds).float()
    total = 1 - float((whole / whole.sum()).square().sum())
    if total <= 0:
        return None
    within = float((table.sum(1) - table.square().sum(1) / table.sum(1)).sum()) / rows
    by_chance = (groups - 1) / (rows - 1)
    between = (1 - within / total - by_chance) / (1 - by_chance)
    p_value = homogeneity_p(torch.cat([table, whole[None]]) if beginning else table)
    return Order(groups, round(rows / groups), between, p_value)


def repeats(rows: Rows) -> Repeats:
    """Rows with the same inputs, and what their labels allow to be learned."""
    marks = torch.tensor([mark - 2**63 for mark in rows.digests])
    _, group, counts = marks.unique(return_inverse=True, return_counts=True)
    full = ~rows.blank
    contradicted = _contradicted(rows, group)
    return Repeats(
        rows=int(full.sum()),
        distinct=len(group[full].unique()),
        twins=int((counts[group] > 1)[full].sum()),
        contradicted=int(contradicted[full].sum()),
        ceiling=_ceiling(rows, group),
    )


def _contradicted(rows: Rows, group: Tensor) -> Tensor:
    """Which rows have the inputs of a row with another label."""
    if rows.kind == "unknown" or int(group.max()) + 1 == len(rows):
        return torch.zeros(len(rows), dtype=torch.bool)
    labels = rows.codes if rows.kind == "classes" else rows.codes.unique(dim=0, return_inverse=True)[1]
    pairs = torch.stack([group, labels], 1).unique(dim=0)
    return (torch.bincount(pairs[:, 0], minlength=int(group.max()) + 1) > 1)[group]


def _ceiling(rows: Rows, group: Tensor) -> float:
    """Share of the labels' entropy (variance) that the inputs can remove: what differs at equal inputs cannot be learned."""
    told = rows.told
    if rows.kind == "unknown" or int(group.max()) + 1 == len(rows) or not bool(told.any()):
        return 1.0
    _, group = group[told].unique(return_inverse=True)
    codes = rows.codes[told]
    counts = torch.bincount(group).double()
    if rows.kind == "classes":
        table = torch.stack([group, codes], 1).unique(dim=0, return_counts=True)
        joint, known = _entropy(table[1]), _entropy(torch.bincount(codes))
        return 1 - (joint - _entropy(counts)) / known if known > 0 else 1.0
    centred = codes - codes.mean(0)
    sums = torch.zeros(len(counts), codes.shape[1], dtype=codes.dtype).index_add_(0, group, centred)
    total = float(centred.square().sum())
    return float((sums.square() / counts[:, None]).sum()) / total if total > 0 else 1.0


def _entropy(counts: Tensor) -> float:
    share = counts.double() / counts.sum()
    return float(torch.special.entr(share).sum())


def overlap(train: Rows, val: Rows, same_source: bool) -> Overlap:
    known = set(train.digests)
    full = (~val.blank).tolist()
    found = sum(mark in known for mark, counts in zip(val.digests, full) if counts)
    return Overlap(sum(full), found, same_source)


def shift(train: Tensor, val: Tensor) -> Shift | None:
    """Two tables of the same features, (n, d) and (m, d), beside each other."""
    if train.shape[1:] != val.shape[1:] or len(train) < 2 or len(val) < 2:
        return None
    train, val = train.double(), val.double()
    both = torch.cat([train, val])
    known = torch.isfinite(both).all(0) & (both.std(0) > 1e-9 * both.abs().amax(0))
    if not bool(known.any()):
        return None
    scaled = ((both - both.mean(0)) / both.std(0))[:, known].float()
    ratio, offset = _apart(torch.arange(len(both))[None], len(train), scaled)
    first, second = train[:, known], val[:, known]
    return Shift(
        int(known.sum()), float(ratio.exp()), float(offset), _shift_p(len(train), scaled),
        float(first.mean()), float(first.std()), float(second.mean()), float(second.std()),
    )  # fmt: skip


def _shift_p(count: int, scaled: Tensor) -> float:
    """Of the larger of the two distances, among rows that are put into the splits at random."""
    generator = torch.Generator().manual_seed(0)
    orders = [torch.arange(len(scaled))]
    orders += [torch.randperm(len(scaled), generator=generator) for _ in range(PERMUTATIONS)]
    ratio, offset = _apart(torch.stack(orders), count, scaled)
    return permutation_p(torch.maximum(ratio.abs() / UNIT, offset))


def _apart(orders: Tensor, count: int, scaled: Tensor) -> tuple[Tensor, Tensor]:
    """For each order, with the first `count` rows in one split and the others in the other: the log of the ratio of their
    spreads (mean over the features), and the distance of their means."""
    side = (orders.argsort(1) < count).float()  # (orders, rows)
    squares = scaled.square()
    moments = []
    for chosen in (side, 1 - side):
        size = chosen.sum(1, keepdim=True)
        mean = chosen @ scaled / size
        moments.append((mean, (chosen @ squares / size - mean.square()).clamp(min=1e-9)))
    (mean, variance), (other, spread) = moments
    ratio = (spread / variance).log().mean(1) / 2
    offset = ((other - mean).square() / ((variance + spread) / 2)).clamp(max=1e6).mean(1).sqrt()
    return ratio, offset
