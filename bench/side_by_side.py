"""Eight learning rates on one network: one after the other, in worker processes, stacked in one pass, and as `race` chooses.

Run: `python bench/side_by_side.py [ROUNDS]`. All ways in turn in every round; ratios are taken round by round against one
after the other on one thread. On a machine with other work two processes get a smaller share of the cores than they would
have: the ratio by CPU time (that of one after the other over that of the busiest process) is what a quiet machine would show.
The goal is a ratio of 1.6 on two cores for the way that is chosen.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from _common import in_turn, paired, seed_all, summary, table, write
from runtrue import Task, datasets, optimizers, racing
from runtrue.sandbox import Sandbox, sandbox
from runtrue.trials import Curve
from runtrue.workers import cores, forked

VARIANTS, GOAL = 8, 1.6
FACTORS = [10 ** (-k / 4) for k in range(VARIANTS)]  # of the task's own rate: none diverges, so all take every step


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def cnn() -> nn.Sequential:
    first = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(*first, nn.Conv2d(8, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 10))


def regression(width: int, batch_size: int) -> dict[str, Any]:
    x = torch.randn(64, width)
    return {"train": (x, x.sum(1, keepdim=True).sin()), "loss": nn.MSELoss(), "batch_size": batch_size}


def images() -> dict[str, Any]:
    return {"train": datasets.fashion_mnist(), "loss": nn.CrossEntropyLoss(), "batch_size": 32}


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], dict[str, Any]], int]] = {
    "2-4-1, batch 4": (partial(mlp, 2, 4, 1), partial(regression, 2, 4), 150),
    "3-12-3-1, batch 1": (partial(mlp, 3, 12, 3, 1), partial(regression, 3, 1), 150),
    "784-128-128-10, batch 32": (partial(mlp, 784, 128, 128, 10), images, 60),
    "784-784-50-10, batch 32": (partial(mlp, 784, 784, 50, 10), images, 30),
    "small CNN, batch 32": (cnn, images, 30),
}
"""Network, data, and steps of each variant."""


def task_of(case: str) -> Task:
    seed_all(0)
    build, parts, _ = CASES[case]
    return Task(build(), optimizer=partial(torch.optim.Adam, lr=1e-3), **parts())


def faster(factor: float) -> racing.Treat:
    return lambda task: task.replace(optimizer=optimizers.with_rate(task.optimizer or optimizers.adam, factor))


TREATS = [faster(factor) for factor in FACTORS]


def cpu_seconds() -> tuple[float, float]:
    """Of this process, and of its children that have ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime


def timed(run: Callable[[], object], path: list[float], threads: int = 1) -> float:
    """Wall seconds. To `path`: CPU seconds of this process and of one of the children, which work at the same time."""
    torch.set_num_threads(threads)
    own, children = cpu_seconds()
    begin = time.perf_counter()
    run()
    wall = time.perf_counter() - begin
    torch.set_num_threads(1)
    path.append(cpu_seconds()[0] - own + (cpu_seconds()[1] - children) / min(cores(), VARIANTS))
    return wall


def afresh(box: Sandbox, steps: int, choices: list[str]) -> list[Curve]:
    """A race on a box of which nothing is known: the measurement counts."""
    racing._paces.pop(box, None)
    curves = racing.race(box, TREATS, steps=steps)
    choices.append(racing.paces_of(box).way)
    return curves


BASE = "one after the other"


def compare(case: str, rounds: int) -> dict[str, Any]:
    """Every way on one network."""
    steps = CASES[case][2]
    choices: list[str] = []
    with sandbox(task_of(case)) as box:
        torch.set_num_threads(1)
        ways: dict[str, Callable[[], list[Curve] | None]] = {
            BASE: partial(racing.in_turn, box, TREATS, steps=steps),
            "workers": partial(racing.in_workers, box, TREATS, steps=steps),
            "stacked": partial(racing.in_stack, box, TREATS, steps=steps),
            "race": partial(afresh, box, steps, choices),
        }
        wanted = ways[BASE]() or []
        differences = {name: difference(wanted, way()) for name, way in ways.items() if name != BASE}
        paths: dict[str, list[float]] = {name: [] for name in ways}
        walls = in_turn({name: partial(timed, way, paths[name]) for name, way in ways.items()}, rounds)
        short = partial(racing.in_turn, box, TREATS[:1], steps=10)
        threads = in_turn({str(n): partial(timed, short, [], n) for n in (1, cores())}, rounds) if cores() > 1 else {}
    paths = {name: path[-rounds:] for name, path in paths.items()}  # without the round for warming up
    return {
        "steps": steps,
        "chosen": {way: choices.count(way) for way in set(choices)},
        "wall": {name: summary(wall) for name, wall in walls.items()},
        "ratio": {name: paired(walls[name], walls[BASE])["ratio"] for name in differences},
        "ratio by CPU time": {name: paired(paths[name], paths[BASE])["ratio"] for name in differences},
        "one run on all threads, ratio": paired(threads[str(cores())], threads["1"])["ratio"] if threads else None,
        "largest relative difference": differences,
    }


