"""TARGET -> Task: a file, a module or a demo, and the name in it."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from runtrue import demos
from runtrue.task import Task, TaskError


def load(target: str) -> Task:
    """The task that a target names. Raises TaskError that says what is wrong with the call or with the user's file."""
    place, name = parted(target)
    if place == "demo":
        return demos.load(name)
    return _as_task(found(target), target)


def found(target: str) -> Any:
    """Whatever the target names, as it is. Raises TaskError."""
    place, name = parted(target)
    return _find(_import(place), name, place)


def parted(target: str) -> tuple[str, str]:
    """("file.py", "name"). Raises TaskError if one of them is missing."""
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise TaskError(f"the target {target!r} has no name: write file.py:name, package.module:name, or demo:NAME")
    return place, name


def is_file(place: str) -> bool:
    """True if this part of a target names a file, and no module."""
    return place.endswith(".py") or "/" in place or "\\" in place


def _import(place: str) -> ModuleType:
    try:
        return _import_file(Path(place)) if is_file(place) else _import_module(place)
    except TaskError:
        raise
    except SystemExit as error:
        raise TaskError(
            f"{place} ended the program while it was imported (exit {error.code}): guard it by if __name__ == '__main__'"
        ) from error
    except Exception as error:
        raise TaskError(f"{place} cannot be imported:\n{own_lines(error)}") from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise TaskError(
            f"there is no file {path}" + (" (it is a folder)" if path.is_dir() else f" (looked in {Path.cwd()})")
        )
    name = path.stem if path.stem.isidentifier() else "runtrue_target"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise TaskError(f"{path} is not a Python file")
    sys.path.insert(0, str(path.resolve().parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)
    spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise TaskError(f"there is no module {error.name!r} (a file is written file.py:name)") from error
        raise


def own_lines(error: BaseException) -> str:
    """The user's part of a traceback: without our frames and those of the import machinery."""
    told = traceback.TracebackException.from_exception(error)
    home = str(Path(__file__).parent)
    frames = [f for f in told.stack if not f.filename.startswith((home, "<frozen"))]
    told.stack = traceback.StackSummary.from_list(frames[-4:])
    told.__cause__ = told.__context__ = None
    return "".join(told.format()).rstrip().removeprefix("Traceback (most recent call last):\n")


def _find(module: ModuleType, name: str, place: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise TaskError(f"{place} has no {name!r}{_what_there_is(module, name)}")
        found = getattr(found, part)
    return found


def _what_there_is(module: ModuleType, name: str) -> str:
    public = [n for n, v in vars(module).items() if not n.startswith("_") and not inspect.ismodule(v)]
    own = [
        n
        for n in public
        if getattr(getattr(module, n), "__module__", module.__name__) == module.__name__
        or isinstance(getattr(module, n), Task)
    ]
    near = difflib.get_close_matches(name, own, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{hint} It has: {', '.join(own) or 'no names of its own'}"


def _as_task(found: Any, target: str) -> Task:
    if isinstance(found, Task):
        return found
    if isinstance(found, type) or not callable(found):
        raise TaskError(f"{target} is {_kind(found)}, not a Task or a function that returns one")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise TaskError(f"{target} must be a function without arguments: {error}") from error
    except ValueError:
        pass
    try:
        made = found()
    except TaskError:
        raise
    except SystemExit as error:
        raise TaskError(f"{target} ended the program (exit {error.code}) instead of returning a Task") from error
    except Exception as error:
        raise TaskError(f"{target} failed:\n{own_lines(error)}") from error
    if not isinstance(made, Task):
        raise TaskError(f"{target} returned {_kind(made)}, not a Task")
    return made


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
