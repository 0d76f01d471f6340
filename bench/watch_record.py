"""The record and the page of a long run: size, time to write and to read, and the first paint in a browser.

Run: `python bench/watch_record.py [--steps 1000000] [--layers 100] [--rounds 5]`. Writes a record as a training would have (a
loss a step, a reading every 250 steps), reads it whole, and serves it by `runtrue serve`. First paint: what Chromium tells of the
page of the run, for the first page that a server has made and for the reloads behind it; left out where playwright or Chromium is
missing. Writes bench/results/watch_record.json.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _common import summary, table, write
from runtrue.watch.record import FILE, Histogram, Reading, Recorder, record_of

PACKET = 500
EVERY = 250
OF_LAYER = ("mean", "std", "zero_fraction", "dead_fraction", "signal_rms")
OF_PARAMETER = ("grad_norm", "grad_mean", "weight_norm", "update_ratio")


def written(folder: Path, steps: int, layers: int) -> float:
    """Seconds that the record takes."""
    noise = random.Random(0)
    losses, seconds = [noise.gauss(1.0, 0.1) for _ in range(PACKET)], [0.01] * PACKET
    names = [f"layers.{i}" for i in range(layers)]
    keys = [(n, w) for n in names for w in OF_LAYER] + [(f"{n}.weight", w) for n in names for w in OF_PARAMETER]
    began = time.perf_counter()
    recorder = Recorder(folder / FILE)
    recorder.tell(model="Net", parameters=1_000_000, torch="", started=time.time())
    for first in range(0, steps, PACKET):
        recorder.losses(first, [x + 1e-6 * first for x in losses], seconds)
        for step in range(first, first + PACKET, EVERY):
            recorder.reading(Reading(step, 0.01 * step, {key: noise.random() for key in keys}))
        if first % (8 * EVERY) == 0:
            recorder.histograms([Histogram(name, first, 0.0, 1.0, (7,) * 24) for name in names])
        recorder.flush()
    recorder.close()
    return time.perf_counter() - began


def read(folder: Path) -> float:
    """Seconds until everything in it is there."""
    began = time.perf_counter()
    record = record_of(folder)
    record.steps(), list(record.readings()), record.histograms(), record.rates()
    return time.perf_counter() - began


@contextmanager
def served(runs: Path) -> Iterator[str]:
    """The address of a server that has just started."""
    command = [sys.executable, "-m", "runtrue", "serve", str(runs), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        yield next(word for word in line.split() if word.startswith("http"))
    finally:
        server.terminate()
        server.wait()


def painted(runs: Path, reloads: int = 5) -> tuple[float, list[float]]:
    """Seconds to the first contentful paint: of a server's first page, and of the reloads."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    ask = "performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)[0]"
    with sync_playwright() as started, served(runs) as address:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto("about:blank")
        found: list[float] = []
        for number in range(1 + reloads):
            page.reload() if number else page.goto(f"{address}run?run=long")
            page.wait_for_function(f"{ask} > 0")
            found.append(page.evaluate(ask) / 1e3)
            page.wait_for_timeout(500)
        browser.close()
    return found[0], found[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--layers", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        runs, folder = Path(place), Path(place) / "long"
        folder.mkdir()
        seconds = written(folder, options.steps, options.layers)
        results: dict[str, Any] = {
            "MB": (folder / FILE).stat().st_size / 1e6, "written, s": seconds,
            "read, s": summary([read(folder) for _ in range(options.rounds)]),
        }  # fmt: skip
        try:
            first = [painted(runs) for _ in range(options.rounds)]
            results["first paint, s"] = summary([one for one, _ in first])
            results["paint of a reload, s"] = summary([x for _, again in first for x in again])
        except ImportError as error:
            print(f"first paint left out: {error}", file=sys.stderr)
    rows = [[k, *(v.values() if isinstance(v, dict) else [v])] for k, v in results.items()]
    print(table(["what", "median", "q1", "q3", "n"], [[*row, *[""] * (5 - len(row))] for row in rows]))
    print(write("watch_record", results, steps=options.steps, layers=options.layers, rounds=options.rounds))


if __name__ == "__main__":
    main()
