"""The commands and their options."""

from __future__ import annotations

import io
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="runtrue",
    help="Find out whether a PyTorch network will train, why not, and what cures it, with proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Format(str, Enum):
    text = "text"
    json = "json"
    html = "html"


class CheckFormat(str, Enum):
    text = "text"
    json = "json"
    html = "html"
    junit = "junit"
    sarif = "sarif"


Out = Annotated[
    Path | None, typer.Option("--out", help="Where to write the page (or the JSON, JUnit, SARIF).", show_default=False)
]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False) -> None:
    if version:
        from runtrue import __version__

        typer.echo(f"runtrue {__version__}")
        raise typer.Exit()


@app.command()
def check(
    target: Annotated[
        str | None, typer.Argument(help="file.py:name, package.module:name, or demo:NAME.", show_default=False)
    ] = None,
    budget: Annotated[str, typer.Option(help="Time to spend, such as 60s or 2m.")] = "60s",
    only: Annotated[list[str] | None, typer.Option(help="Look for this cause alone (may be repeated).")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="Do not look for this cause (may be repeated).")] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Apply the cures to a copy and check that.")] = False,
    format: Annotated[CheckFormat, typer.Option(help="What to print.")] = CheckFormat.text,
    out: Out = None,
    seed: Annotated[int, typer.Option(help="Of batches, dropout and new weights.")] = 0,
    device: Annotated[str | None, typer.Option(help="Move the model there first: cpu, cuda, cuda:1, mps.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List every cause, and which of them are looked for.")] = False,
    explain: Annotated[
        str | None, typer.Option(help="Say what a cause means, and measure a sick and a healthy case.")
    ] = None,
) -> None:
    """Check a task: train it for a moment, name what keeps it from learning, cure that, show the proof.

    Exit code 0: no fault. 1: a fault was found. 2: the call or the target is wrong.
    """
    from runtrue.cli import causes, checking

    if list_:
        print(causes.listing())
    elif explain is not None:
        raise typer.Exit(causes.explain(explain))
    elif target is None:
        raise typer.BadParameter("name a target: file.py:name, package.module:name, or demo:NAME", param_hint="TARGET")
    else:
        options = checking.Options(
            target, budget, tuple(only or ()), tuple(skip or ()), fix, format.value, out, seed, device
        )
        raise typer.Exit(checking.run(options))


@app.command()
def lab(
    name: Annotated[
        str | None, typer.Argument(help="The experiment, or `all`; without it, all are listed.", show_default=False)
    ] = None,
    format: Annotated[Format, typer.Option(help="What to print.")] = Format.text,
    out: Out = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds to average over.", show_default=False)] = None,
    data: Annotated[str | None, typer.Option(help="gaussian or fashion-mnist.", show_default=False)] = None,
    depth: Annotated[int | None, typer.Option(help="Hidden layers.", show_default=False)] = None,
    width: Annotated[int | None, typer.Option(help="Units a layer.", show_default=False)] = None,
    full: Annotated[bool, typer.Option("--full", help="The larger setting of an experiment that has one.")] = False,
    task: Annotated[
        str | None,
        typer.Option(
            help="learning-rates on your own: file.py:name, package.module:name, demo:NAME.", show_default=False
        ),
    ] = None,
    budget: Annotated[str, typer.Option(help="Time to spend on your own task.")] = "60s",
) -> None:
    """Run an experiment of the training notes: its claim, its figure, and whether the claim held.

    What is left out is the experiment's own: its page of settings says what that is.
    """
    from runtrue.cli import laboratory

    given = {"seeds": seeds, "data": data, "depth": depth, "width": width, "full": full or None}
    settings = {key: value for key, value in given.items() if value is not None}
    if task is not None:
        raise typer.Exit(laboratory.run_on(task, budget, name, format.value, out, **settings))
    raise typer.Exit(laboratory.run(name, format.value, out, **settings))


def main() -> None:
    """Entry point of the command `runtrue`."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a console or pipe that lacks a character shows "?" for it
        sys.stdout.reconfigure(errors="replace")
    app()
