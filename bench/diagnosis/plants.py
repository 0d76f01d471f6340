"""Faults that are planted into healthy arms. Each function takes an arm and gives a sick one; the healthy one stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from diagnosis.hosts import PROBLEMS, in_hand, perceptron
from diagnosis.metrics import Metric
from diagnosis.parts import Arm
from runtrue import Task, datasets

Plant = Callable[[Arm], Arm]
Change = Callable[[Tensor], Tensor]


def unchanged(arm: Arm) -> Arm:
    return arm


def same(values: Tensor) -> Tensor:
    return values


def with_task(arm: Arm, task: Task) -> Arm:
    return replace(arm, task=task)


def read_as(metric: Metric) -> Plant:
    """What is planted changes what the outputs mean, and so how they are read."""
    return lambda arm: replace(arm, metric=metric)


# -- data


def units(inputs: Change = same, targets: Change = same) -> Plant:
    """The user's data are in other units, those that he looks at afterwards as well."""

    def plant(arm: Arm) -> Arm:
        pair = inputs(arm.task.train[0].clone()), targets(arm.task.train[1].clone())
        return Arm(arm.task.replace(train=pair), arm.metric, pair)

    return plant


def spoiled(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Plant:
    """The training data are spoiled; what the network is to be used on is not."""

    def plant(arm: Arm) -> Arm:
        x, y = arm.task.train
        return with_task(arm, arm.task.replace(train=change(x.clone(), y.clone())))

    return plant


def grey_levels(pixels: Tensor) -> Tensor:
    """Standardized pixels back to 0 … 255."""
    return 255 * (pixels * datasets.STD + datasets.MEAN)


def one_column(factor: float) -> Change:
    def scale(columns: Tensor) -> Tensor:
        columns[:, 0] = factor * (columns[:, 0] + 10)
        return columns

    return scale


def every_fiftieth(value: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """One number of every fiftieth row (of a small table: of one row)."""

    def change(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x.flatten(1)[::50, 0] = value
        return x, y

    return change


def rows_mixed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, y[torch.randperm(len(y), generator=torch.Generator().manual_seed(1))]


def few_rows(count: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The first rows again and again instead of all."""
    return lambda x, y: (
        x[:count].repeat(len(x) // count, *[1] * (x.dim() - 1)),
        y[:count].repeat(len(y) // count, *[1] * (y.dim() - 1)),
    )


def judged_on_others(problem: str) -> Plant:
    """Judge on images that were not trained on."""
    held_out = PROBLEMS[problem].held_out
    assert held_out is not None
    return lambda arm: replace(arm, judged_on=held_out())


def sorted_batches(arm: Arm) -> Arm:
    """Class after class, from a loader that does not shuffle."""
    x, y = arm.task.train
    order = y.flatten().argsort(stable=True)
    loader = DataLoader(TensorDataset(x[order], y[order]), batch_size=arm.task.batch_size, shuffle=False)
    return with_task(arm, arm.task.replace(train=loader))


def validated_on(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Plant:
    """A validation set that does not match; it is what the network is judged on."""

    def plant(arm: Arm) -> Arm:
        val = change(*(part.clone() for part in arm.examination))
        return Arm(arm.task.replace(val=val), arm.metric, val)

    return plant


def classes_apart(arm: Arm) -> Arm:
    """Trained on the first seven classes, validated on the last three."""
    (x, y), (vx, vy) = arm.task.train, arm.examination
    val = vx[vy >= 7], vy[vy >= 7]
    return Arm(arm.task.replace(train=(x[y < 7], y[y < 7]), val=val), arm.metric, val)


# -- model


def on_model(change: Callable[[nn.Module], object]) -> Plant:
    """`change` edits a new model in place."""

    def plant(arm: Arm) -> Arm:
        build = arm.task.model

        def changed() -> nn.Module:
            model = build()
            with torch.no_grad():
                change(model)
            return model

        return with_task(arm, arm.task.replace(model=changed))

    return plant


def behind(*layers: Callable[[], nn.Module]) -> Plant:
    """More layers behind the output."""

    def plant(arm: Arm) -> Arm:
        build = arm.task.model
        return with_task(arm, arm.task.replace(model=lambda: nn.Sequential(build(), *[make() for make in layers])))

    return plant


def instead(build: Callable[[int], nn.Module]) -> Plant:
    """Another network with as many outputs."""

    def plant(arm: Arm) -> Arm:
        return with_task(arm, arm.task.replace(model=partial(build, outputs_of(arm))))

    return plant


def outputs_of(arm: Arm) -> int:
    targets = arm.task.train[1]
    return int(targets.shape[1] if targets.dim() > 1 else targets.max() + 1)


def weights(model: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    return [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]


def fill(draw: Callable[[Tensor], object], biases: bool = True) -> Plant:
    """Draw every weight of linear and convolution layers anew; biases to zero."""

    def change(model: nn.Module) -> None:
        for layer in weights(model):
            draw(layer.weight)
            if layer.bias is not None and biases:
                layer.bias.zero_()

    return on_model(change)


def stretched(factor: float) -> Plant:
    """Every matrix and kernel times `factor`."""

    def change(model: nn.Module) -> None:
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(factor)

    return on_model(change)


def silent(bias: float, place: int) -> Plant:
    """The biases of one layer so low that none of its ReLUs answers."""

    def change(model: nn.Module) -> None:
        found = weights(model)[place].bias
        assert found is not None
        found.fill_(bias)

    return on_model(change)


def deep(activation: str, gain: float, depth: int = 8) -> Plant:
    """A perceptron of `depth` hidden layers with Xavier's weights times `gain`."""
    other = instead(partial(perceptron, activation=activation, depth=depth))
    return lambda arm: fill(lambda weight: nn.init.xavier_normal_(weight, gain))(other(arm))


def deep_convolutions(outputs: int, activation: Callable[[], nn.Module], gain: float, depth: int = 8) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, stride=2, padding=1), activation()]
    for _ in range(depth - 1):
        layers += [nn.Conv2d(16, 16, 3, padding=1), activation()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, outputs))
    for layer in weights(model):
        nn.init.xavier_normal_(layer.weight, gain)
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    return model


class Narrow(nn.Module):
    """All that the head sees passes through `width` units."""

    def __init__(self, body: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.body, self.neck, self.head = body, nn.Tanh(), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.neck(self.body(x)))
        return out


def bottleneck(build: Callable[[int], nn.Module], width: int = 1) -> Plant:
    return instead(lambda outputs: Narrow(build(width), width, outputs))


def dropped(probability: float) -> Plant:
    """Every dropout of the network at `probability`, and one behind each activation of a network that has none."""

    def change(model: nn.Module) -> None:
        found = [m for m in model.modules() if isinstance(m, nn.Dropout)]
        for layer in found:
            layer.p = probability
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if not found and isinstance(child, (nn.ReLU, nn.Tanh, nn.LSTM)):
                    setattr(parent, name, Dropped(child, probability))

    return on_model(change)


class Dropped(nn.Module):
    """A layer with dropout on what it gives (of an LSTM: on its outputs)."""

    def __init__(self, layer: nn.Module, probability: float) -> None:
        super().__init__()
        self.layer, self.dropout = layer, nn.Dropout(probability)

    def forward(self, x: Tensor) -> object:
        out = self.layer(x)
        return (self.dropout(out[0]), *out[1:]) if isinstance(out, tuple) else self.dropout(out)


# -- wiring


def freeze_but(model: nn.Module, kept: int) -> None:
    """All parameters but the last `kept`."""
    every = list(model.parameters())
    for parameter in every[: len(every) - kept]:
        parameter.requires_grad_(False)


def foreign_optimizer(arm: Arm) -> Arm:
    """The model was built again after the optimizer."""
    old, new = arm.task.built().model, arm.task.built().model
    assert isinstance(old, nn.Module) and isinstance(arm.task.optimizer, partial)
    return with_task(arm, arm.task.replace(model=new, optimizer=arm.task.optimizer(old.parameters())))


def optimizer_of_the_last(count: int) -> Plant:
    """The optimizer holds the last `count` parameters alone."""

    def plant(arm: Arm) -> Arm:
        task = arm.task.built()
        assert isinstance(task.model, nn.Module) and isinstance(task.optimizer, partial)
        held = list(task.model.parameters())[-count:]
        return with_task(arm, task.replace(optimizer=task.optimizer(held)))

    return plant


class Detached(nn.Module):
    """A last scale and shift that alone can learn: the network in front is cut off."""

    def __init__(self, network: nn.Module, outputs: int) -> None:
        super().__init__()
        self.network = network
        self.scale, self.shift = nn.Parameter(torch.ones(outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x).detach() * self.scale + self.shift
        return out


def detached(arm: Arm) -> Arm:
    build, outputs = arm.task.model, outputs_of(arm)
    return with_task(arm, arm.task.replace(model=lambda: Detached(build(), outputs)))


class Evaluating(nn.Module):
    """Turns its normalization to evaluation whenever it runs, from a start at which its statistics fit nothing."""

    def __init__(self, network: nn.Module, mean: float, variance: float) -> None:
        super().__init__()
        self.network = network
        for layer in self.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                nn.init.constant_(layer.running_mean, mean)  # type: ignore[arg-type]
                nn.init.constant_(layer.running_var, variance)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        self.network.eval()
        out: Tensor = self.network(x)
        return out


def evaluating(mean: float, variance: float) -> Plant:
    """As if the statistics of another data set had been loaded."""

    def plant(arm: Arm) -> Arm:
        build = arm.task.model
        return with_task(arm, arm.task.replace(model=lambda: Evaluating(build(), mean, variance)))

    return plant


# -- loss


def with_loss(loss: Callable[[Tensor, Tensor], Tensor]) -> Plant:
    return lambda arm: with_task(arm, arm.task.replace(loss=loss))


def against_a_row(outputs: Tensor, targets: Tensor) -> Tensor:
    """(N, 1) against (N,): N × N differences."""
    return ((outputs - targets.flatten()) ** 2).mean()


def negated(outputs: Tensor, targets: Tensor) -> Tensor:
    loss = F.cross_entropy if not targets.is_floating_point() else F.mse_loss
    return -loss(outputs, targets)


def squared_probabilities(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.mse_loss(outputs.softmax(1), F.one_hot(labels, outputs.shape[1]).float())


def divided(count: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda outputs, labels: F.cross_entropy(outputs, labels) / count


def penalized(power: int, strength: float) -> Plant:
    """strength · Σ |w|^power is added to the loss. The loss closes over the model."""

    def plant(arm: Arm) -> Arm:
        task = in_hand(arm.task)
        model, plain = task.model, task.loss
        assert isinstance(model, nn.Module) and plain is not None

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            penalty = torch.stack([p.abs().pow(power).sum() for p in model.parameters()]).sum()
            return plain(outputs, targets) + strength * penalty

        return with_task(arm, task.replace(loss=loss))

    return plant


# -- optimizer


def optimized(**changes: float) -> Plant:
    """The same optimizer with other settings; `times` multiplies the rate."""

    def plant(arm: Arm) -> Arm:
        make = arm.task.optimizer
        assert isinstance(make, partial)
        settings = {**make.keywords, **{k: v for k, v in changes.items() if k != "times"}}
        settings["lr"] *= changes.get("times", 1.0)
        return with_task(arm, arm.task.replace(optimizer=partial(make.func, **settings)))

    return plant


def batches_of(size: int, epochs: int | None = None) -> Plant:
    return lambda arm: with_task(arm, arm.task.replace(batch_size=size, epochs=epochs or arm.task.epochs))


def one_after_the_other(*plants: Plant) -> Plant:
    def plant(arm: Arm) -> Arm:
        for each in plants:
            arm = each(arm)
        return arm

    return plant
