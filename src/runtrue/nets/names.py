"""Networks by name, as one types them: `resnet20`, `mlp:500x10`, `cnn:32,64`."""

from __future__ import annotations

import difflib
import re

from torch import nn

from runtrue.nets.cnn import cnn
from runtrue.nets.imagenet import BLOCKS, imagenet_resnet
from runtrue.nets.mlp import mlp
from runtrue.nets.parts import Norm
from runtrue.nets.resnet import resnet

NAMES = {
    "resnet20": "and resnet32, 44, 56, 110, 1202 or any 6n + 2 layers: residual, for small images (He et al. 2015, section 4.2)",
    "resnet20b": "the same with projections where the shape changes (option B)",
    "plain20": "and any 6n + 2: the same without shortcuts",
    "resnet18": "and resnet34, resnet50: residual, for large images (He et al. 2015, table 1)",
    "mlp:500x10": "ten hidden layers of 500 units",
    "mlp:300,100": "hidden layers of 300 and 100 units; also called mlp",
    "cnn:16,32": "two stages of 16 and 32 channels; also called cnn",
}
"""Examples of every kind of name, and what they mean."""
OFFERED = (
    *(f"resnet{depth}" for depth in (8, 20, 32, 44, 56, 110, 1202, *BLOCKS)),
    *(f"plain{depth}" for depth in (8, 20, 32, 44, 56, 110)),
    *NAMES,
    "mlp",
    "cnn",
)
"""What a name that is not known may have been meant to be."""


def named(
    name: str,
    *,
    classes: int,
    in_channels: int,
    size: int | tuple[int, int],
    norm: Norm = "batch",
    dropout: float = 0.0,
) -> nn.Module:
    """A new network by its name, for images (B, in_channels, H, W) of `size` (H, W), or both. Raw outputs (B, classes).

    `resnetN` and `plainN` have N = 6n + 2 layers (`resnetNb`: with option B), but `resnet18`, `resnet34` and `resnet50` are
    the networks for large images; `resnet50a` is 50 = 6 * 8 + 2 layers for small ones. `mlp:WIDTHxDEPTH` and
    `mlp:WIDTH,WIDTH` have hidden ReLU layers, and a first layer `flatten` that makes rows of images. `cnn:CHANNELS,CHANNELS`
    has a stage for each number. `norm` and `dropout` as the functions `resnet`, `imagenet_resnet`, `mlp` and `cnn` have them.

    Raises ValueError for a name that is not known, which lists those that are, for a depth that cannot be built, which
    names the nearest ones, and for settings out of their limits.

    >>> list(dict(named("mlp:100x2", classes=10, in_channels=1, size=28, norm=None).named_children()))
    ['flatten', 'linear1', 'act1', 'linear2', 'act2', 'head']
    """
    word = name.strip().lower()
    if found := re.fullmatch(r"(resnet|plain)-?(\d+)(a|b)?", word):
        return _of_depth(name, found[1], int(found[2]), found[3], classes, in_channels, norm, dropout)
    kind, _, sizes = {"mlp": "mlp:300,100", "cnn": "cnn:16,32"}.get(word, word).partition(":")
    if kind == "mlp" and (widths := _widths(sizes)):
        height, width = (size, size) if isinstance(size, int) else size
        return mlp([in_channels * height * width, *widths, classes], "relu", norm, dropout, flatten=True)
    if kind == "cnn" and "x" not in sizes and (channels := _widths(sizes)):
        return cnn(channels, classes, in_channels, norm, "relu", size, dropout)
    raise ValueError(_unknown(name, word))


def _of_depth(
    name: str, kind: str, depth: int, option: str | None, classes: int, in_channels: int, norm: Norm, dropout: float
) -> nn.Module:
    if kind == "plain" and option is not None:
        raise ValueError(f"{name!r}: a plain network has no shortcuts, so no option {option.upper()}; use plain{depth}")
    if kind == "resnet" and option is None and depth in BLOCKS:
        return imagenet_resnet(depth, classes, in_channels, norm, dropout)
    if depth < 8 or (depth - 2) % 6:
        below = max(8, 6 * ((depth - 2) // 6) + 2)
        near = [f"{kind}{near}{option or ''}" for near in ([8] if depth < 8 else [below, below + 6])]
        others = f", and {', '.join(f'resnet{depth}' for depth in BLOCKS)} are for large images" * (kind == "resnet")
        raise ValueError(
            f"{name!r}: there are networks of 6n + 2 layers with n >= 1{others}; nearest: {' or '.join(near)}"
        )
    if kind == "plain":
        return resnet(depth, classes, in_channels, None, norm, dropout)
    return resnet(depth, classes, in_channels, "B" if option == "b" else "A", norm, dropout)


def _widths(text: str) -> list[int]:
    """The widths of "500x10" or of "300,100"; none of anything else."""
    if found := re.fullmatch(r"(\d+)x(\d+)", text):
        return [int(found[1])] * int(found[2])
    return [int(width) for width in text.split(",")] if re.fullmatch(r"\d+(,\d+)*", text) else []


def _unknown(name: str, word: str) -> str:
    near = difflib.get_close_matches(word, OFFERED, n=1)
    meant = f"; did you mean {near[0]}?" if near else "."
    return f"no network is called {name!r}{meant} There are:\n" + "\n".join(f"  {k:12} {v}" for k, v in NAMES.items())
