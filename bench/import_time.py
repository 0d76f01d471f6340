"""How much runtrue adds to `import torch`, and how long `runtrue --help` takes: CPU seconds of fresh processes.

Run: `python bench/import_time.py [ROUNDS]`. CPU time (user and system, with children) wobbles less than the clock on a
busy machine. `import runtrue` fetches its parts when they are first used, so the first use is what is compared.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable

from _common import in_turn, paired, summary, table, write

COMMANDS = {
    "python": ["-c", "pass"],
    "import torch": ["-c", "import torch"],
    "import runtrue": ["-c", "import runtrue"],
    "first use of runtrue": ["-c", "import runtrue; runtrue.check; runtrue.Task"],
    "runtrue --help": ["-m", "runtrue", "--help"],
}


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of one Python process. Raises CalledProcessError if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=quiet)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def timed(arguments: list[str]) -> Callable[[], float]:
    return lambda: cpu_seconds(arguments)


def main(rounds: int = 7) -> None:
    measured = in_turn({name: timed(arguments) for name, arguments in COMMANDS.items()}, rounds)
    results = {name: summary(values) for name, values in measured.items()}
    added = paired(measured["import torch"], measured["first use of runtrue"])
    rows: list[tuple[object, ...]] = [(name, s["median"], s["q1"], s["q3"]) for name, s in results.items()]
    rows.append(("runtrue over torch", *(added["difference"][key] for key in ("median", "q1", "q3"))))
    print(table(["CPU seconds", "median", "lower quartile", "upper"], rows))
    print(
        f"the first use of runtrue takes {added['ratio']['median']:.2f} times `import torch` (median of {rounds} pairs)"
    )
    path = write("import_time", {**results, "runtrue over torch": added}, unit="CPU seconds", rounds=rounds)
    print(path)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
