"""What the bench is made of: a `Case` has a sick and a healthy `Arm`, and a `Kit` is what its author builds them with."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from diagnosis.metrics import Metric
from runtrue import Task

Init = Literal["torch", "keras"]
"""The layers' own start, or Glorot-uniform weights and zero biases, which most of the original programs had (Keras)."""

Half = Literal["develop", "report"]


@dataclass(frozen=True, eq=False)
class Arm:
    """A task, and by what it is judged once it has been trained: raw inputs and targets (None: the training pair itself)."""

    task: Task
    metric: Metric
    judged_on: tuple[Any, Any] | None = None

    @property
    def examination(self) -> tuple[Any, Any]:
        return self.task.train if self.judged_on is None else self.judged_on


@dataclass(frozen=True, eq=False)
class Case:
    """A training that failed and the one change that was needed. `accepted`: the cause ids that are a right diagnosis.

    A case without accepted causes is a control: both of its arms are healthy.
    """

    id: str
    source: str
    accepted: tuple[str, ...]
    write: Callable[[bool, Kit], Arm]
    half: Half

    @property
    def what(self) -> str:
        """What went wrong, in a line."""
        return (self.write.__doc__ or "").strip().splitlines()[0]

    @property
    def fingerprint(self) -> str:
        """Changes with the code of the case: a cached verdict on it is stale then."""
        return hashlib.sha256(inspect.getsource(self.write).encode()).hexdigest()[:12]

    def arm(self, sick: bool, seed: int = 0, init: Init = "torch") -> Arm:
        """The arm as its user would have it in hand before the first step. Seeds everything."""
        torch.manual_seed(seed)
        np.random.seed(seed)
        return self.write(sick, Kit(np.random.RandomState(seed), init))


def half_of(identity: str) -> Half:
    """The fixed split: by the hash of the id, so that nobody chooses."""
    return "develop" if hashlib.sha256(identity.encode()).digest()[0] % 2 == 0 else "report"


Write = Callable[[bool, "Kit"], Arm]


def register(into: dict[str, Case], half: Half | None = None) -> Callable[..., Callable[[Write], Write]]:
    """A decorator `case(source, *accepted)`: the id is the name of the function, with hyphens."""

    def case(source: str, *accepted: str) -> Callable[[Write], Write]:
        def add(write: Write) -> Write:
            identity = write.__name__.replace("_", "-")
            assert identity not in into and write.__doc__, identity
            into[identity] = Case(identity, source, accepted, write, half or half_of(identity))
            return write

        return add

    return case


def tensor(values: ArrayLike) -> Tensor:
    """As float32."""
    return torch.as_tensor(np.asarray(values)).float()


def standardized(values: ArrayLike) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Each column with mean 0 and standard deviation 1."""
    table = np.asarray(values, float)
    scaled: np.ndarray[Any, np.dtype[np.float64]] = (table - table.mean(0)) / (table.std(0) + 1e-12)
    return scaled


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "softmax": lambda: nn.Softmax(dim=1),
}

Model = TypeVar("Model", bound=nn.Module)

Fill = Callable[[Tensor], object]
FILLS: dict[str, tuple[Fill, Fill]] = {  # of weights and of biases
    "keras": (nn.init.xavier_uniform_, nn.init.zeros_),
    "narrow normal": (lambda w: nn.init.normal_(w, 0, 0.05), nn.init.zeros_),
    "narrow uniform": (lambda w: nn.init.uniform_(w, -0.05, 0.05), nn.init.zeros_),
    "positive": (lambda w: nn.init.uniform_(w, 0, 1), nn.init.zeros_),
    "standard normal": (nn.init.normal_, nn.init.zeros_),
    "all standard normal": (nn.init.normal_, nn.init.normal_),
    "zeros": (nn.init.zeros_, nn.init.zeros_),
    "he": (nn.init.kaiming_normal_, nn.init.zeros_),
}


@dataclass(frozen=True)
class Kit:
    """Random numbers for synthetic data, and networks that start as asked for."""

    rng: np.random.RandomState
    init: Init = "torch"

    def started(self, model: Model, fill: str | None = None) -> Model:
        """`model` with the weights of its linear and convolution layers drawn anew; without `fill` as `init` says."""
        fill = fill or self.init
        for layer in model.modules():
            if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d)) and fill != "torch":
                weights, biases = FILLS[fill]
                weights(layer.weight)
                if layer.bias is not None:
                    biases(layer.bias)
        return model

    def mlp(
        self, sizes: Sequence[int], activations: Sequence[str], fill: str | None = None, dropout: float = 0.0
    ) -> nn.Sequential:
        """One linear layer for each name in `activations` ("" for none), dropout behind every layer but the last."""
        layers: list[nn.Module] = []
        for number, name in enumerate(activations):
            layers.append(nn.Linear(sizes[number], sizes[number + 1]))
            if name:
                layers.append(ACTIVATIONS[name]())
            if dropout and number < len(activations) - 1:
                layers.append(nn.Dropout(dropout))
        return self.started(nn.Sequential(*layers), fill)
