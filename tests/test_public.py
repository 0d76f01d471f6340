"""What users may rely on: the public names, the options of the command, the shape of the report. Changing one is a decision."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
import torch
import typer
from torch import nn

import runtrue
from runtrue.cli.app import CheckFormat, Format, app

NAMES = [
    "Finding", "Outcome", "Remedy", "Report", "Task", "TaskError", "Treatment",
    "check", "finetune", "fix", "init", "lab", "nets", "train", "watch",
]  # fmt: skip

OPTIONS = {
    "check": [
        "target", "--data", "--budget", "--only", "--skip", "--fix", "--format", "--out", "--seed", "--device", "--list",
        "--explain",
    ],
    "lab": [
        "name", "--format", "--out", "--seeds", "--data", "--net", "--weights", "--depth", "--width", "--full", "--task",
        "--budget",
    ],
    "train": [
        "config", "--net", "--data", "--epochs", "--batch-size", "--optimizer", "--lr", "--momentum", "--decay", "--warmup",
        "--init", "--norm", "--dropout", "--l1", "--l2", "--max-norm", "--augment", "--size", "--precision", "--devices",
        "--nodes", "--strategy", "--seed", "--logger", "--resume", "--no-check", "--no-watch", "--run",
    ],
    "finetune": [
        "net", "--data", "--mode", "--weights", "--side", "--framing", "--mean", "--std", "--epochs", "--batch-size", "--lr",
        "--kept", "--front", "--gradual", "--norms", "--augment", "--patience", "--seed", "--resume", "--no-check", "--no-watch",
        "--run",
    ],
    "zoo": ["pattern"],
    "predict": ["run", "images", "--top", "--format"],
    "report": ["run", "--format", "--out"],
    "compare": ["runs", "--out"],
    "serve": ["runs", "--host", "--port"],
}  # fmt: skip

PARTS = ["model", "train", "val", "loss", "optimizer", "metric", "step", "epochs", "batch_size"]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_the_public_names() -> None:
    assert runtrue.__all__ == NAMES and len(NAMES) <= 20


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert (getattr(runtrue, name).__doc__ or "").strip()
    assert name in dir(runtrue)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'runtrue' has no attribute 'chekc'"):
        _ = runtrue.chekc


@pytest.mark.parametrize("command", OPTIONS)
def test_the_options_of_the_command(command: str) -> None:
    group: Any = typer.main.get_command(app)
    parameters = group.commands[command].params
    assert [p.opts[0] for p in parameters] == OPTIONS[command]
    assert all(p.help for p in parameters), "every option says what it does"


def test_the_formats_of_the_commands() -> None:
    assert [form.value for form in CheckFormat] == ["text", "json", "html", "junit", "sarif"]
    assert [form.value for form in Format] == ["text", "json", "html"], "the laboratory has no gate"


def test_the_commands() -> None:
    group: Any = typer.main.get_command(app)
    assert sorted(group.commands) == sorted(OPTIONS)


def test_the_parts_of_a_task() -> None:
    assert [field.name for field in fields(runtrue.Task)] == PARTS
    defaults = {field.name: field.default for field in fields(runtrue.Task)[2:]}
    assert defaults == {**dict.fromkeys(PARTS[2:]), "batch_size": 32}


def test_the_arguments_of_check_and_fix() -> None:
    check, fix = (inspect.signature(f).parameters for f in (runtrue.check, runtrue.fix))
    assert list(check) == ["task", "train", "budget", "only", "skip", "seed", "parts"]
    assert [check[name].default for name in ("budget", "only", "skip", "seed")] == [60.0, (), (), 0]
    assert list(fix)[:2] == ["task", "report"] and fix["seed"].default == 0


def sick() -> runtrue.Task:
    torch.manual_seed(0)
    x = torch.randn(128, 8)
    return runtrue.Task(
        nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)),
        (x, (x[:, 0] > 0).long() + 1),
        loss=nn.CrossEntropyLoss(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    )


def test_the_keys_of_a_report() -> None:
    report = runtrue.check(sick(), budget=5)
    told = json.loads(report.to_json())
    assert list(told) == ["schema", "ok", "faults", "warnings", "notes", "cost"] and told["schema"] == 1
    assert told["ok"] is False is report.ok and set(told["cost"]) == {"seconds", "steps"}
    (fault,) = told["faults"]
    designed = {"cause", "severity", "where", "message", "evidence", "remedy", "outcome", "explains"}
    assert set(fault) == designed | {"explained_by"}
    assert set(fault["remedy"]) == {"name", "safe", "code"}
    assert set(fault["outcome"]) == {"before", "after", "cured", "steps", "seeds", "baseline", "skill", "curves"}
    assert (fault["cause"], fault["severity"]) == ("labels-out-of-range", "fault")


def test_what_hangs_on_a_report_and_a_finding() -> None:
    report = runtrue.check(sick(), budget=5)
    assert report.findings[0] is report.faults[0] and "<" in report._repr_html_()
    names = {field.name for field in fields(runtrue.Finding)}
    assert names == {"cause", "severity", "where", "message", "evidence", "remedy", "outcome", "explained_by"}
    treatment = runtrue.fix(sick(), report)
    assert isinstance(treatment.task, runtrue.Task) and treatment.outcomes and "targets = targets - 1" in treatment.code


def test_import_brings_nothing_heavy() -> None:
    heavy = [
        "torch", "numpy", "rich", "typer", "altair", "jinja2", "pytorch_lightning", "lightning", "timm", "transformers",
    ]  # fmt: skip
    done = python("-c", f"import sys, runtrue; print([m for m in {heavy!r} if m in sys.modules], runtrue.__version__)")
    assert done.stdout.strip() == f"[] {runtrue.__version__}", done.stderr


def test_help_brings_no_torch() -> None:
    code = "import sys; from runtrue.cli import main\ntry:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, timeout=120, check=False
    )
    assert "check" in done.stdout and done.stdout.strip().endswith("False")


def test_python_m_runtrue() -> None:
    done = python("-m", "runtrue", "--help")
    assert done.returncode == 0 and "check" in done.stdout and "lab" in done.stdout
    assert python("-m", "runtrue", "--version").stdout == f"runtrue {runtrue.__version__}\n"


def test_wrong_use_of_check_is_named() -> None:
    with pytest.raises(TypeError, match="unexpected argument 'epoch'; a task has train, val, loss"):
        runtrue.check(nn.Linear(2, 1), train=(torch.zeros(4, 2), torch.zeros(4, 1)), loss=nn.MSELoss(), epoch=3)
    with pytest.raises(runtrue.TaskError, match="a Task was given, and train, loss besides"):
        runtrue.check(sick(), train=(torch.zeros(4, 2), torch.zeros(4, 1)), loss=nn.MSELoss())
    with pytest.raises(ValueError, match="'init-to-small'; did you mean 'init-too-small'"):
        runtrue.check(sick(), only=["init-to-small"])
    with pytest.raises(ValueError, match="budget must be more than 0 seconds, not 0"):
        runtrue.check(sick(), budget=0)
    with pytest.raises(ValueError, match="budget must be more than 0 seconds, not nan"):
        runtrue.check(sick(), budget=float("nan"))


def test_only_and_skip() -> None:
    assert runtrue.check(sick(), budget=3, only=["labels-out-of-range"]).faults[0].cause == "labels-out-of-range"
    assert runtrue.check(sick(), budget=3, only="labels-out-of-range").faults[0].cause == "labels-out-of-range"
    with pytest.raises(runtrue.TaskError, match="loss cannot take outputs"):
        runtrue.check(sick(), budget=3, skip=["labels-out-of-range"])
