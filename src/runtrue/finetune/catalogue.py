"""What a zoo tells of a network: how it wants its images, and where its weights lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 224  # pixels, where a library does not say: that of ImageNet (Krizhevsky et al. 2012)


class ZooError(ValueError):
    """No such network, a library that is missing, or weights that are not here: says which, and what to fetch."""


@dataclass(frozen=True)
class Known:
    """A network of a zoo. side: pixels of its images; mean, std: per channel, of values from 0 to 1. file: where the weights
    lie, or would; url: where they come from; "" if it was never trained. fixed: it takes images of that side alone."""

    name: str
    library: str
    side: int = SIDE
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    url: str = ""
    file: Path | None = None
    fixed: bool = False

    @property
    def here(self) -> bool:
        """The weights need no download."""
        return self.file is not None and self.file.is_file()

    def describe(self) -> str:
        state = "weights are here" if self.here else "weights need a download" if self.url else "no weights"
        return f"{self.library}:{self.name}  {self.side} px  {state}"

    def missing(self) -> str:
        """What to do for its weights."""
        if not self.url:
            return f"{self.name} was never trained by {self.library}: give weights of your own (--weights FILE)"
        return (
            f"the weights of {self.library}:{self.name} are not on this machine: download {self.url} and put it at {self.file}, "
            "or name the file (--weights FILE)"
        )


def cached(name: str) -> Path:
    """Where torch keeps what it downloaded under this name or address."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name.rpartition("/")[2]


def unusable(library: str, error: Exception, needs: str) -> ZooError:
    return ZooError(f"{library} cannot be imported ({' '.join(str(error).split())[:120]}): {needs} {torch.__version__}")
