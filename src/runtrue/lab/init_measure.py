"""Send samples through a deep network and a gradient back, and read every layer: the measuring half of `init`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

import torch
from torch import Generator, Tensor
from torch.nn import functional

from runtrue import stats
from runtrue.init.schemes import Fans, he_std, lecun_std, normal
from runtrue.lab.experiment import Row

BINS = 41
"""Bins of a histogram. An odd number: one bin stands astride 0 where the range is symmetric, and a collapse fills that one."""
RANGES = {"tanh": (-1.0, 1.0), "relu": (0.0, 3.0)}
"""What a histogram spans: a tanh's whole range; of a ReLU 3, which is 3.6 standard deviations at He's initialisation."""
HISTOGRAM_VALUES = 100_000
"""Values that the histogram of a layer counts, those of the first samples: a bin's height is good to a few percent."""
READINGS = ("mean", "std", "grad_norm", "zero_fraction", "saturated_fraction")


@dataclass(frozen=True)
class Scheme:
    """A network by its initial weights N(0, std²), its activation, and batch normalisation in front of that or not."""

    title: str
    weights: str
    activation: str
    std: Callable[[Fans], float]
    normalized: bool = False


SCHEMES: dict[str, Scheme] = {
    "small": Scheme("Small weights, tanh", "N(0, 0.01²)", "tanh", lambda fans: 0.01),
    "large": Scheme("Large weights, tanh", "N(0, 1)", "tanh", lambda fans: 1.0),
    "xavier": Scheme("Xavier, tanh", "N(0, 1) / √fan_in", "tanh", lecun_std),
    "xavier-relu": Scheme("Xavier, ReLU", "N(0, 1) / √fan_in", "relu", lecun_std),
    "he": Scheme("He, ReLU", "N(0, 1) / √(fan_in / 2)", "relu", he_std),
    "batchnorm": Scheme("Small weights with batch normalisation, tanh", "N(0, 0.01²)", "tanh", lambda fans: 0.01, True),
}
"""The series, by key. Glorot's variance 2 / (fan_in + fan_out) is 1 / fan_in where a layer is square."""
LARGE_NORMALIZED = Scheme("Large weights with batch normalisation", "N(0, 1)", "tanh", lambda fans: 1.0, True)


@dataclass(frozen=True, eq=False)
class Draw:
    """All that is random, drawn once a seed: every scheme gets the same samples and the same weights, scaled."""

    inputs: Tensor  # (N, D)
    weights: tuple[Tensor, ...]  # unit Gaussian, (H, D) and then (H, H)
    direction: Tensor  # unit Gaussian, (N, H): the loss is a fixed random projection of the outputs


def draw(inputs: Tensor, depth: int, width: int, generator: Generator) -> Draw:
    sizes = [inputs.shape[1], *[width] * depth]
    pairs = zip(sizes[1:], sizes[:-1], strict=True)
    weights = tuple(normal(torch.empty(pair, dtype=torch.float32), 1.0, generator) for pair in pairs)
    return Draw(inputs, weights, torch.randn(len(inputs), width, generator=generator, dtype=torch.float32))


def outputs_of(scheme: Scheme, drawn: Draw) -> list[Tensor]:
    """The input and every layer's output f(W x), or f((W x - mean) / std) over the batch; (N, D), then (N, H) each."""
    activation = {"tanh": torch.tanh_, "relu": torch.relu_}[scheme.activation]
    outputs = [drawn.inputs.detach().requires_grad_()]
    for unit in drawn.weights:
        fans = Fans(unit.shape[1], unit.shape[0])
        z = functional.linear(outputs[-1], scheme.std(fans) * unit)
        outputs.append(activation(functional.batch_norm(z, None, None, training=True) if scheme.normalized else z))
    return outputs


def gradients_of(outputs: Sequence[Tensor], direction: Tensor) -> tuple[Tensor, ...]:
    """The gradient of the loss L = Σ (R ⊙ h_L) / N with respect to the input and to every layer's output h_l.

    R is a fixed unit Gaussian (N, H): every scheme gets the same gradient at its last output, of norm about √(H / N).
    """
    loss = (direction * outputs[-1]).sum() / len(direction)
    return torch.autograd.grad(loss, outputs)


def measure(scheme: Scheme, drawn: Draw) -> tuple[list[Row], list[Row]]:
    """(readings, histograms), a row a layer. Layer 0 is the input; it has readings and no histogram."""
    outputs = outputs_of(scheme, drawn)
    gradients = gradients_of(outputs, drawn.direction)
    numbers: dict[str, Tensor] = {}
    for layer, (output, gradient) in enumerate(zip(outputs, gradients, strict=True)):
        found = (*stats.moments(output), stats.norm(gradient), stats.zero_fraction(output))
        found += (stats.saturated_fraction(output, scheme.activation if layer else None),)
        numbers |= {f"{layer} {name}": number for name, number in zip(READINGS, found, strict=True)}
    host = stats.gather(numbers)
    rows = [{"layer": layer, **{name: host[f"{layer} {name}"] for name in READINGS}} for layer in range(len(outputs))]
    return rows, [counted(layer, output, scheme) for layer, output in enumerate(outputs) if layer]


def counted(layer: int, output: Tensor, scheme: Scheme) -> Row:
    shown = output[: max(1, HISTOGRAM_VALUES // output.shape[1])]
    counts, edges, _, above, _ = stats.histogram(shown, BINS, *RANGES[scheme.activation])
    return {"layer": layer, "counts": counts.tolist(), "edges": edges.tolist(), "above": int(above)}


def averaged(runs: Sequence[Sequence[Row]]) -> list[Row]:
    """The mean over the seeds of every reading, a row a layer; `std` also by seed, and its spread over them."""
    return [average([run[layer] for run in runs]) for layer in range(len(runs[0]))]


def average(rows: Sequence[Row]) -> Row:
    means = {name: fmean(row[name] for row in rows) for name in READINGS}
    by_seed = [row["std"] for row in rows]
    return {"layer": rows[0]["layer"], **means, "std_spread": pstdev(by_seed), "std_by_seed": by_seed}
