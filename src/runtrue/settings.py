"""`[tool.runtrue]` in pyproject.toml, and what a check looks for once the call and this file have been heard.

[tool.runtrue]
skip = ["class-imbalance"]
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtrue.checks import CHECKS
from runtrue.diagnosis import choose, ensure_known

FILE = "pyproject.toml"
TABLE = "tool.runtrue"
KEYS = ("skip",)


@dataclass(frozen=True)
class Settings:
    """What the nearest pyproject.toml says. `file` is None where there is none."""

    skip: tuple[str, ...] = ()
    file: Path | None = None


@dataclass(frozen=True)
class Choice:
    """What one check looks for.

    causes: ids that have a check, in the order of the stages. silenced: ids that were taken from these, each with who said so.
    only, skip: what to hand to `runtrue.check`.
    """

    causes: tuple[str, ...]
    silenced: Mapping[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()


def choice(only: Iterable[str], skip: Iterable[str], settings: Settings, said_by: str = "--skip") -> Choice:
    """The call's own `only` and `skip`, joined by what the settings skip.

    A cause that the call asks for by name (`only`) is looked for although the file skips it: the call stands nearer to its
    user than the file. Raises ValueError for an id that does not exist, and if nothing is left to look for.
    """
    only, skip = ((x,) if isinstance(x, str) else tuple(x) for x in (only, skip))
    by_file = {cause: shown(settings.file) for cause in settings.skip if settings.file and cause not in only}
    said = by_file | dict.fromkeys(skip, said_by)
    chosen = choose(only, said)
    causes = tuple(cause for cause in CHECKS if cause in chosen)
    silenced = {cause: said[cause] for cause in CHECKS if cause in said and (cause in only or not only)}
    return Choice(causes, silenced, only, tuple(said))


def nearest(start: Path) -> Settings:
    """The settings in the nearest pyproject.toml, in the folder `start` or above it; a file that is named counts as its folder.

    The nearest file decides, also if it says nothing of runtrue. Raises ValueError in one line for a file that cannot be read,
    is no TOML, or says what runtrue does not know.
    """
    start = start.resolve()
    folder = start if start.is_dir() else start.parent
    for place in (folder, *folder.parents):
        if (place / FILE).is_file():
            return read(place / FILE)
    return Settings()


def read(file: Path) -> Settings:
    """The settings in this file. Raises ValueError that names the file, see `nearest`."""
    table = _table(_parsed(file), file)
    for key in table:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(KEYS)}"
            raise ValueError(f"{shown(file)}: [{TABLE}] has a key {key!r} that runtrue does not know{hint}")
    return Settings(_ids(table.get("skip", []), file), file)


def _parsed(file: Path) -> dict[str, Any]:
    try:
        return _loads(file.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ValueError(f"{shown(file)} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise ValueError(f"{shown(file)} cannot be read as TOML: {' '.join(str(error).split())}") from error


def _loads(text: str) -> dict[str, Any]:
    """TOML by the standard library; before Python 3.11 by tomli, from which that was taken."""
    try:
        reader = importlib.import_module("tomllib")
    except ImportError:
        try:
            reader = importlib.import_module("tomli")
        except ImportError as error:
            raise ValueError("it cannot be read before Python 3.11 without tomli: pip install tomli") from error
    document: dict[str, Any] = reader.loads(text)
    return document


def _table(document: dict[str, Any], file: Path) -> dict[str, Any]:
    found: Any = document
    for name in TABLE.split("."):
        found = found.get(name, {})
        if not isinstance(found, dict):
            raise ValueError(f"{shown(file)}: {name!r} of [{TABLE}] must be a table, not {_kind(found)}")
    return dict(found)


def _ids(value: Any, file: Path) -> tuple[str, ...]:
    wanted = f'[{TABLE}] skip must be a list of cause ids, such as ["class-imbalance"]'
    if not isinstance(value, list):
        raise ValueError(f"{shown(file)}: {wanted}, not {_kind(value)}")
    for entry in value:
        if not isinstance(entry, str):
            raise ValueError(f"{shown(file)}: {wanted}; it holds {_kind(entry)}")
    try:
        ensure_known(value)
    except ValueError as error:
        raise ValueError(f"{shown(file)}: [{TABLE}] skip: {error}") from error
    return tuple(dict.fromkeys(value))


def _kind(value: Any) -> str:
    names = {str: "the text", bool: "", int: "the number", float: "the number", list: "the list", dict: "the table"}
    return f"{names.get(type(value), '')} {value!r}".strip()


def shown(file: Path | None) -> str:
    """A path as a reader knows it: from the current folder on, if it lies in there."""
    if file is None:
        return ""
    try:
        return os.fspath(file.relative_to(Path.cwd().resolve()))
    except ValueError:
        return os.fspath(file)
