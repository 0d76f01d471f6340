"""Do the inputs predict the labels at all? Simple probes, each against the same labels in random order.

Every probe predicts the label of a row from the labels of the other rows, as a weighted sum of them: P = S·Y, where the weights
S come from the inputs alone. So one S serves the labels as they are and every permutation of them, and the p-value is exact
(Fisher 1935, chapter III). Inputs that are *un*like where labels are alike (parity: every neighbour has the other label) count
as a relation too: tests are two-sided.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from runtrue.splits.chance import permutation_p

PERMUTATIONS = 199  # the smallest p-value is 1/200
CLEAR = 1 / (PERMUTATIONS + 1)  # no permutation is as strong
QUICK_ROWS = 400
CHUNK = 1024  # features at a time
NEIGHBOURS = 5
RIDGE = 1.0  # added to kernels whose mean diagonal is 1: they have n eigenvalues that sum to n
CODES = 8  # columns that labels of many classes are told apart by
PAIRED = 100  # features whose products are all looked at (5,050 of them); of more, their first principal components
COMPONENTS = 16
CLIP = 5.0  # stds: one outlier must not be the whole of a feature


@dataclass(frozen=True)
class Probed:
    """What the strongest probe found. p_value: for having tried them all (Westfall and Young 1993, single-step maxT).

    strength: distance from chance in standard deviations of the permutations. skill: on rows that were left out.
    """

    p_value: float
    probe: str
    strength: float
    skill: float


def relate(views: Mapping[str, Tensor], labels: Tensor, seed: int = 0) -> Probed:
    """views: tables of the same n rows, each (n, d). labels: one column a class or target, (n, c).

    A glance comes first: most relations show there, and nothing more is computed.
    """
    first = glance(views, labels, seed)
    if first.p_value <= CLEAR:
        return first
    tables = {name: standardized(table) for name, table in views.items() if name != "values"}
    tables["products"] = products(tables["plain"])
    return _relate(tables, labels, seed)


def glance(views: Mapping[str, Tensor], labels: Tensor, seed: int = 0) -> Probed:
    """The same for the plain values of few rows."""
    return _relate({"plain": standardized(views["plain"][:QUICK_ROWS])}, labels[:QUICK_ROWS], seed)


def _relate(tables: Mapping[str, Tensor], labels: Tensor, seed: int) -> Probed:
    generator = torch.Generator().manual_seed(seed)
    rows, usual = len(labels), labels.mean(0)
    mixed = [torch.randperm(rows, generator=generator) for _ in range(PERMUTATIONS)]
    orders = torch.stack([torch.arange(rows), *mixed])
    known = few(labels - usual, generator)[orders].permute(1, 0, 2)  # (n, orders, c)
    found, smoothers = {}, {}
    for name, smoother in probes(tables):
        smoothers[name] = smoother
        found[name] = ((smoother @ known.flatten(1)).reshape(known.shape) * known).sum((0, 2))
    found["one feature"] = torch.stack([pulls(table, known) for table in tables.values()]).amax(0)
    scores = torch.stack([_from_chance(values.double()) for values in found.values()])  # (probes, orders)
    best = list(found)[int(scores[:, 0].argmax())]
    smoother = smoothers.get(best, smoothers["nearest neighbours"])
    reached = skill(smoother @ (labels - usual) + usual, labels)
    return Probed(permutation_p(scores.amax(0)), best, float(scores[:, 0].max()), reached)


def pulls(table: Tensor, known: Tensor) -> Tensor:
    """The largest squared covariance of one feature with the labels, in each order: (orders,)."""
    parts = [(part @ known.flatten(1)).reshape(-1, *known.shape[1:]).square().sum(2) for part in table.T.split(CHUNK)]
    return torch.cat([part.amax(0, keepdim=True) for part in parts]).amax(0)


def _from_chance(values: Tensor) -> Tensor:
    """Distance from the mean of all orders, in their stds. The observed order is one of them: under chance all are alike."""
    return (values - values.mean()).abs() / values.std().clamp(min=1e-30)


def probes(tables: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Name and S (n, n) of each."""
    distances = torch.cdist(tables["plain"], tables["plain"]).square()
    yield "nearest neighbours", nearest(distances)
    for name, table in tables.items():
        yield f"ridge regression ({name})", left_out(table @ table.T)
    yield "Gaussian kernel", left_out(torch.exp(-distances / distances.median().clamp(min=1e-12)))


