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


class Listing(str, Enum):
    text = "text"
    json = "json"


class RecordFormat(str, Enum):
    html = "html"
    json = "json"
    csv = "csv"
    tensorboard = "tensorboard"


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
    data: Annotated[
        str | None,
        typer.Option(
            help="Of a LightningModule: file.py:name of a data module, loader, dataset, pair of tensors.",
            show_default=False,
        ),
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
            target, budget, tuple(only or ()), tuple(skip or ()), fix, format.value, out, seed, device, data
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
    data: Annotated[
        str | None, typer.Option(help="gaussian or fashion-mnist; for finetune a folder, too.", show_default=False)
    ] = None,
    net: Annotated[
        str | None, typer.Option(help="finetune: a network of a zoo, for a folder of yours.", show_default=False)
    ] = None,
    weights: Annotated[str | None, typer.Option(help="finetune: the file of its weights.", show_default=False)] = None,
    depth: Annotated[int | None, typer.Option(help="Hidden layers.", show_default=False)] = None,
    width: Annotated[int | None, typer.Option(help="Units a layer.", show_default=False)] = None,
    full: Annotated[bool, typer.Option("--full", help="The larger setting of an experiment that has one.")] = False,
    task: Annotated[
        str | None,
        typer.Option(
            help="learning-rates or batchnorm on your own: file.py:name, package.module:name, demo:NAME.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[str, typer.Option(help="Time to spend on your own task.")] = "60s",
) -> None:
    """Run an experiment of the training notes: its claim, its figure, and whether the claim held.

    What is left out is the experiment's own: its page of settings says what that is.
    """
    from runtrue.cli import laboratory

    given: dict[str, object] = {
        "seeds": seeds, "data": data, "net": net, "weights": weights, "depth": depth, "width": width, "full": full or None,
    }  # fmt: skip
    settings = {key: value for key, value in given.items() if value is not None}
    if task is not None:
        raise typer.Exit(laboratory.run_on(task, budget, name, format.value, out, **settings))
    raise typer.Exit(laboratory.run(name, format.value, out, **settings))


@app.command()
def train(
    config: Annotated[
        Path | None, typer.Argument(help="Settings in a YAML file; options come on top.", show_default=False)
    ] = None,
    net: Annotated[
        str | None, typer.Option(help="resnet20, plain20, resnet18, mlp:500x10, cnn, or a TARGET.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="fashion-mnist, cifar10, folder:PATH, npz:PATH, or a TARGET.", show_default=False)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training set.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images a step, of all devices together.", show_default=False)
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="sgd, momentum, nesterov, adam, adamw.", show_default=False)
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate at the start.")] = None,
    momentum: Annotated[float | None, typer.Option(help="Of momentum and nesterov.")] = None,
    decay: Annotated[
        str | None, typer.Option(help="Of the learning rate: none, step, exp, inverse, cosine.", show_default=False)
    ] = None,
    warmup: Annotated[float | None, typer.Option(help="Epochs in which the rate rises.")] = None,
    init: Annotated[
        str | None, typer.Option(help="Initial weights: auto, lsuv, he_normal, …; net leaves them.", show_default=False)
    ] = None,
    norm: Annotated[str | None, typer.Option(help="batch or none.")] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Share of units that are switched off.", show_default=False)
    ] = None,
    l1: Annotated[float | None, typer.Option(help="λ of L1; weights become exactly 0.")] = None,
    l2: Annotated[float | None, typer.Option(help="λ of L2, as decoupled decay.")] = None,
    max_norm: Annotated[
        float | None, typer.Option(help="Largest norm of a unit's weights.", show_default=False)
    ] = None,
    augment: Annotated[str | None, typer.Option(help="auto, none, or such as crop:4,flip.")] = None,
    size: Annotated[int | None, typer.Option(help="Side to which images are resized.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="32, bf16, or auto: the faster one.", show_default=False)
    ] = None,
    devices: Annotated[int | None, typer.Option(help="GPUs, or processes on a CPU.")] = None,
    nodes: Annotated[int | None, typer.Option(help="Machines.")] = None,
    strategy: Annotated[str | None, typer.Option(help="ddp or fsdp.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights, order, augmentation, dropout.", show_default=False)
    ] = None,
    logger: Annotated[str | None, typer.Option(help="csv, tensorboard, wandb, none.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Start without a check.")] = False,
    no_watch: Annotated[bool, typer.Option("--no-watch", help="Keep no record of layers and gradients.")] = False,
    run: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
) -> None:
    """Train a network: checked first, resumable, with every setting, its curves and its weights in one folder.

    Exit code 0: trained. 1: the check found a fault, nothing was trained. 2: the call, the data or the network is wrong.
    """
    from runtrue.cli import training

    given = {
        "net": net, "data": data, "epochs": epochs, "batch_size": batch_size, "optimizer": optimizer, "lr": lr,
        "momentum": momentum, "decay": decay, "warmup": warmup, "init": init, "norm": norm, "dropout": dropout, "l1": l1,
        "l2": l2, "max_norm": max_norm, "augment": augment, "size": size, "precision": precision, "devices": devices,
        "nodes": nodes, "strategy": strategy, "seed": seed, "logger": logger, "check": False if no_check else None,
        "watch": False if no_watch else None,
    }  # fmt: skip
    raise typer.Exit(
        training.train(config, run, resume, {name: value for name, value in given.items() if value is not None})
    )


@app.command()
def finetune(
    net: Annotated[
        str | None,
        typer.Argument(help="Name of a trained network (`runtrue zoo`), or file.py:build.", show_default=False),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder of class folders, or csv:PATH.", show_default=False)] = None,
    mode: Annotated[
        str | None, typer.Option(help="head: a new head alone; deep: all layers.", show_default=False)
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="File with weights: .pth or .safetensors.", show_default=False)
    ] = None,
    side: Annotated[int | None, typer.Option(help="Side of the images in pixels.", show_default=False)] = None,
    framing: Annotated[
        str | None, typer.Option(help="auto, crop (the middle), whole (on white).", show_default=False)
    ] = None,
    mean: Annotated[str | None, typer.Option(help="Of the channels, as 0.485,0.456,0.406.", show_default=False)] = None,
    std: Annotated[str | None, typer.Option(help="Spread of the channels, likewise.", show_default=False)] = None,
    epochs: Annotated[int | None, typer.Option(help="Of mode deep.", show_default=False)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images in a step.", show_default=False)] = None,
    lr: Annotated[
        float | None, typer.Option(help="Of what is new; found by trials without it.", show_default=False)
    ] = None,
    kept: Annotated[
        float | None, typer.Option(help="Rate of the last kept layer, as a share.", show_default=False)
    ] = None,
    front: Annotated[
        float | None, typer.Option(help="Rate of the first layer, as a share of that.", show_default=False)
    ] = None,
    gradual: Annotated[int | None, typer.Option(help="Epochs in which layers join in.", show_default=False)] = None,
    norms: Annotated[
        str | None, typer.Option(help="auto, train, freeze-statistics, freeze-all.", show_default=False)
    ] = None,
    augment: Annotated[str | None, typer.Option(help="auto, none, or such as crop:8,flip.", show_default=False)] = None,
    patience: Annotated[
        int | None, typer.Option(help="Epochs without progress until it ends.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of split, order and augmentation.", show_default=False)] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not look at the images first.")] = False,
    no_watch: Annotated[bool, typer.Option("--no-watch", help="Keep no record of layers and gradients.")] = False,
    run: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
) -> None:
    """Fine-tune a trained network on photographs: a new head, or all layers, each at its own rate.

    Exit code 0: trained. 1: the images do not reach the network as it was trained to see them. 2: the call, the data or the
    network is wrong.
    """
    from runtrue.cli import finetuning

    given = {
        "data": data, "mode": mode, "weights": weights, "side": side, "framing": framing, "mean": mean, "std": std,
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "kept": kept, "front": front, "gradual": gradual, "norms": norms,
        "augment": augment, "patience": patience, "seed": seed, "check": False if no_check else None,
        "watch": False if no_watch else None,
    }  # fmt: skip
    chosen = {name: value for name, value in given.items() if value is not None}
    raise typer.Exit(finetuning.finetune(net, run, resume, chosen))


@app.command()
def zoo(
    pattern: Annotated[str, typer.Argument(help="A part of a name, or with * and ?.")] = "*",
) -> None:
    """List trained networks by name: what is installed, and whether the weights are here or need a download.

    Exit code 0: listed. 2: no zoo is installed, or no name fits.
    """
    from runtrue.cli import finetuning

    raise typer.Exit(finetuning.zoo(pattern))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    top: Annotated[int, typer.Option(help="Classes to name for each image.")] = 3,
    format: Annotated[Listing, typer.Option(help="What to print.")] = Listing.text,
) -> None:
    """Say what is on images, by the network of a run.

    Exit code 0: every image was read. 1: some could not be read. 2: the call or the run is wrong.
    """
    from runtrue.cli import training

    raise typer.Exit(training.predict(run, images, top, format.value))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run that was watched, or its watch.sqlite.")],
    format: Annotated[RecordFormat, typer.Option(help="What to write.")] = RecordFormat.html,
    out: Out = None,
) -> None:
    """Write the page of a run that was watched (or that still is): verdicts, curves, layers. Or its numbers, for other tools.

    Exit code 0: no fault was seen. 1: a fault. 2: the call or the run is wrong.
    """
    from runtrue.cli import records

    raise typer.Exit(records.report(run, format.value, out))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more folders of runs that were watched.")],
    out: Out = None,
) -> None:
    """Lay runs beside each other: curves in the same figures, and what each came to.

    Exit code 0: the page is written (compare.html). 2: the call or a run is wrong.
    """
    from runtrue.cli import records

    raise typer.Exit(records.compare(runs, out))


@app.command()
def serve(
    runs: Annotated[Path, typer.Argument(help="Folder with runs that were watched, or that still are, at any depth.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any but this machine's own asks for a token, which is printed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: one that is free.", min=0, max=65535)] = 8765,
) -> None:
    """Follow runs in a browser while they train: a list, a page for each, and some of them beside each other. Ctrl-C ends it.

    Exit code 0: ended. 2: the call is wrong, or the extra is missing (pip install "runtrue[serve]").
    """
    from runtrue.cli import records

    raise typer.Exit(records.serve(runs, host, port))


def main() -> None:
    """Entry point of the command `runtrue`."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a console or pipe that lacks a character shows "?" for it
        sys.stdout.reconfigure(errors="replace")
    app()
