"""Who decides what is healthy and what is sick: a plain training loop with three seeds, which knows nothing of runtrue.

Run: `python bench/diagnosis/oracle.py [--only PATTERN]`. Trains both arms of every case whose verdict is missing or stale and
keeps the results in `oracle.json`, beside the code. A case counts if its healthy arm reaches at least half of what there is to
be learned with every seed, and its sick arm is clearly worse with every seed; what does not count is listed there too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from _common import versions
from diagnosis import loop
from diagnosis.metrics import reaches
from diagnosis.parts import Arm, Case, Init
from diagnosis.sets import SETS

KEPT = Path(__file__).with_name("oracle.json")
SEEDS = (0, 1, 2)
GOOD = 0.5  # of the way from the best constant prediction to perfect: the least that a healthy arm covers
WORSE = 0.15  # of that way: the least by which a sick arm stays behind
STOPS = (RuntimeError, IndexError, ValueError, TypeError)
"""What a training that cannot run raises."""


def trained(arm: Arm) -> float:
    """The metric after a plain training; NaN if the training stops with an error or without a number."""
    try:
        return loop.judge(loop.fit(arm.task), arm)
    except STOPS:
        return math.nan


def values(case: Case, sick: bool, init: Init = "torch", seeds: Iterable[int] = SEEDS) -> list[float]:
    return [trained(case.arm(sick, seed, init)) for seed in seeds]


def skills(case: Case, found: Iterable[float]) -> list[float]:
    """Both arms on the scale of the healthy one's examination."""
    arm = case.arm(sick=False)
    return [arm.metric.skill(value, arm.examination[1]) for value in found]


def verdict(case: Case, healthy: list[float], sick: list[float]) -> str:
    """Empty if the case counts, else the reason why it does not."""
    well, ill = skills(case, healthy), skills(case, sick)
    if min(well) < GOOD:
        return f"the healthy arm covers {min(well):.2f} of the way from chance to perfect, needs {GOOD:g}"
    if case.accepted and any(reaches(s, h) for s, h in zip(sick, healthy)):
        return f"the sick arm gets within 10 % of the healthy one: {max(sick):.3f} and {max(healthy):.3f}"
    if case.accepted and any(s > h - WORSE for s, h in zip(ill, well)):
        return f"the sick arm is behind by less than {WORSE:g} of the way from chance to perfect"
    return ""


def load() -> dict[str, dict[str, Any]]:
    """Verdicts by id, from `oracle.json`; NaN is kept as None there."""
    if not KEPT.exists():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(KEPT.read_text(encoding="utf-8"))["cases"]
    for row in found.values():
        for arm in ("healthy", "sick"):
            row[arm] = [math.nan if value is None else value for value in row[arm]]
    return found


def save(rows: Mapping[str, Mapping[str, Any]]) -> None:
    known = [case.id for cases in SETS.values() for case in cases.values()]
    plain = {
        identity: {
            **rows[identity],
            **{arm: [number(value) for value in rows[identity][arm]] for arm in ("healthy", "sick")},
        }
        for identity in known
        if identity in rows
    }
    rule = (
        f"seeds {SEEDS}; healthy at least {GOOD:g}, sick at least {WORSE:g} behind and not within 10 %, with every seed"
    )
    lines = ",\n".join(f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(row)}" for key, row in plain.items())
    head = json.dumps({"versions": versions(), "rule": rule})[:-1]
    new = KEPT.with_suffix(".new")
    new.write_text(f'{head},\n"cases": {{\n{lines}\n}}}}\n', encoding="utf-8")
    os.replace(new, KEPT)


def number(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def counts(case: Case, rows: Mapping[str, Mapping[str, Any]]) -> bool:
    """True if the oracle has seen this very case and found it as it says it is."""
    row = rows.get(case.id)
    return row is not None and row["fingerprint"] == case.fingerprint and not row["set_aside"]


def look(case: Case, twins: dict[str, list[float]]) -> dict[str, Any]:
    """Both arms trained. Healthy arms that several cases share are trained once."""
    begun = time.monotonic()
    if case.twin not in twins:
        twins[case.twin] = values(case, sick=False)
    healthy = twins[case.twin]
    sick = values(case, sick=True) if case.accepted else []
    return {
        "fingerprint": case.fingerprint,
        "healthy": healthy,
        "sick": sick,
        "set_aside": verdict(case, healthy, sick),
        "seconds": round(time.monotonic() - begun, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose set or id holds this")
    parser.add_argument("--again", action="store_true", help="also those whose verdict is fresh")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of shapes that broadcast, and the like: these are the faults
    rows, twins = load(), dict[str, list[float]]()
    for name, cases in SETS.items():
        for case in cases.values():
            fresh = case.id in rows and rows[case.id]["fingerprint"] == case.fingerprint
            if options.only not in f"{name} {case.id}" or (fresh and not options.again):
                continue
            rows[case.id] = row = look(case, twins)
            shown = [" ".join(f"{value:.3f}" for value in row[arm]) for arm in ("healthy", "sick")]
            print(f"{name:9} {case.id}: healthy {shown[0]}  sick {shown[1]}  {row['set_aside']}", flush=True)
            save(rows)
    for name, cases in SETS.items():
        kept = [case for case in cases.values() if counts(case, rows)]
        print(f"{name}: {len(kept)} of {len(cases)} count")
        for case in cases.values():
            if case not in kept:
                print(f"  set aside: {case.id}: {rows[case.id]['set_aside'] if case.id in rows else 'not seen yet'}")


if __name__ == "__main__":
    main()
