"""The experiment `finetune`: a network that was trained on other classes, adapted in four ways, beside one from scratch (N1.1).

By default the donor is a ResNet-8 trained on six classes of Fashion-MNIST, and the classes to be learned are the other four, from
5, 20 and 50 images each. With `data`, a folder of class folders, the donor is a network of a zoo with its own weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import torch

from runtrue.lab import EXPERIMENTS
from runtrue.lab.experiment import Experiment, Row, within
from runtrue.lab.finetune_ground import Ground, of_fashion, of_folder
from runtrue.lab.finetune_judge import DEEP, HEAD, ONE_HIGH, ONE_LOW, SCRATCH, at, curve_name, judge
from runtrue.lab.finetune_train import FRONT, KEPT, MOMENTUM, trained
from runtrue.lab.runs import seed_by_seed

if TYPE_CHECKING:
    from runtrue.report.blocks import Block

FASHION = "fashion-mnist"
IMAGES = (5, 20, 50)
"""Of each class."""
WAYS = (SCRATCH, HEAD, DEEP, ONE_HIGH, ONE_LOW)
STEPS, STEPS_OF_FOLDER = 120, 30
"""A step of a network of a zoo takes some thirty times as long, and weights of ImageNet need few."""
Runs = Mapping[tuple[int, str], Sequence[Sequence[Row]]]
"""By images a class and way, the rows of each seed."""
LIMITS = {"steps": (20, 5000), "seeds": (1, 100), "seed": (0, 2**31 - 200), "side": (32, 1024)}


def run(
    *,
    seeds: int = 3,
    seed: int = 0,
    steps: int | None = None,
    images: Sequence[int] = IMAGES,
    data: str = FASHION,
    net: str | None = None,
    weights: str | None = None,
    side: int = 96,
) -> Experiment:
    """Train in five ways at every number of images a class, and judge the claims.

    steps: 120, or 30 with a folder. data: "fashion-mnist", or a folder of class folders (or "csv:PATH"); net, weights: then the
    donor, a name of a zoo ("mobilenet_v2" by default) and a file where its weights are not on the machine; side: pixels of the
    pictures. Each seed, from `seed` on, draws other images to train with, other new weights and other batches, and divides a
    folder anew. A class with fewer images gives all it has, and a number that no class has is left out: the settings say so.

    Raises ValueError for a setting out of its limits or if no class has so many images, DataError, ZooError and WeightsError for
    data and networks that are not there, SurgeryError for a network that cannot be trained that way.
    """
    if steps is None:
        steps = STEPS if data == FASHION else STEPS_OF_FOLDER
    settings: dict[str, Any] = {"seeds": seeds, "seed": seed, "steps": steps, "images": list(images), "data": data}
    validate(settings | {"side": side})
    numbers = range(seed, seed + seeds)
    ground = ground_of(data, net, weights, side, numbers, max(images))
    counts = possible(images, ground.sizes())
    found = seed_by_seed(partial(trained, ground, steps), [(count, way) for count in counts for way in WAYS], numbers)
    series = {"ends": ends_of(found)}
    return Experiment(
        experiment="finetune",
        title="Fine-tuning: stand on a trained network",
        claim=EXPERIMENTS["finetune"],
        judgements=judge(series),
        settings=settings | {"images": counts} | told(ground, images, counts) | {"torch": torch.__version__},
        series=series,
        curves=curves_of(found),
        draw=blocks,
    )


def validate(settings: Mapping[str, Any]) -> None:
    """Raises ValueError that says which setting is wrong, and its limits."""
    within(settings, LIMITS)
    images = settings["images"]
    if not images or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in images):
        raise ValueError(f"images must be whole numbers from 1 up, images of each class; got {images!r}")
    if len(set(images)) < len(images):
        raise ValueError(f"images must be different numbers, got {images!r}")


def ground_of(
    data: str, net: str | None, weights: str | None, side: int, seeds: Sequence[int], most: int
) -> Ground:  # fmt: skip
    if data != FASHION:
        return of_folder(data, net, weights, side, seeds, most)
    if net is not None or weights is not None:
        raise ValueError(
            f"{'net' if net is not None else 'weights'} goes with pictures of yours: name a folder of class folders as data "
            "(--data FOLDER)"
        )
    return of_fashion(seeds)


def possible(images: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Those of the numbers, in order, that at least one class has. Raises ValueError if there is none."""
    counts = sorted(n for n in images if n <= max(sizes))
    if not counts:
        raise ValueError(
            f"images: no class has {min(images)} to train with, the largest has {max(sizes)}: add images, or ask for fewer"
        )
    return counts


