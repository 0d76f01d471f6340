"""`runtrue check` as it is typed: exit codes, what goes to stdout and what to stderr, and what is said of a wrong call."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest
from typer.testing import CliRunner

import runtrue
from runtrue.budget import Say
from runtrue.checks import CHECKS
from runtrue.cli import causes, checking
from runtrue.cli.app import app, main
from runtrue.findings import STAGE_OF

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

def leaves():
    raise SystemExit(0)

def leaves_while_trained():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 2)
        def forward(self, x):
            raise SystemExit(0)
    return make(y).replace(model=Net())
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


@pytest.mark.parametrize(("name", "code"), [("healthy", 0), ("sick", 1)])
def test_a_reader_that_has_seen_enough_changes_nothing(folder: Path, name: str, code: int) -> None:
    """As with `runtrue check … | head`: the exit code and the page are those of the check."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "runtrue", "check", f"tasks.py:{name}", "--budget", "3s", "--out", "page.html"]
    with open(write, "w", encoding="utf-8") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (code, "")
    assert Path("page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_progress_goes_to_stderr_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    said = call("tasks.py:healthy", "--budget", "5s", "--format", "json")
    assert json.loads(said.out)["ok"] is True
    assert "left" in said.err


# -- the causes


def test_list_names_every_id_once_under_its_stage(folder: Path) -> None:
    listed = call("--list")
    assert listed.code == 0
    stage, under = "", {}
    for line in listed.out.splitlines():
        if line and not line.startswith(" "):
            stage = line
        elif line.split() and line.split()[0] in CHECKS:
            under[line.split()[0]] = stage
            assert line.endswith(CHECKS[line.split()[0]].meaning)
    assert list(under) == list(CHECKS) and under == {cause: known.stage for cause, known in CHECKS.items()}
    running = " ".join(listed.out.split("found only during a run")[1].split("\n\n")[0].split())
    assert "diverging, plateau, oscillating" in running and "underfitting" not in running
    words = re.findall(r"[a-z][a-z-]+[a-z]", listed.out)
    assert all(cause in words for cause in STAGE_OF), "ids without a check are named as well"


def test_explain_measures_the_sick_and_the_healthy(folder: Path) -> None:
    said = call("--explain", "labels-out-of-range")
    assert said.code == 0 and said.err == ""
    expected = [
        "labels-out-of-range\nstage: data\n\n", "A label names a class that the outputs do not have",
        "Cross-entropy over C outputs takes labels 0", "Sick", "demo:labels-from-one: Labels 1 … 10 for ten outputs.",
        "labels run from 1 to 10, but the network has 10 outputs", "highest  10", "outputs  10",
        "Healthy", "demo:healthy-mlp", "the judge is silent", "Side by side", "sick  healthy", "targets, smallest",
        "Remedy", "Labels 1 … C become 0 … C-1", "Source", "runtrue/checks/data.py",
    ]  # fmt: skip
    places = [said.out.index(words) for words in expected]
    assert places == sorted(places)
    assert re.search(r"targets, smallest +1 +0\n", said.out)
    assert not any(line != line.rstrip() or len(line) > 100 for line in said.out.splitlines())


def test_explain_draws_the_layers_of_both(folder: Path) -> None:
    out = call("--explain", "init-symmetric").out
    sick, fine = out.split("\n  Healthy\n")
    assert "Both must hold: equal incoming weights" in sick and "(N1.2)" in sick
    assert "linear1" in sick and "linear1" in fine and "linear10" in fine


def test_the_line_of_the_judge_is_right() -> None:
    for known in CHECKS.values():
        file, line = causes.source(known).split(", line ")
        source = (Path(runtrue.__file__).parents[1] / file).read_text(encoding="utf-8").splitlines()
        assert f'"{known.cause}"' in "".join(source[int(line) - 1 : int(line) + 4]), known.cause


def test_explain_of_what_has_no_check_says_what_covers_it(folder: Path) -> None:
    assert "did you mean 'init-too-small'" in wrong("--explain", "init-to-small")
    assert "unknown cause id ''" in wrong("--explain", "")
    message = wrong("--explain", "plateau")
    assert "plateau is found only during a run, not by a check before it" in message
    assert "the nearest that are looked for: learning-rate-too-high" in message
    free = [cause for cause in STAGE_OF if cause not in CHECKS and STAGE_OF[cause] != "during a run"]
    for cause in free[:1]:
        assert f"{cause} is a known cause, but this version has no check for it; " in wrong("--explain", cause)
    assert set(causes.NEAREST) | {near for ids in causes.NEAREST.values() for near in ids} <= set(STAGE_OF)


# -- forms for gates


def test_junit_is_all_that_is_on_stdout(folder: Path) -> None:
    said = call("tasks.py:sick", "--budget", "5s", "--format", "junit")
    root = fromstring(said.out)
    cases = {case.attrib["name"]: case for case in root.iter("testcase")}
    assert said.code == 1 and list(cases) == list(CHECKS)
    assert [name for name, case in cases.items() if case.find("failure") is not None] == ["labels-out-of-range"]
    line = TASKS.splitlines().index("sick = make(y + 1)") + 1
    assert (cases["dead-units"].attrib["file"], cases["dead-units"].attrib["line"]) == ("tasks.py", str(line))
    assert not (folder / "runtrue-report.html").exists()


def test_sarif_to_a_file(folder: Path) -> None:
    said = call("tasks.py:sick", "--budget", "5s", "--format", "sarif", "--out", "new/runtrue.sarif")
    (run,) = json.loads((folder / "new/runtrue.sarif").read_text(encoding="utf-8"))["runs"]
    assert said.code == 1 and said.out == ""
    (result,) = run["results"]
    assert (result["ruleId"], result["level"]) == ("labels-out-of-range", "error")
    region = result["locations"][0]["physicalLocation"]["region"]
    assert TASKS.splitlines()[region["startLine"] - 1] == "sick = make(y + 1)"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == list(CHECKS)
    assert run["tool"]["driver"]["version"] == runtrue.__version__


def test_the_cured_copy_is_a_second_suite_and_a_property(folder: Path) -> None:
    root = fromstring(call("tasks.py:sick", "--budget", "5s", "--fix", "--format", "junit").out)
    assert [(s.attrib["name"], s.attrib["failures"]) for s in root] == [
        ("tasks.py:sick", "1"),
        ("tasks.py:sick after the cure", "0"),
    ]
    log = json.loads(call("tasks.py:sick", "--budget", "5s", "--fix", "--format", "sarif").out)
    assert log["runs"][0]["properties"]["afterTheCure"] == {"ok": True, "faults": []}


def test_only_the_causes_asked_for_are_cases(folder: Path) -> None:
    said = call(
        "tasks.py:healthy", "--budget", "3s", "--only", "dead-units", "--only", "init-symmetric", "--format", "junit"
    )
    assert said.code == 0
    assert [case.attrib["name"] for case in fromstring(said.out).iter("testcase")] == ["init-symmetric", "dead-units"]


# -- silencing


def silence(folder: Path, *ids: str) -> None:
    (folder / "pyproject.toml").write_text(f"[tool.runtrue]\nskip = {json.dumps(ids)}\n", encoding="utf-8")


def test_a_skip_in_pyproject_counts_for_a_file_below_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silence(folder, "labels-out-of-range", "dead-units")
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert "loss cannot take" in wrong(
        "../tasks.py:sick", "--budget", "5s"
    )  # the cause is not looked for: only the error is left
    said = call("../tasks.py:healthy", "--budget", "3s", "--skip", "init-symmetric", "--format", "junit")
    root = fromstring(said.out)
    told = {entry.attrib["name"]: entry.attrib["value"] for entry in root.iter("property")}
    assert told["not looked for: dead-units"] == str((folder / "pyproject.toml").resolve())
    assert told["not looked for: init-symmetric"] == "--skip"
    skipped = {"labels-out-of-range", "dead-units", "init-symmetric"}
    assert {case.attrib["name"] for case in root.iter("testcase")} == set(CHECKS) - skipped


def test_a_skip_in_pyproject_counts_for_modules_in_the_current_folder(folder: Path) -> None:
    silence(folder, "labels-out-of-range")
    assert "loss cannot take" in wrong("tasks:sick", "--budget", "5s")


def test_the_text_says_what_was_not_looked_for(folder: Path) -> None:
    silence(folder, "dead-units")
    said = call("tasks.py:healthy", "--budget", "3s", "--skip", "init-symmetric")
    assert said.code == 0 and "\nnot looked for: init-symmetric (--skip), dead-units (pyproject.toml)\n" in said.out


def test_what_is_asked_for_by_name_is_looked_for_all_the_same(folder: Path) -> None:
    silence(folder, "labels-out-of-range")
    said = call("tasks.py:sick", "--budget", "5s", "--only", "labels-out-of-range", "--format", "json")
    assert said.code == 1 and json.loads(said.out)["faults"][0]["cause"] == "labels-out-of-range"


def test_a_cause_that_is_silenced_is_neither_a_finding_nor_treated(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    @contextmanager
    def recorded() -> Iterator[Say]:
        yield lambda what, left: tried.append(what)

    monkeypatch.setattr(checking, "progress", recorded)
    found = call("demo:rate-too-high", "--budget", "10s", "--format", "json")
    assert found.code == 1 and json.loads(found.out)["faults"][0]["cause"] == "learning-rate-too-high"
    assert any("learning-rate-too-high" in what for what in tried)
    tried.clear()
    silence(folder, "learning-rate-too-high")
    said = call("demo:rate-too-high", "--budget", "10s", "--format", "json")
    assert said.code != 2 and "learning-rate-too-high" not in said.out
    assert tried and not any("learning-rate-too-high" in what for what in tried)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[tool.runtrue]\nskip = ["init-to-small"]\n',
            "pyproject.toml: [tool.runtrue] skip: unknown cause id 'init-to",
        ),
        ("[tool.runtrue\n", "pyproject.toml cannot be read as TOML: "),
        ("[tool.runtrue]\nskip = 3\n", "pyproject.toml: [tool.runtrue] skip must be a list of cause ids"),
    ],
)
def test_a_wrong_pyproject_is_named_before_the_target_is_run(folder: Path, text: str, says: str) -> None:
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    for target in ("tasks.py:prints", "demo:healthy-mlp"):
        message = wrong(target)
        assert says in message and len(message.splitlines()) == 1 and "own words" not in message


