"""How long a check takes: wall and CPU seconds, each run in a fresh process, against the bar that it has to stay under.

Run: `python bench/check_time.py [ROUNDS]`. The verdict is asserted in every run. The wall clock counts what a user waits for
after the imports; `runtrue lab init` is the whole process. On a machine with other work the clock counts that too: look at
the CPU seconds (all threads) as well.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from _common import summary, table, write

BARS = {"healthy ResNet-20": 60.0, "demo:tanh-small-init": 10.0, "demo:tanh-xavier": 10.0, "runtrue lab init": 10.0}
EXPECTED = {"healthy ResNet-20": None, "demo:tanh-small-init": "init-too-small", "demo:tanh-xavier": None}


def task_of(case: str) -> Any:
    """The ResNet-20 of the paper (He et al. 2015, section 4.2) on 3 x 32 x 32 images, or a demo."""
    from runtrue import Task, datasets, demos, nets

    if case.startswith("demo:"):
        return demos.load(case.removeprefix("demo:"))
    import torch
    from torch import nn

    return Task(
        partial(nets.resnet, 20, in_channels=3),
        train=datasets.fashion_mnist(channels=3, size=32),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        epochs=20,
        batch_size=128,
    )


def check_once(case: str) -> dict[str, float | int]:
    """In this process: build the task, check it, assert the verdict."""
    import runtrue

    task = task_of(case)
    wall, cpu = time.perf_counter(), time.process_time()
    report = runtrue.check(task)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    first = report.faults[0].cause if report.faults else None
    assert first == EXPECTED[case], f"{case}: expected {EXPECTED[case] or 'no fault'}, got {first}"
    return {"wall": wall, "cpu": cpu, "steps": report.steps}


def lab_once() -> dict[str, float | int]:
    """The whole process of `runtrue lab init`, imports and page included."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "init.html"
        before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "runtrue", "lab", "init", "--out", page], check=True, stdout=subprocess.DEVNULL
        )
        wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
        assert page.stat().st_size > 10_000, "runtrue lab init wrote no page"
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {"wall": wall, "cpu": cpu, "steps": 0}


def in_fresh_process(case: str) -> dict[str, float | int]:
    if case == "runtrue lab init":
        return lab_once()
    done = subprocess.run([sys.executable, __file__, "--once", case], check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, float | int] = json.loads(done.stdout)
    return measured


def main(rounds: int = 3) -> None:
    runs: dict[str, list[dict[str, float | int]]] = {case: [] for case in BARS}
    for _ in range(rounds):
        for case, found in runs.items():
            found.append(in_fresh_process(case))
    results, rows = {}, []
    for case, bar in BARS.items():
        wall, cpu, steps = (summary([run[key] for run in runs[case]]) for key in ("wall", "cpu", "steps"))
        results[case] = {"wall": wall, "cpu": cpu, "steps": steps, "bar": bar}
        verdict = "under" if wall["median"] < bar else "OVER"
        rows.append((case, wall["median"], wall["q1"], wall["q3"], cpu["median"], int(steps["median"]), bar, verdict))
    head = ["seconds", "wall, median", "lower quartile", "upper", "CPU, median", "training steps", "bar", "wall"]
    print(table(head, rows))
    print(write("check_time", results, unit="seconds", rounds=rounds))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        print(json.dumps(check_once(sys.argv[2])))
    else:
        main(*map(int, sys.argv[1:]))
