"""What each penalty adds to a training step of ResNet-20: 3 channels of 32 by 32 pixels, SGD with momentum.

Run: `python bench/penalties.py [ROUNDS] [BATCH] [DEVICE]`, with a batch of 128 on the CPU unless said otherwise. Every round
takes one step of each way, in turn; ratios are taken round by round against a step without a penalty, and a second such step is
the control. A whole step wobbles by more than a penalty costs, so `optimizer.step()` is measured alone as well, by CPU time on a
CPU: what a penalty adds to it, over the time of a whole step, is its share. The goal is at most 3 % for each. Writes
bench/results/penalties.json.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from _common import in_turn, paired, seed_all, summary, table, write
from runtrue import nets, optimizers, penalties
from runtrue.penalties import L1, L2, ElasticNet, MaxNorm, Penalty

GOAL = 0.03
BASE, CONTROL = "no penalty", "control: no penalty"
ATTACHED: dict[str, Penalty] = {
    "L1 proximal": L1(1e-5),
    "L1 subgradient": L1(1e-5, "subgradient"),
    "L2 decoupled": L2(1e-4),
    "L2 penalty": L2(1e-4, "penalty"),
    "elastic net": ElasticNet(1e-5, 1e-4),
    "max-norm": MaxNorm(3.0),
}
IN_THE_LOSS: dict[str, Callable[[nn.Module], Tensor]] = {
    "l1 in the loss": partial(penalties.l1, strength=1e-5),
    "l2 in the loss": partial(penalties.l2, strength=1e-4),
}
"""What the attached ones save: the same penalty as a sum that is differentiated."""


class Bench:
    """One network on one batch. A step returns the seconds it took; CPU seconds are kept beside."""

    def __init__(self, batch: int, device: str) -> None:
        seed_all(0)
        self.device = torch.device(device)
        self.net = nets.resnet(20).to(self.device)
        self.inputs = torch.randn(batch, 3, 32, 32, device=self.device)
        self.labels = torch.randint(10, (batch,), device=self.device)
        self.optimizer: Optimizer = optimizers.named("momentum", self.net.parameters(), lr=1e-3)
        self.cpu: dict[str, list[float]] = {}

    def step(self, name: str) -> float:
        attached = ATTACHED[name].attach(self.net, self.optimizer) if name in ATTACHED else None
        term = IN_THE_LOSS.get(name)
        self.wait()
        wall, cpu = time.perf_counter(), time.process_time()
        loss = F.cross_entropy(self.net(self.inputs), self.labels)
        if term is not None:
            loss = loss + term(self.net)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.wait()
        self.cpu.setdefault(name, []).append(time.process_time() - cpu)
        wall = time.perf_counter() - wall
        if attached is not None:
            attached.remove()
        return wall

    def alone(self, name: str) -> float:
        """Seconds of `optimizer.step()` alone: CPU seconds, where nothing else computes."""
        clock = time.perf_counter if self.device.type == "cuda" else time.process_time
        attached = ATTACHED[name].attach(self.net, self.optimizer) if name in ATTACHED else None
        self.wait()
        start = clock()
        self.optimizer.step()
        self.wait()
        seconds = clock() - start
        if attached is not None:
            attached.remove()
        return seconds

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def main(rounds: int = 15, batch: int = 128, device: str = "cpu") -> None:
    bench, load = Bench(batch, device), [os.getloadavg()]
    names = [BASE, CONTROL, *ATTACHED, *IN_THE_LOSS]
    walls = in_turn({name: partial(bench.step, name) for name in names}, rounds, warmup=2)
    cpu = {name: seconds[-rounds:] for name, seconds in bench.cpu.items()}
    alone = in_turn({name: partial(bench.alone, name) for name in [BASE, *ATTACHED]}, 4 * rounds, warmup=2)
    load.append(os.getloadavg())
    step = summary((walls if bench.device.type == "cuda" else cpu)[BASE])["median"]
    results: dict[str, dict[str, Any]] = {}
    for name in names:
        results[name] = {"seconds": summary(walls[name]), "CPU seconds": summary(cpu[name])}
        if name != BASE:
            results[name] |= {"ratio": paired(walls[BASE], walls[name])["ratio"]}
            results[name] |= {"ratio by CPU time": paired(cpu[BASE], cpu[name])["ratio"]}
        if name in alone and name != BASE:
            added = paired(alone[BASE], alone[name])["difference"]
            results[name] |= {"added to optimizer.step": added, "share of a step": added["median"] / step}
    rows = [row(name, found) for name, found in results.items()]
    print(table(["way", "seconds", "ratio", "q1", "q3", "by CPU time", "added ms", "share"], rows))
    kept = [found["share of a step"] <= GOAL for found in results.values() if "share of a step" in found]
    print(f"within the goal of {GOAL:.0%}: {sum(kept)} of {len(kept)}")
    conditions: dict[str, Any] = {
        "unit": "seconds",
        "rounds": rounds,
        "batch": batch,
        "device": named(bench.device),
        "goal": GOAL,
    }
    print(write("penalties", results, **conditions, threads=torch.get_num_threads(), load=load))


def row(name: str, found: dict[str, Any]) -> list[Any]:
    ratio = found.get("ratio", {"median": 1.0, "q1": "", "q3": ""})
    by_cpu = found.get("ratio by CPU time", {"median": 1.0})["median"]
    added = found.get("added to optimizer.step", {"median": None})["median"]
    share = found.get("share of a step")
    cells = ["" if added is None else 1e3 * added, "" if share is None else f"{share:.2%}"]
    return [name, found["seconds"]["median"], ratio["median"], ratio["q1"], ratio["q3"], by_cpu, *cells]


def named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


if __name__ == "__main__":
    main(*(int(word) if word.isdecimal() else word for word in sys.argv[1:]))  # type: ignore[arg-type]
