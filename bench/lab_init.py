"""How far `runtrue lab init` is from the published figures, layer by layer, and how long the whole process takes.

    python bench/lab_init.py [ROUNDS]

Writes bench/results/lab_init.json. Time is that of a new process, from `python` to its exit, with the imports.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import Any

import _common

PROGRAM = "from runtrue import lab; print(lab.run('init').to_json())"
IMPORTS = "import torch"
SERIES = (("small", "std"), ("he", "mean"), ("he", "std"))


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    found: dict[str, Any] = json.loads(outcome(PROGRAM))
    deviations = [row for key, reading in SERIES for row in deviation(found["series"][key], key, reading)]
    head = ("series", "reading", "layer", "published", "measured", "difference")
    print(_common.table(head, [[row[name] for name in head] for row in deviations]))
    print(f"\n{found['verdict'].splitlines()[0]}\n")
    runs = {"lab init": lambda: seconds(PROGRAM), "import torch": lambda: seconds(IMPORTS)}
    times = {name: _common.summary(values) for name, values in _common.in_turn(runs, rounds).items()}
    rows = [[name, *(time[key] for key in ("median", "q1", "q3")), time["n"]] for name, time in times.items()]
    print(_common.table(("seconds", "median", "q1", "q3", "rounds"), rows))
    results = {"held": found["held"], "deviations": deviations, "largest": largest(deviations), "seconds": times}
    print(f"\nwritten: {_common.write('lab_init', results, rounds=rounds, settings=found['settings'])}")


def deviation(rows: list[dict[str, Any]], key: str, reading: str) -> list[dict[str, Any]]:
    """One line a published figure; the difference is None where the figure has too few digits to compare."""
    return [
        {
            "series": key,
            "reading": reading,
            "layer": row["layer"],
            "published": row[f"published_{reading}"],
            "measured": row[reading],
            "difference": row[f"{reading}_difference"],
        }
        for row in rows
        if f"published_{reading}" in row
    ]


def largest(deviations: list[dict[str, Any]]) -> dict[str, float]:
    """The largest relative difference of each series, and the median."""
    found: dict[str, float] = {}
    for key in dict.fromkeys(row["series"] for row in deviations):
        sizes = [abs(row["difference"]) for row in deviations if row["series"] == key and row["difference"] is not None]
        found |= {f"{key} largest": max(sizes), f"{key} median": statistics.median(sizes)}
    return found


def seconds(program: str) -> float:
    start = time.perf_counter()
    outcome(program)
    return time.perf_counter() - start


def outcome(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
