"""Where a target stands in the user's files: for reports that point at a line."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from runtrue.targets import is_file

Lines = Iterator[tuple[str, int, ast.stmt]]


def folder_of(target: str) -> Path:
    """Where to look for settings: the folder of the target's file; for modules and demos the current one."""
    place = target.rpartition(":")[0]
    return Path(place).resolve().parent if is_file(place) else Path.cwd()


def find(target: str) -> tuple[str, int]:
    """(file, line) of a target that was loaded; ("", 1) for a demo. The line is 1 if the name is not made at a place of its own.

    The file is relative to the root of the repository that holds it (else to the current folder), which is what code scanning
    and CI systems take; absolute if it lies outside of that. Parts are divided by "/".
    """
    place, _, name = target.rpartition(":")
    file = Path(place).resolve() if is_file(place) else _file_of_module(place)
    if place == "demo" or file is None or not file.is_file():
        return "", 1
    root = _repository(file) or Path.cwd().resolve()
    inside = file.is_relative_to(root)
    return (file.relative_to(root).as_posix() if inside else os.fspath(file)), line_of(file, name)


def _file_of_module(name: str) -> Path | None:
    found = getattr(sys.modules.get(name), "__file__", None)
    return Path(found).resolve() if found else None


def _repository(file: Path) -> Path | None:
    return next((folder for folder in file.parents if (folder / ".git").exists()), None)


def line_of(file: Path, name: str) -> int:
    """The line on which a file defines, assigns or imports `name` (`Class.method` too), the last time it does; else 1."""
    try:
        statements = ast.parse(file.read_bytes()).body
    except (OSError, ValueError, SyntaxError):
        return 1
    line = 1
    for part in name.split("."):
        found = [(at, statement) for made, at, statement in _names(statements) if made == part]
        if not found:
            return line
        line, last = found[-1]
        statements = last.body if isinstance(last, ast.ClassDef) else []
    return line


def _names(statements: list[ast.stmt]) -> Lines:
    """Every name that these statements make, with its line, in order; also inside of `if`, `try`, `with` and loops."""
    for statement in statements:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield statement.name, statement.lineno, statement
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name, statement.lineno, statement) for alias in statement.names)
        else:
            for target in _assigned(statement):
                yield target, statement.lineno, statement
            yield from _names([inner for inner in _inside(statement) if isinstance(inner, ast.stmt)])


def _assigned(statement: ast.stmt) -> Iterator[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    for target in targets:
        if target is not None:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _inside(statement: ast.stmt) -> Iterator[ast.AST]:
    """The statements of a block, also those of its handlers and cases."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.stmt):
            yield child
        elif isinstance(child, (ast.ExceptHandler, ast.match_case)):
            yield from child.body
