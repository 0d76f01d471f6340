"""Where a target stands: the line that makes it, and a path that CI systems understand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runtrue.cli.places import find, folder_of, line_of

SOURCE = """\
import os.path as where, json
from tasks import one as task_one

task = None

def build():
    def inner():
        return 1
    return inner

if True:
    try:
        late: int = 3
    except ValueError:
        late = 4
    finally:
        with open(os.devnull) as handle:
            first, (second, *rest) = 1, (2, 3)

class Tasks:
    size = 3

    class Deep:
        @staticmethod
        def task():
            return None

    def build(self):
        return None

@where
def decorated():
    return None

for task in range(3):
    pass

async def awaited(): ...

match 3:
    case 3:
        matched = 1

while True:
    break
else:
    ended = 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "made.py"
    made.write_text(SOURCE, encoding="utf-8")
    return made


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("build", "def build():"),
        ("late", "        late = 4"),
        ("first", "            first, (second"),
        ("rest", "            first, (second"),
        ("Tasks", "class Tasks"),
        ("Tasks.size", "    size = 3"),
        ("Tasks.build", "    def build(self)"),
        ("Tasks.Deep.task", "        def task()"),
        ("Tasks.unknown", "class Tasks"),
        ("decorated", "def decorated"),
        ("task", "for task in range"),  # what is assigned last is what the target names
        ("task.x", "for task in range"),
        ("awaited", "async def"),
        ("matched", "        matched = 1"),
        ("ended", "    ended = 1"),
        ("task_one", "from tasks import one"),
        ("where", "import os.path"),
    ],
)
def test_the_line_that_makes_a_name(file: Path, name: str, begins: str) -> None:
    assert SOURCE.splitlines()[line_of(file, name) - 1].startswith(begins)


@pytest.mark.parametrize("name", ["inner", "nowhere", "unknown.build"])
def test_a_name_that_is_not_made_at_a_place_of_its_own(file: Path, name: str) -> None:
    assert line_of(file, name) == 1


def test_a_file_that_is_no_python(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    for content in (b"def task(:\n", b"\x00", b"# coding: nothing-known\n", b"a = '\xff'\n"):
        broken.write_bytes(content)
        assert line_of(broken, "task") == 1
    assert line_of(tmp_path / "nowhere.py", "task") == 1
    broken.write_bytes("# -*- coding: latin-1 -*-\nname = 'é'\ntask = 1\n".encode("latin-1"))
    assert line_of(broken, "task") == 3


def test_paths_are_relative_to_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "repository/src"
    inside.mkdir(parents=True)
    (inside / "my.py").write_text("\ntask = 1\n", encoding="utf-8")
    monkeypatch.chdir(inside)
    assert find("my.py:task") == ("my.py", 2), "without a repository: to the current folder"
    (tmp_path / "repository/.git").write_text("gitdir: elsewhere\n", encoding="utf-8")  # as in a worktree
    assert find("my.py:task") == find("../src/my.py:task") == find(f"{inside / 'my.py'}:task") == ("src/my.py", 2)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "repository/.git").unlink()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert find("../repository/src/my.py:task") == (str((inside / "my.py").resolve()), 2)


def test_modules_demos_and_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "placed_module.py").write_text("\n\ntask = 1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert find("placed_module:task") == ("", 1), "not loaded yet"
    __import__("placed_module")
    assert find("placed_module:task") == ("placed_module.py", 3)
    monkeypatch.delitem(sys.modules, "placed_module")
    for target in ("demo:healthy-mlp", "nowhere.py:task", "sys:path"):
        assert find(target) == ("", 1)


def test_settings_are_looked_for_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert folder_of("sub/train.py:task") == (tmp_path / "sub").resolve()
    assert folder_of("train.py:task").resolve() == folder_of("package.module:task").resolve() == tmp_path.resolve()
    assert folder_of("demo:healthy-mlp").resolve() == folder_of("no name").resolve() == tmp_path.resolve()
