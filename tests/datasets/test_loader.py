"""The loader: its batches are those of a plain loop, and follow from seed, epoch and number alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from runtrue.datasets import Augment, Images, Loader, Split, load

BOTH = Augment(crop=4, flip=True)
HOW: dict[str, Any] = {"mean": (0.5, 0.2, 0.1), "std": (0.5, 0.25, 2.0)}


@pytest.fixture(scope="module")
def data() -> Images:
    return load("fashion-mnist-subset")


def coloured(count: int, size: int = 8) -> Split:
    """Images that are all different, and labels that are their numbers."""
    drawn = torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)
    return Split(drawn, torch.arange(count))


def batches(split: Split, batch_size: int, **how: Any) -> list[tuple[Tensor, Tensor]]:
    return list(Loader(split, batch_size, **HOW, **how))


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in zip(one, other, strict=True)
    )


def test_inputs_are_the_pixels_normalised_in_order() -> None:
    split = coloured(10)
    inputs, labels = (torch.cat(part) for part in zip(*batches(split, 4, shuffle=False), strict=True))
    mean, std = (torch.tensor(HOW[name]).double().reshape(1, 3, 1, 1) for name in ("mean", "std"))
    torch.testing.assert_close(inputs.double(), (split.images.double() / 255 - mean) / std, atol=1e-6, rtol=1e-6)
    assert labels.tolist() == list(range(10))
    assert inputs.dtype == torch.float32


def test_an_epoch_holds_every_example_once_and_the_next_one_is_mixed_anew() -> None:
    loader = Loader(coloured(50), 8, **HOW)
    orders = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        orders.append(torch.cat([labels for _, labels in loader]).tolist())
        assert sorted(orders[-1]) == list(range(50)) != orders[-1]
    assert orders[0] != orders[1]
