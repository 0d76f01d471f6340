"""`runtrue check`: run it, show it, and say by the exit code how it went."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from runtrue import diagnosis, lightning_task, settings, targets
from runtrue.budget import Say
from runtrue.cli import places
from runtrue.cli.forms import FORMS, Result
from runtrue.cli.output import Printer, cannot_write, fail, progress, to_a_reader, write_or_print
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
    data: str | None = None


def run(options: Options) -> int:
    """Exit code: 0 no fault, 1 fault, 2 anything else, also a failure of our own: a gate must not take that for a fault."""

    def work() -> int:
        with redirect_stdout(sys.stderr), progress() as say:  # what the user's own code prints must not mix with JSON
            result = examine(options, say)
        return show(result, options)

    return guarded(work)


def guarded(work: Callable[[], int]) -> int:
    """The exit code of work that runs a user's code: 2, and one line on stderr, for whatever comes out of it."""
    try:
        return work()
    except (TaskError, ValueError) as error:
        return fail(str(error))
    except KeyboardInterrupt:
        fail("stopped by Ctrl-C; nothing was changed")
        return 130
    except SystemExit as error:
        return fail(f"the task ended the program while it was checked (exit {error.code})")
    except Exception as error:  # noqa: BLE001 a traceback of ours would end with exit code 1, which means "fault"
        return fail(own_failure(error))


def examine(options: Options, say: Say) -> Result:
    """Settings first, then the target: what is wrong with the call is said before anything of the user's is run."""
    budget = seconds(options.budget)
    choice = settings.choice(options.only, options.skip, settings.nearest(places.folder_of(options.target)))
    task = moved(targets.load(options.target, options.data, options.seed), options.device)
    report = diagnosis.check(
        task,
        budget=budget,
        only=choice.only,
        skip=choice.skip,
        seed=options.seed,
        progress=say,
        name=options.target,
    )
    told = lightning_task.spoken(report, task)
    cured = None
    if options.fix and report.faults:  # the cured copy, checked again
        treated = diagnosis.fix(task, report, seed=options.seed).task
        cured = diagnosis.check(treated, budget=budget, skip=choice.skip, seed=options.seed, progress=say)
    return Result(options.target, told, choice, cured)


def own_failure(error: Exception) -> str:
    """One line for a failure that is nobody's but ours, with the place to report."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}, line {last.lineno}, in {last.name}"
    said = " ".join(str(error).split())[:300]
    return f"the check itself failed, which is an error in runtrue: {type(error).__name__}: {said} ({where})"


def show(result: Result, options: Options) -> int:
    """Write it where it was asked for. What was found out is not lost with a file that cannot be written: it goes to stdout."""
    place = options.out or (Path("stdout") if options.format in FORMS else PAGE)
    try:
        with to_a_reader():
            if options.format in FORMS:
                write_or_print(FORMS[options.format](result), options.out)
            elif options.format == "html":
                print(result.report.to_html(place))
            else:
                page = result.report.to_html(place)  # first: a reader that stops early must not lose it
                print_text(result)
                print(f"report: {page}")
    except OSError as error:
        if options.format not in FORMS:
            print_text(result)
        elif options.out is not None:
            print(FORMS[options.format](result))
        return cannot_write(error, place)
    return 0 if result.report.ok else 1


def print_text(result: Result) -> None:
    print_report(result.report, Printer())
    silenced = [f"{cause} ({said_by})" for cause, said_by in result.choice.silenced.items()]
    if silenced:
        print(f"\nnot looked for: {', '.join(silenced)}")
    if result.cured is not None:
        left = ", ".join(fault.cause for fault in result.cured.faults)
        print(f"\nafter the cure: {left or 'no fault'}")


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
