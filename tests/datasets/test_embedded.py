"""The images that ship with runtrue, against numbers recomputed from the file itself."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np
import pytest
import torch

from runtrue.datasets import CLASSES, MEAN, STD, fashion_mnist


@pytest.fixture(scope="module")
def stored() -> Any:
    return np.load(str(resources.files("runtrue") / "data/fashion_mnist_subset.npz"))


@pytest.mark.parametrize(("split", "each"), [("train", 300), ("test", 100)])
def test_as_many_images_of_each_class_in_mixed_order(split: Any, each: int) -> None:
    images, labels = fashion_mnist(split)
    assert images.shape == (10 * each, 1, 28, 28)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert torch.bincount(labels).tolist() == [each] * len(CLASSES)
    repeats = (labels[1:] == labels[:-1]).float().mean()
    assert abs(repeats - 0.1) < 0.04, "neighbours share a class in one of ten pairs, if the order is mixed"


def test_constants_are_those_of_the_training_images(stored: Any) -> None:
    grey = stored["train_images"].astype(np.float64) / 255
    assert pytest.approx(grey.mean(), abs=1e-6) == MEAN
    assert pytest.approx(grey.std(), abs=1e-6) == STD


def test_normalised_images_are_the_stored_bytes_scaled(stored: Any) -> None:
    images, labels = fashion_mnist("test")
    expected = (stored["test_images"].astype(np.float64) / 255 - MEAN) / STD
    np.testing.assert_allclose(images[:, 0].numpy(), expected, atol=1e-5)
    np.testing.assert_array_equal(labels.numpy(), stored["test_labels"])


def test_raw_images_are_grey_levels_from_0_to_1(stored: Any) -> None:
    images, _ = fashion_mnist("test", normalize=False)
    np.testing.assert_allclose(images[:, 0].numpy() * 255, stored["test_images"], atol=1e-4)


def test_flat_images_are_the_rows_one_after_the_other() -> None:
    flat, images = fashion_mnist(flat=True, limit=7)[0], fashion_mnist(limit=7)[0]
    assert flat.shape == (7, 784)
    assert torch.equal(flat[:, 28 * 3 + 5], images[:, 0, 3, 5])


def test_three_channels_of_32_are_repeats_with_a_black_border() -> None:
    grey, _ = fashion_mnist(limit=5)
    padded, _ = fashion_mnist(channels=3, size=32, limit=5)
    assert padded.shape == (5, 3, 32, 32)
    for channel in range(3):
        assert torch.equal(padded[:, channel, 2:30, 2:30], grey[:, 0])
    black = torch.tensor(-MEAN / STD)
    torch.testing.assert_close(padded[:, :, :2], black.expand(5, 3, 2, 32))
    torch.testing.assert_close(padded[:, :, :, 30:], black.expand(5, 3, 32, 2))


def test_an_odd_border_puts_the_extra_pixel_behind() -> None:
    images, _ = fashion_mnist(size=31, limit=2, normalize=False)
    assert torch.equal(images[:, :, 1:29, 1:29], fashion_mnist(limit=2, normalize=False)[0])


def test_writing_into_the_tensors_leaves_the_next_call_alone() -> None:
    images, labels = fashion_mnist(limit=3)
    kept = images.clone(), labels.clone()
    images.zero_()
    labels.zero_()
    again = fashion_mnist(limit=3)
    assert torch.equal(again[0], kept[0])
    assert torch.equal(again[1], kept[1])


def test_no_training_image_is_a_test_image(stored: Any) -> None:
    train = {image.tobytes() for image in stored["train_images"]}
    assert len(train) == 3000
    assert not train & {image.tobytes() for image in stored["test_images"]}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"split": "valid"}, 'split must be "train" or "test"'),
        ({"channels": 0}, "channels >= 1"),
        ({"size": 27}, "size >= 28"),
        ({"limit": 0}, "limit must be 1 to 3000"),
        ({"split": "test", "limit": 1001}, "limit must be 1 to 1000"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fashion_mnist(**wrong)


def test_the_notice_of_the_images_ships_with_them() -> None:
    notice = (resources.files("runtrue") / "data/NOTICE.md").read_text(encoding="utf-8")
    assert "Copyright © 2017 Zalando SE" in notice
    assert "MIT License" in notice
