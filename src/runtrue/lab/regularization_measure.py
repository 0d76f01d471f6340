"""One training under a penalty on the weights (N2.1), and what it leaves of them: the measuring half of `regularization`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from runtrue import nets, penalties, stats
from runtrue.lab.experiment import Row
from runtrue.lab.runs import Examples, Run, alone, evaluate, fit
from runtrue.lab.training import CLASSES, INPUTS, examples

HELD_BACK = 1000
"""Of 3,000 drawn examples, those that are not trained on. Of the images there are 1,000 more."""
NOISE = 100
"""Inputs of pure noise beside the real ones, N(0, 1): a network can learn examples by heart by them, and whether noise gets a
weight can be read."""
OTHER = 1_000_003
"""Added to the seed for the noise: drawn data begin with the same numbers."""
BINS = 61
"""Of a histogram: odd, so that one stands astride 0."""
ROUNDS, WARMUP = 60, 3
"""Turns in which the time of a step is taken, and before them those that are not counted."""


KINDS: Mapping[str, Callable[[float], penalties.Penalty]] = {
    "l1": penalties.L1,
    "l2": penalties.L2,
    "elastic-net": lambda strength: penalties.ElasticNet(strength, strength),
    "max-norm": penalties.MaxNorm,
}
"""Penalties by key, each with the number that sets how strong it is: λ, of the elastic net for both parts, or the limit c."""


@dataclass(frozen=True)
class Plan:
    """One training. Without a kind, without a penalty."""

    kind: str = ""
    strength: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a training left: accuracies of training, of the examples to choose by and of those to judge by; its weights."""

    train: float
    val: float
    test: float
    lost: bool
    zero: float
    """Share of the weights that are exactly 0."""
    noise_zero: float
    """The same of those on the inputs of noise."""
    mean_weight: float
    largest_norm: float
    """The largest norm of the incoming weights of a unit, over all layers."""
    counts: tuple[int, ...]
    edges: tuple[float, ...]


def trained(plan: Plan, seed: int, settings: Mapping[str, Any], span: float) -> Outcome:
    """Train with this seed, and read. Every training of a seed begins with the same weights and sees the same batches.

    span: how far the histogram of the weights reaches on either side of 0; what lies beyond counts at its ends.
    """
    train, val, test = sets(settings["data"], seed)
    model, optimizer = begun(plan, seed, settings)
    run = fit(
        model, train, val, epochs=settings["epochs"], batch_size=settings["batch_size"], optimizer=optimizer, seed=seed
    )
    return outcome(model, run, evaluate(model, test)[1], span)


def begun(plan: Plan, seed: int, settings: Mapping[str, Any]) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The network before training, and its optimizer with the penalty on it."""
    torch.manual_seed(seed)
    inputs = INPUTS[settings["data"]] + NOISE
    model = nets.mlp([inputs, *[settings["width"]] * settings["depth"], CLASSES], "tanh").float()
    optimizer = torch.optim.SGD(model.parameters(), lr=settings["rate"], momentum=settings["momentum"])
    if plan.kind:
        KINDS[plan.kind](plan.strength).attach(model, optimizer)
    return model, optimizer


def sets(data: str, seed: int) -> tuple[Examples, Examples, Examples]:
    """Examples to train on, to choose the strength by, and to judge by: what was chosen by a set looks too good on it."""
    inputs, labels = examples(data, seed)
    if data == "fashion-mnist":
        from runtrue.datasets import fashion_mnist

        more = fashion_mnist("test", flat=True)
        inputs, labels = torch.cat([inputs, more[0]]), torch.cat([labels, more[1]])
    generator = Generator().manual_seed(seed + OTHER)
    noise = torch.randn(len(inputs), NOISE, generator=generator, dtype=torch.float32)
    inputs = torch.cat([inputs, noise], 1)
    sizes = [len(labels) - HELD_BACK, HELD_BACK // 2, HELD_BACK // 2]
    train, val, test = zip(inputs.split(sizes), labels.split(sizes), strict=True)
    return train, val, test


def outcome(model: nn.Module, run: Run, test: float, span: float) -> Outcome:
    weights = [p.detach() for p in penalties.penalised(model)]
    flat = torch.cat([weight.flatten() for weight in weights])
    counts, edges, below, above, _ = stats.histogram(flat, BINS, -span, span)
    counts[0], counts[-1] = counts[0] + below, counts[-1] + above
    return Outcome(
        train=run.epochs[-1].train_accuracy,
        val=run.epochs[-1].val_accuracy,
        test=test,
        lost=run.diverged,
        zero=float((flat == 0).double().mean()),
        noise_zero=float((weights[0][:, -NOISE:] == 0).double().mean()),
        mean_weight=float(flat.abs().mean()),
        largest_norm=max(float(weight.norm(dim=1).max()) for weight in weights),
        counts=tuple(counts.tolist()),
        edges=tuple(edges.tolist()),
    )


# -- the time of a step


def timings(plans: Mapping[str, Plan], settings: Mapping[str, Any]) -> list[Row]:
    """The time of a step without a penalty and with each, in turn, so that what else the machine does befalls all alike."""
    train, _, _ = sets(settings["data"], 0)
    batch = (train[0][: settings["batch_size"]], train[1][: settings["batch_size"]])
    with alone():
        steps = {name: step_of(*begun(plan, 0, settings), batch) for name, plan in plans.items()}
        found = [[seconds(step) for step in steps.values()] for _ in range(ROUNDS + WARMUP)][WARMUP:]
    return [
        {"penalty": name, "step_ms": 1e3 * median(times), "ratio": median(t / first for t, first in zip(times, plain))}
        for name, times, plain in with_first(steps, found)
    ]


def with_first(
    names: Sequence[str] | Mapping[str, Any], turns: Sequence[Sequence[float]]
) -> list[tuple[str, Any, Any]]:
    columns = list(zip(*turns, strict=True))
    return [(name, column, columns[0]) for name, column in zip(names, columns, strict=True)]


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> Callable[[], None]:
    def step() -> None:
        loss = F.cross_entropy(model(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], None]) -> float:
    begin = time.process_time()  # on one thread, what the clock says where nobody else uses the core
    step()
    return time.process_time() - begin
