"""Does the sweep find a learning rate that holds, from wherever it starts, and none where there is none?

    python bench/learning_rates.py [SEEDS]

First the judge's thresholds: short curves over four decades are judged, and each way to pick a rate out of the good ones is
compared with what a three times longer run of another seed reaches at every rate. Then the sweep itself: from a thousandth and
from a thousand times a healthy rate, on networks that cannot learn, and on labels that were shuffled. Writes
bench/results/learning_rates.json.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import _common
from diagnosis.hosts import BATCH, EPOCHS, IMAGES, Host
from runtrue import Task, demos, optimizers, rates, trials
from runtrue.curves import end, tail, wobble
from runtrue.sandbox import sandbox
from runtrue.sweep import sweep

TASKS = (
    ("mlp", "classes", "momentum"),
    ("mlp", "regression", "adam"),
    ("cnn-batchnorm", "classes", "momentum"),
    ("transformer", "binary", "adamw"),
)
DEAD = ("zero-init", "tanh-small-init", "deep-sigmoid", "dead-relu", "nan-pixels")
SHUFFLED = "shuffled labels"
SHORT, LONG = 100, 300
GRID = tuple(10 ** (power / 2) for power in range(-4, 5))
WRONG = (1e-3, 1e3)
NEARS = (0.03, 0.05, 0.1, 0.15, 0.2)
Picks = dict[str, Callable[[Sequence[rates.JudgedCurve]], rates.JudgedCurve]]
PICKS: Picks = {
    "lowest end": lambda good: min(good, key=lambda curve: end(curve.losses)),
    "largest": lambda good: good[-1],
    "smallest": lambda good: good[0],
    "middle": lambda good: good[len(good) // 2],
}


def main() -> None:
    torch.set_num_threads(1)
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    grids = [grid(name, seed) for name in TASKS for seed in range(seeds)]
    thresholds = shown([row for near in NEARS for row in picked(near, grids)])
    found = shown([row for name in TASKS for seed in range(seeds) for row in swept(name, seed)])
    none = shown([without(name, seed) for name in (*DEAD, SHUFFLED) for seed in range(seeds)])
    summary = summarised(grids, found, none)
    print(_common.table(("figure", "value"), [[key, value] for key, value in summary.items()]))
    results = {"thresholds": thresholds, "sweeps": found, "dead": none, "summary": summary}
    print(f"\nwritten: {_common.write('learning_rates', results, seeds=seeds, short=SHORT, long=LONG)}")


def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    print(_common.table(list(rows[0]), [list(row.values()) for row in rows]), "\n", flush=True)
    return rows


def healthy_task(architecture: str, problem: str, optimizer: str, *, factor: float = 1.0) -> Task:
    """One of the healthy tasks of the bench of the diagnosis; `factor` multiplies its learning rate."""
    task = Host(architecture, problem, optimizer).arm().task
    return task if factor == 1.0 else times(factor)(task)


def constant_loss(targets: Tensor) -> float:
    """Loss of the best constant prediction: entropy for labels and for 0/1 columns, variance for other numbers."""
    if not targets.is_floating_point():
        share = F.one_hot(targets).double().mean(0)
        return float(torch.special.entr(share).sum())
    if bool(((targets == 0) | (targets == 1)).all()):
        share = targets.double().mean(0)
        return float((torch.special.entr(share) + torch.special.entr(1 - share)).mean())
    return float(targets.double().var(0, correction=0).mean())


# -- thresholds


def grid(name: tuple[str, str, str], seed: int) -> dict[str, Any]:
    """Short curves at every rate, and where longer runs from other weights on other batches end at the same rates."""
    task = healthy_task(*name)
    constant = constant_loss(task.train[1])
    short, _ = runs(task, seed, SHORT)
    long, base = runs(task, seed + 100, LONG)
    ends = {rate: math.inf if curve.diverged else curve.end for rate, curve in long.items()}
    curves = [rates.RateCurve(rate, curve.losses) for rate, curve in short.items()]
    return {"task": " · ".join(name), "seed": seed, "base": base, "constant": constant, "curves": curves, "ends": ends}


def runs(task: Task, seed: int, steps: int) -> tuple[dict[float, trials.Curve], float]:
    with sandbox(task, seed) as box:
        base = optimizers.rate(box.optimizer(box.task))
        return {base * factor: trials.run(box, times(factor), steps=steps) for factor in GRID}, base


def times(factor: float) -> Callable[[Task], Task]:
    return lambda task: task.replace(optimizer=optimizers.with_rate(task.optimizer or optimizers.adam, factor))


def picked(near: float, grids: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """For each way to pick a rate, how much it lacks of what the best rate of the grid removes in the longer run."""
    kept, rates.NEAR = rates.NEAR, near
    try:
        good = [[c for c in rates.judge(g["curves"], g["constant"]) if c.verdict == "good"] for g in grids]
    finally:
        rates.NEAR = kept
    for name, pick in PICKS.items():
        lacks = sorted(lack(g, pick(curves).rate) for g, curves in zip(grids, good, strict=True) if curves)
        yield {
            "near": near,
            "pick": name,
            "good a task": statistics.fmean(map(len, good)),
            "mean lack": statistics.fmean(lacks),
            "most": lacks[-1],
            "n": len(lacks),
        }


def lack(grid: dict[str, Any], rate: float) -> float:
    best = min(grid["ends"].values())
    return float((min(grid["ends"][rate], grid["constant"]) - best) / (grid["constant"] - best))


# -- the sweep


def swept(name: tuple[str, str, str], seed: int) -> Iterator[dict[str, Any]]:
    """From each wrong rate: what is suggested, and what a whole plan at that rate removes beside the healthy one."""
    healthy = removed(healthy_task(*name), seed)
    for factor in WRONG:
        task = healthy_task(*name, factor=factor)
        with sandbox(task, seed) as box:
            found = sweep(box, constant=constant_loss(task.train[1]), steps=SHORT)
            steps = box.steps
        rate = found.suggestion.rate
        reached = math.nan if rate is None else removed(healthy_task(*name, factor=factor * rate / found.own), seed)
        yield {
            "task": " · ".join(name), "seed": seed, "own": found.own, "suggested": rate, "removed": reached, "healthy": healthy,
            "checked": found.proof is not None, "own rate": found.of_own.verdict if found.of_own else None, "steps": steps,
        }  # fmt: skip


def removed(task: Task, seed: int) -> float:
    """Share of the constant's loss that the whole plan removes, from other weights than the sweep saw."""
    steps = EPOCHS * IMAGES // BATCH
    with sandbox(task, seed + 200) as box:
        curve = trials.run(box, steps=steps)
    constant = constant_loss(task.train[1])
    return -math.inf if curve.diverged else (constant - curve.end) / constant


