"""Images per second of training a ResNet-20: by hand, by runtrue, and the ordinary ways of pytorch-lightning, timm and fastai.

Run: `python bench/train_speed.py [--rounds 5] [--steps 30] [--threads 2] [--only "by hand" --only runtrue]`, on a machine with
nothing else to do. Every run is a process of its own; all of them take turns, and ratios to the loop by hand are taken round by
round. The ways and their settings stand in `_train_ways.py`: 3 x 32 x 32 Fashion-MNIST images, batch 128, crop and flip, SGD
with momentum and weight decay; in float32, the same with channels_last, and bf16 with channels_last, where the processor has
it. The first steps are not counted. `--ingredients` compares the loop by hand with itself, one ingredient changed at a time.
Writes bench/results/train_speed.json, or train_ingredients.json.

timm and fastai are no dependencies: a row whose package is missing says so. To have them all, in an environment of their own:

    python -m venv ENV && ENV/bin/pip install -c constraints.txt -e ".[train]" timm fastai
    ENV/bin/python bench/train_speed.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from _common import in_turn, paired, seed_all, summary, table, write
from _train_ways import BATCH, INGREDIENTS, WAYS, Plan, measured

SETTINGS = {"float32": "float32", "channels_last": "float32, channels_last", "bf16": "bf16, channels_last"}
REFERENCE = "by hand"
HEAD = ("", "images/s", "lower quartile", "upper", "of by hand", "lower quartile", "upper", "loss")


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.once:
        way, plan = json.loads(options.once)
        seed_all(0)
        print(json.dumps(measured(way, Plan(**plan))))
        return
    results = {setting: compared(setting, options) for setting in options.setting or SETTINGS}
    for setting, found in results.items():
        print(f"\n{SETTINGS[setting]}\n{table(HEAD, rows(found))}")
        print("\n".join(f"{row} was not measured: {one['skipped']}" for row, one in found.items() if "skipped" in one))
    conditions = {key: getattr(options, key) for key in ("rounds", "steps", "warmup", "threads")}
    bench = "train_ingredients" if options.ingredients else "train_speed"
    print(f"\n{write(bench, results, unit='images per second', batch=BATCH, **conditions)}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30, help="counted steps a run")
    parser.add_argument("--warmup", type=int, default=5, help="steps before them")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--only", action="append", choices=list(WAYS), help="this way alone (may be repeated)")
    parser.add_argument("--ingredients", action="store_true", help="the loop by hand, one ingredient changed at a time")
    parser.add_argument(
        "--setting", action="append", choices=list(SETTINGS), help="this setting alone (may be repeated)"
    )
    parser.add_argument("--once", help=argparse.SUPPRESS)  # one run in this process: [way, plan] as JSON
    return parser.parse_args()


def compared(setting: Any, options: argparse.Namespace) -> dict[str, Any]:
    """All ways in turn: for each its images per second, its ratio to the loop by hand, its loss, or why it was skipped."""
    plans = planned(setting, options)
    first = {row: tried(*what, options.threads) for row, what in plans.items()}  # and the warm-up of the disk
    skipped = {row: told for row, told in first.items() if "skipped" in told}
    runs: dict[str, Callable[[], float]] = {
        row: partial(images_per_second, *plans[row], options.threads) for row in plans if row not in skipped
    }
    speeds = in_turn(runs, options.rounds, warmup=0)
    return {row: skipped.get(row) or summed(row, speeds, first[row]["loss"]) for row in plans}


def planned(setting: Any, options: argparse.Namespace) -> dict[str, tuple[str, Plan]]:
    """Rows of the table: the way and its plan, once for each number of loading processes."""
    ways: Mapping[str, tuple[int, ...]] = {way: WAYS[way][1] for way in options.only or WAYS}
    if options.ingredients:
        ways = dict.fromkeys(INGREDIENTS, (0,))
    rows = {}
    for way, counts in ways.items():
        for count in counts:
            row = f"{way}, {count} workers" if len(counts) > 1 else way
            rows[row] = way, Plan(setting, options.steps, options.warmup, count)
    return rows


def tried(way: str, plan: Plan, threads: int) -> dict[str, Any]:
    """The first run of a row: one that fails is skipped from then on."""
    try:
        return in_fresh_process(way, plan, threads)
    except subprocess.CalledProcessError as error:
        return {"skipped": f"it failed with exit code {error.returncode}"}


def summed(row: str, speeds: Mapping[str, Sequence[float]], loss: float) -> dict[str, Any]:
    found: dict[str, Any] = {**summary(speeds[row]), "loss": loss}
    return found | ({"ratio": paired(speeds[REFERENCE], speeds[row])["ratio"]} if REFERENCE in speeds else {})


def images_per_second(way: str, plan: Plan, threads: int) -> float:
    return float(in_fresh_process(way, plan, threads)["images_per_second"])


def in_fresh_process(way: str, plan: Plan, threads: int) -> dict[str, Any]:
    """What `measured` tells. Raises CalledProcessError if the process fails."""
    once = json.dumps([way, asdict(plan)])
    command = [sys.executable, __file__, "--threads", str(threads), "--once", once]
    quiet = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=quiet)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{plan.setting}, {way}, {plan.workers} workers: {told}", file=sys.stderr, flush=True)
    return told


def rows(found: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """A line for each way that was measured."""
    quartiles = ("median", "q1", "q3")
    return [
        [row, *(one[key] for key in quartiles), *(one.get("ratio", {}).get(key, "") for key in quartiles), one["loss"]]
        for row, one in found.items()
        if "skipped" not in one
    ]


if __name__ == "__main__":
    main()
