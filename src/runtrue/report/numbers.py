"""Numbers and names as a reader wants to see them, the same in the text and on the page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

UNKNOWN = "–"
LONGEST_LIST = 8
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters: a name that holds one could move the cursor of a terminal or turn the text around."""


def clean(text: str) -> str:
    """`text` without control characters (line breaks and tabs stay)."""
    return CONTROL.sub("", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """`text` on one line: for names, headings and table cells."""
    return " ".join(clean(text).split())


def is_number(value: Any) -> bool:
    """True for an int or a float (also NaN and infinity), False for a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def shown(value: Any) -> str:
    """One value of a table or of a list of evidence, with four digits that count."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return four_digits(value)
    if isinstance(value, Mapping):
        return joined(f"{one_line(str(key))}: {shown(item)}" for key, item in value.items())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return joined(shown(item) for item in value)
    return one_line(str(value))


def four_digits(value: float) -> str:
    if value.is_integer() and abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e+")


def joined(parts: Iterable[str]) -> str:
    """Parts with commas between; a long series keeps its first ones and tells how many there are."""
    items = list(parts)
    if len(items) <= LONGEST_LIST:
        return ", ".join(items)
    return ", ".join(items[: LONGEST_LIST - 1]) + f", … ({len(items)} in all)"


def label(key: str) -> str:
    """The key of a number as words: `grad_norm` becomes `gradient norm`."""
    words = {"grad": "gradient", "std": "std", "lr": "learning rate"}
    return " ".join(words.get(word, word) for word in one_line(key).split("_"))


def count(number: int, noun: str) -> str:
    """`1 fault`, `2 faults`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def readings(layers: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The keys under which at least one layer holds a number, in the order in which they come up."""
    keys = dict.fromkeys(key for layer in layers for key in layer)
    return tuple(key for key in keys if any(is_number(layer.get(key)) for layer in layers))


READINGS = {
    "mean": "mean of the outputs",
    "std": "spread of the outputs (std)",
    "zero_fraction": "share of zeros in the outputs",
    "saturated_fraction": "share of saturated outputs",
    "grad_norm": "gradient norm",
    "weight_norm": "weight norm",
    "update_ratio": "update over weight",
}
"""The readings in words, for the axis of a chart."""


def reading(key: str) -> str:
    return READINGS.get(key, label(key))


TELLING = {
    "vanishing-gradient": "grad_norm",
    "exploding-gradient": "grad_norm",
    "dead-units": "zero_fraction",
    "saturating-activation": "saturated_fraction",
    "learning-rate-too-high": "update_ratio",
    "learning-rate-too-low": "update_ratio",
}
"""The reading that shows a cause best, where it is not the standard deviation of the layer's outputs."""


def telling(cause: str, layers: Sequence[Mapping[str, Any]]) -> str | None:
    """The reading of these layers to draw for this cause; None if they hold no numbers."""
    there = readings(layers)
    wanted = (TELLING.get(cause, "std"), "std", "grad_norm", *there)
    return next((key for key in wanted if key in there), None)


def layer_names(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    """One name a layer, each only once: a layer that runs twice is told apart as `name (2)`."""
    seen: dict[str, int] = {}
    names = []
    for layer in layers:
        name = one_line(str(layer.get("layer", ""))) or "(unnamed)"
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names


LONGEST_NAME = 22


def short_names(names: Sequence[str], width: int = LONGEST_NAME) -> list[str]:
    """The names without the dotted parts that all of them begin or end with, if one is longer than `width`.

    They stay distinct: what still is too long is cut in the middle only if no two of them become one.
    """
    if len(names) < 2 or max(map(len, names)) <= width:
        return list(names)
    parts = [name.split(".") for name in names]
    head = shared(parts)
    tail = shared([list(reversed(part[head:])) for part in parts])
    kept = [".".join(part[head : len(part) - tail]) for part in parts]
    cut = [elided(name, width) for name in kept]
    return cut if len(set(cut)) == len(set(kept)) else kept


def shared(parts: Sequence[Sequence[str]]) -> int:
    """How many parts all begin with alike; each keeps at least one part of its own."""
    most = min(map(len, parts)) - 1
    return next((place for place in range(most) if len({part[place] for part in parts}) > 1), max(0, most))


def elided(text: str, width: int) -> str:
    """`text` in at most `width` characters: the middle goes, since both ends of a layer's name tell it apart."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"
