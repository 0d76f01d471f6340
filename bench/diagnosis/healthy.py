"""Healthy tasks: usual ones, put together by a rule, and unusual but sound ones, told one by one.

Whatever is said against one of these is a false alarm. An oracle that knows nothing of runtrue trains each with three seeds
(`oracle.py`). Half of them are to develop on, half to report on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from diagnosis import healthy_data, healthy_networks, healthy_outputs
from diagnosis.hosts import PROBLEMS, Host, in_hand, perceptron, started
from diagnosis.parts import Arm, Case, Kit, half_of
from runtrue import Task, nets


@dataclass(frozen=True)
class Usual:
    """A host, another network or optimizer in it, other batches, a longer plan."""

    host: Host
    model: Callable[[], nn.Module] | None = None
    optimizer: Callable[..., Optimizer] | None = None
    batch: int | None = None
    epochs: int | None = None


def task_of(usual: Usual) -> Task:
    task = usual.host.arm().task
    return task.replace(
        model=usual.model or task.model,
        optimizer=usual.optimizer or task.optimizer,
        batch_size=usual.batch or task.batch_size,
        epochs=usual.epochs or task.epochs,
    )


def write(sick: bool, kit: Kit, *, usual: Usual, built: bool) -> Arm:
    problem = PROBLEMS[usual.host.problem]
    arm = started(Arm(task_of(usual), problem.metric, problem.data()), kit)
    return Arm(in_hand(arm.task), arm.metric, arm.judged_on) if built else arm


IMAGE_NETWORKS = ("mlp", "cnn", "cnn-batchnorm", "resnet-8", "lstm", "transformer")
IMAGE_PROBLEMS = ("classes", "binary", "labels", "regression")
TAKING_TURNS = ("sgd", "momentum", "adam", "adamw", "rmsprop")


def images() -> Iterator[tuple[str, Usual]]:
    """Every architecture on every problem; the optimizers take turns."""
    for i, architecture in enumerate(IMAGE_NETWORKS):
        for j, problem in enumerate(IMAGE_PROBLEMS):
            host = Host(architecture, problem, TAKING_TURNS[(i + 2 * j) % len(TAKING_TURNS)])
            yield host.name, Usual(host)


def tables() -> Iterator[tuple[str, Usual]]:
    """Every table with two optimizers and two activations."""
    for i, problem in enumerate(("iris", "wine", "tumours", "progression", "fitness")):
        for j, architecture in enumerate(("table", "tanh table")):
            host = Host(architecture, problem, ("momentum", "adam", "adamw", "rmsprop")[(i + j) % 4])
            yield host.name, Usual(host)


def sizes() -> Iterator[tuple[str, Usual]]:
    """Other depths and widths, with and without normalization and dropout, other batches."""
    host = Host("mlp", "classes", "adam")
    network: dict[str, Callable[[], nn.Module]] = {
        "one hidden layer of 16": partial(perceptron, 10, depth=1, width=16),
        "one hidden layer of 512": partial(perceptron, 10, depth=1, width=512),
        "six layers of 64": partial(perceptron, 10, depth=6, width=64),
        "five tanh layers": partial(perceptron, 10, "tanh", depth=5, width=100),
        "four ELU layers": partial(perceptron, 10, "elu", depth=4),
        "four GELU layers": partial(perceptron, 10, "gelu", depth=4),
        "three LeakyReLU layers": partial(perceptron, 10, "leaky_relu"),
        "two sigmoid layers": partial(perceptron, 10, "sigmoid", depth=2),
        "eight normalized layers": lambda: flat(nets.mlp([784, *[64] * 8, 10], norm="batch")),
        "dropout 0.1": lambda: flat(nets.mlp([784, 128, 128, 10], dropout=0.1)),
        "dropout 0.3, normalized": lambda: flat(nets.mlp([784, 128, 128, 10], norm="batch", dropout=0.3)),
        "dropout 0.5": lambda: flat(nets.mlp([784, 256, 256, 10], dropout=0.5)),
    }
    for name, model in network.items():
        yield f"{name} · adam", Usual(host, model=model)
    yield (
        "ten He layers · momentum",
        Usual(Host("mlp", "classes", "momentum"), model=partial(healthy_networks.he, 10, 100)),
    )
    yield "three-stage cnn · adamw", Usual(Host("cnn", "classes", "adamw"), model=partial(nets.cnn, (8, 16, 32), 10))
    yield (
        "tanh cnn · momentum",
        Usual(Host("cnn", "binary", "momentum"), model=lambda: nets.cnn((8, 16), 1, activation="tanh")),
    )
    yield "wide cnn · adam", Usual(Host("cnn", "regression", "adam"), model=lambda: nets.cnn((32,), 2))


def flat(network: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), network)


def settings() -> Iterator[tuple[str, Usual]]:
    """Other batches, weight decay, momentum, and rates from the lower and the upper end of what trains."""
    mlp, cnn = Host("mlp", "classes", "sgd"), Host("cnn", "classes", "momentum")
    yield "mlp · batches of 4", Usual(mlp, optimizer=partial(SGD, lr=0.01), batch=4, epochs=4)
    yield "mlp · batches of 250", Usual(mlp, optimizer=partial(SGD, lr=0.1, momentum=0.9), batch=250, epochs=25)
    yield "mlp · one batch an epoch", Usual(mlp, optimizer=partial(Adam, lr=2e-3), batch=1000, epochs=60)
    yield "mlp · nesterov", Usual(mlp, optimizer=partial(SGD, lr=0.02, momentum=0.9, nesterov=True))
    yield "mlp · high rate", Usual(mlp, optimizer=partial(SGD, lr=0.2))
    yield "mlp · low rate, long plan", Usual(mlp, optimizer=partial(SGD, lr=0.005), epochs=60)
    yield "cnn · weight decay 1e-3", Usual(cnn, optimizer=partial(SGD, lr=0.01, momentum=0.9, weight_decay=1e-3))
    yield "cnn · AdamW with decay 0.05", Usual(cnn, optimizer=partial(AdamW, lr=2e-3, weight_decay=0.05))
    yield "cnn · Adam at 1e-2", Usual(cnn, optimizer=partial(Adam, lr=1e-2))
    yield "cnn · Adam at 2e-4, long plan", Usual(cnn, optimizer=partial(Adam, lr=2e-4), epochs=25)
    yield "digits · small batches", Usual(Host("table", "digits", "sgd"), batch=16)
    yield "digits · rmsprop", Usual(Host("tanh table", "digits", "rmsprop"))


def usual() -> dict[str, Case]:
    made = {}
    for family in (images, tables, sizes, settings):
        for identity, found in family():
            built = hashlib.sha256(identity.encode()).digest()[1] % 2 == 0
            body = partial(write, usual=found, built=built)
            made[identity] = Case(identity, "put together", family.__name__, (), body, half_of(identity))
    return made


HEALTHY: dict[str, Case] = {
    **usual(),
    **healthy_outputs.CASES,
    **healthy_networks.CASES,
    **healthy_data.CASES,
}
