"""What is on an image, by the network of a run: `runtrue predict RUN IMAGE…`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runtrue.datasets import Loader, Skipped, Split, pictures
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
    read, places, skipped = pictures.read(paths, told.side, told.framing)
    pixels = as_trained(torch.from_numpy(read), told.channels)
    rows: list[Tensor] = []
    if places:
        loader = Loader(Split(pixels, torch.zeros(len(pixels))), AT_ONCE, mean=told.mean, std=told.std, shuffle=False)
        rows = [row for inputs, _ in loader for row in weights.probabilities(network, inputs)]
    found = tuple(ranked(paths[place], row, told.classes, top) for place, row in zip(places, rows, strict=True))
    return Predictions(found, tuple(skipped))


def as_trained(pixels: Tensor, channels: int) -> Tensor:
    """(N, 3, H, W) -> (N, channels, H, W): grey levels by the weights of ITU-R BT.601 where the network saw grey images."""
    if channels == 3:
        return pixels
    if channels != 1:
        raise ConfigError(f"the network takes {channels} channels; images in files have 1 or 3")
    luma = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    return (pixels.float() * luma).sum(1, keepdim=True).round().to(torch.uint8)


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
