"""The loader: its batches are those of a plain loop, and follow from seed, epoch and number alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from runtrue.datasets import Augment, Images, Loader, Split, load
from runtrue.datasets import loader as module

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


def joined(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([inputs for inputs, _ in parts]), torch.cat([labels for _, labels in parts])


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


@pytest.mark.parametrize("count", [48, 52, 55])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("world", [2, 3])
def test_processes_together_see_what_one_with_larger_batches_sees(world: int, drop_last: bool, count: int) -> None:
    split = coloured(count)
    how: dict[str, Any] = {"augment": Augment(3, True), "drop_last": drop_last, "seed": 7}
    alone = Loader(split, 4 * world, **HOW, **how)
    shares = [Loader(split, 4, **HOW, **how, rank=rank, world=world) for rank in range(world)]
    for epoch in (0, 3):
        for loader in (alone, *shares):
            loader.set_epoch(epoch)
        together = [joined(parts) for parts in zip(*shares, strict=True)]
        assert same(together, list(alone))
    sizes = [len(labels) for loader in shares for _, labels in loader]
    assert min(sizes) >= 1


@pytest.mark.parametrize("batch", [0, 1, 4, 6, 7])
def test_starting_in_the_middle_gives_exactly_the_rest_once(batch: int) -> None:
    loader = Loader(coloured(50), 8, **HOW, augment=Augment(2, True), seed=1)
    loader.set_epoch(5)
    whole = list(loader)
    loader.start_at(batch)
    assert len(loader) == len(whole) == 7
    assert same(list(loader), whole[batch:])
    assert same(list(loader), whole), "once only"


def test_a_new_loader_goes_on_where_another_one_stopped() -> None:
    split = coloured(40)
    first = iter(Loader(split, 8, **HOW, augment=Augment(2, True), seed=4))
    seen = [next(first) for _ in range(2)]
    other = Loader(split, 8, **HOW, augment=Augment(2, True), seed=4)
    other.start_at(2)
    assert same(seen + list(other), batches(split, 8, augment=Augment(2, True), seed=4))


def test_seed_epoch_and_batch_each_change_what_is_drawn() -> None:
    split = Split(torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(32, 3, 8, 8), torch.zeros(32).long())

    def moved(seed: int, epoch: int) -> list[tuple[Tensor, Tensor]]:
        loader = Loader(split, 16, **HOW, augment=Augment(3, True), seed=seed)
        loader.set_epoch(epoch)
        return list(loader)

    one, two = moved(0, 0)
    assert not torch.equal(one[0], two[0]), "all images are alike, so it is the moves that differ"
    assert same(moved(0, 0), [one, two])
    assert not same(moved(1, 0), moved(0, 0))
    assert not same(moved(0, 1), moved(0, 0))
    assert not same(moved(1, 0), moved(0, 1))


def test_no_global_generator_is_touched_and_no_image_is_changed() -> None:
    split = coloured(20)
    kept = split.images.clone(), split.labels.clone()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    for inputs, labels in Loader(split, 8, **HOW, augment=Augment(2, True)):
        inputs.zero_()
        labels.zero_()
    for inputs, labels in Loader(split, 8, **HOW, shuffle=False):
        inputs.zero_()
        labels.zero_()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    assert random.getstate() == before[2]
    assert torch.equal(split.images, kept[0]) and torch.equal(split.labels, kept[1])


def test_iterations_that_run_at_once_do_not_disturb_each_other() -> None:
    loader = Loader(coloured(24), 8, **HOW)
    first = iter(loader)
    seen = [next(first)]
    loader.set_epoch(1)
    later = list(loader)
    seen += list(first)
    loader.set_epoch(0)
    assert same(seen, list(loader))
    assert not same(seen, later)


@pytest.mark.parametrize("channels", [1, 3])
def test_layout_and_type_change_no_value(channels: int) -> None:
    split = coloured(12)
    split = Split(split.images[:, :channels], split.labels)
    how: dict[str, Any] = {"mean": HOW["mean"][:channels], "std": HOW["std"][:channels], "augment": Augment(2, True)}
    (plain, labels), *_ = Loader(split, 12, **how)
    (last, _), *_ = Loader(split, 12, **how, channels_last=True)
    assert torch.equal(plain, last) and plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    (half, of_half), *_ = Loader(split, 12, **how, channels_last=True, dtype=torch.bfloat16)
    assert torch.equal(half, plain.bfloat16()) and half.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(labels, of_half)


@pytest.mark.parametrize("flip", [False, True])
def test_large_sets_get_their_border_batch_by_batch_and_the_same_batches(
    flip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, augment = coloured(20), Augment(2, flip, fill=7)
    kept = split.images.clone()
    at_once = batches(split, 8, augment=augment)
    monkeypatch.setattr(module, "BORDERED", 20 * 3 * 8 * 8 - 1)
    assert same(batches(split, 8, augment=augment), at_once)
    assert torch.equal(split.images, kept)
    with pytest.raises(ValueError, match="crop:8 can move an image of 8 × 8 out of sight"):
        batches(split, 8, augment=Augment(8))


def test_normalised_images_of_a_set_have_mean_0_and_deviation_1(data: Images) -> None:
    inputs = torch.cat([inputs for inputs, _ in Loader(data.train, 500, mean=data.mean, std=data.std)])
    assert inputs.mean().item() == pytest.approx(0, abs=1e-4)
    assert inputs.std(correction=0).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"rank": 2, "world": 2}, "0 <= rank < world"),
        ({"world": 0}, "world >= 1"),
        ({"seed": -1}, "seed >= 0"),
        ({"mean": (0.1,)}, "3 channels: mean and std need a number for each"),
        ({"std": (1, 0, 1)}, "std above 0"),
        ({"batch_size": 11, "drop_last": True}, "10 examples make no batch of 11: take a smaller batch_size"),
        ({"augment": Augment(8)}, "crop:8 can move an image of 8 × 8 out of sight"),
        ({"batch_size": 3, "world": 3, "rank": 0}, "the last of the batches has 1 example for 3 processes"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Loader(coloured(10), **{"batch_size": 4, **HOW, **wrong})


def test_a_share_may_be_empty_where_nothing_is_trained() -> None:
    sizes = [[len(labels) for labels, _ in batches(coloured(10), 3, shuffle=False, rank=r, world=3)] for r in range(3)]
    assert sizes == [[3, 0], [3, 0], [3, 1]]


def test_wrong_epochs_and_batches_are_named() -> None:
    loader = Loader(coloured(10), 4, **HOW)
    with pytest.raises(ValueError, match="an epoch has batches 0 to 2, cannot start at 4"):
        loader.start_at(4)
    with pytest.raises(ValueError, match="epochs are counted from 0, got -1"):
        loader.set_epoch(-1)
