"""Outputs against loss and targets: sick and healthy, on three kinds of network and several draws of the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue import nets
from runtrue.checks import outputs
from runtrue.findings import Finding
from runtrue.measure import Measurements, measure_data, measure_start
from runtrue.outputs import Maker, OutputFacts
from runtrue.sandbox import sandbox
from runtrue.task import Task

Loss = Callable[[Any, Any], Tensor]
G = torch.Generator().manual_seed(1)
IMAGES = torch.randn(32, 1, 12, 12, generator=G)
LABELS = torch.arange(32) % 4
ONE_HOT = F.one_hot(LABELS, 4).float()
YES = (torch.arange(32) % 2).float()[:, None]
SEVERAL = torch.rand(32, 4, generator=G).round()
NUMBERS = IMAGES.mean((1, 2, 3))[:, None] * 10

JUDGES = (
    outputs.softmax_before_cross_entropy, outputs.sigmoid_before_bce_with_logits, outputs.logits_without_log_softmax,
    outputs.output_activation_mismatch, outputs.wrong_loss, outputs.loss_shape_broadcast,
)  # fmt: skip


class Rows(nn.Module):
    """An LSTM over the rows of an image."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(12, 8, batch_first=True), nn.Linear(8, count)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.squeeze(1))[0].mean(1))


BODIES: dict[str, Callable[[int], nn.Module]] = {
    "mlp": lambda count: nn.Sequential(nn.Flatten(), nets.mlp([144, 16, count], "relu")),
    "cnn-batchnorm": lambda count: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, count)
    ),
    "lstm": Rows,
}


def found(model: nn.Module, wanted: Tensor, loss: Loss) -> dict[str, Finding]:
    with sandbox(Task(model, (IMAGES, wanted), loss=loss, batch_size=16)) as box:
        measured = Measurements(measure_data(box), measure_start(box))
    return {finding.cause: finding for judge in JUDGES for finding in judge(measured)}


SICK: list[tuple[str, int, nn.Module | None, Tensor, Loss]] = [
    ("softmax-before-cross-entropy", 4, nn.Softmax(dim=1), LABELS, nn.CrossEntropyLoss()),
    ("softmax-before-cross-entropy", 4, None, LABELS, lambda o, t: F.cross_entropy(F.softmax(o, 1), t)),
    ("softmax-before-cross-entropy", 4, None, LABELS, lambda o, t: F.cross_entropy(o.exp() / o.exp().sum(1, True), t)),
    ("sigmoid-before-bce-with-logits", 1, nn.Sigmoid(), YES, nn.BCEWithLogitsLoss()),
    ("sigmoid-before-bce-with-logits", 4, nn.Sigmoid(), SEVERAL, nn.BCEWithLogitsLoss()),
    ("logits-without-log-softmax", 4, None, LABELS, nn.NLLLoss()),
    ("logits-without-log-softmax", 4, nn.Softmax(dim=1), LABELS, nn.NLLLoss()),
    ("logits-without-log-softmax", 1, None, YES, nn.BCELoss()),
    ("output-activation-mismatch", 4, nn.ReLU(), LABELS, nn.CrossEntropyLoss()),
    ("output-activation-mismatch", 4, nn.Sigmoid(), LABELS, nn.CrossEntropyLoss()),
    ("output-activation-mismatch", 4, nn.Tanh(), LABELS, nn.CrossEntropyLoss()),
    ("output-activation-mismatch", 4, nn.Softmax(dim=0), LABELS, nn.NLLLoss()),
    ("output-activation-mismatch", 1, nn.Softmax(dim=1), YES, nn.BCELoss()),
    ("output-activation-mismatch", 1, nn.Softmax(dim=1), NUMBERS, nn.MSELoss()),
    ("output-activation-mismatch", 1, nn.ReLU(), NUMBERS, nn.MSELoss()),
    ("output-activation-mismatch", 1, nn.Sigmoid(), NUMBERS, nn.L1Loss()),
    ("output-activation-mismatch", 1, nn.Tanh(), NUMBERS * 5, nn.HuberLoss()),
    ("output-activation-mismatch", 1, nn.ReLU(), YES, nn.BCEWithLogitsLoss()),
    ("wrong-loss", 4, nn.Sigmoid(), ONE_HOT, nn.L1Loss()),
    ("wrong-loss", 4, nn.Softmax(dim=1), ONE_HOT, nn.MSELoss()),
    ("wrong-loss", 1, nn.Sigmoid(), YES, nn.L1Loss()),
    ("wrong-loss", 1, None, YES, nn.CrossEntropyLoss()),
    ("wrong-loss", 4, None, SEVERAL, nn.CrossEntropyLoss()),
    ("wrong-loss", 4, None, LABELS, lambda o, t: -F.cross_entropy(o, t)),
    ("loss-shape-broadcast", 1, None, NUMBERS[:, 0], nn.MSELoss()),
    ("loss-shape-broadcast", 1, None, NUMBERS[:, 0], lambda o, t: (o - t).pow(2).mean()),
    ("loss-shape-broadcast", 1, nn.Sigmoid(), YES[:, 0], nn.BCELoss()),
    ("loss-shape-broadcast", 1, None, NUMBERS, lambda o, t: (o - t.flatten()).pow(2).mean()),
    ("loss-shape-broadcast", 1, None, NUMBERS, lambda o, t: (t - o.squeeze(1)).abs().mean()),
]

