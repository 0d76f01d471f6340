"""The README's code runs, in its order, in an empty folder, and prints what stands beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from runtrue.cli.app import app

README = Path(__file__).parents[1] / "README.md"
PROMISED = re.compile(r"^print\(.*\)\s+# (init-too-small|True)$", re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_first_python_line_stands_within_the_first_fifteen() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert lines.index("```python") + 1 < 15


def test_the_python_blocks_run_and_print_what_they_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "readme"}
    for number, block in enumerate(blocks("python"), 1):
        exec(compile(block, f"README.md, block {number}", "exec"), names)
    promised = [line for block in blocks("python") for line in PROMISED.findall(block)]
    assert promised == ["init-too-small", "True", "True"]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "init-too-small" and printed[-1] == "True"
    assert "nn.init.xavier" in "\n".join(printed)


def test_the_commands_name_options_that_there_are() -> None:
    group: Any = typer.main.get_command(app)
    for line in "".join(blocks("bash")).splitlines():
        if line.startswith("runtrue "):
            command, *words = line.split("#")[0].split()[1:]
            options = {option for parameter in group.commands[command].params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= options
