"""Healthy tasks on real data, put together from problems, architectures and optimizers: what faults are planted into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from diagnosis import data, metrics
from diagnosis.metrics import Metric
from diagnosis.parts import Arm, Kit, standardized, tensor
from runtrue import Task, nets

IMAGES, BATCH, EPOCHS = 1000, 50, 10  # 20 steps an epoch, a plan of 200
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Problem:
    """Data, how many outputs they want, the loss, and by what the result is judged."""

    data: Callable[[], Pair]
    outputs: int
    loss: Callable[[], nn.Module]
    metric: Metric
    held_out: Callable[[], Pair] | None = None
    """The same from the test images."""
    epochs: int = EPOCHS
    batch: int = BATCH


def images(target: Callable[[Tensor, Tensor], Tensor], split: str = "train") -> Pair:
    """The first 1,000 images of a split, and what `target` makes of images and labels."""
    pixels, labels = data.clothes(IMAGES, "test" if split == "test" else "train", flat=False)
    return pixels, target(pixels, labels)


def kind(pixels: Tensor, labels: Tensor) -> Tensor:
    return labels


def footwear(pixels: Tensor, labels: Tensor) -> Tensor:
    """Sandal, sneaker, ankle boot, or not."""
    return torch.isin(labels, torch.tensor([5, 7, 9])).float()[:, None]


def questions(pixels: Tensor, labels: Tensor) -> Tensor:
    """Footwear; covers the torso; has long sleeves; has a heel or a sole that is seen."""
    groups = ((5, 7, 9), (0, 2, 3, 4, 6), (2, 4), (5, 9))
    return torch.stack([torch.isin(labels, torch.tensor(group)) for group in groups], 1).float()


def halves(pixels: Tensor, labels: Tensor) -> Tensor:
    """Brightness of the upper and of the lower half, standardized."""
    found = torch.stack([pixels[:, :, :14].mean((1, 2, 3)), pixels[:, :, 14:].mean((1, 2, 3))], 1)
    return (found - found.mean(0)) / found.std(0)


def symmetry(pixels: Tensor, labels: Tensor) -> Tensor:
    """How much brighter the left half is than the right one, standardized."""
    found = (pixels[..., :14].mean((1, 2, 3)) - pixels[..., 14:].mean((1, 2, 3)))[:, None]
    standard: Tensor = (found - found.mean()) / found.std()
    return standard


def exclusive(pixels: Tensor, labels: Tensor) -> Tensor:
    """Either brighter than most in the upper half, or in the lower half, and not in both: no line tells it."""
    upper, lower = halves(pixels, labels).unbind(1)
    return torch.ne(upper > upper.median(), lower > lower.median()).long()


def rare(pixels: Tensor, labels: Tensor) -> Tensor:
    return (labels == 6).long()


def of_table(name: str) -> Pair:
    return data.table(name)


def fitness() -> Pair:
    inputs, targets = data.table("linnerud")
    return inputs, tensor(standardized(targets.numpy()))


CLASSES, YES_NO, NUMBERS = nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.MSELoss

PROBLEMS: dict[str, Problem] = {
    "classes": Problem(partial(images, kind), 10, CLASSES, metrics.accuracy, partial(images, kind, "test")),
    "binary": Problem(partial(images, footwear), 1, YES_NO, metrics.logit, partial(images, footwear, "test")),
    "labels": Problem(partial(images, questions), 4, YES_NO, metrics.logit, partial(images, questions, "test")),
    "regression": Problem(partial(images, halves), 2, NUMBERS, metrics.r2_by_column, partial(images, halves, "test")),
    "one number": Problem(partial(images, symmetry), 1, NUMBERS, metrics.r2, partial(images, symmetry, "test")),
    "exclusive": Problem(partial(images, exclusive), 2, CLASSES, metrics.accuracy, epochs=20),
    "iris": Problem(partial(of_table, "iris"), 3, CLASSES, metrics.accuracy, epochs=40, batch=16),
    "wine": Problem(partial(of_table, "wine"), 3, CLASSES, metrics.accuracy, epochs=40, batch=16),
    "tumours": Problem(data.tumours, 1, YES_NO, metrics.logit, epochs=30, batch=32),
    "progression": Problem(data.progression, 1, NUMBERS, metrics.r2, epochs=80, batch=32),
    "fitness": Problem(fitness, 3, NUMBERS, metrics.r2_by_column, epochs=400, batch=10),
    "digits": Problem(data.digits, 10, CLASSES, metrics.accuracy, epochs=6),
}


# -- architectures, weights as torch leaves them (those of the ResNet as its paper has them): (B, 1, 28, 28) -> (B, outputs)


class Rows(nn.Module):
    """Reads an image row by row: an LSTM, or a transformer encoder with learned places."""

    def __init__(self, outputs: int, attention: bool, dropout: float = 0.1) -> None:
        super().__init__()
        self.attention = attention
        if attention:
            self.embed = nn.Linear(28, 32)
            self.places = nn.Parameter(0.02 * torch.randn(28, 32))
            layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=dropout, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)
        else:
            self.lstm = nn.LSTM(28, 64, batch_first=True)
        self.head = nn.Linear(32 if attention else 64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.squeeze(1)
        seen = self.encoder(self.embed(rows) + self.places) if self.attention else self.lstm(rows)[0]
        out: Tensor = self.head(seen.mean(1))
        return out


def perceptron(outputs: int, activation: str = "relu", depth: int = 3, width: int = 128) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nets.mlp([784, *[width] * depth, outputs], activation))


def normalized_perceptron(outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nets.mlp([784, 128, 64, outputs], norm="batch"))


def for_table(columns: int, outputs: int, activation: str = "relu", width: int = 32) -> nn.Sequential:
    return nets.mlp([columns, width, outputs], activation)


ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "mlp": perceptron,
    "tanh mlp": partial(perceptron, activation="tanh"),
    "mlp-batchnorm": normalized_perceptron,
    "cnn": lambda outputs: nets.cnn((8, 16), outputs),
    "cnn-batchnorm": lambda outputs: nets.cnn((8, 16), outputs, norm="batch"),
    "resnet-8": lambda outputs: nn.Sequential(nn.AvgPool2d(2), nets.resnet(8, outputs, in_channels=1)),
    "lstm": lambda outputs: Rows(outputs, attention=False),
    "transformer": lambda outputs: Rows(outputs, attention=True),
}
SLOW = {"lstm": 10.0}  # a recurrent network with saturating gates wants a larger rate

OPTIMIZERS: dict[str, tuple[Callable[..., torch.optim.Optimizer], float]] = {
    "sgd": (torch.optim.SGD, 0.05),
    "momentum": (partial(torch.optim.SGD, momentum=0.9), 0.01),
    "adam": (torch.optim.Adam, 2e-3),
    "adamw": (torch.optim.AdamW, 2e-3),
    "rmsprop": (torch.optim.RMSprop, 1e-3),
}


@dataclass(frozen=True)
class Host:
    """A healthy task by names. For tables the architecture is a perceptron of one hidden layer: "table" or "tanh table"."""

    architecture: str
    problem: str
    optimizer: str

    @property
    def name(self) -> str:
        return f"{self.architecture} · {self.problem} · {self.optimizer}"

    def model(self) -> Callable[[], nn.Module]:
        outputs = PROBLEMS[self.problem].outputs
        if not self.architecture.endswith("table"):
            return partial(ARCHITECTURES[self.architecture], outputs)
        columns = PROBLEMS[self.problem].data()[0].shape[1]
        activation = "tanh" if self.architecture == "tanh table" else "relu"
        return partial(for_table, columns, outputs, activation)

    def arm(self) -> Arm:
        """The model a function, the optimizer a `partial` with its rate."""
        problem = PROBLEMS[self.problem]
        make, rate = OPTIMIZERS[self.optimizer]
        rate *= SLOW.get(self.architecture, 1.0) if self.optimizer in ("sgd", "momentum") else 1.0
        pair = problem.data()
        task = Task(
            self.model(),
            pair,
            loss=problem.loss(),
            optimizer=partial(make, lr=rate),
            epochs=problem.epochs,
            batch_size=problem.batch,
        )
        return Arm(task, problem.metric, pair)


def in_hand(task: Task) -> Task:
    """The same with the model built and the optimizer made, as most users have them."""
    built = task.built()
    assert isinstance(built.model, nn.Module)
    made = built.optimizer
    if made is None or isinstance(made, torch.optim.Optimizer):
        return built
    return built.replace(optimizer=made(built.model.parameters()))


def started(arm: Arm, kit: Kit) -> Arm:
    """The arm with the model's start as the kit says (torch's own, or Keras's)."""
    build = arm.task.model
    if kit.init == "torch" or isinstance(build, nn.Module):
        return arm
    return Arm(arm.task.replace(model=lambda: kit.started(build())), arm.metric, arm.judged_on)
