"""Healthy training tasks on real images, and the faults that are planted into them. Nothing here knows how runtrue judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue import Task, datasets, nets

IMAGES, BATCH, EPOCHS = 1000, 50, 10  # 20 steps an epoch, a plan of 200
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Specimen:
    """A task under test: what it is, and (if a fault was planted) which cause ids name that fault."""

    name: str
    build: Callable[[], Task]
    seed: int = 0
    planted: str | None = None
    accepted: tuple[str, ...] = ()


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


def healthy(seeds: int = 1) -> Iterator[Specimen]:
    """Every architecture on every problem; the optimizers take turns, so that in four seeds each meets each."""
    makers = list(OPTIMIZERS)
    for seed in range(seeds):
        for i, architecture in enumerate(ARCHITECTURES):
            for j, problem in enumerate(PROBLEMS):
                chosen = (architecture, problem.__name__, makers[(i + j + seed) % len(makers)])
                yield Specimen(" · ".join(chosen), partial(task, *chosen), seed)
        yield Specimen("resnet-20 · multi_class · momentum", resnet_20, seed)


def resnet_20() -> Task:
    made = task("cnn", "multi_class", "momentum")
    return made.replace(model=partial(nets.resnet, 20, in_channels=1), batch_size=32)


# -- faults


Plant = Callable[[Task], Task]


def on_data(change: Callable[[Tensor, Tensor], Pair]) -> Plant:
    return lambda task: task.replace(train=change(*task.train))


def on_model(change: Callable[[nn.Module], object]) -> Plant:
    def plant(task: Task) -> Task:
        build = task.model

        def changed() -> nn.Module:
            model = build()
            with torch.no_grad():
                change(model)
            return model

        return task.replace(model=changed)

    return plant


def weights(model: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    return [layer for layer in model.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]


def fill(draw: Callable[[Tensor], object]) -> Plant:
    def change(model: nn.Module) -> None:
        for layer in weights(model):
            draw(layer.weight)
            if layer.bias is not None:
                layer.bias.zero_()

    return on_model(change)


def with_rate(factor: float) -> Plant:
    def plant(task: Task) -> Task:
        make = task.optimizer
        assert isinstance(make, partial)
        return task.replace(optimizer=partial(make.func, **{**make.keywords, "lr": make.keywords["lr"] * factor}))

    return plant


def broken(images: Tensor, targets: Tensor) -> Pair:
    """One image in fifty holds a NaN."""
    images = images.clone()
    images[::50, 0, 0, 0] = float("nan")
    return images, targets


def frozen(model: nn.Module) -> None:
    """Everything but the last bias."""
    for parameter in list(model.parameters())[:-1]:
        parameter.requires_grad_(False)


def forgotten(task: Task) -> Task:
    """The model was built again after the optimizer."""
    old, new = task.built().model, task.built().model
    assert isinstance(old, nn.Module) and isinstance(task.optimizer, partial)
    return task.replace(model=new, optimizer=task.optimizer(old.parameters()))


class Detached(nn.Module):
    """A last scale and shift that alone can learn: the network in front is cut off."""

    def __init__(self, network: nn.Module, outputs: int) -> None:
        super().__init__()
        self.network = network
        self.scale, self.shift = nn.Parameter(torch.ones(outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x).detach() * self.scale + self.shift
        return out


def detached(task: Task) -> Task:
    build = task.model
    outputs = task.train[1].shape[1] if task.train[1].dim() > 1 else 10
    return task.replace(model=lambda: Detached(build(), outputs))


def silent(model: nn.Module) -> None:
    bias = weights(model)[1].bias
    assert bias is not None
    bias.fill_(-20.0)


def deep(activation: str, gain: float) -> Plant:
    """Eight hidden layers, Xavier times `gain`."""

    def plant(task: Task) -> Task:
        outputs = task.train[1].shape[1] if task.train[1].dim() > 1 else 10
        other = task.replace(model=lambda: perceptron(outputs, activation, depth=8))
        return fill(lambda weight: nn.init.xavier_normal_(weight, gain))(other)

    return plant


RAW = on_data(lambda x, y: (255 * (x * datasets.STD + datasets.MEAN), y))
PLANTS: dict[str, tuple[Plant, tuple[str, ...], tuple[tuple[str, str, str], ...]]] = {
    # cause: how to plant it, other ids that are right as well, into which tasks
    "non-finite-data": (on_data(broken), (), (("cnn", "binary", "adam"), ("transformer", "multi_class", "adamw"))),
    "inputs-not-scaled": (RAW, (), (("mlp", "multi_class", "sgd"), ("cnn", "regression", "sgd"))),
    "targets-not-scaled": (
        on_data(lambda x, y: (x, 5000 * y + 20000)),
        (),
        (("mlp", "regression", "sgd"), ("lstm", "regression", "adam")),
    ),
    "constant-inputs": (
        on_data(lambda x, y: (torch.zeros_like(x), y)),
        (),
        (("cnn-batchnorm", "multi_class", "adam"), ("lstm", "regression", "adam")),
    ),
    "constant-targets": (
        on_data(lambda x, y: (x, y[:1].expand_as(y).clone())),
        (),
        (("resnet-8", "multi_class", "momentum"), ("mlp", "binary", "sgd")),
    ),
    "labels-out-of-range": (
        on_data(lambda x, y: (x, y + 1)),
        (),
        (("cnn", "multi_class", "sgd"), ("transformer", "binary", "adam")),
    ),
    "parameters-frozen": (on_model(frozen), (), (("cnn-batchnorm", "multi_class", "sgd"), ("lstm", "binary", "adam"))),
    "parameters-not-optimized": (forgotten, (), (("resnet-8", "multi_label", "adam"), ("mlp", "regression", "sgd"))),
    "graph-detached": (detached, (), (("cnn", "multi_class", "adam"), ("transformer", "regression", "adamw"))),
    "init-too-small": (
        fill(lambda weight: nn.init.normal_(weight, 0, 0.001)),
        ("vanishing-gradient",),
        (("mlp", "multi_class", "sgd"), ("cnn", "multi_class", "momentum")),
    ),
    "init-too-large": (
        fill(lambda weight: nn.init.normal_(weight, 0, 1.0)),
        ("exploding-gradient",),
        (("mlp", "multi_class", "adam"), ("cnn", "multi_label", "sgd")),
    ),
    "init-symmetric": (
        fill(lambda weight: nn.init.constant_(weight, 0.01)),
        (),
        (("mlp", "multi_class", "momentum"), ("cnn", "multi_label", "sgd")),
    ),
    "vanishing-gradient": (
        deep("sigmoid", 1.0),
        ("saturating-activation",),
        (("mlp", "multi_class", "momentum"), ("mlp", "multi_label", "sgd")),
    ),
    "exploding-gradient": (
        deep("relu", 5.0),
        ("init-too-large",),
        (("mlp", "multi_class", "sgd"), ("mlp", "multi_label", "momentum")),
    ),
    "dead-units": (on_model(silent), (), (("cnn", "multi_class", "sgd"), ("mlp", "regression", "adam"))),
    "learning-rate-too-high": (
        with_rate(1000.0),
        (),
        (("cnn", "multi_class", "momentum"), ("resnet-8", "multi_label", "sgd"), ("lstm", "multi_class", "adam")),
    ),
    "learning-rate-too-low": (
        with_rate(1e-5),
        (),
        (
            ("mlp", "binary", "sgd"),
            ("transformer", "multi_class", "adam"),
            ("cnn-batchnorm", "multi_label", "momentum"),
        ),
    ),
}


def sick(seeds: int = 1) -> Iterator[Specimen]:
    for seed in range(seeds):
        for cause, (plant, others, hosts) in PLANTS.items():
            for host in hosts:
                build = partial(planted, plant, *host)
                yield Specimen(" · ".join(host), build, seed, cause, (cause, *others))


def planted(plant: Plant, *host: str) -> Task:
    return plant(task(*host))


# -- the oracle: train for the plan by a plain loop, and look at what is left of the loss


def share_removed(task: Task, seed: int = 0) -> float:
    """Of the loss of the best constant prediction, the share that training for the plan removes (1: all, 0: none), in the
    user's own units, in evaluation mode. Minus infinity if the loss is no number or below 0 at the end (targets that the loss
    does not take), or if the task cannot run."""
    torch.manual_seed(seed)
    model, make = task.built().model, task.optimizer
    assert isinstance(model, nn.Module) and make is not None and task.loss is not None
    optimizer = make if isinstance(make, torch.optim.Optimizer) else make(list(model.parameters()))
    images, targets = task.train
    try:
        for _ in range(EPOCHS * len(images) // task.batch_size):
            rows = torch.randperm(len(images))[: task.batch_size]
            optimizer.zero_grad()
            task.loss(model.train()(images[rows]), targets[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            left = float(task.loss(model.eval()(images), targets))
    except (RuntimeError, IndexError):
        return -float("inf")
    constant = constant_loss(targets)
    return (constant - left) / constant if left >= 0 and constant > 0 else -float("inf")


def constant_loss(targets: Tensor) -> float:
    """Loss of the best constant prediction: entropy for labels and for 0/1 columns, variance for other numbers."""
    if not targets.is_floating_point():
        share = F.one_hot(targets).double().mean(0)
        return float(torch.special.entr(share).sum())
    if bool(((targets == 0) | (targets == 1)).all()):
        share = targets.double().mean(0)
        return float((torch.special.entr(share) + torch.special.entr(1 - share)).mean())
    return float(targets.double().var(0, correction=0).mean())
