"""`runtrue check`: run it, show it, and say by the exit code how it went."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from torch import nn

from runtrue import diagnosis
from runtrue.budget import Say
from runtrue.checks import CHECKS
from runtrue.cli import targets
from runtrue.cli.output import cannot_write, fail, write_or_print
from runtrue.report import Report
from runtrue.report.text import print_report
from runtrue.task import Task, TaskError

PAGE = Path("runtrue-report.html")
UNITS = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Options:
    target: str
    budget: str
    only: tuple[str, ...]
    skip: tuple[str, ...]
    fix: bool
    format: str
    out: Path | None
    seed: int
    device: str | None


def run(options: Options) -> int:
    """Exit code: 0 no fault, 1 fault, 2 the call or the target is wrong. Errors go to stderr in a few lines."""
    try:
        with redirect_stdout(sys.stderr), progress() as say:  # what the user's own code prints must not mix with JSON
            task = moved(targets.load(options.target), options.device)
            report = diagnosis.check(
                task,
                budget=seconds(options.budget),
                only=options.only,
                skip=options.skip,
                seed=options.seed,
                progress=say,
                name=options.target,
            )
            cured = recheck(task, report, options, say) if options.fix and report.faults else None
    except (TaskError, ValueError) as error:
        return fail(str(error))
    except KeyboardInterrupt:
        fail("stopped by Ctrl-C; nothing was changed")
        return 130
    return show(report, options, cured)


def show(report: Report, options: Options, cured: Report | None) -> int:
    try:
        if options.format == "json":
            write_or_print(report.to_json(), options.out)
        elif options.format == "html":
            print(report.to_html(options.out or PAGE))
        else:
            print_report(report, Console())
            if cured is not None:
                print(f"\nafter the cure: {'no fault' if cured.ok else ', '.join(f.cause for f in cured.faults)}")
            print(f"report: {report.to_html(options.out or PAGE)}")
    except OSError as error:
        if options.format == "json":  # what was found out must not be lost with the file
            print(report.to_json())
        return cannot_write(error, options.out or PAGE)
    return 0 if report.ok else 1


def recheck(task: Task, report: Report, options: Options, say: Say) -> Report:
    """The cured copy, checked again."""
    cured = diagnosis.fix(task, report, seed=options.seed)
    return diagnosis.check(
        cured.task, budget=seconds(options.budget), skip=options.skip, seed=options.seed, progress=say
    )


def seconds(text: str) -> float:
    """60, 60s, 1.5m -> seconds. Raises ValueError for anything else."""
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]*)\s*", text)
    if not found or found[2] not in UNITS or float(found[1]) == 0:
        raise ValueError(f"the budget {text!r} is no length of time: write 60s, 2m, or a number of seconds above 0")
    return float(found[1]) * UNITS[found[2]]


def moved(task: Task, device: str | None) -> Task:
    """The task with its model on a device; an optimizer keeps holding the same parameters."""
    if device is None:
        return task
    built = task.built()
    assert isinstance(built.model, nn.Module)
    try:
        built.model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise TaskError(f"the model cannot be moved to {device!r}: {' '.join(str(error).split())[:200]}") from error
    return built


@contextmanager
def progress() -> Iterator[Say]:
    """A line on stderr that says what is being tried and how much time is left; nothing when piped."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what, left: None
        return
    with console.status("starting") as status:
        yield lambda what, left: status.update(f"{what.replace('[', '(').replace(']', ')')}  ·  {left:.0f} s left")


def show_list() -> None:
    width = max(map(len, CHECKS))
    for cause, known in CHECKS.items():
        print(f"{cause:<{width}}  {known.meaning}")


def show_explanation(cause: str) -> None:
    known = CHECKS.get(cause)
    if known is None:
        try:
            diagnosis.choose((cause,), ())
        except ValueError as error:
            raise SystemExit(fail(str(error))) from error
        raise SystemExit(
            fail(f"{cause} is a known cause, but this version has no check for it (`runtrue check --list`)")
        )
    print(f"{cause} ({known.stage})\n\n{known.explanation}")
