"""`[tool.runtrue]` in pyproject.toml: which file counts, what it may say, and what is said of a wrong one."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from runtrue.checks import CHECKS
from runtrue.settings import Settings, choice, nearest, read


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def project(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder / "pyproject.toml"


SKIPS = '[tool.runtrue]\nskip = ["dead-units", "plateau", "dead-units"]\n'


def test_the_nearest_file_upwards_decides(folder: Path) -> None:
    outer = project(folder, SKIPS)
    deep = folder / "a/b/c"
    deep.mkdir(parents=True)
    assert nearest(deep) == Settings(("dead-units", "plateau"), outer)
    assert nearest(deep / "train.py") == nearest(deep), "a file counts as its folder, whether or not it is there"
    inner = project(folder / "a/b", "[project]\nname = 'other'\n")
    assert nearest(deep) == Settings((), inner), "also if it says nothing of runtrue"
    (folder / "a/b/c/pyproject.toml").mkdir()
    assert nearest(deep).file == inner, "a folder of that name is no file"


def test_a_link_counts_where_it_leads(folder: Path) -> None:
    project(folder / "real", SKIPS)
    project(folder / "linked", "")
    (folder / "real/train.py").write_text("", encoding="utf-8")
    (folder / "linked/train.py").symlink_to(folder / "real/train.py")
    assert nearest(folder / "linked/train.py").file == (folder / "real/pyproject.toml").resolve()


def test_no_file_at_all() -> None:
    assert nearest(Path(os.path.abspath(os.sep))) == Settings()


@pytest.mark.parametrize(
    "text", ["", "[project]\nname = 'x'\n", "[tool]\n", "[tool.runtrue]\n", "[tool.runtrue]\nskip = []\n"]
)
def test_nothing_to_skip(folder: Path, text: str) -> None:
    assert read(project(folder, text)).skip == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[tool.runtrue]\nskip = ["dead-unit"]\n', "skip: unknown cause id 'dead-unit'; did you mean 'dead-units'?"),
        ('[tool.runtrue]\nskip = "dead-units"\n', "such as [\"class-imbalance\"], not the text 'dead-units'"),
        ("[tool.runtrue]\nskip = true\n", "skip must be a list of cause ids, such as [\"class-imbalance\"], not True"),
        ('[tool.runtrue]\nskip = ["dead-units", 3]\n', "it holds the number 3"),
        ('[tool.runtrue]\nskip = [["dead-units"]]\n', "it holds the list ['dead-units']"),
        ("[tool.runtrue]\nskip = {a = 1}\n", "not the table {'a': 1}"),
        ('[tool.runtrue]\nskips = ["dead-units"]\n', "has a key 'skips' that runtrue does not know; did you mean 'skip'?"),
        ("[tool.runtrue]\nbudget = 3\n", "has a key 'budget' that runtrue does not know; it takes skip"),
        ("[tool]\nruntrue = 3\n", "'runtrue' of [tool.runtrue] must be a table, not the number 3"),
        ("tool = 'x'\n", "'tool' of [tool.runtrue] must be a table, not the text 'x'"),
        ("[[tool.runtrue]]\n", "must be a table, not the list [{}]"),
        ("[tool.runtrue\n", "cannot be read as TOML: Expected ']'"),
        ('a = 1\na = 2\n', "cannot be read as TOML: Cannot overwrite a value"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named_in_one_line(folder: Path, text: str, says: str) -> None:
    project(folder, text)
    with pytest.raises(ValueError) as caught:
        nearest(folder)
    message = str(caught.value)
    assert message.startswith("pyproject.toml") and says in message and len(message.splitlines()) == 1


def test_a_file_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project(folder / "sub", "")
    file.write_bytes(b"# caf\xe9\n")
    with pytest.raises(ValueError, match=r"^sub.pyproject\.toml cannot be read as TOML: 'utf-8' codec can't decode"):
        read(file.resolve())

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(ValueError, match=r"^sub.pyproject\.toml cannot be read: Permission denied$"):
        read(file.resolve())


def test_a_file_elsewhere_is_named_in_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project(folder / "here", "[tool.runtrue\n").resolve()
    (folder / "there").mkdir()
    monkeypatch.chdir(folder / "there")
    with pytest.raises(ValueError) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file} cannot be read as TOML")


def test_before_python_3_11_tomli_reads_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = project(folder, SKIPS)
    real = importlib.import_module

    def without_tomllib(name: str, *rest: Any) -> Any:
        if name == "tomllib":
            raise ModuleNotFoundError("No module named 'tomllib'", name=name)
        return real(name, *rest)

    monkeypatch.setattr("runtrue.settings.importlib.import_module", without_tomllib)
    monkeypatch.setitem(sys.modules, "tomli", real("tomllib" if sys.version_info >= (3, 11) else "tomli"))
    assert read(file).skip == ("dead-units", "plateau")
    monkeypatch.setitem(sys.modules, "tomli", None)  # as if it were not installed
    with pytest.raises(
        ValueError, match=r"cannot be read as TOML: it cannot be read before Python 3.11 without tomli: pip install"
    ):
        read(file)


# -- what a check looks for


def test_file_and_call_are_joined(folder: Path) -> None:
    settings = Settings(("dead-units", "plateau"), project(folder, SKIPS).resolve())
    made = choice((), "init-symmetric", settings)
    assert made.silenced == {"init-symmetric": "--skip", "dead-units": "pyproject.toml"}, (
        "plateau has no check to silence"
    )
    assert set(made.causes) == set(CHECKS) - {"dead-units", "init-symmetric"}
    assert set(made.skip) == {"dead-units", "plateau", "init-symmetric"} and made.only == ()
    assert list(made.causes) == [cause for cause in CHECKS if cause in made.causes]


def test_what_the_call_asks_for_by_name_is_looked_for(folder: Path) -> None:
    settings = Settings(("dead-units", "init-symmetric"), project(folder, "").resolve())
    made = choice(iter(["dead-units"]), iter(()), settings)
    assert made.causes == ("dead-units",) == made.only and made.skip == ("init-symmetric",) and made.silenced == {}


def test_a_check_that_would_look_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is left to look for: only names plateau "):
        choice("plateau", (), Settings())
    with pytest.raises(ValueError, match="only names dead-units and skip takes away dead-units"):
        choice(["dead-units"], ["dead-units"], Settings())
    with pytest.raises(ValueError, match="nothing is left to look for: every cause is asked for and skip takes away"):
        choice((), list(CHECKS), Settings())


def test_unknown_ids_of_the_call() -> None:
    with pytest.raises(ValueError, match="unknown cause id 'dead-unit'; did you mean 'dead-units'"):
        choice(["dead-unit"], (), Settings())
    with pytest.raises(ValueError, match="unknown cause id 'dead-unit'; did you mean 'dead-units'"):
        choice((), ["dead-unit"], Settings())
