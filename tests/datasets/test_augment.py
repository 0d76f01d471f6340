"""Crops and flips of whole batches, against a plain loop over the images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from runtrue.datasets import Augment
from runtrue.datasets.augment import Moves


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def one_by_one(augment: Augment, images: Tensor, moves: Moves) -> Tensor:
    """The same moves, image by image, as one would write them down."""
    found = []
    for number, image in enumerate(images):
        height, width = image.shape[1:]
        if moves.rows is not None and moves.columns is not None:
            row, column = int(moves.rows[number]), int(moves.columns[number])
            image = F.pad(image, (augment.crop,) * 4, value=augment.fill)[
                :, row : row + height, column : column + width
            ]
        if moves.mirrored is not None and moves.mirrored[number]:
            image = image.flip(-1)
        found.append(image)
    return torch.stack(found)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 5),
    channels=st.integers(1, 3),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    border=st.integers(0, 8),
    flip=st.booleans(),
    fill=st.sampled_from([0, 7]),
    kind=st.sampled_from([torch.uint8, torch.float32, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_every_window_is_one_of_the_image_with_its_border(
    count: int, channels: int, height: int, width: int, border: int, flip: bool, fill: int, kind: torch.dtype, seed: int
) -> None:
    augment = Augment(min(border, height - 1, width - 1), flip, fill)
    images = torch.randint(0, 256, (count, channels, height, width), generator=seeded(seed)).to(kind)
    kept = images.clone()
    moves = augment.draw(count, seeded(seed))
    moved = augment(images, seeded(seed))
    assert torch.equal(moved, one_by_one(augment, images, moves))
    assert moved.dtype == kind and moved.shape == images.shape
    assert torch.equal(images, kept), "the images given are left alone"
    for corner in (moves.rows, moves.columns):
        assert corner is None or set(corner.tolist()) <= set(range(2 * augment.crop + 1))


def test_every_offset_is_alike_and_one_of_two_is_turned() -> None:
    """As torchvision's RandomCrop(32, padding=4) and RandomHorizontalFlip(): 81 windows, each with the same chance."""
    count = 40_500
    moves = Augment.parse("crop,flip").draw(count, seeded())
    assert moves.rows is not None and moves.columns is not None and moves.mirrored is not None
    windows = torch.bincount(9 * moves.rows + moves.columns, minlength=81)
    assert len(windows) == 81
    assert (windows - 500).abs().max() < 5 * 500**0.5, (
        "each of 81 windows 500 times, five standard deviations off at most"
    )
    assert abs(int(moves.mirrored.sum()) - count / 2) < 5 * (count / 4) ** 0.5
    both = (moves.mirrored & (moves.rows == 0)).float().mean().item()
    assert abs(both - 1 / 18) < 0.006, "drawn apart from each other"


def test_the_same_generator_gives_the_same_batch_and_the_next_draw_another() -> None:
    images = torch.arange(4 * 3 * 64, dtype=torch.float32).reshape(4, 3, 8, 8)
    generator = seeded(3)
    first, second = (Augment(2, True)(images, generator) for _ in range(2))
    assert torch.equal(first, Augment(2, True)(images, seeded(3)))
    assert not torch.equal(first, second)


def test_the_border_has_the_level_that_was_asked_for() -> None:
    images = torch.zeros(50, 1, 4, 4, dtype=torch.uint8)
    moved = Augment(crop=3, fill=9)(images, seeded())
    assert set(moved.unique().tolist()) == {0, 9}


def test_nothing_is_drawn_or_copied_where_nothing_is_on() -> None:
    images, generator = torch.zeros(2, 1, 4, 4), seeded()
    before = generator.get_state()
    assert Augment()(images, generator) is images
    assert torch.equal(generator.get_state(), before)
    assert not Augment() and Augment(1) and Augment(flip=True)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("none", Augment()),
        ("", Augment()),
        ("flip", Augment(flip=True)),
        ("crop", Augment(crop=4)),
        ("crop:6", Augment(crop=6)),
        ("crop:0", Augment()),
        ("crop,flip", Augment(4, True)),
        (" Flip , CROP:2 ", Augment(2, True)),
    ],
)
def test_words(text: str, means: Augment) -> None:
    assert Augment.parse(text) == means
    assert Augment.parse(str(means)) == means


@pytest.mark.parametrize("text", ["rotate", "crop:-1", "crop:x", "crop4", "flip:2", "none:1"])
def test_other_words_are_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"'{text}' in .* is no augmentation: write none, flip, crop, crop:PIXELS"):
        Augment.parse(text)


@pytest.mark.parametrize(("augment", "says"), [({"crop": -1}, "crop is the width"), ({"crop": 4}, "out of sight")])
def test_impossible_borders(augment: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Augment(**augment)(torch.zeros(1, 1, 4, 9), seeded())
