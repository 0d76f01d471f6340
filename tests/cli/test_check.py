"""`runtrue check` as it is typed: exit codes, what goes to stdout and what to stderr, and what is said of a wrong call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

import runtrue
from runtrue.checks import CHECKS
from runtrue.cli import checking
from runtrue.cli.app import app

TASKS = """
import torch
import runtrue
from torch import nn

x = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
y = (x[:, 0] > 0).long()

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))

def make(labels):
    return runtrue.Task(net, (x, labels), loss=nn.CrossEntropyLoss(), optimizer=lambda p: torch.optim.Adam(p, lr=0.01))

def healthy():
    return make(y)

sick = make(y + 1)

def prints():
    print("the user's own words")
    return make(y)

def broken():
    rows = {"a": 1}
    return rows["b"]  # the user's own line

def needs(argument):
    return make(y)

def nothing():
    return 3

def fails_in_forward():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 2)
        def forward(self, x):
            return self.layer(x) + undefined_name  # the user's own line
    return make(y).replace(model=Net())

def counted():
    return runtrue.Task(nn.Linear(6, 2), (x, y), loss=None)

number = 3
"""


@dataclass
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tasks.py").write_text(TASKS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("tasks", "wrong", "ends"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def call(*arguments: str) -> Said:
    result = CliRunner().invoke(app, ["check", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


def wrong(*arguments: str) -> str:
    """What is said of a wrong call: exit code 2, nothing on stdout, a few lines, none of them ours."""
    said = call(*arguments)
    assert said.code == 2 and said.out == "", said
    assert said.err.startswith("runtrue: ") and len(said.err.splitlines()) <= 12
    assert "Traceback" not in said.err and str(Path(runtrue.__file__).parent) not in said.err
    return said.err


# -- exit codes and formats


def test_no_fault_is_zero_and_the_page_lies_beside(folder: Path) -> None:
    said = call("tasks.py:healthy", "--budget", "5s")
    assert said.code == 0 and "No fault found" in said.out and said.err == ""
    assert "report: " in said.out and (folder / "runtrue-report.html").read_text(encoding="utf-8").startswith("<!")


def test_a_fault_is_one(folder: Path) -> None:
    said = call("tasks.py:sick", "--budget", "5s", "--out", "pages/sick.html")
    assert said.code == 1 and "1 fault: labels-out-of-range" in said.out and (folder / "pages/sick.html").is_file()


def test_fix_tells_what_is_left_after_the_cure(folder: Path) -> None:
    said = call("tasks.py:sick", "--budget", "5s", "--fix")
    assert said.code == 1 and "after the cure: no fault" in said.out


def test_json_is_all_that_is_on_stdout(folder: Path) -> None:
    said = call("tasks.py:sick", "--budget", "5s", "--format", "json")
    told = json.loads(said.out)
    assert said.code == 1 and told["ok"] is False and told["faults"][0]["cause"] == "labels-out-of-range"
    assert not (folder / "runtrue-report.html").exists()


def test_json_to_a_file(folder: Path) -> None:
    said = call("tasks.py:healthy", "--budget", "5s", "--format", "json", "--out", "new/report.json")
    assert said.code == 0 and json.loads((folder / "new/report.json").read_text(encoding="utf-8"))["ok"] is True
    assert said.out == ""


def test_html_prints_where_it_lies(folder: Path) -> None:
    said = call("tasks.py:healthy", "--budget", "5s", "--format", "html", "--out", "page.html")
    assert said.code == 0 and said.out.strip() == "page.html" and (folder / "page.html").stat().st_size > 10_000


def test_a_module_in_this_folder(folder: Path) -> None:
    assert call("tasks:sick", "--budget", "5s", "--format", "json").code == 1


def test_the_seed_and_the_choice_of_causes_are_passed_on(folder: Path) -> None:
    told = call("tasks.py:sick", "--budget", "5", "--only", "labels-out-of-range", "--seed", "7", "--format", "json")
    assert json.loads(told.out)["faults"][0]["cause"] == "labels-out-of-range"
    assert "loss cannot take" in wrong("tasks.py:sick", "--budget", "5s", "--skip", "labels-out-of-range")


def test_as_a_program_in_a_pipe(folder: Path) -> None:
    """No escape codes, no progress, and the exit code reaches the shell."""
    environment = {**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    environment.pop("FORCE_COLOR", None)
    done = subprocess.run(
        [sys.executable, "-m", "runtrue", "check", "tasks.py:sick", "--budget", "5s"],
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 1 and "labels-out-of-range" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stderr == "" and "s left" not in done.stdout


def test_progress_goes_to_stderr_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    said = call("tasks.py:healthy", "--budget", "5s", "--format", "json")
    assert json.loads(said.out)["ok"] is True
    assert "left" in said.err


def test_list_and_explain(folder: Path) -> None:
    listed = call("--list")
    assert listed.code == 0
    assert [line.split()[0] for line in listed.out.splitlines()] == list(CHECKS)
    explained = call("--explain", "init-too-small")
    assert explained.code == 0 and explained.out.startswith(
        "init-too-small (initial weights)\n\nWeights start so small"
    )
    assert "Glorot and Bengio 2010" in explained.out
    assert "did you mean 'init-too-small'" in wrong("--explain", "init-to-small")
    assert "this version has no check for it" in wrong("--explain", "plateau")


# -- a wrong call


@pytest.mark.parametrize("target", ["tasks.py", ":healthy", "tasks.py:", "healthy"])
def test_a_target_without_a_name(folder: Path, target: str) -> None:
    assert "write file.py:name, package.module:name, or demo:NAME" in wrong(target)


def test_no_target(folder: Path) -> None:
    said = call()
    assert said.code == 2 and "name a target" in said.err


def test_a_file_that_is_not_there_or_a_folder(folder: Path) -> None:
    assert f"there is no file nowhere.py (looked in {folder})" in wrong("nowhere.py:task")
    (folder / "sub.py").mkdir()
    assert "it is a folder" in wrong("sub.py:task")


def test_a_module_that_is_not_there(folder: Path) -> None:
    assert "there is no module 'nowhere' (a file is written file.py:name)" in wrong("nowhere:task")
    assert "there is no module 'nowhere'" in wrong("nowhere.deep:task")


def test_a_module_that_imports_what_is_not_there(folder: Path) -> None:
    (folder / "wrong.py").write_text("import not_installed_anywhere\n", encoding="utf-8")
    message = wrong("wrong:task")
    assert "import not_installed_anywhere" in message and "No module named 'not_installed_anywhere'" in message


def test_a_name_that_is_not_there_lists_those_that_are(folder: Path) -> None:
    message = wrong("tasks.py:helthy")
    assert "tasks.py has no 'helthy'; did you mean 'healthy'? It has: " in message
    listed = message.split("It has: ")[1].strip().split(", ")
    assert {"healthy", "sick", "net", "broken"} <= set(listed) and not {"torch", "nn", "runtrue"} & set(listed)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("number", "tasks.py:number is an object of type int, not a Task or a function that returns one"),
        ("nn.Linear", "is the class Linear, not a Task"),
        ("nothing", "tasks.py:nothing returned an object of type int, not a Task"),
        ("needs", "must be a function without arguments: missing a required argument: 'argument'"),
        ("counted", "the task has no loss"),
    ],
)
def test_what_is_no_task(folder: Path, name: str, says: str) -> None:
    assert says in wrong(f"tasks.py:{name}")


@pytest.mark.parametrize("name", ["broken", "fails_in_forward"])
def test_a_failure_shows_the_users_own_line(folder: Path, name: str) -> None:
    message = wrong(f"tasks.py:{name}", "--budget", "5s")
    assert "# the user's own line" in message and "tasks.py" in message
    assert ("KeyError: 'b'" if name == "broken" else "undefined_name") in message


def test_a_file_that_cannot_be_read_as_python(folder: Path) -> None:
    (folder / "wrong.py").write_text("def task(:\n", encoding="utf-8")
    message = wrong("wrong.py:task")
    assert "wrong.py cannot be imported" in message and "SyntaxError" in message and "def task(:" in message


def test_a_file_that_ends_the_program(folder: Path) -> None:
    (folder / "ends.py").write_text("import sys\nsys.exit(3)\n", encoding="utf-8")
    assert "ended the program while it was imported (exit 3)" in wrong("ends.py:task")


def test_a_demo_that_is_not_there(folder: Path) -> None:
    assert "tanh-small-init" in wrong("demo:nothing")


@pytest.mark.parametrize("budget", ["soon", "", "0", "0s", "-3s", "10 parsecs", "nan"])
def test_a_budget_that_is_no_time(folder: Path, budget: str) -> None:
    assert f"the budget {budget!r} is no length of time" in wrong("tasks.py:healthy", f"--budget={budget}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("60", 60), ("60s", 60), ("1.5m", 90), (" 2 min ", 120), ("1h", 3600), (".5s", 0.5), ("5sec", 5)],
)
def test_a_budget_in_words(text: str, expected: float) -> None:
    assert checking.seconds(text) == expected


@pytest.mark.parametrize("option", ["--only", "--skip"])
def test_an_unknown_cause_names_the_nearest(folder: Path, option: str) -> None:
    message = wrong("tasks.py:healthy", option, "learning-rate-to-high")
    assert "'learning-rate-to-high'; did you mean 'learning-rate-too-high'?" in message


@pytest.mark.parametrize("form", ["text", "json", "html"])
def test_a_place_that_cannot_be_written(folder: Path, form: str) -> None:
    (folder / "file").write_text("in the way", encoding="utf-8")
    said = call("tasks.py:healthy", "--budget", "5s", "--format", form, "--out", "file/report")
    assert said.code == 2 and "file/report could not be written" in said.err and "--out" in said.err
    assert (folder / "file").read_text(encoding="utf-8") == "in the way"


def test_an_unknown_format_or_option(folder: Path) -> None:
    assert call("tasks.py:healthy", "--format", "pdf").code == 2
    assert call("tasks.py:healthy", "--bugdet", "5s").code == 2


def test_a_device_that_is_not_there(folder: Path) -> None:
    assert "cannot be moved to 'abacus'" in wrong("tasks.py:healthy", "--device", "abacus")
    assert call("tasks.py:healthy", "--device", "cpu", "--budget", "5s", "--format", "json").code == 0


def test_what_the_users_file_prints_does_not_mix_with_json(folder: Path) -> None:
    said = call("tasks.py:prints", "--budget", "5s", "--format", "json")
    assert json.loads(said.out)["ok"] is True and "the user's own words" in said.err
