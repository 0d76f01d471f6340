"""Imports point down: a file imports from its own package or from a lower floor, wherever in the file the import stands.

Every module of runtrue has to stand in `FLOORS`. A new one goes on the lowest floor that its imports allow.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import runtrue

FLOORS: tuple[tuple[str, ...], ...] = (
    ("calls", "surgery"),  # one call of a torch function, one layer of a network
    # 0: words, numbers, formulas, networks, data
    (
        "findings",
        "tape",
        "stats",
        "curves",
        "penalties",
        "schedules",
        "nets",
        "datasets",
        "optimizers",
        "budget",
    ),
    (
        "init",
        "groups",
        "closures",
        "keeping",
        "lossparts",
        "rewiring",
        "widening",
        "wrapping",
        "rates",
        "norms",
        "curves_judge",
    ),
    # 1: the task and what is read from it; how a report is told
    ("task", "probes", "baselines", "report", "skill", "workers"),
    ("batches", "facts"),
    ("sandbox", "outputs"),
    # 2: short controlled runs
    ("trials", "finetune", "regularizers", "lightning_task"),
    ("stacked", "splits"),
    ("racing",),
    ("sweep",),
    # 3: what is measured, and on what
    ("measure", "demos", "lab"),
    # 4 to 6: suspect, treat, prove
    ("checks",),
    ("remedies",),
    ("diagnosis", "watch"),
    # 7 and 8: what users call
    ("api", "settings", "targets"),
    ("training",),
    ("tuning",),
    ("runtrue",),  # the package itself: its public names
    ("cli", "pytest_plugin"),
    ("__main__",),
)
"""Rooms (modules and packages directly under runtrue) from the ground up."""

FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ROOT = Path(runtrue.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def module_of(file: Path) -> str:
    """`runtrue.report.text`, or `runtrue.report` for its `__init__.py`."""
    parts = ("runtrue", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in FILES}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def imported(node: ast.AST) -> Iterator[str]:
    """The modules of runtrue that this statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "runtrue")
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: relative imports hide the direction"
        module = node.module or ""
        if module.split(".")[0] == "runtrue":
            for alias in node.names:
                name = f"{module}.{alias.name}"
                yield name if name in MODULES or (module == "runtrue" and alias.name in FLOOR_OF) else module


def climbs(source: str, room: str) -> list[str]:
    """Imports in `source`, a file of `room`, that do not go to the same room or to a lower floor."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for module in imported(node):
            other = room_of(module)
            if other != room and FLOOR_OF.get(other, len(FLOORS)) >= FLOOR_OF[room]:
                found.append(f"line {getattr(node, 'lineno', '?')} imports {module}")
    return found


def test_every_room_has_its_floor() -> None:
    missing = sorted({room_of(module) for module in MODULES} - set(FLOOR_OF))
    assert not missing, f"add to FLOORS in {Path(__file__).name}: {missing}"
    assert len(FLOOR_OF) == sum(map(len, FLOORS)), "a room stands on two floors"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    room = room_of(module)
    if room in FLOOR_OF:
        assert climbs(MODULES[module].read_text(encoding="utf-8"), room) == []


def test_no_cycle_among_the_imports_at_the_head_of_files() -> None:
    graph = {
        module: {name for node in ast.parse(file.read_text(encoding="utf-8")).body for name in imported(node)}
        - {module}
        for module, file in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize(
    ("source", "room", "wrong"),
    [
        ("from runtrue.findings import Finding", "task", []),
        ("from runtrue import stats", "probes", []),
        ("from runtrue.report.text import render", "report", []),
        ("from runtrue.checks import CHECKS", "task", ["line 1 imports runtrue.checks"]),
        ("def f():\n    import runtrue.cli", "stats", ["line 2 imports runtrue.cli"]),
        ("from runtrue import Task", "checks", ["line 1 imports runtrue"]),
        ("from runtrue import task", "probes", ["line 1 imports runtrue.task"]),
        ("import runtrue.attic", "cli", ["line 1 imports runtrue.attic"]),
        ("import torch, numpy", "findings", []),
    ],
)
def test_the_rule_itself(source: str, room: str, wrong: list[str]) -> None:
    assert climbs(source, room) == wrong
