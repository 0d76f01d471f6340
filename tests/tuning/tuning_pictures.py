"""Pictures of one colour with noise, in files, and a small network that was trained on such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}
NET = """
import torch
from torch import nn


def build(classes=10):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(16, classes),
    )
"""


def picture(colour: tuple[int, int, int], number: int, side: tuple[int, int] = (40, 32)) -> Any:
    draw = np.random.default_rng([number, *colour])
    pixels = np.clip(np.array(colour) + draw.normal(0, 40, (side[1], side[0], 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def folder_of(place: Path, count: int = 12, names: dict[str, tuple[int, int, int]] = COLOURS) -> Path:
    for name, colour in names.items():
        (place / name).mkdir(parents=True)
        for number in range(count):
            picture(colour, number).save(place / name / f"{number}.png")
    return place


def asking(small: tuple[str, Path], pictures: Path, run: Path) -> list[str]:
    """The words of the command for the small network and these pictures."""
    words = {"--weights": small[1], "--data": pictures, "--side": 32, "--run": run}
    return ["finetune", small[0], *(str(word) for pair in words.items() for word in pair)]
