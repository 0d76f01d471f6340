"""`batchnorm` on a task of the user's: both at their best rate, a verdict by the clock, and a task that is left as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from runtrue import Task, nets
from runtrue.cli.app import app
from runtrue.lab import batchnorm_own
from runtrue.lab.batchnorm_own import Found, Twin, as_it_is, judge
from runtrue.task import TaskError

G = torch.Generator().manual_seed(0)
X = torch.randn(400, 8, generator=G)
LABELS = X[:, :3].argmax(1)


def task(*, depth: int = 2, norm: Any = None, batch_size: int = 32) -> Task:
    torch.manual_seed(0)
    model = nets.mlp([8, *[16] * depth, 3], "relu", norm=norm)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    return Task(model, (X, LABELS), loss=nn.CrossEntropyLoss(), optimizer=optimizer, batch_size=batch_size)


def on_sequences() -> Task:
    """Its only activation follows a layer that is given (N, 2, 4): BatchNorm1d would take 2 for the features."""
    model = nn.Sequential(nn.Unflatten(1, (2, 4)), nn.Linear(4, 16), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    return Task(model, (X, LABELS), loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD(model.parameters(), 0.05))


def test_both_are_trained_and_the_task_is_left_as_it_was(tmp_path: Path) -> None:
    mine = task()
    assert isinstance(mine.model, nn.Module) and isinstance(mine.optimizer, torch.optim.Optimizer)
    before, state = [p.detach().clone() for p in mine.model.parameters()], torch.get_rng_state()
    found = batchnorm_own.run(mine, name="mine", budget=60, steps=20)
    assert [part.code for part in found.judgements] == ["N1.6f"] and found.settings["normalized"] == "linear1, linear2"
    rows = {row["network"]: row for row in found.series["twins"]}
    assert rows["without"]["steps"] == rows["with batch normalization"]["steps"] == 60
    assert all(row["end"] < row["start"] for row in rows.values())
    assert all(torch.equal(one, other) for one, other in zip(before, mine.model.parameters(), strict=True))
    assert [type(m).__name__ for m in mine.model.children()] == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert len(mine.optimizer.param_groups[0]["params"]) == 6 and torch.equal(torch.get_rng_state(), state)
    page = found.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Batch normalization for mine" in page and "nn.BatchNorm1d" in page
    json.loads(found.to_json())


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: task(norm="batch"), "nowhere to put"),
        (lambda: task(depth=0), "nowhere to put"),
        (on_sequences, "not on sequences"),
        (lambda: task(batch_size=2), "a batch holds 2 examples"),
    ],
)
def test_tasks_to_which_it_does_not_apply(made: Any, words: str) -> None:
    with pytest.raises(TaskError, match=words):
        batchnorm_own.run(made(), budget=5, steps=20)


def test_a_budget_of_nothing() -> None:
    with pytest.raises(ValueError, match="budget"):
        batchnorm_own.run(task(), budget=0)


def falling(by: float, steps: int = 100) -> tuple[float, ...]:
    return tuple(2 * by**step for step in range(steps))


@pytest.mark.parametrize(
    ("without", "normed", "ratio", "held", "words"),
    [
        (falling(0.99), falling(0.97), 1.3, True, ": worth it"),
        (falling(0.99), falling(0.985), 1.5, False, ": no matter"),
        (falling(0.98), falling(0.98), 1.5, False, ": not worth it"),
        ((*falling(0.99, 10), float("nan")), falling(0.99), 1.5, True, ": worth it"),
    ],
)
def test_the_verdict(without: Any, normed: Any, ratio: float, held: bool, words: str) -> None:
    found = Found(("0",), (Twin(0.1, without, as_it_is), Twin(0.1, normed, as_it_is)), ratio, None)
    part = judge(found)
    assert part.held is held and words in part.words


FILE = """
import torch, runtrue
from torch import nn

def task():
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    net = lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    return runtrue.Task(net, (x, x.sum(1, keepdim=True)), loss=nn.MSELoss(), optimizer=lambda p: torch.optim.SGD(p, 1e-2))

def linear():
    x = torch.randn(200, 4)
    return runtrue.Task(lambda: nn.Linear(4, 1), (x, x.sum(1, keepdim=True)), loss=nn.MSELoss(),
                        optimizer=lambda p: torch.optim.SGD(p, 1e-2))
"""


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def call(target: str) -> Any:
        return CliRunner().invoke(app, ["lab", "batchnorm", "--task", target, "--budget", "8s", "--format", "json"])

    done = call("mine.py:task")
    assert done.exit_code == 0 and json.loads(done.stdout)["settings"]["normalized"] == "0"
    refused = call("mine.py:linear")
    assert refused.exit_code == 2 and "nowhere to put" in refused.stderr
