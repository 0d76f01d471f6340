"""What the bench is made of: a `Case` has a sick and a healthy `Arm`, and a `Kit` is what its author builds them with."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.optim import Optimizer

from diagnosis import metrics
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
    what: str
    """What went wrong, in a line."""
    accepted: tuple[str, ...]
    write: Callable[[bool, Kit], Arm]
    half: Half
    shared: str | None = None
    """Where other cases have the same healthy arm: its name."""

    @property
    def twin(self) -> str:
        return self.shared or self.id

    @property
    def fingerprint(self) -> str:
        """Changes with the code of the case: a verdict that was kept is stale then."""
        return hashlib.sha256(code_of(self.write).encode()).hexdigest()[:12]

    def arm(self, sick: bool, seed: int = 0, init: Init = "torch") -> Arm:
        """The arm as its user would have it in hand before the first step. Seeds everything."""
        torch.manual_seed(seed)
        np.random.seed(seed)
        return self.write(sick, Kit(np.random.RandomState(seed), init))


def code_of(part: Any) -> str:
    """The source of a function with the functions that it was given, as a partial, in a closure, or in a dataclass."""
    if isinstance(part, partial):
        return code_of(part.func) + code_of(part.args) + code_of(part.keywords)
    if inspect.isfunction(part):
        return inspect.getsource(part) + code_of([cell.cell_contents for cell in part.__closure__ or ()])
    if is_dataclass(part) and not isinstance(part, type):
        return code_of([getattr(part, field.name) for field in fields(part)])
    if isinstance(part, (list, tuple)):
        return "".join(map(code_of, part))
    if isinstance(part, dict):
        return code_of(list(part.items()))
    return f"{part.__module__}.{part.__qualname__}" if hasattr(part, "__qualname__") else repr(part)


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
            what = write.__doc__.strip().splitlines()[0]
            into[identity] = Case(identity, source, what, accepted, write, half or half_of(identity))
            return write

        return add

    return case


def labelled(
    model: nn.Module, train: tuple[Tensor, Tensor], optimizer: Optimizer, epochs: int, batch_size: int = 32
) -> Arm:
    """Classes by cross-entropy, judged by accuracy on the training set."""
    task = Task(model, train, loss=F.cross_entropy, optimizer=optimizer, epochs=epochs, batch_size=batch_size)
    return Arm(task, metrics.accuracy)


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