def test_a_gate_that_looks_for_nothing_is_a_wrong_call(folder: Path) -> None:
    assert "nothing is left to look for: only names plateau" in wrong("tasks.py:healthy", "--only", "plateau")


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
        (
            "number",
            "tasks.py:number is an object of type int, not a Task, a LightningModule or a function that returns one",
        ),
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


@pytest.mark.parametrize(
    ("form", "begins"),
    [("text", "tasks.py:"), ("html", "tasks.py:"), ("json", "{"), ("junit", "<?xml"), ("sarif", "{")],
)
def test_a_place_that_cannot_be_written_does_not_lose_the_report(folder: Path, form: str, begins: str) -> None:
    (folder / "file").write_text("in the way", encoding="utf-8")
    said = call("tasks.py:sick", "--budget", "5s", "--format", form, "--out", "file/report")
    assert said.code == 2 and "file/report could not be written" in said.err and "--out" in said.err
    assert len(said.err.splitlines()) == 1 and said.out.startswith(begins) and "labels-out-of-range" in said.out
    assert (folder / "file").read_text(encoding="utf-8") == "in the way"


def test_an_unknown_format_or_option(folder: Path) -> None:
    assert call("tasks.py:healthy", "--format", "pdf").code == 2
    assert call("tasks.py:healthy", "--bugdet", "5s").code == 2


