"""What healthy networks look like at their first step: quantiles of every statistic that a check holds against a limit.

Run: `python bench/diagnosis/calibrate.py [--networks 300] [--seed 0]`. Depth, width, activation, initial weights and
normalization are drawn at random; each network is then trained by the plain loop, and only those that learn count as healthy.
A limit in `src/runtrue/checks` should lie outside of these quantiles, and can name this run. Writes every network to
`bench/results/calibrate.json`, and the quantiles to `calibration.json` beside the code.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from _common import seed_all, table, write
from diagnosis import data, loop, metrics
from diagnosis.parts import Arm
from runtrue import Task
from runtrue.measure import Start, measure_start
from runtrue.nets.parts import activation_named
from runtrue.sandbox import sandbox

LEARNS = 0.5  # of the way from chance to perfect after the plan: else the network is not counted as healthy
KEPT = Path(__file__).with_name("calibration.json")
QUANTILES = (0.0, 0.01, 0.05, 0.5, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Network:
    """One draw. `weights`: "torch" (the layers' own), "xavier" or "he"; `norm` stands in front of each activation."""

    kind: str
    depth: int
    width: int
    activation: str
    weights: str
    norm: str
    seed: int


def drawn(rng: random.Random) -> Network:
    kind = rng.choice(("mlp", "mlp", "cnn"))
    return Network(
        kind,
        depth=rng.choice((1, 2, 3, 4, 6, 8, 10) if kind == "mlp" else (1, 2, 3, 4, 6)),
        width=rng.choice((16, 32, 64, 128, 256) if kind == "mlp" else (8, 16, 32)),
        activation=rng.choice(("relu", "relu", "tanh", "leaky_relu", "elu", "gelu", "silu", "sigmoid")),
        weights=rng.choice(("torch", "xavier", "he")),
        norm=rng.choice(("none", "none", "batch", "layer")),
        seed=rng.randrange(1000),
    )


def build(network: Network) -> nn.Sequential:
    """(B, 64) or (B, 1, 8, 8) -> (B, 10)."""
    layers: list[nn.Module] = []
    width, before = network.width, 64 if network.kind == "mlp" else 1
    for _ in range(network.depth):
        mlp = network.kind == "mlp"
        layers.append(nn.Linear(before, width) if mlp else nn.Conv2d(before, width, 3, padding=1))
        if network.norm == "batch":
            layers.append(nn.BatchNorm1d(width) if mlp else nn.BatchNorm2d(width))
        elif network.norm == "layer":
            layers.append(nn.LayerNorm(width) if mlp else nn.GroupNorm(1, width))
        layers.append(activation_named(network.activation))
        before = width
    if network.kind == "cnn":
        layers += [nn.AvgPool2d(2), nn.Flatten()]
    layers.append(nn.Linear(width if network.kind == "mlp" else width * 16, 10))
    model = nn.Sequential(*layers)
    for layer in model.modules():
        if network.weights != "torch" and isinstance(layer, (nn.Linear, nn.Conv2d)):
            (nn.init.kaiming_normal_ if network.weights == "he" else nn.init.xavier_normal_)(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return model


@cache
def digits() -> tuple[Tensor, Tensor]:
    """The 8 × 8 digits of scikit-learn, standardized as a whole."""
    pixels, labels = data.table("digits", raw=True)
    return (pixels - pixels.mean()) / pixels.std(), labels


def task_of(network: Network) -> Task:
    pixels, labels = digits()
    inputs = pixels if network.kind == "mlp" else pixels.reshape(-1, 1, 8, 8)
    adam = partial(torch.optim.Adam, lr=2e-3)
    return Task(
        partial(build, network), (inputs, labels), loss=nn.CrossEntropyLoss(), optimizer=adam, epochs=6, batch_size=64
    )


def statistics_of(start: Start) -> dict[str, float]:
    """What the checks of the initial weights and of the architecture look at; absent where it does not apply."""
    layers = [layer for layer in start.layers if layer.kind in ("linear", "conv")]
    hidden, own = layers[:-1], [layer for layer in layers if not layer.normalized]
    gains = [layer.gain for layer in own if layer.gain is not None]
    stds = [layer.std for layer in hidden if layer.std is not None]
    signals = [layer.signal_norm for layer in layers if layer.signal_norm]
    found: dict[str, float | None] = {
        "smallest gain": min(gains, default=None),
        "largest gain": max(gains, default=None),
        "std, last hidden over first": stds[-1] / stds[0] if len(stds) > 1 and stds[0] else None,
        "gradient, first layer over last": signals[0] / signals[-1] if len(signals) > 1 else None,
        "largest dead fraction": max((layer.dead_fraction or 0.0 for layer in hidden), default=None),
        "largest saturated fraction": max((layer.saturated_fraction or 0.0 for layer in hidden), default=None),
        "largest update ratio": max((layer.update_ratio for layer in layers if layer.update_ratio), default=None),
        "smallest update ratio": min((layer.update_ratio for layer in layers if layer.update_ratio), default=None),
        "loss at the start over its expectation": start.loss / start.baseline.start if start.baseline else None,
    }
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


def examine(network: Network) -> dict[str, Any]:
    """The statistics at the first step, and how far the network gets."""
    task = task_of(network)
    with sandbox(task, network.seed) as box:
        start = measure_start(box)
    seed_all(network.seed)
    arm = Arm(task, metrics.accuracy)
    accuracy = loop.judge(loop.fit(task), arm)
    skill = metrics.accuracy.skill(accuracy, arm.examination[1])
    return {**asdict(network), "skill": round(skill, 3), "learns": skill >= LEARNS, "statistics": statistics_of(start)}


def quantile(values: Sequence[float], share: float) -> float:
    """Linear between the neighbours."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def quantiles(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    names = dict.fromkeys(name for row in rows for name in row["statistics"])
    found = {}
    for name in names:
        values = [row["statistics"][name] for row in rows if name in row["statistics"]]
        found[name] = [len(values), *(quantile(values, share) for share in QUANTILES)]
    return found


GROUPS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "all that learn": lambda row: True,
    "without normalization": lambda row: row["norm"] == "none",
    "with normalization": lambda row: row["norm"] != "none",
    "sigmoid or tanh": lambda row: row["activation"] in ("sigmoid", "tanh"),
    "ReLU and its kin": lambda row: row["activation"] not in ("sigmoid", "tanh"),
    "six layers and more": lambda row: row["depth"] >= 6,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(options.seed)
    rows = []
    for number in range(options.networks):
        rows.append(examine(drawn(rng)))
        if (number + 1) % 25 == 0:
            print(f"{number + 1} of {options.networks}, {sum(row['learns'] for row in rows)} learn", flush=True)
    learns = [row for row in rows if row["learns"]]
    results: dict[str, Any] = {"networks": rows, "quantiles": {}}
    for group, belongs in GROUPS.items():
        found = quantiles([row for row in learns if belongs(row)])
        results["quantiles"][group] = found
        print(
            f"\n{group}\n" + table(["", "n", *map(str, QUANTILES)], [[name, *values] for name, values in found.items()])
        )
    print(f"\nmedian of what is learned: {statistics.median(row['skill'] for row in learns):.3f}")
    kept = results["quantiles"] | {"columns": ["n", *QUANTILES]}
    write("calibrate", kept, KEPT, seed=options.seed, networks=options.networks, learn=len(learns))
    print(write("calibrate", results, seed=options.seed, networks=options.networks, learn=len(learns)))


if __name__ == "__main__":
    main()
