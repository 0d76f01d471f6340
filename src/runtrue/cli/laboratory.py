"""`runtrue lab`: list the experiments, or run one and show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtrue import lab
from runtrue.cli.output import Printer, cannot_write, fail, to_a_reader, write_or_print


def run(name: str | None, format: str, out: Path | None, **settings: Any) -> int:
    """Exit code: 0 it ran (whether or not its claim held), 2 the call is wrong."""
    if name is None:
        print(lab.listing())
        return 0
    try:
        result = lab.run(name, **settings)
    except (ValueError, TypeError) as error:
        return fail(str(error))
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
