"""A ravine, f(x, y) = (x² + κ y²) / 2, and how torch's own optimizers go down it. Nothing here is drawn at random.

The walls are κ times as steep as the floor. Gradient descent must keep its rate below 2 / κ or be thrown from wall to wall, and
with that rate it creeps along the floor: it needs in proportion to κ steps, momentum in proportion to √κ (Polyak 1964).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from runtrue import optimizers
from runtrue.lab.experiment import Row

KINDS = ("sgd", "momentum", "nesterov")
STEEPNESS = (10.0, 100.0, 400.0)
"""κ: a wide valley, the ravine that is drawn and judged, and a gorge."""
STEEP = 100.0
START = (-10.0, 2.0)
ARRIVED = 1e-4
"""Share of the first loss below which a path has arrived, for good."""
LONG = 100
"""Steps that it has to stay there, to be sure: what swings through the bottom comes up again sooner."""
MOST = 3500
"""Steps until a path is given up: gradient descent in the gorge takes fewer, also at the small rate."""
SMALL = 0.5
"""A rate that is small enough, as a multiple of 1 / κ: gradient descent can bear 2 / κ at most."""
RATES = tuple(10 ** (0.6 - place / 20) for place in range(42))
"""Rates to choose the best from, as multiples of 1 / κ: a twentieth of a decade apart, from 4 down to 0.035."""
LOST = 1e6
"""Times the first loss, at which a path is lost."""
DRAWN = 80
"""Steps of a path that are drawn."""


def losses(kind: str, rate: float, steepness: float, most: int = MOST) -> list[float]:
    """The loss over the first one, from the start until it has arrived, is lost, or is given up: when it is not there after
    so many steps."""
    found, below = [1.0], 0
    point, optimizer, bends = setup(kind, rate, steepness)
    first = height(point, bends)
    while below < LONG and found[-1] < LOST and (below or len(found) <= most):
        advance(point, optimizer, bends)
        found.append(height(point, bends) / first)
        below = below + 1 if found[-1] <= ARRIVED else 0
    return found


def setup(kind: str, rate: float, steepness: float) -> tuple[nn.Parameter, torch.optim.Optimizer, Tensor]:
    point = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    return point, optimizers.named(kind, [point], lr=rate), torch.tensor([1.0, steepness], dtype=torch.float64)


def advance(point: nn.Parameter, optimizer: torch.optim.Optimizer, bends: Tensor) -> None:
    """One step, with the gradient (x, κ y) by hand."""
    point.grad = bends * point.detach()
    optimizer.step()


def height(point: Tensor, bends: Tensor) -> float:
    return float((bends * point.detach().square()).sum() / 2)


def arrival(losses: list[float]) -> float:
    """The number of steps after which the loss stays below `ARRIVED`; infinite if it does not get there."""
    if not losses[-1] <= ARRIVED:
        return math.inf
    return next(place + 1 for place in reversed(range(len(losses))) if losses[place] > ARRIVED)


def ravine_row(kind: str, steepness: float) -> Row:
    """How one optimizer gets down: at the rate that is best for it, and at a small one."""
    highest, (share, steps) = search(kind, steepness)
    small = losses(kind, SMALL / steepness, steepness)
    return {
        "steepness": steepness,
        "optimizer": kind,
        "rate": share / steepness,
        "steps": steps,
        "small_rate": SMALL / steepness,
        "small_steps": arrival(small),
        "rises": sum(after >= before for before, after in pairwise(small)),
        "highest_rate": highest / steepness,
    }


def search(kind: str, steepness: float) -> tuple[float, tuple[float, float]]:
    """The highest rate with which it arrives, and the best with its steps, in multiples of 1 / κ. From the highest down; what is
    slower than the best so far is given up."""
    highest, best, fewest = math.nan, math.nan, float(MOST)
    for share in RATES:
        steps = arrival(losses(kind, share / steepness, steepness, int(fewest)))
        highest = share if math.isnan(highest) and math.isfinite(steps) else highest
        if steps < fewest:
            best, fewest = share, steps
    return highest, (best, fewest)


def path_row(kind: str, rate: float) -> list[Row]:
    """The places on the way down the ravine that is drawn."""
    point, optimizer, bends = setup(kind, rate, STEEP)
    found = []
    for number in range(DRAWN + 1):
        x, y = point.tolist()
        found.append({"optimizer": kind, "step": number, "x": x, "y": y})
        advance(point, optimizer, bends)
    return found
