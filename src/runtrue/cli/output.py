"""Where answers go: text to stdout or a file, what went wrong to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from runtrue.budget import Say


class Printer(Console):
    """A console that raises where its reader has gone: rich would end the program with exit code 1, which means "fault"."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@contextmanager
def to_a_reader() -> Iterator[None]:
    """What is printed inside may stop short: a reader, such as `head`, has seen enough, and nothing is wrong."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_or_print(text: str, out: Path | None) -> None:
    """To the file, with its folders made, or to stdout."""
    if out is None:
        print(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")


def fail(message: str) -> int:
    """Say what is wrong; the exit code for a call or a target that is."""
    print(f"runtrue: {message}", file=sys.stderr)
    return 2


def cannot_write(error: OSError, path: Path) -> int:
    return fail(f"{path} could not be written: {error.strerror or error}; choose another place by --out")


@contextmanager
def progress() -> Iterator[Say]:
    """A line on stderr that says what is being tried and how much time is left; nothing when piped."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what, left: None
        return
    with console.status("starting") as status:
        yield lambda what, left: status.update(f"{what.replace('[', '(').replace(']', ')')}  ·  {left:.0f} s left")
