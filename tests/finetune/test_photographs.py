"""What the tests of fine-tuning stand on: the photographs are all there, and the trained weights recognize what they show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runtrue.finetune.zoo import Known, build

COUNTS = {"birds": 35, "fish": 11, "flowers": 25, "fruit": 26, "household": 32, "mammals": 65, "vehicles": 19}
BIRDS = {*range(7, 25), *range(80, 101), *range(127, 147)}  # among the 1000 classes of ImageNet


def prepared(file: Path, known: Known) -> Tensor:
    """(3, side, side), on white, as the weights ask."""
    from PIL import Image

    shown = Image.open(file).convert("RGBA")
    whole = Image.new("RGBA", shown.size, "white")
    whole.alpha_composite(shown)
    pixels = torch.frombuffer(
        bytearray(whole.convert("RGB").resize((known.side, known.side)).tobytes()), dtype=torch.uint8
    )
    values = pixels.reshape(known.side, known.side, 3).permute(2, 0, 1) / 255
    return (values - torch.tensor(known.mean)[:, None, None]) / torch.tensor(known.std)[:, None, None]


def test_the_photographs_are_all_there(photos: Path) -> None:
    assert {folder.name: len(list(folder.glob("*.png"))) for folder in photos.iterdir()} == COUNTS


def test_the_weights_recognize_birds(photos: Path, mobilenet: Path, torchvision: Any) -> None:
    """Of 1000 classes 59 are birds: a chance of 6 % each. Seen: 33 of the 35, and none of the 19 vehicles."""
    model, known, _ = build("mobilenet_v2", weights=mobilenet)
    with torch.no_grad():
        told = {
            kind: model.eval()(
                torch.stack([prepared(file, known) for file in sorted((photos / kind).iterdir())])
            ).argmax(1)
            for kind in ("birds", "vehicles")
        }
    as_birds = {kind: sum(label in BIRDS for label in labels.tolist()) for kind, labels in told.items()}
    assert as_birds["birds"] >= 30 and as_birds["vehicles"] == 0, as_birds
