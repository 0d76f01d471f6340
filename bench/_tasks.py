"""Healthy training tasks on real images, for the benchmark of learning rates. Nothing here knows how runtrue judges."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue import Task, datasets, nets

IMAGES, BATCH, EPOCHS = 1000, 50, 10  # 20 steps an epoch, a plan of 200


# -- four problems on the same images: (targets, outputs, loss)


def multi_class(images: Tensor, labels: Tensor) -> tuple[Tensor, int, nn.Module]:
    return labels, 10, nn.CrossEntropyLoss()


def binary(images: Tensor, labels: Tensor) -> tuple[Tensor, int, nn.Module]:
    """Footwear (sandal, sneaker, ankle boot) or not."""
    return torch.isin(labels, torch.tensor([5, 7, 9])).float()[:, None], 1, nn.BCEWithLogitsLoss()


def multi_label(images: Tensor, labels: Tensor) -> tuple[Tensor, int, nn.Module]:
    """Footwear; covers the torso; has long sleeves; has a heel or a sole that is seen."""
    groups = ((5, 7, 9), (0, 2, 3, 4, 6), (2, 4), (5, 9))
    columns = [torch.isin(labels, torch.tensor(group)) for group in groups]
    return torch.stack(columns, 1).float(), len(groups), nn.BCEWithLogitsLoss()


def regression(images: Tensor, labels: Tensor) -> tuple[Tensor, int, nn.Module]:
    """Brightness of the upper and of the lower half, standardised."""
    halves = torch.stack([images[:, :, :14].mean((1, 2, 3)), images[:, :, 14:].mean((1, 2, 3))], 1)
    return (halves - halves.mean(0)) / halves.std(0), 2, nn.MSELoss()


PROBLEMS = (multi_class, binary, multi_label, regression)


# -- six architectures, weights as torch leaves them (those of the ResNet as its paper has them): (B, 1, 28, 28) -> (B, outputs)


class Rows(nn.Module):
    """Reads an image row by row: an LSTM, or a transformer encoder with learned places."""

    def __init__(self, outputs: int, attention: bool) -> None:
        super().__init__()
        self.attention = attention
        if attention:
            self.embed = nn.Linear(28, 32)
            self.places = nn.Parameter(0.02 * torch.randn(28, 32))
            layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)
        else:
            self.lstm = nn.LSTM(28, 64, batch_first=True)
        self.head = nn.Linear(32 if attention else 64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.squeeze(1)
        seen = self.encoder(self.embed(rows) + self.places) if self.attention else self.lstm(rows)[0]
        out: Tensor = self.head(seen.mean(1))
        return out


def perceptron(outputs: int, activation: str = "relu", depth: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nets.mlp([784, *[128] * depth, outputs], activation))


ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "mlp": perceptron,
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
}


def task(architecture: str, problem: str, optimizer: str, *, factor: float = 1.0) -> Task:
    """A healthy task; `factor` multiplies its learning rate."""
    images, labels = datasets.fashion_mnist(limit=IMAGES)
    targets, outputs, loss = next(p for p in PROBLEMS if p.__name__ == problem)(images, labels)
    make, rate = OPTIMIZERS[optimizer]
    rate *= factor * SLOW.get(architecture, 1.0) if optimizer in ("sgd", "momentum") else factor
    return Task(
        partial(ARCHITECTURES[architecture], outputs),
        train=(images, targets),
        loss=loss,
        optimizer=partial(make, lr=rate),
        epochs=EPOCHS,
        batch_size=BATCH,
    )


def constant_loss(targets: Tensor) -> float:
    """Loss of the best constant prediction: entropy for labels and for 0/1 columns, variance for other numbers."""
    if not targets.is_floating_point():
        share = F.one_hot(targets).double().mean(0)
        return float(torch.special.entr(share).sum())
    if bool(((targets == 0) | (targets == 1)).all()):
        share = targets.double().mean(0)
        return float((torch.special.entr(share) + torch.special.entr(1 - share)).mean())
    return float(targets.double().var(0, correction=0).mean())