def test_a_device_that_is_not_there(folder: Path) -> None:
    assert "cannot be moved to 'abacus'" in wrong("tasks.py:healthy", "--device", "abacus")
    assert call("tasks.py:healthy", "--device", "cpu", "--budget", "5s", "--format", "json").code == 0


def test_a_target_that_ends_the_program_is_no_pass(folder: Path) -> None:
    assert "tasks.py:leaves ended the program (exit 0) instead of returning a Task" in wrong("tasks.py:leaves")
    assert "ended the program while it was checked (exit 0)" in wrong("tasks.py:leaves_while_trained", "--budget", "3s")


def test_a_failure_of_our_own_is_no_fault_of_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would end with 1, which a gate takes for a fault."""

    def fails(*_: object, **__: object) -> None:
        raise KeyError("out of\norder")

    for place in ("runtrue.diagnosis.check", "runtrue.cli.checking.print_report"):
        with monkeypatch.context() as patched:
            patched.setattr(place, fails)
            said = call("tasks.py:healthy", "--budget", "3s")
        assert said.code == 2 and len(said.err.splitlines()) == 1
        assert "the check itself failed, which is an error in runtrue: KeyError: " in said.err
        assert "(test_check.py, line " in said.err and "in fails)" in said.err


def test_a_reader_that_leaves_early_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `runtrue check … | head -1`: the exit code is the report's, and nobody complains."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", pipe)
        options = checking.Options("tasks.py:sick", "5s", (), (), False, "json", None, 0, None)
        assert checking.run(options) == 1


def test_a_console_that_lacks_characters_shows_question_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    console = io.TextIOWrapper(raw, encoding="ascii")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", console)
        patched.setattr(sys, "argv", ["runtrue", "check", "--list"])
        with pytest.raises(SystemExit) as ended:
            main()
    console.flush()
    assert not ended.value.code and b"lies outside 0 ? 1." in raw.getvalue()


def test_what_the_users_file_prints_does_not_mix_with_json(folder: Path) -> None:
    said = call("tasks.py:prints", "--budget", "5s", "--format", "json")
    assert json.loads(said.out)["ok"] is True and "the user's own words" in said.err
