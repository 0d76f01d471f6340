"""What stands beside a LightningModule in its file: its data module, and how long its Trainer is to train."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from runtrue.lightning_task.standin import is_data_module, is_lightnings, overrides
from runtrue.task import TaskError


def data_module_in(names: Mapping[str, Any], module: Any) -> Any:
    """The one LightningDataModule among these names, made or as a class; None if there is none, or if the module brings a
    train_dataloader of its own. Raises TaskError if there are several."""
    if own_loader(module):
        return None
    found = {n: v for n, v in names.items() if is_data_module(v) and not (isinstance(v, type) and is_lightnings(v))}
    made = {n: v for n, v in found.items() if not isinstance(v, type)}
    choice = made or {n: v for n, v in found.items() if not _is_base(v, found.values())}
    distinct = {id(v): n for n, v in choice.items()}
    if len(distinct) > 1:
        raise TaskError(
            f"there are several data modules ({', '.join(distinct.values())}): say which by --data file.py:name"
        )
    return next(iter(choice.values()), None)


def own_loader(module: Any) -> bool:
    """True for a module, or a class of modules, with a train_dataloader of its own."""
    if not isinstance(module, type):
        return overrides(module, "train_dataloader")
    owner = next((base for base in module.__mro__ if "train_dataloader" in vars(base)), None)
    return owner is not None and not is_lightnings(owner)


def _is_base(value: Any, others: Any) -> bool:
    return any(isinstance(o, type) and o is not value and issubclass(o, value) for o in others)


def epochs_in(file: ModuleType) -> int | None:
    """The `max_epochs` of the Trainer that the file builds, if it stands there as a number, and no other beside it."""
    path = getattr(file, "__file__", None)
    try:
        tree = ast.parse(Path(str(path)).read_bytes())
    except (OSError, ValueError, SyntaxError):
        return None
    found = {
        keyword.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _called(node.func) == "Trainer"
        for keyword in node.keywords
        if keyword.arg == "max_epochs" and isinstance(keyword.value, ast.Constant)
    }
    numbers = [n for n in found if isinstance(n, int) and n > 0]
    return numbers[0] if len(numbers) == len(found) == 1 else None


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
