"""What every benchmark needs: versions beside the numbers, A and B in turn, medians with their spread, one JSON file."""

from __future__ import annotations

import json
import math
import os
import platform
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("runtrue", "torch", "numpy", "altair", "rich", "typer", "pytorch-lightning", "timm", "torchvision")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that are installed, and the kind of machine."""
    found = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
    }
    installed = {d.name: d.version for d in metadata.distributions()}
    return found | {package: installed[package] for package in PACKAGES if package in installed}


def seed_all(seed: int) -> None:
    """Seeds Python, NumPy and torch."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def in_turn(runs: Mapping[str, Callable[[], float]], rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Calls each run `rounds` times, all of them in turn, the order turned round every time, so that a busy machine is
    busy for all. Each call returns what it measured. The `warmup` rounds before are not kept."""
    measured: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(-warmup, rounds):
        for name in sorted(runs, reverse=bool(number % 2)):
            value = runs[name]()
            if number >= 0:
                measured[name].append(value)
    return measured


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and count."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": median, "q1": low, "q3": high, "n": len(values)}


def paired(a: Sequence[float], b: Sequence[float]) -> dict[str, dict[str, float]]:
    """b against a, round by round: the difference b - a and the ratio b / a."""
    return {
        "difference": summary([y - x for x, y in zip(a, b, strict=True)]),
        "ratio": summary([y / x for x, y in zip(a, b, strict=True)]),
    }


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): right for shares near 0 and 1 too."""
    if count == 0:
        return 0.0, 1.0
    share, weight = hits / count, z * z / count
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def write(name: str, results: Mapping[str, Any], path: Path | None = None, **conditions: Any) -> Path:
    """Writes `bench/results/NAME.json` (or `path`): what was measured, how, with which versions and when."""
    path = path or RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    content = {"bench": name, "when": when, "versions": versions(), "conditions": conditions, "results": results}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Plain columns; numbers with three significant digits."""
    cells = [list(head), *([f"{c:.3g}" if isinstance(c, float) else str(c) for c in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells)
