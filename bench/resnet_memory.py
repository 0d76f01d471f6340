"""What a training step of ResNet-1202 holds at its peak, with activation checkpointing and without, and what that costs in time.

Run: `python bench/resnet_memory.py [DEPTH [BATCH [ROUNDS]]]`. Each step runs in a fresh process, with and without in turn:
forward, backward and the step of SGD with momentum, on 3x32x32 images, on one thread. The loss has to be the same to the bit.
Both measures hold the gradients and the momentum of the parameters, which are the same either way. Two measures:

- *tensors*: exact, every allocation of torch's CPU allocator, as in `check_memory.py`, above the process with its network.
- *RSS*: what the operating system saw (`ru_maxrss`), the whole process. glibc keeps much of what was freed for later, and more
  where tensors come and go, as in checkpointing: with MALLOC_MMAP_THRESHOLD_=131072 in the environment it gives it back, at the
  price of time.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

from _common import paired, summary, table, write
from check_memory import RSS_UNIT, peak_of_tensors

MIB = 2**20
WAYS = ("kept", "checkpointed")


def once(depth: int, batch: int, checkpointed: bool, how: str) -> dict[str, float]:
    """In this process: MiB at the peak of the step, its CPU seconds, and its loss."""
    import torch
    import torch.nn.functional as F

    from runtrue import nets

    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = nets.resnet(depth, checkpoint=checkpointed)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    inputs, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    losses: list[float] = []

    def step() -> None:
        loss = F.cross_entropy(net(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    start = time.process_time()
    if how == "tensors":
        peak = peak_of_tensors(step)
    else:
        step()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    return {"peak": peak / MIB, "seconds": time.process_time() - start, "loss": losses[0]}


def in_fresh_process(*words: object) -> dict[str, float]:
    """Raises CalledProcessError if the run fails."""
    command = [sys.executable, __file__, "--once", *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(depth: int = 1202, batch: int = 32, rounds: int = 3) -> None:
    exact = [in_fresh_process(depth, batch, number, "tensors") for number in range(2)]
    pairs = [[in_fresh_process(depth, batch, number, "RSS") for number in range(2)] for _ in range(rounds)]
    losses = {run["loss"] for run in (*exact, *(run for pair in pairs for run in pair))}
    assert len(losses) == 1, f"checkpointing changed the loss: {losses}"
    rows = {
        "tensors, MiB": [run["peak"] for run in exact],
        "RSS, MiB": [summary([pair[number]["peak"] for pair in pairs])["median"] for number in range(2)],
        "CPU seconds": [summary([pair[number]["seconds"] for pair in pairs])["median"] for number in range(2)],
    }
    lines = [(name, kept, checkpointed, checkpointed / kept) for name, (kept, checkpointed) in rows.items()]
    print(table([f"ResNet-{depth}, {batch} images", *WAYS, "ratio"], lines))
    ratios = {
        key: paired(*([pair[i][key] for pair in pairs] for i in range(2)))["ratio"] for key in ("peak", "seconds")
    }
    results = {name: dict(zip(WAYS, numbers, strict=True)) for name, numbers in rows.items()}
    print(write("resnet_memory", {**results, "ratio": ratios}, depth=depth, batch=batch, rounds=rounds, threads=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        depth, batch, number, how = sys.argv[2:]
        print(json.dumps(once(int(depth), int(batch), bool(int(number)), how)))
    else:
        main(*map(int, sys.argv[1:]))
