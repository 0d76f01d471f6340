"""The fixture `runtrue`: what makes a test fail, what it then says, and that nobody pays for it who does not use it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from runtrue import Task, api
from runtrue.findings import Finding
from runtrue.pytest_plugin import Gate
from runtrue.report import Report

TESTS = """
import torch
from torch import nn
from runtrue import Task

x = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
y = (x[:, 0] > 0).long()

def task(labels):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    adam = torch.optim.Adam(net.parameters(), lr=0.01)
    return Task(net, (x, labels), loss=nn.CrossEntropyLoss(), optimizer=adam)

def test_healthy(runtrue):
    report = runtrue.check(task(y), budget=5)
    assert report.ok and report.steps > 0 and report.name == "test_healthy"

def test_sick(runtrue):
    runtrue.check(task(y + 1), budget=5)
    assert False, "not reached"

def test_broken(runtrue):
    runtrue.check(task(y[:, None, None]), budget=5)

def test_wrong(runtrue):
    runtrue.check(task(y), only=["dead-unit"])
"""


@pytest.fixture
def alone(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """pytest in processes of their own (in one, pytester would load torch twice), with the plugins that are named alone."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("COLUMNS", "160")
    return pytester


def test_as_a_user_runs_it(alone: pytest.Pytester) -> None:
    alone.makepyprojecttoml('[tool.pytest.ini_options]\n[tool.runtrue]\nskip = ["dead-units"]\n')
    alone.makepyfile(TESTS)
    result = alone.runpytest_subprocess("-p", "runtrue.pytest_plugin", timeout=120)
    result.assert_outcomes(passed=1, failed=3)
    text = result.stdout.str()
    told = text[text.index("= FAILURES =") :]
    said = [
        "_ test_sick _", "1 fault: labels-out-of-range", "where: train targets", "labels run from 1 to 2",
        "Cure: count labels from 0 (safe)", "targets = targets - 1", "not looked for: dead-units",
        "_ test_broken _", "runtrue: the loss cannot take outputs float32 (32, 2) with targets int64 (32, 1, 1)",
        "_ test_wrong _", "runtrue: unknown cause id 'dead-unit'; did you mean 'dead-units'?", "short test summary",
        "::test_sick - Failed: 1 fault: labels-out-of-range",
    ]  # fmt: skip
    places = [told.index(words) for words in said]
    assert places == sorted(places), told
    for ours in ("Traceback", "pytest_plugin.py", "api.py", "settings.py", "not reached"):
        assert ours not in told, told


def test_it_costs_nothing_until_it_is_used(alone: pytest.Pytester) -> None:
    alone.makepyfile("""
        import sys

        def loaded():
            return sorted(m for m in sys.modules if m.split(".")[0] in ("runtrue", "torch", "numpy", "rich", "typer"))

        def test_without():
            assert loaded() == ["runtrue", "runtrue.pytest_plugin"]

        def test_with(runtrue):
            assert loaded() == ["runtrue", "runtrue.pytest_plugin"] and callable(runtrue.check)
    """)
    result = alone.runpytest_subprocess("-p", "runtrue.pytest_plugin", "--fixtures-per-test", timeout=120)
    result.stdout.fnmatch_lines(["runtrue -- *", "*Fails the test if a network will not train: `runtrue.check(task)`*"])
    result = alone.runpytest_subprocess("-p", "runtrue.pytest_plugin", timeout=120)
    result.assert_outcomes(passed=2)


def test_pytest_finds_it_by_itself_once_runtrue_is_installed() -> None:
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.entry-points.pytest11]\nruntrue = "runtrue.pytest_plugin"\n' in project


# -- the gate itself


def tasks(labels: int = 0) -> Task:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long() + labels
    return Task(
        lambda: nn.Linear(6, 2), (x, y), loss=nn.CrossEntropyLoss(), optimizer=lambda p: torch.optim.SGD(p, lr=0.5)
    )


def told(gate: Gate, *arguments: Any, **named: Any) -> str:
    """The message with which the gate fails a test."""
    with pytest.raises(pytest.fail.Exception) as caught:
        gate.check(*arguments, **named)
    assert caught.value.pytrace is False
    return str(caught.value)


def test_the_arguments_of_check_are_passed_on(tmp_path: Path) -> None:
    task = tasks()
    report = Gate(tmp_path, "name").check(
        task.model, task.train, loss=task.loss, optimizer=task.optimizer, budget=3, seed=3, only=iter(["dead-units"])
    )
    assert report.ok and report.name == "name" and report.measured.facts["seed"] == "3"
    assert "loss cannot take" in told(Gate(tmp_path), tasks(1), budget=3, skip=iter(["labels-out-of-range"]))


def test_what_pyproject_skips_is_skipped_unless_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.runtrue]\nskip = ["labels-out-of-range"]\n', encoding="utf-8")
    (tmp_path / "tests").mkdir()
    for folder in (tmp_path, tmp_path / "tests"):
        assert "loss cannot take" in told(Gate(folder), tasks(1), budget=3)
    assert told(Gate(tmp_path), tasks(1), budget=3, only="labels-out-of-range").startswith(
        "1 fault: labels-out-of-range"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('skip = ["dead-unit"]', "[tool.runtrue] skip: unknown cause id 'dead-unit'; did you mean 'dead-units'?"),
        ("skip = 3", "[tool.runtrue] skip must be a list of cause ids"),
        ("skip = [", "cannot be read as TOML"),
    ],
)
def test_a_wrong_pyproject_fails_the_test_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.runtrue]\n{text}\n", encoding="utf-8")
    message = told(Gate(tmp_path), tasks())
    assert re.match(r"runtrue: \S+pyproject\.toml", message) and says in message and "\n" not in message


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"budget": 0}, "runtrue: the budget must be more than 0 seconds, not 0"),
        ({"bugdet": 5}, "runtrue: a Task was given, and bugdet besides"),
        ({"train": 3}, "runtrue: a Task was given, and train besides"),
        ({"skip": 3}, "runtrue: 'int' object is not iterable"),
        ({"fail_on": "note"}, 'fail_on must be "fault" or "warning", not \'note\''),
        ({"only": "plateau"}, "runtrue: nothing is left to look for"),
    ],
)
def test_a_wrong_call_fails_the_test_in_one_line(tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
    message = told(Gate(tmp_path), tasks(), **arguments)
    assert message.startswith(says) and "\n" not in message


def test_an_argument_that_no_task_has(tmp_path: Path) -> None:
    assert told(Gate(tmp_path), nn.Linear(2, 2), epoch=3).startswith(
        "runtrue: check() got an unexpected argument 'epoch'"
    )


def suspicious(*_: Any, **__: Any) -> Report:
    note = Finding("class-imbalance", "note", "train", "one class in nine")
    return Report((Finding("dead-units", "warning", "fc1", "all 64 units are silent"), note), name="task")


def test_warnings_fail_a_test_that_asks_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(api, "check", suspicious)
    gate = Gate(tmp_path, "test_it_trains")
    assert gate.check("a task").warnings and gate.check("a task", fail_on="fault").ok
    message = told(gate, "a task", fail_on="warning", skip=["init-symmetric"])
    assert message.startswith("suspected: dead-units\ntest_it_trains\nNo fault found\n")
    assert "all 64 units are silent" in message and message.endswith("not looked for: init-symmetric")
