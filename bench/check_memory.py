"""What a check holds beside the user's model and data, at its peak, in units of the model's size.

Run: `python bench/check_memory.py [ROUNDS]`. The bar: one copy of the model and its gradients, and statistics. Two measures:

- *tensors*: exact. Every allocation and release of torch's CPU allocator, summed up from its profiler; the peak above what
  lives when the task is built. `step` is plain training (forward, backward, the optimizer's step), `check` the whole check.
  A step itself holds the gradients and the activations, so what the check adds is the difference.
- *RSS*: what the operating system saw (`ru_maxrss`), each in a fresh process, `step` and `check` in turn. It counts caches of
  the allocator, runtrue's code and the report as well, some 60 MiB, and wobbles: the verdict is that of the tensors.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any

from _common import paired, summary, table, write
from check_time import task_of

BAR = 1.1  # models that the check may add to a plain step: the copy, and a tenth for statistics …
SMALL = 16  # … and MiB whatever the size of the model: batches that it holds, statistics of activations
WIDTH, LAYERS = 4472, 5  # 100 million parameters, 400 MB in float32
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB on Linux
SICK = "the same with weights that are too small"
CASES = ("ResNet-20", "MLP, 100 million parameters", SICK)


def big_mlp(shrink: float = 1.0) -> Any:
    """Five ReLU layers of 4,472 units with He's weights times `shrink`, batches of 16, SGD without momentum."""
    import torch
    from torch import nn

    import runtrue

    layers = [nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight).data.mul_(shrink)
    model = nn.Sequential(*(part for layer in layers for part in (nn.ReLU(), layer)))
    inputs = torch.randn(64, WIDTH)
    targets = torch.sin(inputs)
    make = partial(torch.optim.SGD, lr=0.2)
    return runtrue.Task(model, train=(inputs, targets), loss=nn.MSELoss(), optimizer=make, batch_size=16)


def built(case: str) -> Any:
    task = task_of("healthy ResNet-20") if case == CASES[0] else big_mlp(0.02 if case == SICK else 1.0)
    return task.built()


def plain_step(task: Any) -> None:
    """What the user's own training holds. The gradients stay, as between two steps."""
    optimizer = task.optimizer(task.model.parameters())
    inputs, targets = (part[: task.batch_size] for part in task.train)
    for _ in range(2):  # the second step meets the state that the first one made
        optimizer.zero_grad()
        task.loss(task.model(inputs), targets).backward()
        optimizer.step()


def whole_check(task: Any) -> None:
    import runtrue

    report = runtrue.check(task, budget=15)  # the peak does not depend on the number of steps
    print(", ".join(f.cause for f in report.findings), file=sys.stderr)


RUNS: dict[str, Callable[[Any], None]] = {"step": plain_step, "check": whole_check}


def model_bytes(task: Any) -> int:
    return sum(t.numel() * t.element_size() for t in (*task.model.parameters(), *task.model.buffers()))


def peak_of_tensors(run: Callable[[], None]) -> int:
    """Bytes of tensors at the peak, above those at the start: every allocation and release, in the order of time."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    profiler: Any = seen.profiler
    events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    assert events, "the profiler saw no allocation"
    alive = accumulate(int(event.nbytes()) for event in sorted(events, key=lambda event: event.start_ns()))
    return max(0, *alive)


def once(case: str, run: str, how: str) -> dict[str, int]:
    """In this process: bytes of the model, and at the peak of the run."""
    import torch

    torch.manual_seed(0)
    task = built(case)
    if how == "tensors":
        return {"model": model_bytes(task), "peak": peak_of_tensors(partial(RUNS[run], task))}
    RUNS[run](task)
    return {"model": model_bytes(task), "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT}


def in_fresh_process(case: str, run: str, how: str) -> float:
    """The peak in models. Raises CalledProcessError if the run fails."""
    done = subprocess.run(
        [sys.executable, __file__, "--once", case, run, how],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return float(found["peak"] / found["model"])


def main(rounds: int = 3) -> None:
    results, rows = {}, []
    for case in CASES:
        size = model_bytes(built(case)) / 2**20
        for how, repeats in (("tensors", 1), ("RSS", rounds)):
            pairs = [[in_fresh_process(case, run, how) for run in RUNS] for _ in range(repeats)]
            step, check = (summary([pair[i] for pair in pairs]) for i in range(2))
            added = paired([a for a, _ in pairs], [b for _, b in pairs])["difference"]
            results[f"{case}, {how}"] = {
                "model_mib": size,
                "step": step,
                "check": check,
                "added": added,
                "bar": BAR,
                "small_mib": SMALL,
            }
            over = size * added["median"] > BAR * size + SMALL
            verdict = "" if how == "RSS" else "OVER" if over else "under"
            rows.append((case, how, step["median"], check["median"], added["median"], size * added["median"], verdict))
    print(
        table(
            ["in models", "measure", "plain step", "check", "added", "added, MiB", f"{BAR:g} models + {SMALL} MiB"],
            rows,
        )
    )
    print(write("check_memory", results, unit="sizes of the model", rounds=rounds))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        print(json.dumps(once(*sys.argv[2:])))
    else:
        main(*map(int, sys.argv[1:]))
