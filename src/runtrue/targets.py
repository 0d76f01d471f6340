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

from runtrue import demos, lightning_task
from runtrue.task import Task, TaskError


def load(target: str, data: str | None = None, seed: int = 0) -> Task:
    """The task that a target names. Raises TaskError that says what is wrong with the call or with the user's file.

    data: the target of a LightningModule's data; without it, what stands beside it. seed: of the first weights of a class.
    """
    place, name = _parts(target, "demo:NAME")
    if place == "demo":
        _refuse(data, target)
        return demos.load(name)
    file = _import(place)
    found = _find(file, name, place)
    if lightning_task.is_module(found):
        return _lightning(found, file, place, data, seed)
    made = found if isinstance(found, Task) else _returned(found, target)
    if lightning_task.is_module(made):
        return _lightning(made, file, place, data, seed)
    if not isinstance(made, Task):
        raise TaskError(f"{target} returned {_kind(made)}, not a Task or a LightningModule")
    _refuse(data, target)
    return made


def named(target: str) -> Any:
    """Whatever the target names, as it is. Raises TaskError."""
    place, name = _parts(target, "a name that can be imported")
    return _find(_import(place), name, place)


def _parts(target: str, form: str) -> tuple[str, str]:
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise TaskError(f"the target {target!r} has no name: write file.py:name, package.module:name, or {form}")
    return place, name


def _refuse(data: str | None, target: str) -> None:
    if data is not None:
        raise TaskError(f"--data {data} is for a LightningModule, and {target} is a task, which has its data")


def _lightning(module: Any, file: ModuleType, place: str, data: str | None, seed: int) -> Task:
    """The task of a LightningModule: with the data that are named, or its own, or the one LightningDataModule of its file."""
    if data is not None:
        beside, name = _parts(data, "a name in a file of its own")
        given = _find(file if beside == place else _import(beside), name, beside)
    else:
        given = lightning_task.data_module_in(vars(file), module)
    return lightning_task.task_of(module, given, epochs=lightning_task.epochs_in(file), seed=seed)


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


def _returned(found: Any, target: str) -> Any:
    """What the function returns that a target names."""
    if isinstance(found, type) or not callable(found):
        raise TaskError(f"{target} is {_kind(found)}, not a Task, a LightningModule or a function that returns one")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise TaskError(f"{target} must be a function without arguments: {error}") from error
    except ValueError:
        pass
    try:
        return found()
    except TaskError:
        raise
    except SystemExit as error:
        raise TaskError(f"{target} ended the program (exit {error.code}) instead of returning a Task") from error
    except Exception as error:
        raise TaskError(f"{target} failed:\n{own_lines(error)}") from error


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
