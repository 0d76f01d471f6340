"""`runtrue lab`: list the experiments, or run one and show it."""

from __future__ import annotations

import importlib
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtrue import lab
from runtrue.cli.output import Printer, cannot_write, fail, to_a_reader, write_or_print

if TYPE_CHECKING:
    from runtrue.lab.experiment import Experiment

OF_TASKS = {"learning-rates": "runtrue.lab.own_rates", "batchnorm": "runtrue.lab.batchnorm_own"}
"""Experiments that can be run on a task of the user's, and the modules whose function `run` does that."""


def run(name: str | None, format: str, out: Path | None, **settings: Any) -> int:
    """Exit code: 0 it ran (whether or not its claim held), 2 the call is wrong."""
    if name is None:
        print(lab.listing())
        return 0
    try:
        result = lab.run(name, **settings)
    except (ValueError, TypeError) as error:
        return fail(str(error))
    return show(name, result, format, out)


def run_on(target: str, budget: str, name: str | None, format: str, out: Path | None, **settings: Any) -> int:
    """The same on a task of the user's. Exit code: 0 it ran, 2 the call or the target is wrong."""
    from runtrue import targets
    from runtrue.cli import checking

    if name is None or name not in OF_TASKS:
        return fail(f"--task goes with {', '.join(OF_TASKS)}, not with {name or 'the list of experiments'}")
    if settings:
        return fail(f"--{', --'.join(settings)} set up the experiment's own network: leave out what --task brings")

    def work() -> int:
        own = importlib.import_module(OF_TASKS[name])
        with redirect_stdout(sys.stderr):  # what the user's own code prints must not mix with JSON
            result = own.run(targets.load(target), name=target, budget=checking.seconds(budget))
        return show(name, result, format, out)

    return checking.guarded(work)


def show(name: str, result: Experiment, format: str, out: Path | None) -> int:
    page = out or Path(f"runtrue-lab-{name}.html")
    try:
        with to_a_reader():
            if format == "json":
                write_or_print(result.to_json(), out)
            elif format == "html":
                print(result.to_html(page))
            else:
                from runtrue.lab.text import print_experiment

                place = result.to_html(page)  # first: a reader that stops early must not lose it
                print_experiment(result, Printer())
                print(f"page: {place}")
    except OSError as error:
        return cannot_write(error, page)
    return 0
