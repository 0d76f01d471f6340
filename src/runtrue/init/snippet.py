"""The code that does to a model what `apply` or `lsuv` did: plain torch, to paste behind the line that builds it."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterable
from itertools import pairwise

from runtrue.init.plan import Applied

WIDTH = 100
SOURCES = {
    "he": "He et al. 2015, eq. 10: std = sqrt(2 / ((1 + slope²) fan_in))",
    "xavier": "Xavier, Glorot & Bengio 2010, eq. 12 and 16: std = sqrt(2 / (fan_in + fan_out))",
    "lecun": "LeCun et al. 1998, eq. 16: std = sqrt(1 / fan_in)",
    "orthogonal": "Saxe et al. 2013: no direction is stretched or squeezed",
    "lsuv": "LSUV, Mishkin & Matas 2016: orthonormal, times the gain that gave outputs of unit variance",
    "zeros": "all zero",
}
SHORTEST_RUN = 3
"""From here on numbered names are written as a range."""


def code_for(applied: Iterable[Applied]) -> str:
    """Python for `model`, in plain torch, that draws from the same distributions; "" if nothing was done.

    >>> done = [Applied(f"{i}", "he_normal", "relu", 0.1, weight=f"{i}.weight", bias=f"{i}.bias") for i in (0, 2, 4)]
    >>> print(code_for(done))
    from torch import nn
    <BLANKLINE>
    # He et al. 2015, eq. 10: std = sqrt(2 / ((1 + slope²) fan_in))
    for name in (f"{i}" for i in range(0, 5, 2)):
        layer = model.get_submodule(name)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    """
    groups: dict[tuple[str, tuple[str, ...]], list[Applied]] = {}
    for done in applied:
        if done.scheme is not None:
            groups.setdefault((done.scheme.split("_")[0], _body(done)), []).append(done)
    parts: dict[str, list[str]] = {}
    for (family, body), members in groups.items():
        parts.setdefault(f"# {SOURCES[family]}", []).append(_loop(members, body))
    return (
        "\n\n".join(["from torch import nn", *("\n".join([s, *loops]) for s, loops in parts.items())]) if parts else ""
    )


def _body(done: Applied) -> tuple[str, ...]:
    """The lines inside the loop over `name`, the same for all layers that are treated alike."""
    prefix, _, last = done.weight.rpartition(".")
    whole = last == "weight" and done.bias in (None, f"{prefix}.bias" if prefix else "bias")
    if whole:
        lines = ["layer = model.get_submodule(name)", *_draw(done, "layer.weight")]
        return (*lines, "nn.init.zeros_(layer.bias)") if done.bias else tuple(lines)
    bias = [f'nn.init.zeros_(model.get_parameter("{done.bias}"))'] if done.bias else []
    return (*_draw(done, "model.get_parameter(name)"), *bias)


def _draw(done: Applied, weight: str) -> list[str]:
    """torch's call with the distribution of `done`; where torch misreads the shape, the spread as a number."""
    family, _, kind = str(done.scheme).partition("_")
    if family in ("orthogonal", "lsuv"):
        gain = ", gain=gain" if family == "lsuv" else f", gain={done.gain:.7g}" if done.gain != 1 else ""
        if done.groups == 1:
            return [f"nn.init.orthogonal_({weight}{gain})"]
        return [f"for part in {weight}.detach().chunk(layer.groups):", f"    nn.init.orthogonal_(part{gain})"]
    if family == "zeros":
        return [f"nn.init.zeros_({weight})"]
    if not done.plain and done.std is not None:
        bound = math.sqrt(3) * done.std
        spread = f"std={done.std:.7g}" if kind == "normal" else f"-{bound:.7g}, {bound:.7g}"
        return [f"nn.init.{kind}_({weight}, {spread})"]
    if family == "xavier":
        return [f"nn.init.xavier_{kind}_({weight})"]
    follows = 'nonlinearity="linear"' if family == "lecun" else 'nonlinearity="relu"'
    if family == "he" and done.slope:
        follows = f"a={done.slope:.7g}"
    return [f"nn.init.kaiming_{kind}_({weight}, {follows})"]


def _loop(members: list[Applied], body: tuple[str, ...]) -> str:
    whole = body[0].startswith("layer =")
    names = [done.weight.rpartition(".")[0] if whole else done.weight for done in members]
    if members[0].scheme == "lsuv":
        items = [f"{_quoted(name)}: {done.gain:.4g}" for name, done in zip(names, members, strict=True)]
        head = _wrapped("for name, gain in {", items, "}.items():")
    else:
        pieces = _pieces(names)
        if len(pieces) == 1 and pieces[0].startswith("*"):
            head = f"for name in {pieces[0][1:]}:"
        else:
            head = _wrapped("for name in (", pieces, ",):" if len(pieces) == 1 else "):")
    return "\n".join([head, *(f"    {line}" for line in body)])


def _wrapped(start: str, items: list[str], end: str) -> str:
    """On one line if it fits, else as many items a line as do."""
    line = f"{start}{', '.join(items)}{end}"
    if len(line) <= WIDTH:
        return line
    joined = ", ".join(item.replace(" ", "\0") for item in items) + ","  # an item is not broken
    lines = textwrap.wrap(joined, WIDTH - 4, break_long_words=False, break_on_hyphens=False)
    return "\n".join([start, *(f"    {line}" for line in lines), end.removeprefix(",")]).replace("\0", " ")


def _pieces(names: list[str]) -> list[str]:
    """Names as literals, but a run of numbers in equal steps as `*(f"layers.{i}" for i in range(0, 9, 2))`."""
    alike: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for name in names:
        front, number, back = _numbered(name)
        alike.setdefault((front, back), []).append((name, number))
    pieces = []
    for (front, back), members in alike.items():
        numbers = [number for _, number in members]
        steps = {after - before for before, after in pairwise(numbers)}
        if len(numbers) >= SHORTEST_RUN and len(steps) == 1 and min(steps) > 0:
            pieces.append(f"*(f{_quoted(f'{front}{{i}}{back}')} for i in {_range(numbers)})")
        else:
            pieces += [_quoted(name) for name, _ in members]
    return pieces


def _numbered(name: str) -> tuple[str, int, str]:
    """A name around its last number; without one it stands alone, as with braces, which an f-string would read."""
    found = re.fullmatch(r"(.*?(?<![0-9]))(0|[1-9][0-9]*)([^0-9]*)", name)
    return (found[1], int(found[2]), found[3]) if found and "{" not in name and "}" not in name else (name, 0, "")


def _range(numbers: list[int]) -> str:
    start, stop, step = numbers[0], numbers[-1] + 1, numbers[1] - numbers[0]
    bounds = [stop] if start == 0 and step == 1 else [start, stop] if step == 1 else [start, stop, step]
    return f"range({', '.join(map(str, bounds))})"


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
