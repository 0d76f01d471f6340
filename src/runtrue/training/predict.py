"""What is on an image, by the network of a run: `runtrue predict RUN IMAGE…`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runtrue import datasets
from runtrue.datasets import Skipped
from runtrue.training import weights
from runtrue.training.config import ConfigError
from runtrue.training.folder import RunFolder

AT_ONCE = 64  # images in one pass


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image with their probabilities, the likeliest first."""

    path: Path
    classes: tuple[tuple[str, float], ...]

    def to_dict(self) -> dict[str, Any]:
        return {"path": str(self.path), "classes": [{"label": name, "probability": p} for name, p in self.classes]}


@dataclass(frozen=True)
class Predictions:
    predictions: tuple[Prediction, ...]
    skipped: tuple[Skipped, ...]


def predict(run: Path, images: Sequence[Path], *, top: int = 3, net: nn.Module | None = None) -> Predictions:
    """The `top` likeliest classes of each image; files that cannot be read are listed with the reason.

    run: the folder of a finished run. images: files, or folders of them. net: where the run was given a network of the user's
    program, the same again. Raises ConfigError for a run without weights, or where there is no image.
    """
    if top < 1:
        raise ConfigError(f"top must be at least 1, got {top}")
    state, told = weights.load(RunFolder(run).weights)
    network = weights.network(state, told, net if net is not None else weights.of_target(told))
    paths = list(files(images))
    if not paths:
        raise ConfigError(f"there is no image in {', '.join(map(str, images))}")
    pixels, kept, skipped = datasets.decode(paths, size=told.size, channels=told.channels)
    inputs = datasets.normalize(pixels, told.mean, told.std)
    found = [weights.probabilities(network, part) for part in inputs.split(AT_ONCE)]
    rows = torch.cat(found) if found else torch.empty(0, len(told.classes))
    return Predictions(tuple(ranked(path, row, told.classes, top) for path, row in zip(kept, rows)), tuple(skipped))


def ranked(path: Path, row: Tensor, names: Sequence[str], top: int) -> Prediction:
    shares, places = row[: len(names)].topk(min(top, len(names)))
    return Prediction(path, tuple((names[place], share) for place, share in zip(places.tolist(), shares.tolist())))


def files(images: Iterable[Path]) -> Iterable[Path]:
    """The files themselves, and those in folders, sorted."""
    for path in images:
        if path.is_dir():
            yield from sorted(one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
        else:
            yield path
