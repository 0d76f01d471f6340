"""`learning-rates` on a task of the user's: judged curves, a rate that was run again, and a page that shows both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from runtrue import Task
from runtrue.cli.app import app
from runtrue.lab import own_rates
from runtrue.sandbox import sandbox

G = torch.Generator().manual_seed(0)
X = torch.randn(400, 8, generator=G)
LABELS = X[:, :3].argmax(1)


def task(rate: float, x: torch.Tensor = X) -> Task:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), rate)
    return Task(model, (x, LABELS), loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=30)


def test_a_rate_too_low_gets_one_that_was_run_again(tmp_path: Path) -> None:
    mine = task(1e-4)
    assert isinstance(mine.model, nn.Module)
    before = [p.detach().clone() for p in mine.model.parameters()]
    found = own_rates.run(mine, name="mine", budget=60, steps=60)
    assert found.held and "Checked: at" in found.verdict and found.verdict.startswith("The claim holds.")
    rows = {row["rate"]: row for row in found.series["rates"]}
    assert rows[1e-4]["verdict"] == "low" and {row["verdict"] for row in rows.values()} >= {"low", "good"}
    (again,) = (curves for name, curves in found.curves.items() if name.startswith("checked "))
    assert len(again[0]) > 60, "longer than a curve"
    assert all(torch.equal(one, other) for one, other in zip(before, mine.model.parameters()))
    page = found.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2 and "Learning rates for mine" in page and "The rate to take" in page


def test_nothing_holds_where_the_data_are_no_numbers() -> None:
    found = own_rates.run(task(0.1, torch.full_like(X, float("nan"))), budget=20, steps=30)
    assert not found.held and "not finite" in found.verdict
    assert not any(name.startswith("checked") for name in found.curves)
    json.loads(found.to_json())


def test_the_constant_is_that_of_the_labels() -> None:
    with sandbox(task(0.1)) as box:
        shares = torch.bincount(LABELS).double() / len(LABELS)
        assert own_rates.constant_of(box) == pytest.approx(float(torch.special.entr(shares).sum()), rel=1e-3)


def test_a_budget_of_nothing() -> None:
    with pytest.raises(ValueError, match="budget"):
        own_rates.run(task(0.1), budget=0)


FILE = """
import torch, runtrue
from torch import nn

def task():
    print("the user's own words")
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    return runtrue.Task(lambda: nn.Linear(4, 1), (x, x.sum(1, keepdim=True)), loss=nn.MSELoss(),
                        optimizer=lambda p: torch.optim.SGD(p, 1e-3), epochs=5)

def broken():
    return {}["key"]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: str) -> Any:
    return CliRunner().invoke(app, ["lab", *words])


def test_on_the_command_line(folder: Path) -> None:
    done = call("learning-rates", "--task", "mine.py:task", "--format", "json")
    assert done.exit_code == 0 and json.loads(done.stdout)["settings"]["task"] == "mine.py:task"
    assert "the user's own words" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("penalty", "--task", "mine.py:task"), "--task goes with learning-rates, batchnorm, not with penalty"),
        (("--task", "mine.py:task"), "--task goes with learning-rates"),
        (("learning-rates", "--task", "mine.py:task", "--depth", "3"), "--depth"),
        (("learning-rates", "--task", "mine.py:task", "--budget", "soon"), "no length of time"),
        (("learning-rates", "--task", "nowhere.py:task"), "there is no file nowhere.py"),
        (("learning-rates", "--task", "mine.py:broken"), "key"),
    ],
)
def test_a_wrong_call_says_so_in_a_line(folder: Path, words: tuple[str, ...], said: str) -> None:
    done = call(*words)
    assert done.exit_code == 2 and said in done.stderr and "Traceback" not in done.output
