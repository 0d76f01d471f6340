"""IDX files and the sets that are made of them: what is read, where it is looked for, and what is said of damage."""

from __future__ import annotations

import dataclasses
import gzip
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runtrue.datasets import DataError, arrays, fashion_mnist, idx, load, places

FASHION = (9, 0, 0, 3, 0, 2, 7, 2, 5, 5)  # the first labels of its training file, as published
MNIST = (5, 0, 4, 1, 9, 2, 1, 3, 1, 4)


def encoded(array: Any) -> bytes:
    array = np.asarray(array, dtype=np.uint8)
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def pictures(count: int, seed: int = 0, side: int = 28) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


def write_set(
    folder: Path, first: tuple[int, ...] = (), prefix: str = "", packed: bool = False, count: int = 40
) -> Any:
    """A small set under MNIST's names; returns its training images and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    kept: Any = None
    for split, many in (("train", count), ("t10k", 20)):
        labels = np.arange(many) % 10
        labels[: len(first)] = first
        images = pictures(many, seed=many)
        for what, array in ((f"{split}-images-idx3-ubyte", images), (f"{split}-labels-idx1-ubyte", labels)):
            content = encoded(array)
            path = folder / f"{prefix}{what}{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
        kept = kept or (images, labels)
    return kept


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and current folder, no variable, and no sets of the system."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.delenv(places.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    plain = dataclasses.replace(places.KNOWN["fashion-mnist"], system=())
    monkeypatch.setitem(places.KNOWN, "fashion-mnist", plain)
    return tmp_path


# -- what is read


@pytest.mark.parametrize("packed", [False, True])
def test_files_are_read_to_the_byte(tmp_path: Path, packed: bool) -> None:
    images, labels = write_set(tmp_path / "MNIST" / "raw", MNIST, packed=packed)
    data = load("mnist", root=tmp_path)
    assert data.train.images.shape == (40, 1, 28, 28) and data.train.images.dtype == torch.uint8
    np.testing.assert_array_equal(data.train.images[:, 0].numpy(), images)
    assert data.train.labels.tolist() == labels.tolist() and data.train.labels.dtype == torch.int64
    assert (len(data.val), data.channels, data.size, data.name) == (20, 1, (28, 28), "mnist")
    assert data.classes == tuple("0123456789")
    assert data.origin == str(tmp_path / "MNIST" / "raw")
    assert data.mean[0] == pytest.approx(images.mean() / 255) and data.std[0] == pytest.approx(images.std() / 255)


def test_a_size_adds_black_borders_and_never_cuts(tmp_path: Path) -> None:
    images, _ = write_set(tmp_path, MNIST)
    data = load("mnist", root=tmp_path, size=33)
    assert data.size == (33, 33) == tuple(data.val.images.shape[2:])
    np.testing.assert_array_equal(data.train.images[:, 0, 2:30, 2:30].numpy(), images)
    assert int(data.train.images.sum()) == int(images.sum(dtype=np.int64))
    with pytest.raises(DataError, match="the images are 28 × 28, and size=27 would cut them"):
        load("mnist", root=tmp_path, size=27)


@pytest.mark.parametrize(
    "name",
    ["train-images-idx3-ubyte", "train-images.idx3-ubyte", "emnist-letters-train-images-idx3-ubyte.gz"],
)
def test_names_that_are_in_use(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(encoded(pictures(20)))
    (tmp_path / name.replace("images", "labels").replace("idx3", "idx1")).write_bytes(encoded(np.arange(20) % 4))
    data = load(f"idx:{tmp_path / name}", val_fraction=0.5)
    assert (len(data.train), len(data.val), data.classes) == (12, 8, ("0", "1", "2", "3"))
    assert load(f"idx:{tmp_path}").classes == data.classes


def test_labels_from_1_are_moved_to_0_and_keep_their_names(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(encoded(pictures(12)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(encoded(1 + np.arange(12) % 3))
    data = load(f"idx:{tmp_path}")
    assert data.classes == ("1", "2", "3")
    assert sorted(set(data.train.labels.tolist())) == [0, 1, 2]


def test_of_several_sets_in_a_folder_one_has_to_be_named(tmp_path: Path) -> None:
    write_set(tmp_path, prefix="emnist-digits-")
    write_set(tmp_path, prefix="emnist-mnist-", count=30)
    with pytest.raises(DataError, match=r"several sets \('emnist-digits-', 'emnist-mnist-'\): name one file"):
        load(f"idx:{tmp_path}")
    assert len(load(f"idx:{tmp_path / 'emnist-mnist-train-labels-idx1-ubyte'}").train) == 30


# -- where it is looked for


def test_every_place_is_listed_where_nothing_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(places.VARIABLE, str(home / "own"))
    (home / "data" / "mnist").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        load("mnist")
    said = str(caught.value).splitlines()
    assert said[0] == "mnist was not found. Looked for train-images-idx3-ubyte or train-images-idx3-ubyte.gz in"
    roots = [home / "own", home / "data", home / "home" / ".cache" / "runtrue"]
    assert len(said) == 2 + 9
    for number, place in enumerate(root / under for root in roots for under in ("MNIST/raw", "mnist", "")):
        reason = "no such file" if place in (home / "data" / "mnist", home / "data") else "no such folder"
        assert said[1 + number] == f"  {place}: {reason}"
    assert "To get it: " in said[-1] and "$RUNTRUE_DATA" in said[-1]


@pytest.mark.parametrize("place", ["own", "data/FashionMNIST/raw", "data/fashion-mnist", "data", "home/.cache/runtrue"])
def test_the_usual_places_are_looked_at(home: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv(places.VARIABLE, str(home / "own"))
    write_set(home / place, FASHION, packed=True)
    data = load("fashion-mnist")
    assert (data.name, data.origin) == ("fashion-mnist", str(home / place))
    assert data.classes[9] == "ankle boot"


def test_without_the_full_set_the_subset_is_taken_and_says_so(home: Path) -> None:
    data = load("fashion-mnist")
    assert (data.name, len(data.train), len(data.val)) == ("fashion-mnist-subset", 3000, 1000)
    assert "the full set is in none of the usual places" in data.describe()
    assert torch.equal(data.train.images.float() / 255, fashion_mnist(normalize=False)[0])
    with pytest.raises(
        DataError, match=re.escape(f"fashion-mnist was not found. Looked for {places.KNOWN['mnist'].files}")
    ):
        load("fashion-mnist", root=home)


def test_a_folder_that_holds_the_other_set_is_passed_over(home: Path) -> None:
    write_set(home / "data", FASHION)
    with pytest.raises(DataError, match=re.escape(f"{home / 'data'}: the files of fashion-mnist")):
        load("mnist")
    assert load("fashion-mnist").name == "fashion-mnist"


def test_damage_in_the_full_set_is_an_error_and_no_reason_to_take_the_subset(home: Path) -> None:
    write_set(home / "data", FASHION)
    file = home / "data" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="is damaged"):
        load("fashion-mnist")


# -- damage

GOOD = encoded(pictures(6, side=4))
PACKED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "begins with nothing, expected 00 00 08"),
        (b"\0\0\x08", "begins with 00 00 08, expected"),
        (b"<!DOCTYPE html>", "begins with 3c 21 44 4f, expected"),
        (b"\0\0\x0d\x03" + GOOD[4:], "begins with 00 00 0d 03, expected"),
        (b"\0\0\x08\x00" + GOOD[4:], "begins with 00 00 08 00, expected"),
        (GOOD[:10], "breaks off within its header"),
        (GOOD[:-1], "its header says 6 × 4 × 4 = 96 bytes, only 95 are there: fetch it again"),
        (GOOD + b"x", "its header says 6 × 4 × 4 = 96 bytes, there are more"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "says that it holds 4294967295 × 4294967295 × 4294967295 bytes, and the limit is 4 GiB"),
        (PACKED[: len(PACKED) // 2], "= 96 bytes, only"),
        (PACKED[:-4], "its header says 6 × 4 × 4 = 96 bytes"),
        (PACKED[:-8] + b"\0" * 8, "its header says 6 × 4 × 4 = 96 bytes"),
        (PACKED[:12], "begins with"),
        (b"\x1f\x8b" + b"\0" * 30, "begins with nothing"),
    ],
)  # fmt: skip
def test_damaged_files(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(says)) as caught:
        idx.read(path)
    assert str(path) in str(caught.value)


def test_no_byte_of_a_packed_file_can_be_lost(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    for length in range(len(PACKED)):
        path.write_bytes(PACKED[:length])
        with pytest.raises(DataError):
            idx.read(path)


def test_a_wrong_checksum_behind_whole_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "CHUNK", 16)
    (tmp_path / "x").write_bytes(PACKED[:-8] + b"\0" * 8)
    with pytest.raises(DataError, match="= 96 bytes, its checksum is wrong: fetch it again"):
        idx.read(tmp_path / "x")
    (tmp_path / "x").write_bytes(PACKED)
    assert encoded(idx.read(tmp_path / "x")) == GOOD


def test_a_file_that_must_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match="train-images cannot be read: Permission denied"):
        idx.read(tmp_path / "train-images")


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("train-labels-idx1-ubyte", encoded(np.arange(39) % 10), "40 images and 39 labels: each image needs one label"),
        ("train-labels-idx1-ubyte", encoded(np.full(40, 10)), "training: label 10, but there are 10 classes, numbered 0 to 9"),
        ("t10k-labels-idx1-ubyte", encoded(np.full(20, 255)), "test: label 255, but there are 10 classes"),
        ("train-labels-idx1-ubyte", encoded(pictures(40)), "labels of shape 40 × 28 × 28, expected one number an image"),
        ("train-images-idx3-ubyte", encoded(np.zeros(40)), "images of shape 40, expected (N, H, W)"),
        ("train-images-idx3-ubyte", encoded(np.zeros((40, 784))), "40 × 784, expected (N, H, W), (N, H, W, C) or"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit(file: str, content: bytes, says: str, tmp_path: Path) -> None:
    write_set(tmp_path, MNIST)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(says)):
        load("mnist", root=tmp_path)


@pytest.mark.parametrize("missing", ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_missing_files_are_named(missing: str, tmp_path: Path) -> None:
    write_set(tmp_path, MNIST)
    (tmp_path / missing).unlink()
    what, part = missing.split("-")[1], "train" if missing.startswith("train") else "test"
    with pytest.raises(DataError, match=f"the file of the {what} of the {part} split is missing; there are t"):
        load("mnist", root=tmp_path)


def test_paths_without_a_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder or file"):
        load(f"idx:{tmp_path / 'none'}")
    with pytest.raises(DataError, match="no file is named as those of MNIST are"):
        load(f"idx:{tmp_path}")


def test_more_than_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "LIMIT", 95)
    (tmp_path / "x").write_bytes(GOOD)
    with pytest.raises(DataError, match="says that it holds 6 × 4 × 4 bytes"):
        idx.read(tmp_path / "x")
    assert arrays.LIMIT == 4 * 2**30


# -- the full set, where it is installed


@pytest.mark.slow
def test_the_full_set_holds_the_subset() -> None:
    try:
        place, _ = places.search(
            places.KNOWN["fashion-mnist"], None, lambda at: at if "" in idx.sets_in(at) else "none"
        )
    except places.NotFoundError:
        pytest.skip("the full Fashion-MNIST is in none of the usual places")
    data = load("fashion-mnist")
    assert (data.name, len(data.train), len(data.val)) == ("fashion-mnist", 60_000, 10_000), place
    assert torch.bincount(data.train.labels).tolist() == [6000] * 10
    assert torch.bincount(data.val.labels).tolist() == [1000] * 10
    assert (round(data.mean[0], 4), round(data.std[0], 4)) == (0.2860, 0.3530)  # as published
    whole = {image.numpy().tobytes() for image in data.train.images}
    assert all(image.numpy().tobytes() in whole for image in load("fashion-mnist-subset").train.images)
