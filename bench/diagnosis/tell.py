"""From the rows of a run to the table of the bars, the list of what was taken for what, and the times."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from _common import table, wilson

Row = dict[str, Any]

BEYOND = {"constant-inputs", "constant-targets", "labels-unrelated", "repeated-examples", "train-val-mismatch"}
"""What is lost in the data that a task holds comes back by no change to the task."""

SETS = ("public", "threads", "injected", "healthy")


def share(rows: Sequence[Row], hit: Callable[[Row], bool]) -> str:
    """Count, percent, and the 95 % interval of Wilson 1927."""
    hits, count = sum(map(hit, rows)), len(rows)
    if not count:
        return "–"
    low, high = wilson(hits, count)
    return f"{hits}/{count} = {100 * hits / count:.0f} % ({100 * low:.0f}–{100 * high:.0f})"


def seconds(rows: Sequence[Row]) -> str:
    spent = [row["seconds"] for row in rows if row.get("seconds") is not None]
    return f"{statistics.median(spent):.1f}, {max(spent):.1f}" if spent else "–"


def is_sick(row: Row) -> bool:
    return bool(row["sick"])


def curable(row: Row) -> bool:
    return is_sick(row) and not set(row["accepted"]) <= BEYOND


def shares() -> list[tuple[str, str, Callable[[Sequence[Row]], str]]]:
    """Each line of the table: what, the bar, and how it is taken from the rows of a set."""

    def of(kind: Callable[[Row], bool], hit: Callable[[Row], bool]) -> Callable[[Sequence[Row]], str]:
        return lambda some: share([row for row in some if kind(row)], hit)

    def healthy(row: Row) -> bool:
        return not row["sick"]

    def compared(row: Row) -> bool:
        return bool(row["sick"]) and "chance_restores" in row

    return [
        ("sick: root cause named first", "≥ 80 %", of(is_sick, lambda row: row.get("first", False))),
        ("sick: an accepted cause among the faults", "≥ 90 %", of(is_sick, lambda row: row.get("among", False))),
        ("sick: any fault", "", of(is_sick, lambda row: bool(row.get("faults")))),
        ("healthy: any fault", "≤ 2 %", of(healthy, lambda row: bool(row.get("faults")))),
        ("healthy: any warning", "", of(healthy, lambda row: bool(row.get("warnings")))),
        ("sick: fix restores training", "≥ 80 %", of(is_sick, lambda row: row.get("restored", False))),
        ("… where a change to the task can", "", of(curable, lambda row: row.get("restored", False))),
        ("sick: random remedies restore it", "below", of(compared, lambda row: row["chance_restores"])),
        ("seconds of a check: median, worst", "20, 60", seconds),
        ("refused (TaskError)", "", of(lambda row: True, lambda row: bool(row.get("refused")))),
        ("crashed, or out of time", "0", of(lambda row: True, lambda row: bool(row.get("lost")))),
        ("something of the user's changed", "0", of(lambda row: True, lambda row: bool(row.get("touched")))),
    ]


def summary(rows: Sequence[Row]) -> list[list[str]]:
    """The table of the bars: a column a set that was run, and one for all."""
    used = [name for name in SETS if any(row["set"] == name for row in rows)]
    return [
        [what, bar, *[take([row for row in rows if row["set"] == name]) for name in used], take(rows)]
        for what, bar, take in shares()
    ]


def head(rows: Sequence[Row]) -> list[str]:
    return ["", "bar", *[name for name in SETS if any(row["set"] == name for row in rows)], "all"]


def confusion(rows: Iterable[Row]) -> list[str]:
    """Every sick task whose cause is not named first, every fault on a healthy one, every cure that does not restore."""
    lines = []
    for row in rows:
        named = ", ".join(row.get("faults") or []) or "no fault"
        wrong = not row.get("first", False) if row["sick"] else bool(row.get("faults"))
        if wrong:
            accepted = " | ".join(row["accepted"]) if row["sick"] else "healthy"
            also = "; among" if row.get("among") else ""
            why = row.get("lost") or row.get("refused") or ", ".join(f"({w})" for w in row.get("warnings") or [])
            lines.append(f"- {row['key']}: {named}{also}; accepted: {accepted}{'; ' + why[:160] if why else ''}")
    return lines


def unrestored(rows: Iterable[Row]) -> list[str]:
    lines = []
    for row in rows:
        if row["sick"] and row.get("first") and not row.get("restored"):
            values = [f"{row.get(name, float('nan')):.3g}" for name in ("untreated", "treated", "healthy")]
            error = f"; {row['fix_error']}" if row.get("fix_error") else ""
            lines.append(f"- {row['key']}: untreated {values[0]}, treated {values[1]}, healthy {values[2]}{error}")
    return lines


def slowest(rows: Sequence[Row], count: int = 10) -> list[str]:
    timed = sorted((row for row in rows if row.get("seconds") is not None), key=lambda row: -row["seconds"])
    return [f"- {row['seconds']:6.1f} s  {row['key']}" for row in timed[:count]]


def tell(rows: Sequence[Row]) -> str:
    """The whole text."""
    parts = [
        ("Not named first, or accused while healthy", confusion(rows)),
        ("Named first, and the treated task does not reach the healthy one", unrestored(rows)),
        ("Slowest", slowest(rows)),
    ]
    text = [f"{title}: {len(lines)}\n" + "\n".join(lines) for title, lines in parts]
    return "\n\n".join([*text, table(head(rows), summary(rows))])
