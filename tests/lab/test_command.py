"""`runtrue lab`: what is left out on the command line is the experiment's own setting, not another experiment's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from runtrue import lab
from runtrue.cli.app import app
from runtrue.lab.experiment import Experiment


def call(*words: str) -> Any:
    return CliRunner().invoke(app, ["lab", *words])


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings with which an experiment was run last; none is really run."""
    seen: dict[str, Any] = {}

    def run(name: str, **settings: Any) -> Experiment:
        seen.clear()
        seen.update(name=name, **settings)
        return Experiment(name, "T", "c", (), settings, {})

    monkeypatch.setattr(lab, "run", run)
    return seen


def test_every_experiment_is_listed_with_its_claim() -> None:
    lines = call().output.splitlines()
    assert [line.split()[0] for line in lines] == list(lab.EXPERIMENTS) and "penalty" in lab.EXPERIMENTS
    assert all(claim in line for line, claim in zip(lines, lab.EXPERIMENTS.values()))


def test_only_what_is_given_is_passed_on(given: dict[str, Any]) -> None:
    assert call("penalty", "--format", "json").exit_code == 0
    assert given == {"name": "penalty"}
    assert (
        call("init", "--format", "json", "--seeds", "1", "--data", "gaussian", "--depth", "2", "--width", "8").exit_code
        == 0
    )
    assert given == {"name": "init", "seeds": 1, "data": "gaussian", "depth": 2, "width": 8}


def test_a_real_run_as_json(tmp_path: Path) -> None:
    out = tmp_path / "new" / "penalty.json"
    found = call("penalty", "--seeds", "1", "--depth", "1", "--width", "4", "--format", "json", "--out", str(out))
    assert found.exit_code == 0, found.output
    said = json.loads(out.read_text(encoding="utf-8"))
    assert said["settings"]["data"] == "fashion-mnist" and said["settings"]["width"] == 4


@pytest.mark.parametrize(
    "words",
    [("learning-rates", "--depth", "0"), ("rates",), ("penalty", "--data", "mnist"), ("init", "--format", "junit")],
)
def test_a_wrong_call_has_exit_code_2(words: tuple[str, ...]) -> None:
    assert call(*words).exit_code == 2