def difference(wanted: Sequence[Curve], found: Sequence[Curve] | None) -> float:
    """The largest relative difference between losses."""
    assert found is not None and [curve.steps for curve in found] == [curve.steps for curve in wanted]
    return max(abs(a - b) / abs(a) for u, v in zip(wanted, found) for a, b in zip(u.losses, v.losses))


# -- what a fork costs, and the smallest work for which it pays


def overhead(rounds: int) -> dict[str, dict[str, float]]:
    """Seconds a child, of two at a time in a process that has trained: with nothing to do; and beyond the step it takes."""
    with sandbox(task_of("784-128-128-10, batch 32")) as box:
        step = partial(racing.in_turn, box, TREATS[:1], steps=1)
        step()
        nothing = [partial(int, 0)] * 2
        runs: dict[str, Callable[[], object]] = {
            "with nothing to do": lambda: forked(nothing, workers=2),
            "with one step": lambda: forked([step] * 2, workers=2),
            "one step here": step,
        }
        walls = in_turn({name: partial(timed, run, []) for name, run in runs.items()}, 5 * rounds)
    return {name: summary([wall / 2 if run != step else wall for wall in walls[name]]) for name, run in runs.items()}


def smallest(rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Workers against one after the other, by the amount of work."""
    found = {}
    with sandbox(task_of("784-128-128-10, batch 32")) as box:
        for steps in (2, 4, 8, 16, 32):
            here = partial(racing.in_turn, box, TREATS, steps=steps)
            there = partial(racing.in_workers, box, TREATS, steps=steps)
            runs = {"here": partial(timed, here, []), "workers": partial(timed, there, [])}
            walls = in_turn(runs, 2 * rounds)
            found[str(steps)] = {"here": summary(walls["here"])} | paired(walls["workers"], walls["here"])
    return found


def main(rounds: int = 5) -> None:
    load = [os.getloadavg()]
    results: dict[str, Any] = {}
    rows = []
    for case in CASES:
        results[case] = found = compare(case, rounds)
        load.append(os.getloadavg())
        for way, ratio in found["ratio"].items():
            wall, by_cpu = found["wall"][way]["median"], found["ratio by CPU time"][way]["median"]
            goal = ("reached" if ratio["median"] >= GOAL else "missed") if way == "race" else ""
            which = ", ".join(f"{name} {count}" for name, count in found["chosen"].items()) if way == "race" else ""
            rows.append((case, way, wall, ratio["median"], ratio["q1"], ratio["q3"], by_cpu, goal, which))
        rows.append((case, BASE, found["wall"][BASE]["median"], 1.0, "", "", 1.0, "", ""))
        if (threads := found["one run on all threads, ratio"]) is not None:
            rows.append((case, "one run, all threads", "", threads["median"], threads["q1"], threads["q3"], "", "", ""))
    head = ["network", "way", "seconds", "times as quick", "q1", "q3", "by CPU time", f"goal {GOAL}", "chosen"]
    print(table(head, rows))
    forks, small = overhead(rounds), smallest(rounds)
    print(table(["a child", "seconds", "q1", "q3"], [(k, v["median"], v["q1"], v["q3"]) for k, v in forks.items()]))
    lines = [
        (s, v["here"]["median"], v["ratio"]["median"], v["ratio"]["q1"], v["ratio"]["q3"]) for s, v in small.items()
    ]
    print(table(["steps", "seconds here", "workers: times as quick", "q1", "q3"], lines))
    print("load average (1 minute):", ", ".join(f"{one:.1f}" for one, *_ in load))
    results |= {"a child": forks, "by amount of work": small}
    print(write("side_by_side", results, unit="seconds", rounds=rounds, variants=VARIANTS, workers=cores(), load=load))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
