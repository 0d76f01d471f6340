"""Names of things in the user's files, and the call of a function that makes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from runtrue.task import TaskError, blame


def is_target(name: str) -> bool:
    """True for file.py:name and package.module:name, which name a thing of the user's."""
    place, colon, rest = name.rpartition(":")
    if not (colon and rest) or place in PREFIXES:
        return False
    package = place.partition(".")[0]
    return place.endswith(".py") or (package.isidentifier() and find_spec(package) is not None)


PREFIXES = ("folder", "csv", "npz", "idx", "mlp", "cnn")  # names of ours that go on behind a colon


def called(make: Callable[..., Any], known: dict[str, Any], what: str) -> Any:
    """make(), with those of the known arguments that it asks for."""
    if not callable(make):
        raise TaskError(f"{what} is an object of type {type(make).__name__}, which is nothing to train with")
    try:
        asked = inspect.signature(make).parameters
        return make(**{name: value for name, value in known.items() if name in asked})
    except Exception as error:
        raise TaskError(f"{what} could not be made: {blame(error)}") from error
