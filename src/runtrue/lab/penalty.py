"""The experiment `penalty`: is the regularization built in rightly, and how much of it is too much? (N2.1, N3.2)

One network is trained without a penalty and with L1, L2 and both (elastic net), at strengths over several decades, from the
same weights and on the same batches. The loss of the data and the penalty are followed apart: their sum may fall while nothing
is learned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue import penalties, trials
from runtrue.curves import end
from runtrue.lab import EXPERIMENTS
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.penalty_judge import ZERO, judge
from runtrue.lab.training import CONSTANT, GOOD, task_for, validate
from runtrue.sandbox import Sandbox, sandbox

if TYPE_CHECKING:
    from runtrue.report.blocks import Block

Penalty = Callable[[nn.Module], Tensor]
KINDS: dict[str, Callable[[float], Penalty]] = {
    "l1": lambda strength: partial(penalties.l1, strength=strength),
    "l2": lambda strength: partial(penalties.l2, strength=strength),
    "elastic-net": lambda strength: partial(penalties.elastic_net, l1_strength=strength, l2_strength=strength),
}
"""Penalties by key, each with λ as its only strength; the elastic net takes it for both of its parts."""
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""λ: a decade apart, from where no penalty is felt to where none of them lets the network learn."""


@dataclass
class Followed:
    """A step whose loss is that of the data plus a penalty. Keeps the former, and the weights as the last step finds them."""

    penalty: Penalty | None
    steps: int
    data: list[Tensor] = field(default_factory=list)
    sizes: list[Tensor] = field(default_factory=list)
    """|w| of every weight that a penalty is on, at the last step."""

    def __call__(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = F.cross_entropy(model(batch[0]), batch[1])
        self.data.append(loss.detach())
        if len(self.data) == self.steps:
            self.sizes += [weight.detach().abs().flatten() for weight in penalties.penalised(model)]
        return loss if self.penalty is None else loss + self.penalty(model)


def run(
    *,
    data: str = "fashion-mnist",
    seeds: int = 3,
    seed: int = 0,
    steps: int = 150,
    depth: int = 2,
    width: int = 100,
    batch_size: int = 50,
) -> Experiment:
    """Train without a penalty and with each at every strength, and judge the claims.

    A network of `depth` tanh layers of `width` units is trained for `steps` steps at its good learning rate on `data`:
    Fashion-MNIST images, or unit Gaussians labelled by a linear teacher. Each seed, from `seed` on, draws other weights and
    another order of the batches. Raises ValueError for a setting out of its limits.
    """
    settings = {"data": data, "seeds": seeds, "seed": seed, "steps": steps, "depth": depth, "width": width}
    settings |= {"batch_size": batch_size, "momentum": 0.9}
    validate(settings)
    settings |= {"rate": GOOD[data]}
    runs = [rows_of(settings, number) for number in range(seed, seed + seeds)]
    series = {key: [averaged(rows) for rows in zip(*(one[key] for one in runs), strict=True)] for key in KINDS}
    return Experiment(
        experiment="penalty",
        title="How much regularization is too much",
        claim=EXPERIMENTS["penalty"],
        judgements=judge(series),
        settings={**settings, "optimizer": "SGD", "on": "weights, not biases", "torch": torch.__version__},
        series=series,
        draw=blocks,
    )


def rows_of(settings: dict[str, Any], seed: int) -> dict[str, list[Row]]:
    """One seed: for each penalty a row a strength, the first without any."""
    with sandbox(task_for(settings, seed, settings["rate"]), seed) as box:
        torch.set_num_threads(1)  # a step is too short to be shared
        without = row(box, settings["steps"])
        found = {
            key: [without, *(row(box, settings["steps"], key, strength) for strength in STRENGTHS)] for key in KINDS
        }
    for rows in found.values():
        for one in rows:
            one["raised"] = one["start"] - without["start"]
            one["difference"] = abs(one["raised"] - one["by_hand"]) / one["start"]
    return found


def row(box: Sandbox, steps: int, key: str = "", strength: float = 0.0) -> Row:
    """One run: the sum and the data's part at both ends, the first penalty by hand, and what became of the weights."""
    followed = Followed(KINDS[key](strength) if key else None, steps)
    curve = trials.run(box, lambda task: task.replace(step=followed), steps=steps)
    losses = [float(loss) for loss in followed.data]
    sizes = torch.cat(followed.sizes) if followed.sizes else torch.full((1,), math.nan)
    data_end = math.nan if curve.diverged else end(losses)
    return {
        "strength": strength,
        "by_hand": strength * sum_by_hand(box.model, key) if key else 0.0,
        "start": curve.start,
        "end": math.nan if curve.diverged else curve.end,
        "data_end": data_end,
        "removed_fraction": (CONSTANT - data_end) / CONSTANT,
        "mean_weight": float(sizes.mean()),
        "gone_fraction": float((sizes < ZERO).double().mean()) if followed.sizes else math.nan,
    }


def sum_by_hand(model: nn.Module, key: str) -> float:
    """Σ |w|, Σ w² or both over the matrices of the network, in double precision and without the code that is under test."""
    weights = [p.detach().double().numpy().ravel() for name, p in model.named_parameters() if name.endswith("weight")]
    size, square = (sum(float(np.sum(f(w))) for w in weights) for f in (np.abs, np.square))
    return {"l1": size, "l2": square, "elastic-net": size + square}[key]


def averaged(rows: Sequence[Row]) -> Row:
    """Means over the seeds, the largest difference, and the spread of the data's loss at the end."""
    means = {key: fmean(one[key] for one in rows) for key in rows[0]}
    ends = [one["data_end"] for one in rows]
    spread = pstdev(ends) if all(map(math.isfinite, ends)) else math.nan
    worst = max(one["difference"] for one in rows)
    return {**means, "difference": worst, "data_end_spread": spread, "data_end_by_seed": ends}


def blocks(experiment: Experiment) -> list[Block]:
    """The figures and tables of the page."""
    from runtrue.lab.penalty_figure import penalty_blocks

    return penalty_blocks(experiment)
