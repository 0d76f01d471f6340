"""Unusual but sound: sequences, few rows, uneven or noisy data, and loops of the user's own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.utils.data import DataLoader, TensorDataset

from diagnosis import metrics
from diagnosis.data import blobs, circles, clothes, digits, spirals, table
from diagnosis.parts import Arm, Case, Kit, labelled, register, standardized, tensor
from diagnosis.threads_data import Forecast
from runtrue import Task

CASES: dict[str, Case] = {}
case = register(CASES)


class Reader(nn.Module):
    """A recurrent network, one way or both ways; its last step is read, or the mean over all."""

    def __init__(self, cell: type[nn.GRU] | type[nn.LSTM], both: bool = False, outputs: int = 10) -> None:
        super().__init__()
        self.cell = cell(28, 48, batch_first=True, bidirectional=both)
        self.head = nn.Linear(96 if both else 48, outputs)

    def forward(self, x: Tensor) -> Tensor:  # (B, 28, 28) -> (B, outputs)
        out: Tensor = self.head(self.cell(x)[0].mean(1))
        return out


def rows_of_clothes(count: int = 1000) -> tuple[Tensor, Tensor]:
    images, labels = clothes(count, flat=False)
    return images.squeeze(1), labels


@case("a GRU")
def gru_over_rows(sick: bool, kit: Kit) -> Arm:
    """Clothes row by row."""
    model = Reader(nn.GRU)
    return labelled(model, rows_of_clothes(), Adam(model.parameters(), 5e-3), 8)


@case("a bidirectional LSTM")
def bidirectional_lstm(sick: bool, kit: Kit) -> Arm:
    """Clothes row by row, from both ends."""
    model = Reader(nn.LSTM, both=True)
    return labelled(model, rows_of_clothes(), RMSprop(model.parameters(), 3e-3), 8)


@case("convolutions over time")
def convolutions_over_time(sick: bool, kit: Kit) -> Arm:
    """Conv1d over the rows as time steps."""
    layers = [
        nn.Conv1d(28, 32, 3),
        nn.ReLU(),
        nn.Conv1d(32, 32, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(128, 10),
    ]
    model = kit.started(nn.Sequential(*layers))
    return labelled(model, rows_of_clothes(), AdamW(model.parameters(), 2e-3), 10)


@case("forecasting")
def next_value_of_a_series(sick: bool, kit: Kit) -> Arm:
    """The next value of a noisy wave from the twelve before."""
    t = np.arange(300)
    series = np.sin(2 * np.pi * t / 25) + 0.5 * np.sin(2 * np.pi * t / 7) + 0.05 * kit.rng.randn(300)
    windows = np.lib.stride_tricks.sliding_window_view(series, 13)
    train = tensor(windows[:, :12, None].copy()), tensor(windows[:, 12:].copy())
    model = Forecast()
    return Arm(
        Task(model, train, loss=nn.MSELoss(), optimizer=Adam(model.parameters(), 1e-2), epochs=25, batch_size=16),
        metrics.r2,
    )


@case("twenty rows")
def twenty_rows(sick: bool, kit: Kit) -> Arm:
    """Linnerud: weight, waist and pulse of twenty men, all in one batch."""
    inputs, targets = table("linnerud")
    model = kit.mlp([3, 16, 3], ["tanh", ""])
    train = inputs, tensor(standardized(targets.numpy()))
    task = Task(model, train, loss=nn.MSELoss(), optimizer=Adam(model.parameters(), 1e-2), epochs=400, batch_size=20)
    return Arm(task, metrics.r2_by_column)


@case("thirty rows")
def thirty_flowers(sick: bool, kit: Kit) -> Arm:
    """Thirty rows of iris, batches of 5."""
    inputs, labels = table("iris")
    rows = torch.from_numpy(kit.rng.permutation(150)[:30])
    model = kit.mlp([4, 12, 3], ["tanh", ""])
    return labelled(model, (inputs[rows], labels[rows]), Adam(model.parameters(), 1e-2), 60, 5)


@case("four rows")
def xor_learned(sick: bool, kit: Kit) -> Arm:
    """XOR by eight tanh units and Adam."""
    x, y = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    model = kit.mlp([2, 8, 1], ["tanh", ""])
    task = Task(
        model, (x, y), loss=nn.BCEWithLogitsLoss(), optimizer=Adam(model.parameters(), 5e-2), epochs=300, batch_size=4
    )
    return Arm(task, metrics.logit)


@case("one example a batch")
def one_example_at_a_time(sick: bool, kit: Kit) -> Arm:
    """Stochastic gradient descent by the letter."""
    model = kit.mlp([13, 16, 3], ["relu", ""])
    return labelled(model, table("wine"), SGD(model.parameters(), 0.01), 12, 1)


@case("noisy labels")
def one_label_in_five_is_wrong(sick: bool, kit: Kit) -> Arm:
    """A fifth of the labels is drawn at random; the rest is learned. Judged on the right ones."""
    images, labels = digits()
    noisy = torch.where(
        torch.from_numpy(kit.rng.rand(len(labels)) < 0.2), torch.from_numpy(kit.rng.randint(0, 10, len(labels))), labels
    )
    model = kit.mlp([784, 64, 10], ["relu", ""])
    task = Task(model, (images, noisy), loss=F.cross_entropy, optimizer=SGD(model.parameters(), 0.05), epochs=10)
    return Arm(task, metrics.accuracy, (images, labels))


@case("nine to one")
def uneven_classes(sick: bool, kit: Kit) -> Arm:
    """One class in ten: learned well without weights."""
    images, labels = digits()
    model = kit.mlp([784, 64, 2], ["relu", ""])
    task = Task(
        model, (images, (labels == 3).long()), loss=F.cross_entropy, optimizer=Adam(model.parameters(), 2e-3), epochs=8
    )
    return Arm(task, metrics.balanced)


@case("sparse inputs")
def mostly_zero_inputs(sick: bool, kit: Kit) -> Arm:
    """Black and white pixels, most of them 0, a third of the columns always."""
    images, labels = digits()
    model = kit.mlp([784, 64, 10], ["relu", ""])
    train = (images > 0.8).float(), labels
    return labelled(model, train, Adam(model.parameters(), 1e-3), 10)


@case("a loader in file order whose file is mixed")
def unshuffled_but_mixed(sick: bool, kit: Kit) -> Arm:
    """`shuffle=False` does no harm where the rows are in mixed order."""
    train = clothes(1000)
    loader = DataLoader(TensorDataset(*train), batch_size=32, shuffle=False)
    model = kit.mlp([784, 64, 10], ["relu", ""])
    task = Task(model, loader, loss=F.cross_entropy, optimizer=Adam(model.parameters(), 1e-3), epochs=8)
    return Arm(task, metrics.accuracy, train)


@case("a validation set that fits")
def with_validation(sick: bool, kit: Kit) -> Arm:
    """Training and test images of the same kind. Judged on the test images."""
    val = clothes(500, "test")
    model = kit.mlp([784, 64, 10], ["relu", ""])
    loader = DataLoader(TensorDataset(*clothes(1000)), batch_size=32, shuffle=True)
    task = Task(model, loader, val=val, loss=F.cross_entropy, optimizer=Adam(model.parameters(), 1e-3), epochs=8)
    return Arm(task, metrics.accuracy, val)


@case("batches from a generator")
def augmented_images(sick: bool, kit: Kit) -> Arm:
    """A function that draws new noise on the images every epoch."""
    images, labels = digits()

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(len(images)).split(32):
            yield images[rows] + 0.1 * torch.randn(len(rows), 784), labels[rows]

    build = partial(kit.mlp, [784, 64, 10], ["relu", ""])
    task = Task(build, epoch, loss=F.cross_entropy, optimizer=partial(Adam, lr=1e-3), epochs=8)
    return Arm(task, metrics.accuracy, (images, labels))


@case("a step of the user's own")
def own_step_with_two_losses(sick: bool, kit: Kit) -> Arm:
    """`step` adds the error of a reconstruction to the cross-entropy."""
    images, labels = digits()
    model = TwoHeads()

    def step(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        hidden = torch.relu(model.body(x))
        return F.cross_entropy(model.head(hidden), y) + F.mse_loss(model.decode(hidden), x)

    task = Task(model, (images, labels), step=step, optimizer=Adam(model.parameters(), 2e-3), epochs=8)
    return Arm(task, metrics.accuracy, (images, labels))


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.decode = nn.Linear(784, 64), nn.Linear(64, 10), nn.Linear(64, 784)

    def forward(self, x: Tensor) -> Tensor:  # (B, 784) -> (B, 10)
        scores: Tensor = self.head(torch.relu(self.body(x)))
        return scores


@case("a small penalty")
def small_penalty_in_the_loss(sick: bool, kit: Kit) -> Arm:
    """λ Σ w² with λ = 1e-4, added by the loss itself."""
    model = kit.mlp([784, 64, 10], ["relu", ""])

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return (
            F.cross_entropy(outputs, labels) + 1e-4 * torch.stack([p.square().sum() for p in model.parameters()]).sum()
        )

    return Arm(Task(model, clothes(), loss=loss, optimizer=Adam(model.parameters(), 1e-3), epochs=10), metrics.accuracy)


@case("toy sets")
def a_spiral_learned(sick: bool, kit: Kit) -> Arm:
    """Three arms of a spiral, slow at first."""
    model = kit.mlp([2, 64, 64, 3], ["relu", "relu", ""])
    return labelled(model, spirals(kit.rng), Adam(model.parameters(), 5e-3), 100)


@case("toy sets")
def a_ring_learned(sick: bool, kit: Kit) -> Arm:
    """A ring around a disc by three tanh units: few, and enough."""
    model = kit.mlp([2, 6, 2], ["tanh", ""])
    return labelled(model, circles(kit.rng), Adam(model.parameters(), 2e-2), 80)


@case("toy sets")
def clouds_learned(sick: bool, kit: Kit) -> Arm:
    """Three clouds of points, coordinates up to 8."""
    model = kit.mlp([2, 16, 3], ["relu", ""])
    return labelled(model, blobs(kit.rng), SGD(model.parameters(), 0.05), 30)


@case("a noisy target")
def most_of_it_is_noise(sick: bool, kit: Kit) -> Arm:
    """A line with a good deal of noise: the loss stays at 0.2 of the variance, and no more can be had."""
    x = tensor(kit.rng.randn(400, 1))
    y = x + 0.5 * tensor(kit.rng.randn(400, 1))
    model = kit.mlp([1, 16, 1], ["relu", ""])
    return Arm(Task(model, (x, y), loss=nn.MSELoss(), optimizer=Adam(model.parameters(), 1e-2), epochs=20), metrics.r2)
