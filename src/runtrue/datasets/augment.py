"""Crops and mirror images of a whole batch at once, drawn from a generator of their own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

CROP = 4
"""Pixels of border that `crop` alone means: He et al. 2015, section 4.2, for images of 32 × 32."""


@dataclass(frozen=True, eq=False)
class Moves:
    """What happens to each image of a batch: the corner of its window in the image with its border, and whether it is
    turned round. int64 (B,), int64 (B,), bool (B,); None where there is no crop, or no flip."""

    rows: Tensor | None
    columns: Tensor | None
    mirrored: Tensor | None

    def __getitem__(self, part: slice) -> Moves:
        return Moves(*(None if of is None else of[part] for of in (self.rows, self.columns, self.mirrored)))

    def to(self, device: torch.device) -> Moves:
        return Moves(*(None if of is None else of.to(device) for of in (self.rows, self.columns, self.mirrored)))


@dataclass(frozen=True)
class Augment:
    """Random windows and mirror images, as He et al. 2015 train on CIFAR (section 4.2).

    `crop`: a border of that many pixels of the level `fill` is put around the image, and a window of the image's own size is
    cut out at random, each place alike. `flip`: left and right are exchanged in one of two images.
    Raises ValueError for a `crop` below 0.

    >>> Augment.parse("crop,flip")
    Augment(crop=4, flip=True, fill=0)
    >>> images = torch.arange(12, dtype=torch.uint8).reshape(1, 1, 3, 4)
    >>> Augment(crop=1)(images, torch.Generator().manual_seed(0)).shape
    torch.Size([1, 1, 3, 4])
    """

    crop: int = 0
    flip: bool = False
    fill: float = 0

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise ValueError(f"crop is the width of a border in pixels, 0 or more, got {self.crop}")

    def __bool__(self) -> bool:
        return self.crop > 0 or self.flip

    def __str__(self) -> str:
        words = [f"crop:{self.crop}"] * (self.crop > 0) + ["flip"] * self.flip
        return ",".join(words) or "none"

    @classmethod
    def parse(cls, text: str) -> Augment:
        """`none`, `flip`, `crop` (4 pixels), `crop:6`, or two of them: `crop,flip`. Raises ValueError for other words."""
        crop, flip = 0, False
        for word in filter(None, (part.strip().lower() for part in text.split(","))):
            name, _, width = word.partition(":")
            if name == "crop" and (not width or width.isdecimal()):
                crop = int(width) if width else CROP
            elif word == "flip":
                flip = True
            elif word != "none":
                raise ValueError(
                    f"{word!r} in {text!r} is no augmentation: write none, flip, crop, crop:PIXELS, or two of them as in "
                    '"crop:4,flip"'
                )
        return cls(crop, flip)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Images (B, C, H, W) of any type, each moved in its own way, as a new tensor; as they are where nothing is on."""
        return self.moved(images, self.draw(len(images), generator))

    def draw(self, count: int, generator: Generator) -> Moves:
        """Moves for `count` images. The generator is one of the CPU, whatever the images lie on."""
        rows = columns = mirrored = None
        if self.crop:
            rows, columns = torch.randint(0, 2 * self.crop + 1, (2, count), generator=generator)
        if self.flip:
            mirrored = torch.randint(0, 2, (count,), generator=generator).bool()
        return Moves(rows, columns, mirrored)

    def moved(self, images: Tensor, moves: Moves) -> Tensor:
        """Raises ValueError if the border is as wide as the image: some windows would show nothing of it."""
        if self.crop:
            return self.cut(self.bordered(images), torch.arange(len(images)), moves)
        return images if moves.mirrored is None else turned(images, moves.mirrored.to(images.device))

    def bordered(self, images: Tensor) -> Tensor:
        """With the border around each. Raises ValueError if it is as wide as an image."""
        height, width = images.shape[2:]
        if self.crop >= min(height, width):
            raise ValueError(
                f"crop:{self.crop} can move an image of {height} × {width} out of sight: take a smaller border"
            )
        return F.pad(images, (self.crop,) * 4, value=self.fill)

    def cut(self, bordered: Tensor, places: Tensor, moves: Moves) -> Tensor:
        """The images at those places out of many with their border, moved: picked and cropped in one gather."""
        assert moves.rows is not None and moves.columns is not None
        size = bordered.shape[2] - 2 * self.crop, bordered.shape[3] - 2 * self.crop
        places, rows, columns = (of.to(bordered.device) for of in (places, moves.rows, moves.columns))
        images = windows(bordered, places, size, rows, columns)
        return images if moves.mirrored is None else turned(images, moves.mirrored.to(bordered.device))


def windows(bordered: Tensor, places: Tensor, size: tuple[int, int], rows: Tensor, columns: Tensor) -> Tensor:
    """Of the images at those places the windows of that size whose upper left corners are at (row, column), from a view of
    all windows. NumPy copies a row of pixels at once where torch's CPU code goes pixel by pixel."""
    view = bordered.unfold(2, size[0], 1).unfold(3, size[1], 1)  # (N, C, rows, columns, H, W)
    if in_numpy(bordered):
        return torch.from_numpy(view.numpy()[places.numpy(), :, rows.numpy(), columns.numpy()])
    return view[places, :, rows, columns]


def turned(images: Tensor, mirrored: Tensor) -> Tensor:
    """With left and right exchanged where `mirrored`. On the CPU only those are touched; elsewhere that would mean to wait
    for their number."""
    if not in_numpy(images):
        return torch.where(mirrored[:, None, None, None], images.flip(3), images)
    places, found = mirrored.nonzero()[:, 0], images.clone()
    found.numpy()[places.numpy()] = picked(images, places).flip(3).numpy()
    return found


def picked(images: Tensor, places: Tensor) -> Tensor:
    """Copies of the images at those places."""
    if in_numpy(images):
        return torch.from_numpy(images.numpy()[places.numpy()])
    return images[places.to(images.device)]


def in_numpy(images: Tensor) -> bool:
    return images.device.type == "cpu" and images.dtype != torch.bfloat16 and not images.requires_grad
