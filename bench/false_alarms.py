"""How often `runtrue.check` is right: no fault on tasks that train, the right cause on tasks with a planted fault.

Run: `python bench/false_alarms.py [--budget 20] [--limit N] [--seeds 1]`. Every task is real images (1,000 of the
Fashion-MNIST subset) with weights as torch leaves them. An oracle that knows nothing of runtrue trains each task for its
whole plan by a plain loop: a healthy task must learn there with each of three seeds, and a planted fault must do harm there,
else it is set aside.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch

import runtrue
from _common import table, write
from _tasks import Specimen, healthy, share_removed, sick, task
from runtrue import Report, Task, TaskError

LEARNS = 0.2  # share of the constant loss that a healthy task must remove within its plan to count as one
ORACLE_SEEDS = (
    3  # a task that learns with one seed and not with another is at the edge of its learning rate: not healthy
)
HARM = 0.5  # a planted fault counts if at most this share of what its healthy twin learns is learned with it
REGAINED = 0.5  # a cure counts if at least this share of it is


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): right for shares near 0 and 1 too."""
    if count == 0:
        return 0.0, 1.0
    share, weight = hits / count, z * z / count
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def examine(specimen: Specimen, budget: float) -> dict[str, Any]:
    """One specimen: what the oracle and what runtrue say. A refusal (TaskError) is told as such."""
    row: dict[str, Any] = {"name": specimen.name, "seed": specimen.seed, "planted": specimen.planted}
    row["learns"] = share_removed(specimen.build(), specimen.seed) if specimen.planted else worst(specimen.build)
    begun = time.monotonic()
    try:
        report = runtrue.check(specimen.build(), budget=budget, seed=specimen.seed)
    except TaskError as error:
        return row | {"seconds": time.monotonic() - begun, "faults": [], "warnings": [], "error": str(error)}
    row |= {"seconds": time.monotonic() - begun, "steps": report.steps, "error": None}
    row["faults"] = [f.cause for f in report.faults]
    row["warnings"] = [f.cause for f in report.warnings]
    row["said"] = [f"{f.severity} {f.cause}: {f.message}{ended(f.outcome)}" for f in (*report.faults, *report.warnings)]
    row["curve"] = [report.measured.baseline, *report.measured.curve[:1], *report.measured.curve[-1:]]
    return row | (judged(specimen, report, row["learns"]) if specimen.planted else {})


def worst(build: Callable[[], Task]) -> float:
    """The least that is learned with several seeds."""
    return min(share_removed(build(), seed) for seed in range(ORACLE_SEEDS))


def ended(outcome: runtrue.Outcome | None) -> str:
    if outcome is None:
        return ""
    remedy = "cured" if outcome.cured else "not cured"
    return f" [{remedy}: {outcome.before:.4g} -> {outcome.after:.4g} in {outcome.steps} steps]"


def judged(specimen: Specimen, report: Report, learns: float) -> dict[str, Any]:
    """Was the planted cause found, and does the treated task learn what its healthy twin does?"""
    causes = [f.cause for f in report.faults]
    twin = twin_learns(specimen.name)
    fixed = runtrue.fix(specimen.build(), report, seed=specimen.seed).task if causes else None
    treated = share_removed(fixed, specimen.seed) if fixed is not None else -math.inf
    return {
        "twin": twin,
        "harmful": twin >= LEARNS and learns < HARM * twin,
        "first": bool(causes) and causes[0] in specimen.accepted,
        "among": any(cause in specimen.accepted for cause in causes),
        "treated": treated,
        "cured": treated >= REGAINED * twin,
        "curable": any(f.remedy is not None for f in report.faults),
    }


@cache
def twin_learns(name: str) -> float:
    """What the same task without the fault learns."""
    architecture, problem, optimizer = name.split(" · ")
    return worst(lambda: task(architecture, problem, optimizer))


def rows_of(specimens: Iterable[Specimen], budget: float) -> list[dict[str, Any]]:
    rows = []
    for specimen in specimens:
        rows.append(row := examine(specimen, budget))
        found = ", ".join(row["faults"]) or row["error"] or "no fault"
        print(f"{row['seconds']:5.1f} s  {specimen.planted or 'healthy'}  {row['name']}: {found[:90]}", flush=True)
    return rows


