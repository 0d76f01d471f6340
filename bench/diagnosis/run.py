"""How often `runtrue.check` names the right cause, how often it accuses a healthy network, and whether `runtrue.fix` cures.

Run: `python bench/diagnosis/run.py [--set develop|report|all] [--arms sick|healthy|both] [--only PATTERN] [--limit N] [--jobs 2]
[--budget 60] [--seeds 0] [--inits torch] [--no-random] [--fresh] [--json PATH]`.

Each task is examined in a fresh process, which may crash or hang without loss: rows are written as they come, and a run that was
interrupted goes on where it was. Rows of other code of runtrue are not used again. See README.md for what is in the sets.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import runtrue
from _common import RESULTS, write
from diagnosis import oracle, tell
from diagnosis.parts import Case, Init
from diagnosis.sets import SETS
from diagnosis.worker import Spec, examine

LIMIT = 4.0  # times the budget, for one task with its check, its cure and the random remedies
GRACE = 120.0  # seconds more, for what is trained to the end
METHOD: str = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(METHOD)  # a fresh process for each task; torch is imported once


def specs(asked: argparse.Namespace) -> list[Spec]:
    """The tasks that were asked for, in the order of the sets. What the oracle has set aside is not asked for."""
    rows = oracle.load()
    chosen = []
    for name, cases in SETS.items():
        for case in cases.values():
            if asked.set not in ("all", case.half) or not oracle.counts(case, rows):
                continue
            for sick in arms(name, case, asked.arms):
                inits: list[Init] = asked.inits if name in ("public", "threads") else ["torch"]
                for init in inits:
                    chosen += [
                        Spec(name, case.id, sick, seed, init, asked.budget, not asked.no_random) for seed in asked.seeds
                    ]
    chosen = [spec for spec in chosen if asked.only in spec.key]
    if asked.limit is not None and asked.limit < len(chosen):
        kept = set(random.Random(0).sample(range(len(chosen)), asked.limit))
        chosen = [spec for place, spec in enumerate(chosen) if place in kept]
    return chosen


def arms(name: str, case: Case, wanted: str) -> Iterator[bool]:
    """Sick, healthy or both. The healthy twins of planted faults are hosts, of which the healthy set has its own."""
    if wanted != "healthy" and case.accepted:
        yield True
    if wanted != "sick" and name != "injected":
        yield False


def code_of_runtrue() -> str:
    """Changes with any line of the library: rows that other code gave are no evidence for this one."""
    root = Path(runtrue.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


# -- rows that are kept as they come


def load_rows(path: Path, code: str) -> dict[str, dict[str, Any]]:
    """By key, those of this code. Tasks that crashed are tried again; a line that was cut off is left out."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if row["code"] == code and not row["lost"]:
            found[row["key"]] = {k: math.nan if v is None and k in NUMBERS else v for k, v in row.items()}
    return found


NUMBERS = ("healthy", "untreated", "treated", "by_chance")


def keep(path: Path, row: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(finite(row), ensure_ascii=False) + "\n")


def finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, (list, tuple)) else value


# -- processes


@dataclass
class Job:
    spec: Spec
    process: BaseProcess
    answer: Connection
    begun: float

    @property
    def late(self) -> bool:
        return time.monotonic() - self.begun > LIMIT * self.spec.budget + GRACE


Work = Callable[[Spec], dict[str, Any]]


def target(work: Work, spec: Spec, answer: Connection) -> None:
    os.setpgrp()  # it may start processes of its own: they end with it
    answer.send(work(spec))


def start(work: Work, spec: Spec) -> Job:
    receive, send = CONTEXT.Pipe(duplex=False)
    process: BaseProcess = CONTEXT.Process(target=target, args=(work, spec, send))  # type: ignore[attr-defined]
    process.start()
    send.close()
    return Job(spec, process, receive, time.monotonic())


