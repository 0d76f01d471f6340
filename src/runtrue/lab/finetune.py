"""The experiment `finetune`: a network that was trained on other classes, adapted in three ways, beside one from scratch (N1.1).

By default the donor is a ResNet-8 trained on six classes of Fashion-MNIST, and the classes to be learned are the other four, from
5, 20 and 50 images each. With `data`, a folder of class folders, the donor is a network of a zoo with its own weights.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from runtrue.finetune.features import features
from runtrue.finetune.rates import groups
from runtrue.finetune.still import standing_still
from runtrue.lab import EXPERIMENTS
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.finetune_ground import Ground, ground_of
from runtrue.lab.finetune_judge import DEEP, HEAD, ONE_RATE, SCRATCH, judge
from runtrue.lab.runs import Examples, evaluate, seed_by_seed

if TYPE_CHECKING:
    from runtrue.report.blocks import Block

IMAGES = (5, 20, 50)
"""Of each class."""
WAYS = (SCRATCH, HEAD, DEEP, ONE_RATE)
RATE = 0.05
"""Of what is new, by SGD with momentum 0.9 and a cosine to 0; of everything, from scratch and with one rate for all."""
KEPT, FRONT = 0.1, 0.1
"""Mode 2: rate of the last kept layer as a share of that, and of the first layer as a share of that of the last kept one."""
BATCH = 32
EVERY = 10  # steps from one look at the validation images to the next
LIMITS = {"steps": (20, 5000), "seeds": (1, 100), "seed": (0, 2**31 - 200)}


def run(
    *,
    seeds: int = 3,
    seed: int = 0,
    steps: int = 120,
    images: Sequence[int] = IMAGES,
    data: str = "fashion-mnist",
    net: str | None = None,
    weights: str | None = None,
    side: int = 112,
) -> Experiment:
    """Train in four ways at every number of images a class, and judge the claims.

    data: "fashion-mnist", or a folder of class folders; net, weights: then the donor, a name of a zoo ("mobilenet_v2" by default)
    and a file where its weights are not on the machine; side: pixels of the pictures. Each seed, from `seed` on, draws other
    images to train with, other new weights and other batches. Raises ValueError for a setting out of its limits, DataError,
    ZooError and WeightsError for data and networks that are not there.
    """
    settings: dict[str, Any] = {"data": data, "seeds": seeds, "seed": seed, "steps": steps, "images": list(images)}
    validate(settings)
    ground = ground_of(data, net, weights, side, range(seed, seed + seeds))
    kinds = [(count, way) for count in images for way in WAYS]
    found = seed_by_seed(partial(trained, ground, steps), kinds, range(seed, seed + seeds))
    ends, curves = [], []
    for (count, way), runs in found.items():
        ends.append(end_of(count, way, runs))
        curves += course_of(count, way, runs)
    reached(ends, curves)
    series = {"ends": ends, "curves": curves}
    return Experiment(
        experiment="finetune",
        title="Fine-tuning: stand on a trained network",
        claim=EXPERIMENTS["finetune"],
        judgements=judge(series),
        settings={**settings, "donor": ground.donor, "optimizer": f"SGD, momentum 0.9, {RATE:g}", "torch": torch.__version__},
        series=series,
        draw=blocks,
    )  # fmt: skip


def validate(settings: Mapping[str, Any]) -> None:
    for name, (low, high) in LIMITS.items():
        value = settings[name]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
    images = settings["images"]
    if not images or any(isinstance(n, bool) or not isinstance(n, int) or n < 2 for n in images):
        raise ValueError(f"images must be whole numbers from 2 up, images of each class; got {images!r}")


def trained(ground: Ground, steps: int, kind: tuple[int, str], seed: int) -> list[Row]:
    """One run: rows of "step", "seconds" (of this process, without the looks) and "accuracy" on the validation images."""
    count, way = kind
    train = some_of(ground.train, count, seed)
    model, head, fresh = ground.start(seed, trained=way != SCRATCH)
    if way == HEAD:
        with standing_still(model, fresh):
            began = time.process_time()
            kept = features(model, head, parts(train))
            spent = time.process_time() - began
            val = features(model, head, parts(ground.val))
        part = model.get_submodule(head)
        return fitted(part, [{"params": list(part.parameters()), "lr": RATE}], (kept.inputs, kept.labels),
                      (val.inputs, val.labels), steps, seed, spent)  # fmt: skip
    found = (
        groups(model, RATE, fresh, kept=KEPT, front=FRONT)
        if way == DEEP
        else [{"params": list(model.parameters()), "lr": RATE}]
    )
    return fitted(model, found, train, ground.val, steps, seed)


def fitted(
    net: nn.Module, found: list[dict[str, Any]], train: Examples, val: Examples, steps: int, seed: int, spent: float = 0.0
) -> list[Row]:  # fmt: skip
    optimizer = torch.optim.SGD(found, lr=RATE, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    draw = Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    rows: list[Row] = []
    batch = min(BATCH, len(train[1]))
    for step in range(1, steps + 1):
        began = time.process_time()
        if len(order) < batch:
            order = torch.randperm(len(train[1]), generator=draw)
        places, order = order[:batch], order[batch:]
        net.train()
        loss = F.cross_entropy(net(train[0][places]), train[1][places])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        spent += time.process_time() - began
        if step % EVERY == 0 or step == steps:
            rows.append({"step": step, "seconds": spent, "accuracy": evaluate(net, val)[1]})
    return rows


def some_of(examples: Examples, count: int, seed: int) -> Examples:
    """So many of each class, other ones for each seed; all of a class that has fewer."""
    draw = Generator().manual_seed(seed)
    places = []
    for label in examples[1].unique():
        own = (examples[1] == label).nonzero()[:, 0]
        places.append(own[torch.randperm(len(own), generator=draw)[:count]])
    chosen = torch.cat(places)
    return examples[0][chosen], examples[1][chosen]


def parts(examples: Examples) -> list[tuple[Tensor, Tensor]]:
    return list(zip(examples[0].split(BATCH), examples[1].split(BATCH), strict=True))


def end_of(count: int, way: str, runs: Sequence[Sequence[Row]]) -> Row:
    last = [rows[-1]["accuracy"] for rows in runs]
    return {
        "images": count, "way": way, "accuracy": fmean(last), "accuracy_spread": pstdev(last), "accuracy_by_seed": last,
        "seconds": fmean(rows[-1]["seconds"] for rows in runs),
    }  # fmt: skip


def course_of(count: int, way: str, runs: Sequence[Sequence[Row]]) -> list[Row]:
    told = []
    for at in zip(*runs, strict=True):
        values = [row["accuracy"] for row in at]
        told.append(
            {"images": count, "way": way, "step": at[0]["step"], "seconds": fmean(row["seconds"] for row in at),
             "accuracy": fmean(values), "accuracy_by_seed": values}
        )  # fmt: skip
    return told


def reached(ends: Sequence[Row], curves: Sequence[Row]) -> None:
    """Note in each row of `ends` the step and second at which the mean accuracy first was what mode 1 ends with; None: never."""
    goals = {row["images"]: row["accuracy"] for row in ends if row["way"] == HEAD}
    for row in ends:
        own = (c for c in curves if (c["images"], c["way"]) == (row["images"], row["way"]))
        first = next((c for c in own if c["accuracy"] >= goals[row["images"]]), None)
        row["step_reached"] = first["step"] if first else None
        row["second_reached"] = first["seconds"] if first else None


def blocks(experiment: Experiment) -> list[Block]:
    """The figures and tables of the page."""
    from runtrue.lab.finetune_figure import finetune_blocks

    return finetune_blocks(experiment)
