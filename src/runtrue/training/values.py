"""Settings as values: of the kind that their fields say, within limits, and as YAML. Each kind of run has a dataclass of them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

BIG = 1e9
OF_FILES = {"safetensors": "safetensors", "yaml": "pyyaml", "PIL": "pillow"}
"""Modules that read weights, settings and pictures, and the packages that bring them."""
Limits = Mapping[str, tuple[float, float, bool]]
"""Of each number: the lowest value, the highest, and whether it has to lie above the lowest."""
Choices = Mapping[str, tuple[str, ...]]
KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
WORDS = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}

Settings = TypeVar("Settings")


class ConfigError(ValueError):
    """A setting is unknown, of the wrong kind, or out of its limits: says which, and what there is."""


def need(modules: Mapping[str, str], what: str, extra: str) -> None:
    """modules: name -> the package that brings it. Raises ConfigError that says what to install for `what`, if one is missing."""
    missing = [package for module, package in modules.items() if find_spec(module) is None]
    if missing:
        raise ConfigError(f'{what} needs {", ".join(missing)}: pip install "runtrue[{extra}]"')


def within(values: Any, limits: Limits, choices: Choices) -> None:
    """Raises ConfigError for the first value that is out of its limits, or none of its choices. None is always allowed."""
    for name, (low, high, above) in limits.items():
        value = getattr(values, name)
        if value is None:
            continue
        inside = value > low if above else value >= low
        if not (inside and value <= high):
            raise ConfigError(
                f"{name} must be {'above' if above else 'at least'} {low:g} and at most {high:g}, got {value!r}"
            )
    for name, known in choices.items():
        if (value := getattr(values, name)) not in known:
            near = difflib.get_close_matches(str(value), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}{hint}")


def changed(values: Settings, settings: Mapping[str, Any]) -> Settings:
    """With these settings instead. Raises ConfigError for an unknown name or a value of the wrong kind."""
    found: Settings = replace(values, **{n: _typed(values, n, v) for n, v in settings.items()})  # type: ignore[type-var]
    return found


def _typed(values: Any, name: str, value: Any) -> Any:
    """The value as the field wants it: 1e-3 is text to YAML, and a bool is no number."""
    names = [field.name for field in fields(values)]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise ConfigError(
            f"there is no setting {name!r}{f'; did you mean {near[0]!r}?' if near else ''} ({', '.join(names)})"
        )
    wanted = next(field.type for field in fields(values) if field.name == name)
    kind, _, optional = str(wanted).partition(" | ")
    if value is None and optional:
        return None
    if kind == "str" and isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)  # precision: 32
    if kind == "float" and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ConfigError(f"{name} must be a number, got {value!r}") from None
    if not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise ConfigError(f"{name} must be {WORDS[kind]}, got {value!r}")
    return float(value) if isinstance(value, (int, float)) and kind == "float" else value


def read(path: Path, base: Settings) -> Settings:
    """Settings from a YAML file; what the file leaves out is as in `base`. Raises ConfigError that names the file."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if found is None:
        found = {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"{path} must hold settings, a line each such as `lr: 0.1`; it holds {type(found).__name__}")
    try:
        return changed(base, {str(name): value for name, value in found.items()})
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def written(values: Any) -> str:
    """The settings as YAML, in the order of the fields."""
    import yaml

    return str(yaml.safe_dump(asdict(values), sort_keys=False, allow_unicode=True))
