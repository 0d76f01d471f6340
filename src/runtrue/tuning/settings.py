"""What a fine-tuning is made of, as one value: a file can hold it, and a resumed run reads it there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from runtrue.training import values
from runtrue.training.values import BIG, ConfigError

__all__ = ["ConfigError", "Settings"]

MODES = ("head", "deep")
FRAMINGS = ("auto", "crop", "whole")
NORMS = ("auto", "train", "freeze-statistics", "freeze-all")
WEIGHING = ("auto", "none")


@dataclass(frozen=True)
class Settings:
    """Every setting of `runtrue finetune`; the names are those of its options, with _ for -.

    net: a name of a zoo (`runtrue zoo`) or a TARGET (file.py:build). weights: a file; None takes the zoo's own, or what the
    TARGET brings. data: a folder of class folders, `folder:PATH`, or `csv:PATH`.
    mode: "head" trains a new last layer alone, everything else stands still (N1.1, mode 1); "deep" then trains all layers, slower
    towards the front (mode 2).
    side: pixels of the images; None takes `Known.side` of the zoo up to MOST_SIDE. framing: "crop" cuts out the middle,
    "whole" puts all of a picture on white, "auto" does so for cut-out pictures. mean, std: as the weights want their images,
    "0.485,0.456,0.406", of values from 0 to 1; None takes what the zoo says.
    epochs, batch_size, lr: of mode deep. lr: rate of what is new; None finds one by short trials. kept: rate of the last kept
    layer as a share of it; front: that of the first layer as a share of that of the last kept one. gradual: epochs in which
    the kept layers join in, from back to front (0: at once). patience: epochs without a lower validation loss after which it
    ends. norms: whether batch normalizations "train", keep their stored statistics ("freeze-statistics"), or those and their
    weights ("freeze-all"); "auto" says which, and why. augment: "auto", "none", or such as "crop:8,flip".
    class_weights: "auto" weighs the classes in the loss where their counts are far apart.
    """

    net: str = "mobilenet_v2"
    data: str = ""
    mode: str = "head"
    weights: str | None = None
    side: int | None = None
    framing: str = "auto"
    mean: str | None = None
    std: str | None = None
    epochs: int = 12
    batch_size: int = 32
    lr: float | None = None
    kept: float = 0.1
    front: float = 0.1
    gradual: int = 0
    weight_decay: float = 0.01
    patience: int = 5
    norms: str = "auto"
    augment: str = "auto"
    class_weights: str = "auto"
    val_fraction: float = 0.2
    seed: int = 0
    check: bool = True
    watch: bool = True

    def __post_init__(self) -> None:
        values.within(self, LIMITS, CHOICES)

    def changed(self, **settings: Any) -> Settings:
        """With these settings instead. Raises ConfigError for an unknown name or a value of the wrong kind."""
        return values.changed(self, settings)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


LIMITS: values.Limits = {
    "side": (16, 4096, False),
    "epochs": (1, BIG, False),
    "batch_size": (2, BIG, False),
    "lr": (0, 1e6, True),
    "kept": (0, 10, True),
    "front": (0, 10, True),
    "gradual": (0, BIG, False),
    "weight_decay": (0, BIG, False),
    "patience": (1, BIG, False),
    "val_fraction": (0, 0.9, True),
    "seed": (0, 2**31 - 1, False),
}
CHOICES: values.Choices = {"mode": MODES, "framing": FRAMINGS, "norms": NORMS, "class_weights": WEIGHING}


def triple(text: str | None, name: str) -> tuple[float, ...] | None:
    """ "0.5,0.5,0.5" as numbers, one a channel. Raises ConfigError."""
    if text is None:
        return None
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{name} must be numbers, one a channel, such as 0.485,0.456,0.406; got {text!r}") from None
    if len(found) not in (1, 3) or (name == "std" and min(found) <= 0):
        raise ConfigError(
            f"{name} must be 3 numbers (or one for all){', above 0' if name == 'std' else ''}; got {text!r}"
        )
    return found * 3 if len(found) == 1 else found
