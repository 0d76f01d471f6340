"""Networks with and without batch normalization (N1.6), trained, read and timed: the measuring half of `batchnorm`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from runtrue import init, nets, stats
from runtrue.lab.experiment import Row
from runtrue.lab.runs import Examples, Run, alone, fit
from runtrue.lab.training import CLASSES, INPUTS, examples

SHALLOW = 2
"""Hidden layers of the network beside the deep one: what every text on perceptrons begins with."""
SMALL = 0.01
"""Spread of the small weights: those of N1.2."""
WEIGHTS = ("he", "torch", "small")
"""First weights: N(0, 2 / fan_in) (He et al. 2015, eq. 10), which fit a ReLU; as torch draws them, U(±1/√fan_in); N(0, 0.01²)."""
READ = 500
"""Examples through which the gradient is read: with ten layers of 100 units a norm is then good to a few percent."""
ROUNDS, WARMUP = 60, 3
"""Pairs of steps whose times are compared, and before them those that are not counted. Large networks get fewer."""
WIDE = 5
"""A wider network beside the deep one: with five times the width a layer costs up to 25 times as much, its normalization 5."""
HELD_BACK = 600
"""Of 3,000 drawn examples, those to validate on."""


@dataclass(frozen=True)
class Net:
    """One network of ReLUs, by all that the experiment changes about it."""

    depth: int
    width: int
    inputs: int
    weights: str = "he"
    norm: bool = False
    dropout: float = 0.0
    scale: float = 1.0
    """Of the weights in front of the activations. The output layer stays as it is: behind it there is no normalization."""

    def built(self, seed: int) -> nn.Sequential:
        """The network, drawn with this seed: the same weights with and without normalization. Uses the global random state."""
        torch.manual_seed(seed)
        sizes = [self.inputs, *[self.width] * self.depth, CLASSES]
        net = nets.mlp(sizes, "relu", norm=kind(self.norm), dropout=self.dropout).float()
        with torch.no_grad():
            for name, layer in net.named_children():
                if isinstance(layer, nn.Linear):
                    self._draw(layer)
                    if name != "head":
                        layer.weight.mul_(self.scale)
        return net

    def _draw(self, layer: nn.Linear) -> None:
        if self.weights == "he":
            init.he_normal(layer.weight)
        if self.weights == "small":
            init.normal(layer.weight, SMALL)
        if self.weights != "torch" and layer.bias is not None:
            init.zeros(layer.bias)


def sets(data: str, seed: int) -> tuple[Examples, Examples]:
    """Examples to train and to validate on: the images as they ship, or Gaussians of which the last ones are held back."""
    inputs, labels = examples(data, seed)
    if data == "fashion-mnist":
        from runtrue.datasets import fashion_mnist

        return (inputs, labels), fashion_mnist("test", flat=True)
    return (inputs[:-HELD_BACK], labels[:-HELD_BACK]), (inputs[-HELD_BACK:], labels[-HELD_BACK:])


def trained(net: Net, rate: float, epochs: int, seed: int, data: str, batch_size: int, momentum: float) -> Run:
    """One training by SGD with momentum. Every network of a seed sees the same batches in the same order."""
    model = net.built(seed)
    train, val = sets(data, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    return fit(model, train, val, epochs=epochs, batch_size=batch_size, optimizer=optimizer, seed=seed)


# -- the gradient by depth


def gradients(depth: int, width: int, data: str, seeds: Sequence[int]) -> list[Row]:
    """The norm of the loss's gradient with respect to every layer's output, at the start: a row a layer, means over the seeds.

    For each kind of first weights without and with normalization ("he", "he_norm").
    """
    rows: list[Row] = [{"layer": layer} for layer in range(1, depth + 1)]
    with alone():
        for weights in WEIGHTS:
            for norm in (False, True):
                found = [gradient_norms(Net(depth, width, INPUTS[data], weights, norm), data, seed) for seed in seeds]
                for row, values in zip(rows, zip(*found, strict=True), strict=True):
                    row[weights + "_norm" * norm] = fmean(values)
    return rows


def gradient_norms(net: Net, data: str, seed: int) -> list[float]:
    """Of one network: a number a hidden layer, the first layer first."""
    model = net.built(seed)
    (inputs, labels), _ = sets(data, seed)
    signal, outputs = inputs[:READ], list[Tensor]()
    for name, layer in model.named_children():
        signal = layer(signal)
        if name.startswith("act"):
            outputs.append(signal)
    found = torch.autograd.grad(F.cross_entropy(signal, labels[:READ]), outputs)
    host = stats.gather({str(place): stats.norm(gradient) for place, gradient in enumerate(found)})
    return [host[str(place)] for place in range(len(found))]


# -- the time of a step


def timings(depth: int, width: int, data: str, batch_size: int) -> list[Row]:
    """The time of a step without and with normalization, in deep networks and in others."""
    generator = Generator().manual_seed(0)
    inputs = torch.randn(batch_size, INPUTS[data], generator=generator)
    images = torch.randn(batch_size, 1, 28, 28, generator=generator)
    timed: list[tuple[str, bool, int, Tensor, Callable[[bool], nn.Module]]] = [
        (f"{depth} x {width}", True, ROUNDS, inputs, partial(perceptron, depth, width, data)),
        (f"{depth} x {WIDE * width}", True, ROUNDS // 2, inputs, partial(perceptron, depth, WIDE * width, data)),
        ("plain-20", True, ROUNDS // 10, images, lambda norm: nets.plain(20, in_channels=1, norm=kind(norm))),
        (f"{SHALLOW} x {width}", False, ROUNDS, inputs, partial(perceptron, SHALLOW, width, data)),
        ("CNN", False, ROUNDS // 2, images, lambda norm: nets.cnn(norm=kind(norm))),
    ]
    with alone():
        return [
            {"network": name, "deep": deep, **in_turn(make, given, rounds)} for name, deep, rounds, given, make in timed
        ]


def kind(norm: bool) -> Literal["batch"] | None:
    return "batch" if norm else None


def perceptron(depth: int, width: int, data: str, norm: bool) -> nn.Module:
    return Net(depth, width, INPUTS[data], norm=norm).built(0)


def in_turn(make: Callable[[bool], nn.Module], inputs: Tensor, rounds: int) -> Row:
    """Medians of a step without and with, which take turns so that whatever else the machine does befalls both.

    In time of the processor, on one thread: on a machine that is busy it tells more than the clock on the wall.
    """
    labels = torch.zeros(len(inputs), dtype=torch.long)
    steps = [step_of(make(norm), inputs, labels) for norm in (False, True)]
    found = [[seconds(step) for step in steps] for _ in range(rounds + WARMUP)][WARMUP:]
    without, with_norm = (median(times) for times in zip(*found, strict=True))
    return {"without_ms": 1e3 * without, "with_ms": 1e3 * with_norm, "ratio": median(b / a for a, b in found)}


def step_of(model: nn.Module, inputs: Tensor, labels: Tensor) -> Callable[[], Any]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        loss = F.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], Any]) -> float:
    begin = time.process_time()
    step()
    return time.process_time() - begin
