"""What `runtrue.watch` says of trainings that learn and of trainings with a known fault: false alarms, and what is noticed when.

Run: `python bench/watch_verdicts.py [--only healthy] [--seeds 2] [--name mlp] [--keep FILE] [--judge FILE] [--all]`. A reading
every 10 steps, a judgement every 20: nothing depends on the clock. A healthy run counts if its score, accuracy or R² by our own
count, shows that it learned. `--keep` writes what the watch saw, `--judge` judges such a file again, with the judges of today.
`--seeds` sets how often each run is repeated, with other weights and batches. Writes bench/results/watch_verdicts.json.
"""

from __future__ import annotations

import argparse
import pickle
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from _common import seed_all, table, wilson, write
from _watch_healthy import Plan, healthy
from _watch_loop import Seen
from _watch_sick import Sick, sick_runs
from runtrue.findings import Finding
from runtrue.watch.judging import GRAVITY, judge
from runtrue.watch.packets import Packet
from runtrue.watch.scribe import Scribe
from runtrue.watch.voice import Voice, silent


@dataclass(frozen=True, eq=False)
class Taken:
    """What a watched run left, to be judged as often as one likes."""

    name: str
    sick: bool
    seed: int
    score: float
    seconds: float
    packets: list[list[Packet]]


def taken(one: Plan | Sick, seed: int) -> Taken:
    start = time.perf_counter()
    seed_all(seed)
    seen = Seen(every=one.every)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's schedulers, about the order of steps that is wrong on purpose
        score = one.train(seen, seed)
    seconds = time.perf_counter() - start
    return Taken(named(one), isinstance(one, Sick), seed, score, seconds, seen.packets)


def named(one: Plan | Sick) -> str:
    return f"{one.kind}: {one.name}" if isinstance(one, Sick) else one.name


def told(found: Taken) -> list[tuple[int, Finding]]:
    """The verdicts in the order in which they are told, as the scribe's thread does it."""
    said: list[tuple[int, Finding]] = []
    for packets in found.packets:
        scribe = Scribe(None, nothing, Voice(silent))
        scribe._judge = nothing  # type: ignore[method-assign]  # judged below instead, after each packet
        known: dict[tuple[str, str], int] = {}
        for packet in packets:
            scribe._take_in(packet)
            for finding in judge(scribe.history):
                key = finding.cause, finding.where
                if GRAVITY[finding.severity] > known.get(key, -1):
                    known[key] = GRAVITY[finding.severity]
                    said.append((scribe.history.steps, finding))
        scribe.close()
    return sorted(said, key=lambda pair: pair[0])


def nothing(*_: Any) -> None: ...


def right(finding: Finding, one: Sick) -> bool:
    place = f"{finding.where} {finding.evidence.get('origin', '')} {finding.evidence}"
    return finding.cause in one.causes and one.where in place


def shown(pairs: list[tuple[int, Finding]]) -> str:
    return ", ".join(
        f"{f.cause} ({f.severity}{' of ' + f.explained_by if f.explained_by else ''}, {s})" for s, f in pairs
    )


def judged_healthy(plans: list[Plan], runs: list[Taken], every: bool) -> dict[str, Any]:
    by_name = {one.name: one for one in plans}
    rows, counts, unlearned = [], Counter[str](), []
    for run in (r for r in runs if not r.sick and r.name in by_name):
        one = by_name[run.name]
        if not run.score >= one.least:
            unlearned.append(f"{run.name} ({run.seed}): {run.score:.3f} < {one.least}")
            continue
        said = told(run)
        faults = [pair for pair in said if pair[1].severity == "fault"]
        wrong = [pair for pair in said if pair[1].severity == "warning" and pair[1].cause not in one.right]
        notes = [pair for pair in said if pair not in faults and pair not in wrong]
        counts.update(runs=1, faults=int(bool(faults)), warnings=int(bool(wrong)))
        if faults or wrong or (every and notes):
            rows.append(
                [run.name, run.seed, f"{run.score:.3f}", shown(faults), shown(wrong), shown(notes) if every else ""]
            )
    low, high = wilson(counts["faults"], counts["runs"])
    print(table(["healthy run", "seed", "score", "faults", "warnings", "right"], rows))
    print(f"\n{counts['runs']} healthy runs of {len(by_name)} kinds: with a fault {counts['faults']} "
          f"({low:.1%} to {high:.1%}), with a wrong warning {counts['warnings']}")  # fmt: skip
    print("left out, they did not learn:", unlearned or "none")
    return {**counts, "unlearned": unlearned, "said": [row[:5] for row in rows]}


def judged_sick(plans: list[Sick], runs: list[Taken]) -> dict[str, Any]:
    by_name = {named(one): one for one in plans}
    rows, by_kind = [], {one.kind: Counter[str]() for one in plans}
    for run in (r for r in runs if r.sick and r.name in by_name):
        one, said = by_name[run.name], told(run)
        hits = [(step, f) for step, f in said if right(f, one) and (f.severity != "note" or one.noted)]
        first = next(iter(hits), None)
        other = [(s, f) for s, f in said if f.severity != "note" and not right(f, one)]
        by_kind[one.kind].update(
            runs=1,
            noticed=int(bool(hits)),
            fault=int(any(f.severity == "fault" for _, f in hits)),
            other=int(bool(other)),
        )
        rows.append([
            one.kind, one.name, run.seed, f"{run.score:.2f}", first[1].cause if first else "-",
            first[1].severity if first else "", first[0] - one.begins if first else "", shown([p for p in said if p != first]),
        ])  # fmt: skip
    print(table(["kind", "run", "seed", "score", "noticed as", "as a", "steps after", "said besides"], rows))
    heads = ["runs", "noticed", "fault", "other"]
    print("\n" + table(["kind", *heads], [[kind, *(c[h] for h in heads)] for kind, c in by_kind.items()]))
    total = sum((c["runs"] for c in by_kind.values()), 0)
    print(f"\n{total} sick runs of {len(by_kind)} kinds, noticed {sum(c['noticed'] for c in by_kind.values())}")
    return {"kinds": {kind: dict(c) for kind, c in by_kind.items()}, "runs": rows}


def trained(plans: list[Plan | Sick], seeds: range) -> Iterator[Taken]:
    for one in plans:
        for seed in seeds:
            try:
                found = taken(one, seed)
            except Exception:  # noqa: BLE001 the other runs count still
                print(f"{named(one)} ({seed}) failed")
                traceback.print_exc()
                continue
            print(f"{found.seconds:5.1f} s  {found.score:7.3f}  {found.name} ({seed})", flush=True)
            yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["healthy", "sick"])
    parser.add_argument("--name", default="", help="runs whose name holds this")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--judge", type=Path, action="append")
    parser.add_argument("--all", action="store_true", help="show notes and right warnings of healthy runs too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # of networks that are dying, a hundred times slower without
    plans = [one for one in healthy() if options.only != "sick" and options.name in one.name]
    ill = [one for one in sick_runs() if options.only != "healthy" and options.name in named(one)]
    if options.judge:
        runs = [run for file in options.judge for run in pickle.loads(file.read_bytes())]
    else:
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        runs = list(trained([*plans, *ill], seeds))
    if options.keep:
        options.keep.write_bytes(pickle.dumps(runs))
    results: dict[str, Any] = {}
    if plans:
        results["healthy"] = judged_healthy(plans, runs, options.all)
    if ill:
        results["sick"] = judged_sick(ill, runs)
    print(write("watch_verdicts", results, seeds=len({run.seed for run in runs}), every=10, threads=1))


if __name__ == "__main__":
    main()
