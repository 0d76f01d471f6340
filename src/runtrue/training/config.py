"""What a training run is made of, as one value: a file can hold it, and the same file starts the same run again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from runtrue.init import SCHEMES
from runtrue.optimizers import NAMES as OPTIMIZERS
from runtrue.schedules import DECAYS
from runtrue.training import values
from runtrue.training.values import BIG, ConfigError

__all__ = ["Config", "ConfigError", "read", "written"]

PRECISIONS = ("auto", "32", "bf16")
STRATEGIES = ("auto", "ddp", "fsdp")
LOGGERS = ("csv", "tensorboard", "wandb", "none")
INITS = ("default", "net", *(scheme for scheme in SCHEMES if scheme != "zeros"))
"""How weights start: `net` leaves them as the network drew them; `default` does so for a network of the user's, and takes `auto`
for those that have a name here. Zeros cannot be trained (N1.2)."""


@dataclass(frozen=True)
class Config:
    """Every setting of `runtrue train`; the names are those of its options, with _ for -.

    net, data: a name that `nets.named` and `datasets.load` know, or a TARGET. size: side of the images in pixels, where they are
    to be resized. augment: "auto" crops by an eighth of the side and mirrors pictures of things; "crop:4,flip"; "none".
    lr: of the optimizer, α₀ of the decay (N4.2); decay_every and decay_factor are of "step" (epochs), decay_rate is k of "exp"
    and "inverse" (per epoch); warmup: epochs in which the rate rises to lr.
    init: a scheme of `runtrue.init`; "net" leaves the weights as the network drew them, "default" does that for your own.
    l1, l2, max_norm: N2.1, on weights, not on biases and normalization.
    precision: "auto" takes bf16 where a short measurement finds it faster; channels_last: None measures, too. compile: by
    torch.compile, which takes a minute before the first step. clip: largest norm of the gradient.
    check_seconds: what the check before the training may take. checkpoint_every: steps between two checkpoints, besides one at
    the end of each epoch. watch: record layers, gradients and updates, and say what goes wrong while it does.
    """

    net: str = "resnet20"
    data: str = "fashion-mnist"
    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "momentum"
    lr: float = 0.1
    momentum: float = 0.9
    decay: str = "cosine"
    decay_every: int = 20
    decay_factor: float = 0.8
    decay_rate: float | None = None
    decay_per: str = "epoch"
    warmup: float = 0.0
    init: str = "default"
    norm: str = "batch"
    dropout: float = 0.0
    l1: float = 0.0
    l2: float = 2.5e-4
    max_norm: float | None = None
    clip: float | None = None
    augment: str = "auto"
    size: int | None = None
    val_fraction: float = 0.2
    precision: str = "auto"
    channels_last: bool | None = None
    compile: bool = False
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    seed: int = 0
    check: bool = True
    check_seconds: float = 30.0
    checkpoint_every: int | None = None
    watch: bool = True
    logger: str = "csv"

    def __post_init__(self) -> None:
        values.within(self, LIMITS, CHOICES)

    def changed(self, **settings: Any) -> Config:
        """With these settings instead. Raises ConfigError for an unknown name or a value of the wrong kind."""
        return values.changed(self, settings)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


LIMITS: dict[str, tuple[float, float, bool]] = {
    "epochs": (1, BIG, False),
    "batch_size": (1, BIG, False),
    "lr": (0, 1e6, True),
    "momentum": (0, 0.9999, False),
    "decay_every": (1, BIG, False),
    "decay_factor": (0, 1, True),
    "decay_rate": (0, BIG, False),
    "warmup": (0, BIG, False),
    "dropout": (0, 0.99, False),
    "l1": (0, BIG, False),
    "l2": (0, BIG, False),
    "max_norm": (0, BIG, True),
    "clip": (0, BIG, True),
    "size": (8, 4096, False),
    "val_fraction": (0, 0.9, True),
    "devices": (1, 4096, False),
    "nodes": (1, 4096, False),
    "seed": (0, 2**31 - 1, False),
    "check_seconds": (1, BIG, False),
    "checkpoint_every": (1, BIG, False),
}
"""Of each number: the lowest value, the highest, and whether it has to lie above the lowest."""
CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": OPTIMIZERS,
    "decay": DECAYS,
    "decay_per": ("epoch", "step"),
    "init": INITS,
    "norm": ("batch", "none"),
    "precision": PRECISIONS,
    "strategy": STRATEGIES,
    "logger": LOGGERS,
}
NAMES = tuple(field.name for field in fields(Config))


def read(path: Path) -> Config:
    """A Config from a YAML file; what the file leaves out is as by default. Raises ConfigError that names the file."""
    return values.read(path, Config())


def written(config: Config) -> str:
    """The settings as YAML, in the order of the fields."""
    return values.written(config)
