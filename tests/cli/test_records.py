"""`runtrue report`, `compare` and `serve` as commands: what they write, and what they answer."""

from __future__ import annotations

import json
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runtrue.cli import records

sys.path.insert(0, str(Path(__file__).parents[1] / "watch"))
import watched


def test_report_writes_the_page_beside_the_record_and_answers_by_the_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watched.healthy(tmp_path / "well")
    watched.faulty(tmp_path / "ill")
    assert records.report(tmp_path / "well", "html", None) == 0
    assert capsys.readouterr().out == f"0 faults, 0 of less weight; written: {tmp_path / 'well' / 'watch.html'}\n"
    assert records.report(tmp_path / "ill" / "watch.sqlite", "html", tmp_path / "new" / "page.html") == 1
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "step 40: fault diverging in step 41: the loss has been no number since step 41"
    assert said[-1] == f"1 fault, 2 of less weight; written: {tmp_path / 'new' / 'page.html'}"
    assert "<title>ill</title>" in (tmp_path / "new" / "page.html").read_text()


@pytest.mark.parametrize("form", ["json", "csv"])
def test_report_writes_other_forms(form: str, tmp_path: Path) -> None:
    watched.healthy(tmp_path)
    assert records.report(tmp_path, form, None) == 0
    assert (tmp_path / f"watch.{form}").stat().st_size > 1000


def test_report_of_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert records.report(tmp_path, "html", None) == 2
    assert (
        "watch.sqlite does not exist: `runtrue.watch(model, optimizer, run=FOLDER)` writes it"
        in capsys.readouterr().err
    )
    (tmp_path / "watch.sqlite").write_bytes(b"no database" * 100)
    assert records.report(tmp_path, "html", None) == 2
    assert "is no record of a run: file is not a database" in capsys.readouterr().err


def test_compare_names_runs_by_their_folders_or_by_whole_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a/run", "b/run", "b/other"):
        watched.healthy(tmp_path / name)
    out = tmp_path / "compare.html"
    assert records.compare([tmp_path / "a/run", tmp_path / "b/other"], out) == 0
    assert "<title>run and other</title>" in out.read_text()
    assert records.compare([tmp_path / "a/run", tmp_path / "b/run"], out) == 0
    assert f"{tmp_path}/a/run and {tmp_path}/b/run" in out.read_text()
    assert capsys.readouterr().out.splitlines() == [f"written: {out}"] * 2


def test_compare_needs_two_runs_that_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert records.compare([tmp_path], None) == 2
    assert records.compare([tmp_path, tmp_path / "b"], None) == 2
    one, other = capsys.readouterr().err.splitlines()
    assert "compare needs two runs at least" in one and "does not exist" in other


def test_serve_without_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked: dict[str, Any] = {"uvicorn": None}
    for name, module in blocked.items():
        monkeypatch.setitem(sys.modules, name, module)
    assert records.serve(tmp_path, "127.0.0.1", 0) == 2
    assert capsys.readouterr().err == "runtrue: serve needs starlette and uvicorn: pip install 'runtrue[serve]'\n"


def test_serve_of_what_is_no_folder_and_on_a_port_that_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("uvicorn")
    assert records.serve(tmp_path / "none", "127.0.0.1", 0) == 2
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert records.serve(tmp_path, "127.0.0.1", port) == 2
    one, other = capsys.readouterr().err.splitlines()
    assert "none is no folder" in one
    assert other.startswith(f"runtrue: cannot listen on 127.0.0.1, port {port}: ") and other.endswith(
        "--port takes another"
    )


def test_the_json_of_a_record_is_versioned(tmp_path: Path) -> None:
    watched.healthy(tmp_path)
    records.report(tmp_path, "json", None)
    assert json.loads((tmp_path / "watch.json").read_text())["schema"] == 1


@pytest.mark.parametrize("table", ["names", "readings", "verdicts"])
def test_a_record_that_lacks_a_table_is_an_error_in_a_line(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = watched.healthy(tmp_path / "cut")
    with closing(sqlite3.connect(made.path)) as db:
        db.execute(f"drop table {table}")
    assert records.report(tmp_path / "cut", "html", None) == 2
    assert capsys.readouterr().err == f"runtrue: {made.path} is no record of a run: no such table: {table}\n"
