"""NumPy archives: the keys, shapes and levels that are in use, and what is said of those that cannot be used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runtrue.datasets import DataError, load, npz

COUNT = 24
GREY = np.random.default_rng(0).integers(0, 256, (COUNT, 9, 8), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (COUNT, 9, 8, 3), dtype=np.uint8)
LABELS = np.arange(COUNT) % 3


@pytest.fixture
def archive(tmp_path: Path) -> Any:
    def write(**arrays: Any) -> str:
        np.savez_compressed(tmp_path / "set.npz", **arrays)
        return f"npz:{tmp_path / 'set.npz'}"

    return write


@pytest.mark.parametrize(
    "keys",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "Y_train", "X_val", "Y_val"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("train_images", "train_labels", "val_images", "val_labels"),
        ("images", "labels", "test_images", "test_labels"),
    ],
)
def test_keys_of_two_splits(keys: tuple[str, ...], archive: Any) -> None:
    data = load(archive(**dict(zip(keys, (GREY, LABELS, GREY[:5], LABELS[:5][:, None]), strict=True))))
    np.testing.assert_array_equal(data.train.images[:, 0].numpy(), GREY)
    np.testing.assert_array_equal(data.val.labels.numpy(), LABELS[:5])
    assert (data.name, data.classes, data.size) == ("set", ("0", "1", "2"), (9, 8))


def test_validation_goes_before_test(archive: Any) -> None:
    parts = {f"{split}_{what}": of[:many] for split, many in (("train", 24), ("val", 6), ("test", 9)) for what, of in
             (("images", GREY), ("labels", LABELS))}  # fmt: skip
    assert len(load(archive(**parts)).val) == 6


@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y"), ("X", "Y")])
def test_one_split_is_divided_class_by_class(keys: tuple[str, str], archive: Any) -> None:
    where = archive(**dict(zip(keys, (GREY, LABELS), strict=True)))
    data = load(where, val_fraction=0.25, seed=1)
    assert torch.bincount(data.train.labels).tolist() == [6, 6, 6]
    assert torch.bincount(data.val.labels).tolist() == [2, 2, 2]
    whole = {image.tobytes(): label for image, label in zip(GREY, LABELS, strict=True)}
    for split in (data.train, data.val):
        for image, label in zip(split.images, split.labels, strict=True):
            assert whole.pop(image.numpy().tobytes()) == label
    assert not whole, "every image is in one of the two"
    again, other = load(where, val_fraction=0.25, seed=1), load(where, val_fraction=0.25, seed=2)
    assert torch.equal(again.train.images, data.train.images)
    assert not torch.equal(other.val.images, data.val.images)


@pytest.mark.parametrize(
    "images",
    [
        COLOUR,
        np.moveaxis(COLOUR, 3, 1),
        COLOUR.astype(np.int64),
        COLOUR.astype(np.float32),
        COLOUR / 255,
        (COLOUR / 255).astype(np.float32),
        np.asfortranarray(COLOUR),
    ],
    ids=["bytes", "channels first", "int64", "float levels", "0 to 1", "0 to 1 in float32", "Fortran order"],
)
def test_shapes_and_levels_come_to_the_same(images: Any, archive: Any) -> None:
    data = load(archive(x_train=images, y_train=LABELS, x_test=images, y_test=LABELS))
    np.testing.assert_array_equal(data.train.images.numpy(), np.moveaxis(COLOUR, 3, 1))
    assert data.train.images.is_contiguous() and data.train.images.dtype == torch.uint8


def test_false_and_true_are_black_and_white(archive: Any) -> None:
    data = load(archive(x_train=GREY > 128, y_train=LABELS, x_test=GREY > 128, y_test=LABELS))
    np.testing.assert_array_equal(data.train.images[:, 0].numpy(), np.where(GREY > 128, 255, 0))


def test_levels_between_are_rounded(archive: Any) -> None:
    for levels, expected in ((np.full(GREY.shape, 3.7), 4), (np.full(GREY.shape, 3.7 / 255), 4)):
        assert set(load(archive(x=levels, y=LABELS)).train.images.unique().tolist()) == {expected}


def test_names_of_the_classes(archive: Any) -> None:
    data = load(archive(x=GREY, y=LABELS, classes=np.array(["cat", "dog", "elk", "fox"])))
    assert data.classes == ("cat", "dog", "elk", "fox")


def with_nan(place: int) -> Any:
    images = GREY / 255
    images[place, 3, 3] = np.nan
    images[place + 5, 0, 0] = np.inf
    return images


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"a": GREY, "b": LABELS}, "has the keys a, b, expected one pair of x_train/y_train, train_images/train_labels, images"),
        ({"x": GREY}, "has the images x, but no labels y; its keys are x"),
        ({"x": GREY, "y": LABELS[:-1]}, "24 images and 23 labels: each image needs one label"),
        ({"x": GREY[:0], "y": LABELS[:0]}, "no image in it"),
        ({"x": GREY.reshape(COUNT, -1), "y": LABELS}, "images of shape 24 × 72, expected (N, H, W), (N, H, W, C)"),
        ({"x": GREY[..., None].repeat(9, 3), "y": LABELS}, "neither clearly the second nor the last dimension"),
        ({"x": COLOUR[:, :3, :3], "y": LABELS}, "in images of shape 24 × 3 × 3 × 3 the channels (1 to 4) are neither"),
        ({"x": with_nan(7), "y": LABELS}, "2 of 24 images hold NaN or infinity, the first is number 7: leave them out"),
        ({"x": (GREY / 255 - 0.5) / 0.5, "y": LABELS}, "levels from -1 to 1, expected 0 to 255 or 0 to 1: give"),
        ({"x": GREY.astype(int) * 257, "y": LABELS}, "levels from 0 to 65535, expected 0 to 255"),
        ({"x": GREY.astype("U3"), "y": LABELS}, "images of type <U3, expected numbers"),
        ({"x": GREY, "y": LABELS.astype(float)}, "labels of type float64, expected integers that count the classes from 0"),
        ({"x": GREY, "y": LABELS.astype("U1")}, "labels of type <U1, expected integers"),
        ({"x": GREY, "y": np.eye(3, dtype=int)[LABELS]}, "labels of shape 24 × 3, expected one number an image: one-hot"),
        ({"x": GREY, "y": 2 * LABELS}, "3 different labels from 0 to 4 (0, 2, 4), expected all numbers from 0 to K - 1"),
        ({"x": GREY, "y": LABELS - 1}, "3 different labels from -1 to 1"),
        ({"x": GREY, "y": LABELS + 2}, "3 different labels from 2 to 4"),
        ({"x": GREY, "y": LABELS.astype(np.uint64) + 2**63}, "is out of range"),
        ({"x": GREY, "y": 0 * LABELS}, "1 class (0): there is nothing to tell apart"),
        ({"x": GREY, "y": LABELS, "classes": np.array(["cat", "dog"])}, "label 2, but there are 2 classes, numbered 0 to 1"),
        ({"x": GREY, "y": LABELS - 1, "classes": np.array(["a", "b", "c"])}, "label -1, but there are 3 classes"),
        ({"x": GREY, "y": np.r_[0, 1 + LABELS[1:] % 2]}, "class '0' has 1 image, and needs at least 2"),
        ({"x": GREY, "y": LABELS, "x_val": GREY, "y_val": LABELS + 1}, "labels 1 to 3 in validation, 0 to 2 in training"),
        ({"x": GREY, "y": LABELS, "x_val": GREY[:, 1:], "y_val": LABELS}, "images are 1 × 9 × 8, validation images 1 × 8 × 8"),
        ({"x": GREY, "y": np.array([{}] * COUNT)}, "cannot be read as a NumPy archive (.npz): Object arrays cannot be loaded"),
    ],
)  # fmt: skip
def test_what_cannot_be_used(arrays: Any, says: str, archive: Any) -> None:
    with pytest.raises(DataError, match=re.escape(says)):
        load(archive(**arrays))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + b"\0" * 50])
def test_files_that_are_no_archive(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=re.escape("x.npz cannot be read as a NumPy archive (.npz)")):
        load(f"npz:{tmp_path / 'x.npz'}")


def test_an_archive_that_was_cut_or_changed_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=GREY, y=LABELS)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            npz.splits_at(path)
    drawn = np.random.default_rng(0)
    for _ in range(100):
        changed = bytearray(whole)
        changed[drawn.integers(len(changed))] ^= 1 << drawn.integers(8)
        path.write_bytes(changed)
        try:
            train, _, _ = npz.splits_at(path)
            np.testing.assert_array_equal(train.images[:, 0].numpy(), GREY)
        except DataError:
            continue


def test_a_missing_file_a_single_array_and_too_large_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"none\.npz: no such file"):
        load(f"npz:{tmp_path / 'none.npz'}")
    np.save(tmp_path / "single.npy", GREY)
    with pytest.raises(DataError, match=r"is a single array: an archive with images and labels is made by np\.savez"):
        load(f"npz:{tmp_path / 'single.npy'}")
    np.savez(tmp_path / "x.npz", x=GREY, y=LABELS)
    monkeypatch.setattr(npz, "LIMIT", GREY.nbytes - 1)
    with pytest.raises(DataError, match=r"and the limit is .* GiB: take fewer images"):
        load(f"npz:{tmp_path / 'x.npz'}")