def nearest(distances: Tensor) -> Tensor:
    """The mean of the nearest neighbours' labels."""
    apart = distances.clone().fill_diagonal_(torch.inf)
    chosen = apart.topk(min(NEIGHBOURS, len(apart) - 1), largest=False).indices
    return torch.zeros_like(apart).scatter_(1, chosen, 1 / chosen.shape[1])


def left_out(kernel: Tensor) -> Tensor:
    """Kernel ridge regression, each row predicted from the others: H = K(K + λI)⁻¹, S = (H − diag h) / (1 − h).

    Leaving one out in closed form: Hastie, Tibshirani and Friedman 2009, equation 7.64.
    """
    centred = kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
    centred = centred / centred.diagonal().mean().clamp(min=1e-12)
    eye = torch.eye(len(kernel), dtype=kernel.dtype)
    hat = eye - RIDGE * torch.cholesky_inverse(torch.linalg.cholesky(centred + RIDGE * eye))
    own = hat.diagonal().clamp(max=1 - 1e-4)
    return (hat - torch.diag(own)) / (1 - own)[:, None]


def products(plain: Tensor) -> Tensor:
    """Products of two features, or of two principal components where there are many: what XOR needs, and no line has."""
    parts = plain if plain.shape[1] <= PAIRED else standardized(components(plain))
    first, second = torch.triu_indices(parts.shape[1], parts.shape[1])
    return standardized(parts[:, first] * parts[:, second])


def components(table: Tensor) -> Tensor:
    """About the first principal components of the rows (subspace iteration: Golub and Van Loan 2013, 8.2.4), (n, COMPONENTS)."""
    found = torch.randn(table.shape[1], COMPONENTS, generator=torch.Generator().manual_seed(0))
    for _ in range(4):
        found = torch.linalg.qr(table.T @ (table @ found)).Q
    return table @ found


def standardized(table: Tensor) -> Tensor:
    """Mean 0 and std 1 a column, outliers clipped; columns that do not vary, and what is not finite, are 0."""
    table = torch.where(torch.isfinite(table), table, torch.zeros_like(table))
    spread = table.std(0, correction=0)
    scaled = (table - table.mean(0)) / spread.clamp(min=1e-12)
    kept = torch.where(spread > 1e-6 * table.abs().amax(0).clamp(min=1e-12), scaled, torch.zeros_like(scaled))
    return kept.clamp(-CLIP, CLIP)


def few(labels: Tensor, generator: torch.Generator) -> Tensor:
    """At most CODES columns: random signs keep classes apart (Johnson and Lindenstrauss 1984)."""
    if labels.shape[1] <= CODES:
        return labels
    signs = torch.randint(0, 2, (labels.shape[1], CODES), generator=generator) * 2.0 - 1
    return labels @ signs.to(labels.dtype)


def skill(predicted: Tensor, labels: Tensor) -> float:
    """Of class scores: the share right beyond the most frequent class's. Of one or more targets: R²."""
    if is_one_hot(labels):
        right = float((predicted.argmax(1) == labels.argmax(1)).float().mean())
        usual = float(labels.mean(0).max())
        return (right - usual) / max(1 - usual, 1e-12)
    left = (predicted - labels).square().sum() / (labels - labels.mean(0)).square().sum().clamp(min=1e-12)
    return 1 - float(left)


def is_one_hot(labels: Tensor) -> bool:
    return labels.shape[1] > 1 and bool(((labels == 0) | (labels == 1)).all()) and bool((labels.sum(1) == 1).all())