def without(name: str, seed: int) -> dict[str, Any]:
    """A task for which the answer has to be that there is no rate."""
    with sandbox(shuffled(seed) if name == SHUFFLED else demos.load(name), seed) as box:
        found = sweep(box, constant=math.log(10), steps=SHORT)
        ends = [end(curve.losses) for curve in found.curves if curve.lost_at is None]
        share = 1 - min(ends) / math.log(10) if ends else math.nan
        return {"task": name, "seed": seed, "suggested": found.suggestion.rate, "removed": share, "steps": box.steps}


def shuffled(seed: int) -> Task:
    """Labels that the images do not tell."""
    task = healthy_task("mlp", "classes", "momentum")
    images, labels = task.train
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return task.replace(train=(images, labels[order]))


def summarised(
    grids: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]], none: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    near = [row for row in found if row["suggested"] is not None and row["removed"] >= 0.9 * row["healthy"]]
    of_own = Counter(
        curve.verdict
        for one in grids
        for curve in rates.judge(one["curves"], one["constant"])
        if math.isclose(curve.rate, one["base"])
    )
    judged = [(rates.judge(one["curves"], one["constant"]), one["constant"]) for one in grids]
    calm = [(c, constant) for curves, constant in judged for c in curves if c.verdict in ("good", "low")]
    rises = [end(c.losses) / max(c.losses[0], constant) - 1 for c, constant in calm]
    jumps = [wobble(tail(c.losses)) / (constant - end(c.losses)) for c, constant in calm if c.verdict == "good"]
    best = [1 - min(end(c.losses) for c in one["curves"] if c.lost_at is None) / one["constant"] for one in grids]
    return {
        "sweeps": len(found),
        "suggested a rate": sum(row["suggested"] is not None for row in found),
        "within a tenth of the healthy rate": len(near),
        "healthy rate, by verdict": dict(of_own),
        "least removed by the best rate of a grid": min(best),
        "highest end of a good or low curve over its start": max(rises),
        "largest jump of a good curve, share of what it removed": max(jumps),
        "without a rate": len(none),
        "of them with a suggestion": sum(row["suggested"] is not None for row in none),
        "most removed without a rate": max(row["removed"] for row in none if not math.isnan(row["removed"])),
        "median steps of a sweep": statistics.median(row["steps"] for row in found),
    }


if __name__ == "__main__":
    main()
