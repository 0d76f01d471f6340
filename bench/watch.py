"""What watching adds to a training step: step time watched over unwatched, two copies of one network in turn, ten steps each.

Run: `python bench/watch.py [--steps 100] [--only resnet20] [--threads 2] [--device cuda]`, on a machine with nothing else to do.
On a GPU the ten steps are waited for together, as a training does, and the batches are a GPU's. For each workload: a control (a
second unwatched copy), the default (readings as often as 0.5 % of the time allows), and every step with all statistics. Copies
start alike and see the same batches; at the end their weights must be equal to the bit. The default reads few steps: beside the
median over the blocks stands the ratio of the means, which every reading counts in. Writes bench/results/watch.json, or
watch_gpu.json.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Callable
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import runtrue
from _common import paired, seed_all, summary, table, write
from runtrue import nets

BLOCK = 10  # steps that one copy takes before it is the other's turn: the watch sees its own steps' pace
GOALS = {"resnet20": (1.01, 1.05), "mlp": (1.02, 1.15), "transformer": (1.01, 1.08), "resnet50": (1.01, 1.05)}
ON_GPU = (1.01, 1.05)


class Language(nn.Module):
    """A stack of transformer blocks on tokens: 30 million parameters."""

    def __init__(self, vocabulary: int = 8000, width: int = 512, blocks: int = 8) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        block = nn.TransformerEncoderLayer(width, 8, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, blocks, enable_nested_tensor=False)
        self.head = nn.Linear(width, 100)

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.head(self.blocks(self.embed(tokens)).mean(1))
        return found


def resnet20(device: str) -> tuple[nn.Module, Tensor, int]:
    return nets.resnet(20), torch.randn(128, 3, 32, 32, device=device), 10


def mlp(device: str) -> tuple[nn.Module, Tensor, int]:
    layers: list[nn.Module] = []
    for _ in range(10):
        layers += [nn.Linear(500, 500), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(500, 10)), torch.randn(100, 500, device=device), 10


def transformer(device: str) -> tuple[nn.Module, Tensor, int]:
    return Language(), torch.randint(8000, (8, 64) if device == "cpu" else (64, 256), device=device), 100


def resnet50(device: str) -> tuple[nn.Module, Tensor, int]:
    return nets.imagenet_resnet(50), torch.randn(64, 3, 224, 224, device=device), 1000


WORKLOADS: dict[str, Callable[[str], tuple[nn.Module, Tensor, int]]] = {
    "resnet20": resnet20, "mlp": mlp, "transformer": transformer, "resnet50": resnet50,
}  # fmt: skip
WAYS: dict[str, dict[str, Any] | None] = {"control": None, "default": {}, "every step": {"every": 1}}


class Side:
    """One copy of the network in training."""

    def __init__(self, model: nn.Module, batch: Tensor, classes: int, watched: dict[str, Any] | None) -> None:
        self.model, self.batch = model, batch
        self.labels = torch.randint(classes, (len(batch),), generator=torch.Generator().manual_seed(0)).to(batch.device)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        self.watch = None if watched is None else runtrue.watch(model, self.optimizer, say=lambda _: None, **watched)

    def step(self) -> None:
        loss = F.cross_entropy(self.model(self.batch), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.watch is not None:
            self.watch.step(loss)

    def block(self, steps: int = BLOCK) -> float:
        """Seconds a step."""
        self.wait()
        start = time.perf_counter()
        for _ in range(steps):
            self.step()
        self.wait()
        return (time.perf_counter() - start) / steps

    def wait(self) -> None:
        if self.batch.device.type == "cuda":
            torch.cuda.synchronize()


def compared(name: str, way: str, steps: int, device: str) -> dict[str, Any]:
    seed_all(0)
    model, batch, classes = WORKLOADS[name](device)
    model.to(device)
    sides = Side(copy.deepcopy(model), batch, classes, None), Side(model, batch, classes, WAYS[way])
    for side in sides:
        side.block(3 if device == "cpu" else 20)
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(steps // BLOCK):
        for place in (0, 1) if number % 2 else (1, 0):
            seconds[place].append(sides[place].block())
    plain, watched = seconds
    for a, b in zip(sides[0].model.parameters(), sides[1].model.parameters(), strict=True):
        assert torch.equal(a, b), f"{name}, {way}: the watched copy has other weights"
    readings = 0
    if (watch := sides[1].watch) is not None:
        readings = watch.readings
        watch.close()
    return {
        "unwatched seconds": summary(plain),
        "ratio": paired(plain, watched)["ratio"],
        "ratio of means": fmean(watched) / fmean(plain),
        "readings": readings,
        "steps": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--steps", type=int, default=100, help="of each copy; the fast workloads take ten times as many"
    )
    parser.add_argument("--only", action="append", choices=list(WORKLOADS))
    parser.add_argument("--way", action="append", choices=list(WAYS))
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.deterministic = True  # the weights are compared
    results: dict[str, Any] = {}
    rows = []
    for name in options.only or (list(WORKLOADS)[:3] if options.device == "cpu" else ["resnet50", "transformer"]):
        for way in options.way or WAYS:
            steps = options.steps * (10 if name == "mlp" else 1)
            found = results.setdefault(name, {})[way] = compared(name, way, steps, options.device)
            ratio = found["ratio"]
            goal = dict(zip(list(WAYS)[1:], GOALS[name] if options.device == "cpu" else ON_GPU)).get(way, "")
            rows.append(
                [name, way, ratio["median"], ratio["q1"], ratio["q3"], found["ratio of means"], goal, found["readings"]]
            )
    print(table(["workload", "way", "ratio", "q1", "q3", "of means", "goal", "readings"], rows))
    conditions = {key: getattr(options, key) for key in ("steps", "threads", "device")}
    if options.device != "cpu":
        conditions["card"] = torch.cuda.get_device_name()
    print(
        write(
            "watch" if options.device == "cpu" else "watch_gpu",
            results,
            unit="step time over an unwatched step",
            load=os.getloadavg(),
            **conditions,
        )
    )


if __name__ == "__main__":
    main()