def told(ground: Ground, images: Sequence[int], counts: Sequence[int]) -> dict[str, Any]:
    """Settings that say what there was to train with, and what there was too little of."""
    sizes = dict(zip(ground.classes, ground.sizes(), strict=True))
    few = {n: ", ".join(f"{name} {size}" for name, size in sizes.items() if size < n) for n in counts}
    pixels, labels = next(iter(ground.val.values()))
    said: dict[str, Any] = {
        "donor": ground.donor, "side": pixels.shape[-1], "validation_images": len(labels), "optimizer": optimizer(ground),
    }  # fmt: skip
    if any(few.values()):
        said["classes_with_fewer"] = "; ".join(f"of {n}: {names}" for n, names in few.items() if names)
    if absent := sorted(set(images) - set(counts)):
        said["left_out"] = f"{', '.join(map(str, absent))} images, since no class has so many to train with"
    return said


def optimizer(ground: Ground) -> str:
    """The rates of all ways, in words."""
    rates, last = ground.rates, KEPT * ground.rates.new
    return (
        f"SGD, momentum {MOMENTUM:g}, rates that fall by a cosine to 0 from {rates.scratch:g} (from scratch), {rates.head:g} "
        f"(mode 1), {rates.new:g} for what is new and {last:g} to {last * FRONT:g} for the rest, from back to front (mode 2), "
        f"{rates.new:g} (one high rate), {last:g} (one low rate)"
    )


# -- what the runs gave


def ends_of(found: Runs) -> list[Row]:
    """A row for each number of images and way."""
    ends = [end_of(count, way, runs) for (count, way), runs in found.items()]
    for row in ends:
        goals = at(ends, row["images"], HEAD)["accuracy_by_seed"]
        row |= reached(found[row["images"], row["way"]], goals)
    return ends


def end_of(count: int, way: str, runs: Sequence[Sequence[Row]]) -> Row:
    last = [rows[-1]["accuracy"] for rows in runs]
    return {
        "images": count, "way": way, "accuracy": fmean(last), "accuracy_spread": pstdev(last), "accuracy_by_seed": last,
        "seconds": fmean(rows[-1]["second"] for rows in runs),
    }  # fmt: skip


def reached(runs: Sequence[Sequence[Row]], goals: Sequence[float]) -> Row:
    """The epoch and the second at which each seed first was as accurate as mode 1 is at its end, and their means; None: never."""
    told: Row = {}
    for key in ("epoch", "second"):
        pairs = zip(runs, goals, strict=True)
        first = [next((row[key] for row in rows if row["accuracy"] >= goal), None) for rows, goal in pairs]
        there = [value for value in first if value is not None]
        told |= {f"{key}_reached": fmean(there) if len(there) == len(first) else None, f"{key}_by_seed": first}
    return told


def curves_of(found: Runs) -> dict[str, list[list[float]]]:
    return {
        curve_name(what, *kind): [[row[what] for row in rows] for rows in runs]
        for kind, runs in found.items()
        for what in ("epoch", "second", "accuracy")
    }


def blocks(experiment: Experiment) -> list[Block]:
    """The figures and tables of the page."""
    from runtrue.lab.finetune_figure import finetune_blocks

    return finetune_blocks(experiment)
