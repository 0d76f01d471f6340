"""What `load` takes, the constants of a set, and how a set is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from runtrue.datasets import MEAN, STD, DataError, Images, Skipped, Split, fashion_mnist, load
from runtrue.datasets.halves import stratified
from runtrue.datasets.images import gathered, statistics


def test_the_subset_is_what_fashion_mnist_gives() -> None:
    data = load("fashion-mnist-subset")
    for split, of in (("train", data.train), ("test", data.val)):
        images, labels = fashion_mnist(split, normalize=False)  # type: ignore[arg-type]
        assert torch.equal((of.images.float() / 255), images) and torch.equal(of.labels, labels)
    assert data.mean == pytest.approx((MEAN,), abs=1e-6) and data.std == pytest.approx((STD,), abs=1e-6)
    assert len(data.classes) == 10 and data.skipped == ()


def test_each_call_returns_images_of_its_own_and_takes_a_size() -> None:
    load("fashion-mnist-subset").train.images.zero_()
    data = load("fashion-mnist-subset", size=32)
    assert data.size == (32, 32)
    assert torch.equal(data.val.images[:, :, 2:30, 2:30].float() / 255, fashion_mnist("test", normalize=False)[0])


def test_constants_are_those_of_the_numbers() -> None:
    drawn = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50, 3, 4, 5), generator=drawn, dtype=torch.uint8)
    images[:, 2] = 77
    mean, std = statistics(images)
    levels = images.double().transpose(0, 1).flatten(1) / 255
    assert mean == pytest.approx(levels.mean(1).tolist(), abs=1e-12)
    assert std[:2] == pytest.approx(levels[:2].std(1, correction=0).tolist(), abs=1e-12)
    assert std[2] == 1.0, "where nothing varies there is nothing to divide by"


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (
            "cifar-10",
            "unknown data 'cifar-10': write fashion-mnist, fashion-mnist-subset, mnist, cifar10, cifar100, folder:PATH",
        ),
        ("cifar-10", "Did you mean cifar10?"),
        ("tree:x", "unknown data 'tree:x'"),
        ("set.npz", "Did you mean npz:set.npz?"),
        (".", "Did you mean folder:.?"),
        ("", "unknown data ''"),
    ],
)
def test_unknown_data(where: str, says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says)):
        load(where)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"size": 0}, "size is a number of pixels, 1 or more, got 0"),
        ({"val_fraction": 0.0}, "val_fraction lies between 0 and 1, got 0.0"),
        ({"val_fraction": 1}, "val_fraction lies between 0 and 1, got 1"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load("fashion-mnist-subset", **wrong)


def test_a_tilde_is_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "none.npz"))):
        load("npz:~/none.npz")


def told(*reasons: str) -> str:
    split = Split(torch.zeros(2000, 1, 2, 3, dtype=torch.uint8), torch.zeros(2000).long())
    lost = [Skipped(f"photos/{number}.jpg", reason) for number, reason in enumerate(reasons)]
    return gathered("photos", split, split, ("cat", "dog"), "/home/me/photos", lost).describe()


def test_a_set_is_told_in_a_few_lines() -> None:
    head = "photos: 2,000 training and 2,000 validation images, 1 × 2 × 3, 2 classes\nread from /home/me/photos"
    assert told() == head
    assert told("empty: 0 bytes") == f"{head}\n1 file skipped:\n  photos/0.jpg: empty: 0 bytes"
    lines = told("a", "b", "b").splitlines()
    assert lines[2:] == ["3 files skipped:", "  photos/1.jpg and 1 more: b", "  photos/0.jpg: a"]
    lines = told(*["a"] * 1234, *"bcdefgh").splitlines()
    assert lines[2:4] == ["1,241 files skipped:", "  photos/0.jpg and 1,233 more: a"]
    assert len(lines) == 9 and lines[-1] == "  … and 3 more"


@pytest.mark.parametrize(
    ("fraction", "expected"), [(0.2, [20, 2, 1]), (0.5, [50, 5, 1]), (0.99, [99, 9, 1]), (0.001, [1, 1, 1])]
)
def test_every_class_gives_its_share(fraction: float, expected: list[int]) -> None:
    labels = torch.tensor([0] * 100 + [1] * 10 + [2] * 2)
    train, val = stratified(labels, fraction, 0, ("a", "b", "c"), "x")
    assert sorted(torch.cat([train, val]).tolist()) == list(range(112))
    assert torch.bincount(labels[val], minlength=3).tolist() == expected
    assert train.tolist() != sorted(train.tolist()), "in mixed order: the first rows are no single class"


def test_a_set_holds_no_part_that_can_be_swapped() -> None:
    data = load("fashion-mnist-subset")
    assert isinstance(data, Images)
    with pytest.raises(AttributeError):
        data.train = data.val  # type: ignore[misc]
