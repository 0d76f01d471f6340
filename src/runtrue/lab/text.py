"""An experiment as text: the verdict, part by part, then a table a series. Plain in a pipe, coloured on a terminal."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal

from runtrue.lab.experiment import Experiment, Row
from runtrue.report.numbers import UNKNOWN, is_number, label

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 100
"""Columns for which the tables are laid out: two side by side. On a narrower terminal they stand one under the other."""
SHORT = {
    "grad_norm": "gradient",
    "zero_fraction": "zero",
    "saturated_fraction": "satur.",
    "removed_fraction": "removed",
    "end_spread": "spread",
    "accuracy_spread": "spread",
    "steepness": "walls",
    "small_steps": "steps",
    "highest_rate": "highest",
    "data_end_spread": "spread",
    "gone_fraction": "gone",
    "train_fraction": "training",
    "val_fraction": "validation",
    "test_fraction": "test",
    "gap_fraction": "gap",
    "noise_zero_fraction": "of noise",
    "largest_norm": "norm",
    "val_spread": "spread",
    "test_spread": "spread",
    "gap_spread": "spread",
    "norm_val_fraction": "normed",
    "by_hand": "added",
    "all_right_after": "0 after",
    "epoch_reached": "at epoch",
    "second_reached": "at second",
}
SHARES = ("fraction", "accuracy", "error", "gap", "agreement")
"""Endings of the names of readings that are shares: they are shown as percentages."""
GAP = 3
"""Columns between two tables."""
ASCII = str.maketrans({"²": "^2", "√": "sqrt ", "–": "-", "…": "...", "±": "+/-"})
HIDDEN = (
    "raised",
    "mean_weight",
    "std_spread",
    "std_large_weights",
    "reason",
    "claimed",
    "lowest_error",
    "data_start",
    "rises_fraction",
    "noted",
)
"""Readings of a row that the text leaves to the JSON."""


def render(experiment: Experiment, width: int = WIDTH) -> str:
    """The whole experiment as plain text, `width` columns wide."""
    return printed(width, lambda console: print_experiment(experiment, console))


def tables(experiment: Experiment, width: int = WIDTH) -> str:
    """Only the tables."""
    return printed(width, lambda console: print_tables(experiment, console))


def printed(width: int, write: Any) -> str:
    from rich.console import Console

    page = io.StringIO()
    write(Console(file=page, width=width, color_system=None, force_terminal=False, legacy_windows=False))
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"


def print_experiment(experiment: Experiment, console: Console) -> None:
    """Title, claim, verdict with its numbers, settings, tables."""
    width = min(console.width, WIDTH)
    for text, style in lines(experiment, width):
        console.print(shown(text, console), style=style, markup=False, highlight=False, soft_wrap=True)
    print_tables(experiment, console)


def lines(experiment: Experiment, width: int) -> Iterator[tuple[str, str]]:
    """(line, style) of all that stands above the tables."""
    yield f"{experiment.experiment}: {experiment.title}", "bold"
    yield from ((line, "") for line in textwrap.wrap(experiment.claim, width))
    outcome, *_ = experiment.verdict.splitlines()
    yield "", ""
    yield outcome, "bold green" if experiment.held else "bold red"
    for part in experiment.judgements:
        yield "", ""
        head = f"{'held' if part.held else 'NOT HELD':8}  {part.code:6} "
        yield from wrapped(head + part.claim, width, "green" if part.held else "red")
        yield from wrapped(" " * 17 + part.words[:1].upper() + part.words[1:], width, "")
    yield "", ""
    said = "; ".join(f"{label(name)}: {value}" for name, value in experiment.settings.items())
    yield from ((line, "dim") for line in textwrap.wrap(said, width, break_on_hyphens=False))


def wrapped(text: str, width: int, style: str) -> Iterator[tuple[str, str]]:
    """Lines that go on under the 18th column. The first one keeps its leading blanks."""
    folded = textwrap.wrap(text, width, subsequent_indent=" " * 17, break_on_hyphens=False)
    return ((line, style) for line in folded)


def print_tables(experiment: Experiment, console: Console) -> None:
    """Two tables a row where there is room for two."""
    from rich.padding import Padding
    from rich.table import Table

    made = [table(key, rows, console) for key, rows in experiment.series.items()]
    pairs = [[console.measure(one).maximum for one in pair if one] for pair in batched(made, 2)]
    beside = 2 if console.width >= WIDTH and all(sum(pair) + GAP <= console.width for pair in pairs) else 1
    for group in batched(made, beside):
        sheet = Table.grid(padding=(0, GAP))
        sheet.add_row(*(one or "" for one in group))
        console.print(Padding(sheet, (1, 0, 0, 0)))


def table(name: str, rows: Sequence[Row], console: Console) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    columns = [key for key in rows[0] if key not in HIDDEN and not key.endswith("_by_seed")]
    lines = box.SIMPLE_HEAD if writes_unicode(console) else None
    made = Table(title=Text(name, "bold"), title_justify="left", box=lines, padding=(0, 1, 0, 0), pad_edge=False)
    cut: Literal["ellipsis", "crop"] = "ellipsis" if writes_unicode(console) else "crop"
    for key in columns:
        made.add_column(shown(heading(key), console), justify="right", no_wrap=True, overflow=cut)
    for row in rows:
        made.add_row(*(shown(cell(key, row.get(key)), console) for key in columns))
    return made


def heading(key: str) -> str:
    """A column's name; a spread stands beside what it is the spread of."""
    return SHORT.get(key, "±" if key.endswith("_spread") else label(key))


def writes_unicode(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")


def shown(text: str, console: Console) -> str:
    """`text` in characters that the console can write."""
    if writes_unicode(console):
        return text
    return text.translate(ASCII).encode("ascii", "replace").decode()


def cell(key: str, value: Any) -> str:
    """A share as a percentage, a number with three digits that count."""
    if not is_number(value):
        return UNKNOWN if value is None else str(value)
    if isinstance(value, int):
        return str(value)
    return percent(value, 1) if key.removesuffix("_spread").endswith(SHARES) else short(value, 3 if key == "std" else 2)


def percent(value: float, digits: int) -> str:
    """A share as a percentage; a tiny loss is 0 %, not -0 %."""
    return f"{round(value, digits + 2) + 0.0:.{digits}%}"


def short(value: float, digits: int) -> str:
    """A number in at most eight columns: 0.0475, 2.67e-5, -1.2e-10."""
    if abs(value) >= 1000 or 0 < abs(value) < 1e-3:
        return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.{digits}g}"


def batched(items: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    return zip_longest(*[iter(items)] * size)
