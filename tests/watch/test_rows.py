"""Numbers counted by rows are those of `stats`, one tensor at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from runtrue import stats
from runtrue.watch import rows
from runtrue.watch.rows import ROOM, Block

VALUES = {
    "usual": torch.randn(3, 1000, generator=torch.Generator().manual_seed(0)),
    "far from zero": 1000 + torch.randn(3, 1000, generator=torch.Generator().manual_seed(1)),
    "faint": 1e-25 * torch.randn(3, 1000, generator=torch.Generator().manual_seed(2)),
    "huge": 1e25 * torch.randn(3, 1000, generator=torch.Generator().manual_seed(3)),
    "all alike": torch.full((3, 1000), 0.1),
    "nothing but zeros": torch.zeros(3, 1000),
    "one number": torch.randn(3, 1),
    "with a NaN": torch.tensor([[1.0, 2.0], [float("nan"), 1.0]]),
    "with an infinity": torch.tensor([[1.0, 2.0], [float("inf"), 1.0], [float("-inf"), 1.0]]),
}


@pytest.mark.parametrize("name", VALUES)
def test_numbers_of_rows_are_those_of_the_statistics(name: str) -> None:
    x = VALUES[name]
    means, stds = rows.moments(x.numpy())
    norms = rows.norms(x.numpy())
    for i, row in enumerate(x):
        mean, std = stats.moments(row).tolist()
        scale = float(row.abs().max())
        assert not np.isfinite(means[i]) or means[i] == pytest.approx(mean, rel=1e-5, abs=1e-6 * scale)
        assert np.isfinite(means[i]) == bool(row.isfinite().all())
        assert stds[i] == pytest.approx(std, rel=1e-3, abs=1e-6 * scale, nan_ok=True)
        assert norms[i] == pytest.approx(float(stats.norm(row)), rel=1e-5, nan_ok=True)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((8, 5), "linear"), ((8, 3, 5), "linear"), ((8, 5, 4, 4), "conv"), ((8, 5, 6), "conv"), ((5,), "linear")],
)
def test_units_that_are_zero_throughout(shape: tuple[int, ...], kind: str) -> None:
    torch.manual_seed(0)
    many = torch.randn(4, *shape).relu()
    for i, x in enumerate(many):
        x.movedim(stats.unit_dim(x, kind), 0)[: i + 1] = 0
    zeros = many.numpy() == 0
    found = rows.all_along(zeros, stats.unit_dim(many[0], kind))
    for i, x in enumerate(many):
        share = stats.zero_fraction_per_unit(x, stats.unit_dim(x, kind))
        assert found[i].tolist() == (share == 1).tolist() and found[i].sum() >= i + 1
        assert rows.shares(zeros)[i] == pytest.approx(float(stats.zero_fraction(x)))


def test_means_of_no_numbers() -> None:
    assert rows.means(np.zeros((2, 0), np.float32)).tolist() == [0, 0]


def test_a_block_counts_what_is_alike_together_and_loses_nothing() -> None:
    counted: list[tuple[Any, list[Any], np.ndarray[Any, Any]]] = []
    block = Block(lambda what, names, found: counted.append((what, names, found.copy())))
    parts = [np.full((4, 1000), i, np.float32) for i in range(20)]
    for i, part in enumerate(parts):
        block.add("first", i, part)
    block.add("second", 20, parts[0])
    block.add("second", 21, np.ones((2, 3), np.float32))
    block.settle()
    block.settle()
    fit = ROOM // 4000
    assert [(what, len(names)) for what, names, _ in counted] == [
        ("first", fit),
        ("first", 20 - fit),
        ("second", 1),
        ("second", 1),
    ]
    assert [name for _, names, _ in counted for name in names] == list(range(22))
    for _, names, found in counted[:2]:
        assert [float(row.mean()) for row in found] == names and found.shape[1:] == (4, 1000)
    block.add("third", 0, parts[0])
    block.clear()
    block.settle()
    assert len(counted) == 4