def share(what: str, hits: int, count: int) -> tuple[str, str, str]:
    low, high = wilson(hits, count)
    return what, f"{hits} of {count}", f"{100 * hits / max(count, 1):.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def summary_of(sound: list[dict[str, Any]], ill: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    curable = [row for row in ill if row["curable"]]
    return [
        share("healthy: a fault (false alarm)", sum(bool(r["faults"]) for r in sound), len(sound)),
        share("healthy: a warning", sum(bool(r["warnings"]) for r in sound), len(sound)),
        share("sick: right cause first", sum(r["first"] for r in ill), len(ill)),
        share("sick: right cause among the faults", sum(r["among"] for r in ill), len(ill)),
        share("sick: any fault", sum(bool(r["faults"]) for r in ill), len(ill)),
        share("sick with a remedy: treated task learns", sum(r["cured"] for r in curable), len(curable)),
    ]


def tell(sound: list[dict[str, Any]], ill: list[dict[str, Any]], aside: list[dict[str, Any]]) -> None:
    """Every false alarm, every miss, and what was set aside, with their numbers."""
    for title, rows in (
        ("False alarms and warnings on healthy tasks", [r for r in sound if r["faults"] or r["warnings"]]),
        ("Planted causes that are not first", [r for r in ill if not r["first"]]),
        (
            "Right cause, but the treated task does not learn",
            [r for r in ill if r["first"] and r["curable"] and not r["cured"]],
        ),
        ("Set aside by the oracle", aside),
    ):
        print(f"\n{title}: {len(rows)}")
        for row in rows:
            oracle = f"removes {row['learns']:.2f}" + (
                f", twin {row['twin']:.2f}, treated {row['treated']:.2f}" if "twin" in row else ""
            )
            print(
                f"- {row['planted'] or 'healthy'}, {row['name']}, seed {row['seed']} ({oracle}); curve {row.get('curve')}"
            )
            for line in [*row.get("said", []), *([row["error"]] if row["error"] else [])]:
                print(f"    {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds for each check")
    parser.add_argument("--limit", type=int, help="so many healthy and so many sick tasks, drawn at random")
    parser.add_argument("--seeds", type=int, default=1, help="repeat with so many seeds")
    options = parser.parse_args()
    torch.set_num_threads(1)  # small layers lose more by waiting for a second thread on a busy machine than it gives
    sound_ones, ill_ones = (chosen(list(group(options.seeds)), options.limit) for group in (healthy, sick))
    sound, ill = rows_of(sound_ones, options.budget), rows_of(ill_ones, options.budget)
    for row in ill:  # a refusal is no diagnosis
        row.update({key: False for key in ("harmful", "first", "among", "cured", "curable") if key not in row})
        row["harmful"] = row["harmful"] or bool(row["error"])
    aside = [r for r in sound if r["learns"] < LEARNS] + [r for r in ill if not r["harmful"]]
    sound, ill = [r for r in sound if r not in aside], [r for r in ill if r not in aside]
    seconds = [r["seconds"] for r in (*sound, *ill, *aside)]
    tell(sound, ill, aside)
    lines = summary_of(sound, ill)
    print("\n" + table(["", "count", "share (95 % interval)"], lines))
    print(
        f"seconds a check: median {statistics.median(seconds):.1f}, longest {max(seconds):.1f}; {len(aside)} set aside"
    )
    results = {"shares": lines, "healthy": plain(sound), "sick": plain(ill), "set_aside": plain(aside)}
    print(write("false_alarms", results, budget=options.budget, seeds=options.seeds, limit=options.limit))


def chosen(specimens: list[Specimen], limit: int | None) -> list[Specimen]:
    return specimens if limit is None else random.Random(0).sample(specimens, min(limit, len(specimens)))


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """JSON has no infinity."""
    return [{k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()} for row in rows]


if __name__ == "__main__":
    main()