HEALTHY: list[tuple[int, nn.Module | None, Tensor, Loss]] = [
    (4, None, LABELS, nn.CrossEntropyLoss()),
    (4, nn.LogSoftmax(dim=1), LABELS, nn.NLLLoss()),
    (4, nn.LogSoftmax(dim=1), LABELS, nn.CrossEntropyLoss()),  # does nothing: its rows sum to 1 already
    (4, None, LABELS, lambda o, t: F.nll_loss(F.log_softmax(o, 1), t)),
    (1, None, YES, nn.BCEWithLogitsLoss()),
    (1, nn.Sigmoid(), YES, nn.BCELoss()),
    (4, nn.Sigmoid(), SEVERAL, nn.BCELoss()),
    (1, None, NUMBERS, nn.MSELoss()),
    (1, nn.ReLU(), NUMBERS.abs(), nn.MSELoss()),
    (1, nn.Sigmoid(), torch.rand(32, 1, generator=G), nn.MSELoss()),
    (1, nn.Tanh(), NUMBERS.clamp(-0.9, 0.9), nn.MSELoss()),
    (1, nn.Softplus(), NUMBERS.abs() + 0.1, nn.L1Loss()),
    (1, nn.LeakyReLU(), NUMBERS, nn.MSELoss()),
    (1, nn.Flatten(0), NUMBERS[:, 0], nn.MSELoss()),
    (1, None, NUMBERS[:, 0], lambda o, t: F.mse_loss(o.squeeze(1), t)),
    (1, None, NUMBERS, lambda o, t: ((o - o.T - t + t.T) ** 2).mean()),  # differences of pairs, as meant
    (4, None, torch.softmax(ONE_HOT, 1), nn.CrossEntropyLoss()),  # soft labels
]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("cause", "count", "last", "wanted", "loss"), SICK)
def test_sick(body: str, cause: str, count: int, last: nn.Module | None, wanted: Tensor, loss: Loss) -> None:
    for seed in range(2):
        torch.manual_seed(seed)
        model = nn.Sequential(BODIES[body](count), *([last] if last else []))
        said = found(model, wanted, loss)
        assert cause in said, f"seed {seed}: only {list(said)}"
        assert said[cause].severity in ("warning", "fault") and said[cause].message


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(("count", "last", "wanted", "loss"), HEALTHY)
def test_healthy(body: str, count: int, last: nn.Module | None, wanted: Tensor, loss: Loss) -> None:
    for seed in range(2):
        torch.manual_seed(seed)
        assert found(nn.Sequential(BODIES[body](count), *([last] if last else [])), wanted, loss) == {}


FACTS = OutputFacts("cross_entropy", (8, 10), 0.0, 1.0, True, False, False, "labels", (8,), 0.0, 9.0)


def judged(judge: Callable[[Measurements], Iterator[Finding]], o: OutputFacts) -> list[Finding]:
    from runtrue.facts import DataFacts
    from runtrue.measure import Start

    return list(judge(Measurements(DataFacts((), None, 8), Start(outputs=o))))


def test_the_floor_of_a_double_softmax_is_told() -> None:
    (finding,) = judged(outputs.softmax_before_cross_entropy, FACTS)
    assert finding.evidence["lowest_possible_loss"] == pytest.approx(
        1.4612, abs=1e-3
    )  # -ln softmax(one-hot)[true], 10 classes
    assert "cannot fall below 1.46" in finding.message


def test_a_stray_target_out_of_reach_is_no_mismatch() -> None:
    relu = replace(FACTS, loss="mse_loss", wanted="numbers", maker=Maker("relu", 0, "", None, None), below=0.019)
    assert judged(outputs.output_activation_mismatch, relu) == []
    (finding,) = judged(outputs.output_activation_mismatch, replace(relu, below=0.021))
    assert "2 % of the targets lie outside" in finding.message and finding.where == "the model's forward"
