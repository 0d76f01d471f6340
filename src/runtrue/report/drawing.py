"""Small drawings for a terminal: bars and sparklines, of block characters or, where those cannot be shown, of ASCII."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from runtrue.report.numbers import is_finite
from runtrue.report.theme import spans_decades

LEVELS = {True: "▁▂▃▄▅▆▇█", False: "_.:-=+*#"}
EIGHTHS = "▏▎▍▌▋▊▉█"
LOST = {True: "×", False: "x"}


def fractions(values: Sequence[float | None]) -> list[float | None]:
    """The length of each value's bar between 0 and 1; None if it is not finite.

    The scale is logarithmic if the values span more than two decades; the smallest positive value then keeps a short
    bar, so that it differs from a zero.
    """
    sizes = [abs(value) if value is not None and is_finite(value) else None for value in values]
    positive = [size for size in sizes if size]
    if not positive:
        return [None if size is None else 0.0 for size in sizes]
    low, high = min(positive), max(positive)
    if not is_log(values):
        return [None if size is None else size / high for size in sizes]
    floor = math.log(low) - 0.06 * (math.log(high) - math.log(low))
    span = math.log(high) - floor
    return [None if size is None else (math.log(size) - floor) / span if size else 0.0 for size in sizes]


def is_log(values: Sequence[float | None]) -> bool:
    """True if bars of these values are drawn on a logarithmic scale."""
    return spans_decades([abs(value) for value in values if value is not None and is_finite(value) and value])


def bar(fraction: float | None, width: int, unicode: bool) -> str:
    """A bar `fraction` of `width` cells long; nothing for None."""
    if fraction is None:
        return ""
    if not unicode:
        return "#" * round(fraction * width)
    eighths = round(fraction * width * 8)
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8 - 1] if eighths % 8 else "")


def sparklines(curves: Sequence[Sequence[float]], width: int, unicode: bool) -> list[str]:
    """One line of characters a curve, all on one scale: equal heights mean equal values."""
    finite = [value for curve in curves for value in curve if is_finite(value)]
    scale = math.log if spans_decades(finite) else float
    low, high = (scale(min(finite)), scale(max(finite))) if finite else (0.0, 1.0)
    span = max(high - low, 0.02 * abs(high)) or 1.0
    levels = LEVELS[unicode]

    def mark(value: float) -> str:
        if not is_finite(value):
            return LOST[unicode]
        return levels[min(len(levels) - 1, int((scale(value) - low) / span * len(levels)))]

    return ["".join(map(mark, thinned(curve, width))) for curve in curves]


def thinned(curve: Sequence[float], width: int) -> list[float]:
    """At most `width` means of neighbouring values; a mean over a value that is not finite is NaN."""
    if len(curve) <= width:
        return list(curve)
    edges = [round(place * len(curve) / width) for place in range(width + 1)]
    groups = [curve[start:stop] for start, stop in pairwise(edges)]
    return [sum(group) / len(group) if all(map(is_finite, group)) else math.nan for group in groups]


def folded(count: int, most: int) -> tuple[range, range]:
    """The places of the first and of the last rows to show, when at most `most` rows of `count` are shown."""
    if count <= most:
        return range(count), range(0)
    return range(most - most // 2), range(count - most // 2, count)