def finish(job: Job) -> dict[str, Any]:
    """The row, or why there is none."""
    lost = None
    try:
        row: dict[str, Any] = job.answer.recv() if job.answer.poll() else {}
    except EOFError:
        row = {}
    if not row:
        if job.late:
            lost = f"out of time after {time.monotonic() - job.begun:.0f} s"
        else:
            job.process.join(10)
            lost = f"the process ended with code {job.process.exitcode}"
        spec = job.spec
        row = {"key": spec.key, "set": spec.set, "id": spec.id, "sick": spec.sick, "half": spec.case.half}
        row |= {"seed": spec.seed, "init": spec.init, "accepted": list(spec.case.accepted), "faults": []}
    stop(job)
    return row | {"lost": lost, "took": round(time.monotonic() - job.begun, 1)}


def stop(job: Job) -> None:
    job.process.join(1)
    if job.process.is_alive() and job.process.pid is not None:
        try:
            os.killpg(job.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            job.process.kill()
        job.process.join(10)
    job.answer.close()


def run(chosen: Iterable[Spec], jobs: int, work: Work = examine) -> Iterator[dict[str, Any]]:
    """Rows in the order in which they come; `jobs` processes at a time."""
    if METHOD == "forkserver":
        CONTEXT.set_forkserver_preload(["diagnosis.worker"])
    waiting, running = list(chosen)[::-1], list[Job]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(start(work, waiting.pop()))
            ready = wait([job.answer for job in running], timeout=1.0)
            for job in [job for job in running if job.answer in ready or job.late]:
                running.remove(job)
                yield finish(job)
    finally:
        for job in running:
            stop(job)


def line(row: dict[str, Any]) -> str:
    named = ", ".join(row["faults"]) or row.get("refused") or row["lost"] or "no fault"
    right = (
        {True: "right", False: "wrong"}[bool(row.get("first"))] if row["sick"] else "accused" if row["faults"] else "ok"
    )
    cure = ""
    if "restored" in row:
        cure = f"; restored: {'yes' if row['restored'] else 'no'}"
        cure += f", random {'yes' if row['chance_restores'] else 'no'}" if "chance_restores" in row else ""
    return f"{row.get('seconds', row['took']):6.1f} s  {right:7} {row['key']}: {named[:100]}{cure}"


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=("develop", "report", "all"), default="develop")
    parser.add_argument("--arms", choices=("sick", "healthy", "both"), default="both")
    parser.add_argument("--only", default="", help="tasks whose key (set/id/arm/init/seed) holds this")
    parser.add_argument("--limit", type=int, help="so many tasks, drawn at random")
    parser.add_argument("--jobs", type=int, default=2, help="tasks at a time, one thread each")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for each check")
    parser.add_argument("--seeds", "--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--inits", nargs="+", choices=("torch", "keras"), default=["torch"])
    parser.add_argument("--no-random", action="store_true", help="without the random remedies, which double the time")
    parser.add_argument("--fresh", action="store_true", help="do not use rows of an earlier run again")
    parser.add_argument("--json", type=Path, help="where the results go; default bench/results/diagnosis.json")
    return parser.parse_args(arguments)


def main() -> None:
    asked = options()
    chosen, code = specs(asked), code_of_runtrue()
    rows_at = (asked.json or RESULTS / "diagnosis.json").with_suffix(".jsonl")
    known = {} if asked.fresh else load_rows(rows_at, code)
    done = [known[spec.key] for spec in chosen if spec.key in known and known[spec.key].get("budget") == spec.budget]
    todo = [spec for spec in chosen if spec.key not in {row["key"] for row in done}]
    print(f"{len(chosen)} tasks, {len(done)} of them done already; rows go to {rows_at}", flush=True)
    for row in run(todo, asked.jobs):
        row |= {"code": code, "budget": asked.budget}
        keep(rows_at, row)
        done.append(row)
        print(f"{len(done):4}/{len(chosen)} {line(row)}", flush=True)
    order = {spec.key: place for place, spec in enumerate(chosen)}
    rows = sorted(done, key=lambda row: order[row["key"]])
    print(f"\n{tell.tell(rows)}\n")
    conditions = {key: value for key, value in vars(asked).items() if key not in ("json", "fresh")} | {"code": code}
    results = {"head": tell.head(rows), "table": tell.summary(rows), "tasks": finite(rows)}
    print(write("diagnosis", results, asked.json, **conditions))


if __name__ == "__main__":
    main()
