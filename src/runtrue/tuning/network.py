"""The network of a fine-tuning: where it comes from, which of it is kept, which is new, and how it wants its images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from runtrue import targets
from runtrue.finetune import zoo
from runtrue.finetune.difference import Difference, take
from runtrue.finetune.dry import SurgeryError
from runtrue.finetune.heads import is_classifier, last_layer, outputs_of, replace_head
from runtrue.keeping import seed_all
from runtrue.task import TaskError
from runtrue.training.naming import called, is_target
from runtrue.tuning.settings import Settings, triple

MOST_SIDE = 160
"""Pixels, where nobody asks for another size. A new head on MobileNetV2 and the photographs of the bench, cropped: 0.89 right at
160, 0.87 at 192 and 224 (its own size), 0.84 at 128; and 160 costs half of 224."""
OWN_SIDE = 224  # of a network that does not say (Krizhevsky et al. 2012)
PLAIN_MEAN, PLAIN_STD = zoo.IMAGENET_MEAN, zoo.IMAGENET_STD


@dataclass(frozen=True)
class Wants:
    """How a network wants its images: pixels of a side, mean and spread a channel of values from 0 to 1; `told` by whom."""

    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    told: str
    framing: Literal["crop", "whole"] = "crop"
    known_mean: tuple[float, ...] = PLAIN_MEAN
    known_std: tuple[float, ...] = PLAIN_STD

    def describe(self) -> str:
        numbers = [" ".join(f"{value:.3f}" for value in values) for values in (self.mean, self.std)]
        cut = (
            "the short side resized to {} pixels, the middle cut out"
            if self.framing == "crop"
            else "all of it on {} white pixels"
        )
        return (
            f"{cut.format(self.side)}, values from 0 to 1, minus mean {numbers[0]}, over std {numbers[1]} ({self.told})"
        )


@dataclass(frozen=True, eq=False)
class Start:
    """A network to start from. head: the last layer; fresh: names of the parameters that start anew."""

    model: nn.Module
    head: str
    difference: Difference
    wants: Wants
    origin: str

    @property
    def fresh(self) -> frozenset[str]:
        """What was not kept; the head also where it has the right size already."""
        own = {name for name, _ in self.model.named_parameters() if name.startswith(f"{self.head}.")}
        return self.difference.fresh | own


def wants(settings: Settings, given: Any = None) -> Wants:
    """Before the network is built, since the images can be read meanwhile. Raises ZooError for an unknown name."""
    mean, std = triple(settings.mean, "mean"), triple(settings.std, "std")
    if given is None and not is_target(settings.net):
        known = zoo.known(settings.net)
        if known.fixed and settings.side not in (None, known.side):
            raise SurgeryError(
                f"{settings.net} takes images of {known.side} × {known.side} pixels alone, not of {settings.side}: leave --side "
                "out"
            )
        return Wants(
            settings.side or (known.side if known.fixed else min(known.side, MOST_SIDE)), mean or known.mean, std or known.std,
            "as you said" if mean or std else f"as {known.library} says of these weights", "crop", known.mean, known.std,
        )  # fmt: skip
    said = "as you said" if mean or std else "ImageNet's constants, since the network does not say: --mean, --std"
    return Wants(settings.side or OWN_SIDE, mean or PLAIN_MEAN, std or PLAIN_STD, said)


def start(settings: Settings, classes: int, wanted: Wants, given: Any = None, renamed: Any = None) -> Start:
    """Build the network, put a head for `classes` on it, and take over all that fits. Seeded by the settings.

    given: a module or a function that makes one, in the place of a name. Raises ZooError, WeightsError, SurgeryError, TaskError.
    """
    seed_all(settings.seed)
    model, state, origin = _source(settings, classes, wanted, given)
    name = last_layer(model)
    if not is_classifier(model.get_submodule(name)) or outputs_of(model.get_submodule(name)) != classes:
        name = replace_head(model, classes)[-1]
    of_a_zoo = given is None and not is_target(settings.net)
    found = take(model, state, renamed=renamed, least=zoo.MOST if of_a_zoo else 0.0)
    return Start(model, name, found, wanted, origin)


def _source(settings: Settings, classes: int, wanted: Wants, given: Any) -> tuple[nn.Module, Mapping[str, Tensor], str]:
    """The network in its own form, the weights to take from, and where these lie."""
    if given is None and not is_target(settings.net):
        known = zoo.known(settings.net)
        model = zoo.build(settings.net, weights=settings.weights is None and not known.here)[0]
        file = Path(settings.weights) if settings.weights is not None else known.file
        assert file is not None
        return model, zoo.weights_for(model, file), str(file)
    make: nn.Module | Callable[..., Any] = targets.named(settings.net) if given is None else given
    asked = {"classes": classes, "num_classes": classes, "in_channels": 3, "size": wanted.side}
    model = copy.deepcopy(make) if isinstance(make, nn.Module) else called(make, asked, f"the network {settings.net}")
    if not isinstance(model, nn.Module):
        raise TaskError(f"the network {settings.net} is an object of type {type(model).__name__}, not an nn.Module")
    if settings.weights is not None:
        return model, zoo.weights_for(model, settings.weights), settings.weights
    return model, {name: value.clone() for name, value in model.state_dict().items()}, "the network as it was given"
