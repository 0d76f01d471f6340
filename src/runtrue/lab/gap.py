"""The experiment `gap`: three runs, good, slightly and severely overfitting, told from their two accuracy curves (N3.3).

One network, trained so that each run shows one of the three, and a fourth too small to learn. The judge is the one that is
meant for any run: it sees the two curves and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from runtrue import nets
from runtrue.curves import end
from runtrue.curves_judge import JudgedGap
from runtrue.curves_judge import judge as judge_curves
from runtrue.datasets import fashion_mnist
from runtrue.lab import EXPERIMENTS
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.gap_judge import judge
from runtrue.lab.runs import Run, fit, seed_by_seed
from runtrue.lab.training import CLASSES, INPUTS, chosen, validate

if TYPE_CHECKING:
    from runtrue.report.blocks import Block

ORDINARY = {"epochs": 30, "width": 100}
LARGER = {"epochs": 150, "width": 500}
RATE = 1e-3  # of Adam
BATCH_SIZE = 50
VALIDATION = 1000
"""Images that ship beside those to train with."""


class Moved(nn.Module):
    """While training, shifts the images of a batch by a pixel at most and mirrors each second one: more to learn from."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        down, right = torch.randint(-1, 2, (2,)).tolist()
        mirrored = torch.rand(len(x), 1, 1, 1) < 0.5
        return torch.where(mirrored, x.flip(3), x).roll((down, right), (2, 3))  # (B, 1, 28, 28)


@dataclass(frozen=True)
class Kind:
    """How a run is set up. `width`: of the hidden layers, where it is not that of the experiment."""

    words: str
    images: int = 3000
    moved: bool = False
    dropout: float = 0.0
    width: int | None = None

    def net(self, width: int) -> nn.Module:
        hidden = [self.width or width] * 2
        layers = nets.mlp([INPUTS["fashion-mnist"], *hidden, CLASSES], dropout=self.dropout)
        return nn.Sequential(*([Moved()] if self.moved else []), nn.Flatten(), layers).float()


KINDS = {
    "good": Kind("3,000 images, shifted and mirrored at random, dropout 0.2", moved=True, dropout=0.2),
    "slight": Kind("3,000 images, no regularization"),
    "severe": Kind("200 images, no regularization", images=200),
    "underfitting": Kind("3,000 images, hidden layers of one unit", width=1),
}


def run(
    *, seeds: int = 3, seed: int = 0, full: bool = False, epochs: int | None = None, width: int | None = None
) -> Experiment:
    """Train the runs, judge each from its curves, and judge the claims.

    A network of two ReLU layers of `width` units, 100 by default, is trained for 30 epochs on Fashion-MNIST images; with
    `full`, of 500 units for 150. Each seed, from `seed` on, draws other weights and another order of the batches. Raises
    ValueError for a setting out of its limits.
    """
    sizes = chosen({"epochs": epochs, "width": width}, ORDINARY, LARGER, full)
    settings: dict[str, Any] = {
        "data": "fashion-mnist",
        "seeds": seeds,
        "seed": seed,
        **sizes,
        "batch_size": BATCH_SIZE,
    }
    validate(settings)
    settings |= {"validation_images": VALIDATION}
    runs = seed_by_seed(partial(trained, settings), KINDS, range(seed, seed + seeds))
    series = {"runs": [row(kind, of_kind) for kind, of_kind in runs.items()]}
    return Experiment(
        experiment="gap",
        title="Training against validation",
        claim=EXPERIMENTS["gap"],
        judgements=judge(series),
        settings={**settings, "optimizer": f"Adam, {RATE:g}", "torch": torch.__version__},
        series=series,
        curves={
            f"{kind}, {name}": [rounded(curve) for curve in curves]
            for kind, of_kind in runs.items()
            for name, curves in zip(
                ("training", "validation"), zip(*map(accuracies, of_kind), strict=True), strict=True
            )
        },
        draw=blocks,
    )


def trained(settings: Mapping[str, Any], kind: str, seed: int) -> Run:
    torch.manual_seed(seed)
    net = KINDS[kind].net(settings["width"])
    return fit(
        net,
        fashion_mnist(limit=KINDS[kind].images),
        fashion_mnist("test", limit=VALIDATION),
        epochs=settings["epochs"],
        batch_size=BATCH_SIZE,
        optimizer=torch.optim.Adam(net.parameters(), lr=RATE),
        seed=seed,
    )


def accuracies(one: Run) -> tuple[list[float], list[float]]:
    """By epoch, on the training and on the validation images."""
    return [epoch.train_accuracy for epoch in one.epochs], [epoch.val_accuracy for epoch in one.epochs]


def row(kind: str, runs: Sequence[Run]) -> Row:
    """What the seeds say of one way to train: the ends of the curves, and the judge's word for each."""
    judged: list[JudgedGap] = [judge_curves(*accuracies(one), chance=1 / CLASSES, examples=VALIDATION) for one in runs]
    verdicts = [one.verdict for one in judged]
    return {
        "run": kind,
        "verdict": ", ".join(dict.fromkeys(verdicts)),
        "verdict_by_seed": verdicts,
        "reason": judged[0].reason,
        "train_accuracy": fmean(one.train for one in judged),
        "val_accuracy": fmean(one.val for one in judged),
        "val_accuracy_spread": pstdev([one.val for one in judged]),
        "gap": fmean(one.gap for one in judged),
        "gap_spread": pstdev([one.gap for one in judged]),
        "val_loss": fmean(end([epoch.val_loss for epoch in one.epochs]) for one in runs),
    }


def rounded(accuracies: Sequence[float]) -> list[float]:
    return [round(accuracy, 4) for accuracy in accuracies]


def blocks(experiment: Experiment) -> list[Block]:
    """The figures and tables of the page."""
    from runtrue.lab.gap_figure import gap_blocks

    return gap_blocks(experiment)
