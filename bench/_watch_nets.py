"""Small networks for `bench/watch_verdicts.py`: one of each kind that people train."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _watch_loop import text
from runtrue import nets


def mlp(*hidden: int, activation: str = "relu", norm: bool = False, dropout: float = 0.0) -> nn.Module:
    return nets.mlp(
        (196, *(hidden or (64, 64)), 10), activation=activation, norm="batch" if norm else None, dropout=dropout
    )


def regressor(*hidden: int, activation: str = "relu", outputs: int = 1) -> nn.Module:
    return nets.mlp((10, *(hidden or (64, 64)), outputs), activation=activation)


def cnn(norm: bool = False, dropout: float = 0.0) -> nn.Module:
    return nets.cnn((8, 16), norm="batch" if norm else None, size=14, dropout=dropout)


def resnet(depth: int = 8) -> nn.Module:
    return nets.resnet(depth, in_channels=1)


class Reader(nn.Module):
    """Reads rows one by one and tells the class from the last state."""

    def __init__(self, kind: str = "lstm", width: int = 48, inputs: int = 14) -> None:
        super().__init__()
        self.cell: nn.Module = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind](inputs, width, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        states = self.cell(x)[0]
        found: Tensor = self.head(states[:, -1])
        return found


class Attends(nn.Module):
    """A small transformer on the rows of an image."""

    def __init__(self, width: int = 32, blocks: int = 2, norm_first: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Linear(14, width)
        self.place = nn.Parameter(0.02 * torch.randn(14, width))
        block = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout, batch_first=True, norm_first=norm_first)
        self.blocks = nn.TransformerEncoder(block, blocks, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.blocks(self.embed(x) + self.place).mean(1))
        return found


class Writer(nn.Module):
    """Tells the next character, at each place."""

    def __init__(self, kind: str = "transformer", width: int = 48, length: int = 32) -> None:
        super().__init__()
        kinds = text()[1]
        self.embed, self.place = nn.Embedding(kinds, width), nn.Parameter(0.02 * torch.randn(length, width))
        block = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False) if kind == "transformer" else None
        self.cell = nn.GRU(width, width, batch_first=True) if self.blocks is None else None
        self.head = nn.Linear(width, kinds)

    def forward(self, letters: Tensor) -> Tensor:
        x = self.embed(letters)
        if self.blocks is not None:
            mask = nn.Transformer.generate_square_subsequent_mask(letters.shape[1])
            x = self.blocks(x + self.place, mask=mask, is_causal=True)
        elif self.cell is not None:
            x = self.cell(x)[0]
        found: Tensor = self.head(x)
        return found


class Autoencoder(nn.Module):
    def __init__(self, code: int = 16) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, code))
        self.decoder = nn.Sequential(nn.Linear(code, 64), nn.ReLU(), nn.Linear(64, 196))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.decoder(self.encoder(x))
        return found


class Variational(Autoencoder):
    """Kingma & Welling 2014. Returns what it makes, mean and log variance of the code."""

    def __init__(self, code: int = 8) -> None:
        super().__init__(2 * code)
        self.decoder = nn.Sequential(nn.Linear(code, 64), nn.ReLU(), nn.Linear(64, 196))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return self.decoder(mean + (log_variance / 2).exp() * torch.randn_like(mean)), mean, log_variance


class Twins(nn.Module):
    """A generator of points and the network that judges them, in one."""

    def __init__(self, sigmoid: bool = False) -> None:
        super().__init__()
        self.make = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
        last = [nn.Sigmoid()] if sigmoid else []
        self.tell = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1), *last)


class Doubtful(nn.Module):
    """Mean and log variance of a number: its loss, the negative log likelihood, may be below 0."""

    def __init__(self) -> None:
        super().__init__()
        self.body = regressor(64, outputs=2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.body(x)
        return found


class Undone(nn.Module):
    """A network with one step that may go wrong at some inputs: `where` names it."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.first, self.middle, self.head = nn.Linear(196, 64), Fragile(fault), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.middle(F.relu(self.first(x))))
        return found


class Fragile(nn.Module):
    """log of 0, a division by 0, or a root of 0, whose slope is infinite; switched on by `armed`."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.armed = fault, False

    def forward(self, x: Tensor) -> Tensor:
        if not self.armed:
            return x
        if self.fault == "log":
            return torch.log(x)
        if self.fault == "division":
            return x / (x.sum(1, keepdim=True) - x.sum(1, keepdim=True))
        nothing = x - x.detach()  # a forward pass of 0, whose gradient is infinite times 0, for every unit
        return x + (torch.sqrt(nothing.square().sum(1, True)) if self.fault == "sqrt" else nothing.abs().pow(0.5))
