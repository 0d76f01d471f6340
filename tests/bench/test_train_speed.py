"""The bench of training speed: that every way sees the same images, and that what it tells is what the clock saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import _train_ways as ways
import train_speed

PLAN = ways.Plan("channels_last", steps=1, warmup=1)


def cuts(image: Tensor) -> Iterator[Tensor]:
    """Every crop of 32 out of the bordered image, as it is and flipped: uint8 (3, 32, 32)."""
    padded = F.pad(image, (4, 4, 4, 4))
    for top in range(9):
        for left in range(9):
            cut = padded[:, top : top + 32, left : left + 32]
            yield cut
            yield cut.flip(2)


def grey(images: Tensor) -> Tensor:
    """Normalised images as the grey levels that they were."""
    return (images * ways.STD[0] + ways.MEAN[0]).mul(255).round().to(torch.uint8)


def test_the_batches_by_hand_are_crops_and_flips_of_the_stored_images() -> None:
    pixels, labels = map(torch.from_numpy, ways.stored(PLAN.images))
    torch.manual_seed(3)
    order = torch.randperm(PLAN.images)[: ways.BATCH]
    torch.manual_seed(3)
    images, classes = next(ways.batches(PLAN))
    assert images.shape == (128, 3, 32, 32) and images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(classes, labels[order])
    found = [place_of(cuts(pixels[order[n]].permute(2, 0, 1)), grey(images[n])) for n in range(12)]
    assert None not in found and len(set(found)) > 6, "each is a crop of its own image, and not all the same one"


@pytest.mark.parametrize("transform", [ways.by_pil, lambda image, as_tensor: ways.one_by_one(as_tensor)(image)])
def test_one_image_at_a_time_is_cropped_and_flipped_alike(transform: Callable[..., Tensor]) -> None:
    pytest.importorskip("PIL")
    pixels, labels = ways.stored(4)
    data = ways.OneByOne(pixels, labels, lambda image: transform(image, as_tensor=True))
    found = set()
    for _ in range(6):
        image, label = data[2]
        found.add(place_of(cuts(torch.from_numpy(pixels[2]).permute(2, 0, 1)), grey(image)))
        assert label == int(labels[2])
    assert None not in found and len(found) > 1


def place_of(known: Iterator[Tensor], image: Tensor) -> int | None:
    return next((place for place, cut in enumerate(known) if torch.equal(cut, image)), None)


def test_the_clock_leaves_the_warm_up_out() -> None:
    clock = ways.Clock([1.0, 9.0, 10.0, 12.0, 13.0], [torch.tensor(float(loss)) for loss in (9, 5, 4, 3, 4)])
    told = clock.told(ways.Plan("float32", steps=3, warmup=2))
    assert told == {"images_per_second": 3 * 128 / (13.0 - 9.0), "loss": 5.0}
    with pytest.raises(AssertionError, match="5 steps instead of those of"):
        clock.told(ways.Plan("float32", steps=4, warmup=2))


def test_what_could_not_be_measured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(plan: ways.Plan, clock: ways.Clock) -> None:
        raise ImportError("No module named 'absent'")

    monkeypatch.setitem(ways.WAYS, "absent", (absent, (0,)))
    told = ways.measured("absent", PLAN)
    assert told == {"skipped": "No module named 'absent'"}
    speed = {"median": 2.0, "q1": 1.0, "q3": 3.0, "loss": 0.5}
    assert train_speed.rows({"absent": told, "there": speed}) == [["there", 2.0, 1.0, 3.0, "", "", "", 0.5]]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["by hand", "lightning", "timm", "fastai"])
def test_every_way_trains(way: str) -> None:
    """Few steps: the loss is that of a network that has begun to learn, or was not lost at least."""
    told = ways.measured(way, ways.Plan("float32", steps=2, warmup=1))
    if "skipped" in told:
        pytest.skip(told["skipped"])
    assert told["images_per_second"] > 0 and 0.5 < told["loss"] < 6
