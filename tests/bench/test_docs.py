"""The guide says what is so: its code runs, its JSON has the keys of a real report, its options and numbers exist."""

from __future__ import annotations

import inspect
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import typer

import runtrue
from runtrue import demos, settings
from runtrue.checks import CHECKS
from runtrue.cli.app import CheckFormat, RecordFormat, app
from runtrue.diagnosis import limits
from runtrue.findings import CAUSES
from runtrue.pytest_plugin import Gate
from runtrue.watch.record import SCHEMA, Recorder

DOCS = Path(__file__).parents[2] / "docs"


def text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["index.md", "check.md", "lab.md", "train.md", "watch.md"])
def test_python_blocks_run_in_their_order(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "docs"}
    found = blocks(page, "python")
    assert found
    for number, block in enumerate(found, 1):
        exec(compile(block, f"docs/{page}, block {number}", "exec"), names)


def test_the_json_of_the_guide_has_the_keys_of_a_real_report() -> None:
    (block,) = blocks("check.md", "json")
    shown = json.loads(block)
    real = runtrue.check(demos.load("tanh-small-init"), budget=20).to_dict()
    assert real["schema"] == shown["schema"]
    same_keys(shown, real, "report")


def same_keys(shown: Any, real: Any, place: str) -> None:
    """Evidence may be cut short in the guide; everything else has the same keys at every level."""
    if isinstance(shown, dict):
        missing = set(shown) - set(real) if "evidence" in place else set(shown) ^ set(real)
        assert not missing, f"{place}: {missing}"
        for key, value in shown.items():
            same_keys(value, real[key], f"{place}.{key}")
    elif isinstance(shown, list) and shown:
        assert real, f"{place} is empty"
        same_keys(shown[0], real[0], f"{place}[0]")
    else:
        assert real is None or isinstance(real, type(shown)) or isinstance(shown, (int, float)), place


def test_options_and_formats_exist() -> None:
    group: Any = typer.main.get_command(app)
    for page in ("index.md", "check.md", "lab.md", "gates.md"):
        for line in "".join(blocks(page, "console")).splitlines():
            command, *words = line.removeprefix("$ runtrue ").split()
            options = {option for parameter in group.commands[command].params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= options, line
    table = text("check.md").split("| option | meaning |")[1].split("\n\n")[0]
    of_check = {option for parameter in group.commands["check"].params for option in parameter.opts}
    assert set(re.findall(r"`(--[a-z]+)`", table)) == {o for o in of_check if o.startswith("--")} - {"--help"}
    assert re.findall(r"`([a-z]+)`", table.split("| `--format` |")[1].splitlines()[0]) == [f.value for f in CheckFormat]


def test_what_the_page_on_watching_lists_exists(tmp_path: Path) -> None:
    page = text("watch.md")
    group: Any = typer.main.get_command(app)
    for line in re.findall(r"^\$ runtrue (.*)$", page, re.MULTILINE):
        assert line.split()[0] in group.commands
    assert set(re.findall(r"`(--[a-z]+)[ `]", page.split("## Live")[1])) <= {
        p.opts[0] for p in group.commands["serve"].params
    }
    forms = re.findall(r"^\| `([a-z]+)` \|", page.split("| `--format` |")[1].split("\n\n")[0], re.MULTILINE)
    assert forms == [form.value for form in RecordFormat]
    table = page.split("| where | causes |")[1].split("\n\n")[0]
    judges = "".join(
        file.read_text(encoding="utf-8") for file in Path(inspect.getfile(Recorder)).parent.glob("*_judges.py")
    )
    said = {cause for causes in CAUSES.values() for cause in causes if f'"{cause}"' in judges}
    assert set(re.findall(r"`([a-z]+(?:-[a-z]+)*)`", table)) == said


def test_the_schema_of_the_guide_is_that_of_a_record(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "watch.sqlite")
    rows = re.findall(r"^\| `([a-z]+)` \| (.*?) \|", text("watch.md").split("| table | columns |")[1], re.MULTILINE)
    for table, columns in rows:
        real = [row[1] for row in recorder.db.execute(f"pragma table_info({table})")]
        assert re.findall(r"`([a-z]+)`", columns) == real, table
    tables = {name for (name,) in recorder.db.execute("select name from sqlite_master where type = 'table'")}
    recorder.close()
    assert {table for table, _ in rows} == tables and f"schema {SCHEMA}." in text("watch.md")


def test_the_tests_of_the_page_on_gates_pass(tmp_path: Path) -> None:
    names: dict[str, Any] = {"__name__": "docs"}
    (block,) = blocks("gates.md", "python")
    exec(compile(block, "docs/gates.md", "exec"), names)
    tests = [name for name in names if name.startswith("test_")]
    assert len(tests) == 2
    for name in tests:
        names[name](Gate(tmp_path, name))


def test_the_commands_of_the_page_on_gates_exist(tmp_path: Path) -> None:
    group: Any = typer.main.get_command(app)
    options = {option for parameter in group.commands["check"].params for option in parameter.opts}
    commands = re.findall(r"runtrue check (\S+:\S+.*)", "".join(blocks("gates.md", "yaml")))
    assert len(commands) == 2
    for command in commands:
        target, *words = command.split()
        assert target == "train.py:task" and {word for word in words if word.startswith("--")} <= options
        assert words[words.index("--format") + 1] in [f.value for f in CheckFormat]
    (silencing,) = blocks("gates.md", "toml")
    (tmp_path / "pyproject.toml").write_text(silencing, encoding="utf-8")
    assert settings.nearest(tmp_path).skip == ("dead-units",)


def test_numbers_are_those_of_the_code() -> None:
    guide = " ".join(text("check.md").split())
    ceiling, gain = limits.CEILING, limits.GAIN
    for said in (
        f"At a skill of {limits.SOUND:g} (or {100 * limits.LEARNED:.0f} % of that loss) the network trains",
        f"up to a skill of {ceiling['fit']:g}, what is seen in the size of a number up to {ceiling['scale']:g}",
        f"and a learning rate up to {ceiling['rate']:g}",
        f"must add {gain['fit']:g}, {gain['scale']:g} or {gain['rate']:g} to the skill",
        f"leave at most {100 * limits.REMAINS:.0f} % of what was missing",
        f"fewer than {limits.FEW_ROWS} examples",
        f"no more than {100 * limits.WHOLE_SHARE:.0f} % of it is trained as a whole",
        f"may take {100 * limits.TRIAL_SHARE:.0f} % of it: at least {limits.LEAST_STEPS} steps, as a rule {limits.FEW_STEPS}",
    ):
        assert said in guide, said


def test_the_page_of_causes_names_every_check_once() -> None:
    page = "\n".join(runpy.run_path(str(DOCS / "hooks.py"))["causes"]())
    assert re.findall(r"^### `(.*)`$", page, re.MULTILINE) == list(CHECKS)
    assert page.count("*Remed") == len(CHECKS)
