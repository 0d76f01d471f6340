"""`runtrue lab`: list the experiments, run one and show it, or run all and write the gallery."""

from __future__ import annotations

import importlib
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtrue import lab
from runtrue.cli.output import Printer, cannot_write, fail, to_a_reader, write_or_print

if TYPE_CHECKING:
    from runtrue.lab.experiment import Experiment

OF_TASKS = {"learning-rates": "runtrue.lab.own_rates", "batchnorm": "runtrue.lab.batchnorm_own"}
"""Experiments that can be run on a task of the user's, and the modules whose function `run` does that."""
ALL = "all"
"""The name that stands for every experiment."""


def run(name: str | None, format: str, out: Path | None, **settings: Any) -> int:
    """Exit code: 0 it ran (whether or not its claim held), 2 the call is wrong."""
    if name is None:
        print(lab.listing())
        return 0
    if name == ALL:
        return run_all(format, out, **settings)
    from runtrue.datasets import DataError

    try:
        result = lab.run(name, **settings)
    except (ValueError, TypeError, DataError) as error:
        return fail(str(error))
    return show(name, result, format, out)


def run_all(format: str, out: Path | None, **settings: Any) -> int:
    """Every experiment, a line for each as it ends, and one page. Exit code: 0 all ran, 1 one failed, 2 the call is wrong.

    The page is written anew after each: what was measured is kept if the process is ended half-way.
    """
    from runtrue.lab import gallery

    try:
        entries = gallery.each(lab.EXPERIMENTS, settings)
    except (ValueError, TypeError) as error:
        return fail(str(error))
    page = out or Path(f"runtrue-lab-{ALL}.html")
    found = gallery.Gallery((), tuple(lab.EXPERIMENTS))
    try:
        for entry in entries:
            found = replace(found, entries=(*found.entries, entry))
            tell(str(entry), format)
            if format != "json":
                found.to_html(page)
        with to_a_reader():
            if format == "json":
                write_or_print(found.to_json(), out)
            else:
                print(page if format == "html" else f"page: {page}")
    except OSError as error:
        return cannot_write(error, page)
    return 1 if found.failed else 0


def tell(line: str, format: str) -> None:
    """At once, to stdout, or to stderr where stdout is for the JSON or for the place of the page."""
    if format == "text":
        with to_a_reader():
            print(line)
    else:
        print(line, file=sys.stderr)


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
