"""Functions that hold on to a model: what can be reached from them, and the same function holding a copy instead.

A loss such as `lambda o, t: mse(o, t) + net.fc.weight.norm()` closes over `net`. A copy of the task needs a loss that closes
over the copy; a check needs to know what else it must restore.
"""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from runtrue.optimizers import twin

_DEPTH = 4  # functions that call functions that close over the model: deeper chains were never seen


def reachable(value: Any, depth: int = _DEPTH) -> Iterator[nn.Module]:
    """Modules that a function or object can reach: through its closure, globals it names, bound self, defaults, arguments."""
    if isinstance(value, nn.Module):
        yield value
    elif depth > 0:
        for part in _held(value).values():
            yield from reachable(part, depth - 1)


def rebind(value: Any, memo: dict[int, Any]) -> Any:
    """`value` as it would be if the model had been the copy that `memo` (from `copy.deepcopy`) knows. Shares what it can."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, torch.optim.Optimizer):
        return twin(value, memo)
    if isinstance(value, nn.Module):
        return copy.deepcopy(value, memo)
    if not _touches(value, memo, _DEPTH):
        return value
    if isinstance(value, types.FunctionType):
        return _rebind_function(value, memo)
    if isinstance(value, types.MethodType):
        return types.MethodType(value.__func__, rebind(value.__self__, memo))
    if isinstance(value, functools.partial):
        keywords = {name: rebind(item, memo) for name, item in value.keywords.items()}
        return functools.partial(rebind(value.func, memo), *(rebind(item, memo) for item in value.args), **keywords)
    return copy.deepcopy(value, memo)


def _rebind_function(function: types.FunctionType, memo: dict[int, Any]) -> types.FunctionType:
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    space = dict(function.__globals__)
    other = types.FunctionType(function.__code__, space, function.__name__, None, cells or None)
    memo[id(function)] = other  # before its parts: a function may reach itself
    space |= {name: rebind(item, memo) for name, item in _named_globals(function).items()}
    for cell, content in zip(cells, _cells(function).values()):
        cell.cell_contents = rebind(content, memo)
    other.__defaults__ = tuple(rebind(item, memo) for item in function.__defaults__ or ()) or None
    other.__kwdefaults__ = {name: rebind(item, memo) for name, item in (function.__kwdefaults__ or {}).items()} or None
    other.__dict__.update(function.__dict__)
    return other


def _touches(value: Any, memo: dict[int, Any], depth: int) -> bool:
    if id(value) in memo and not isinstance(value, (int, str, float, bool, type(None))):
        return True
    return depth > 0 and any(_touches(part, memo, depth - 1) for part in _held(value).values())


def _held(value: Any) -> dict[str, Any]:
    """What a function or a small object holds on to, by name."""
    if isinstance(value, types.FunctionType):
        defaults = {f"default {i}": item for i, item in enumerate(value.__defaults__ or ())}
        return _cells(value) | _named_globals(value) | defaults | (value.__kwdefaults__ or {})
    if isinstance(value, types.MethodType):
        return {"self": value.__self__}
    if isinstance(value, functools.partial):
        return {"func": value.func} | dict(value.keywords) | {f"argument {i}": a for i, a in enumerate(value.args)}
    if isinstance(value, (list, tuple)) and len(value) <= 64:
        return {str(i): item for i, item in enumerate(value)}
    if isinstance(value, dict) and len(value) <= 64:
        return {str(key): item for key, item in value.items()}
    if isinstance(value, (nn.Module, torch.Tensor, type, types.ModuleType)) or not hasattr(value, "__dict__"):
        return {}
    return dict(vars(value)) if not isinstance(value, types.BuiltinFunctionType) else {}


def _cells(function: types.FunctionType) -> dict[str, Any]:
    return {name: _content(cell) for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ())}


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return None


def _named_globals(function: types.FunctionType) -> dict[str, Any]:
    """Globals that the code names and that can matter: no modules, no classes."""
    named = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    return {
        n: item
        for n, item in named.items()
        if not isinstance(item, (types.ModuleType, type, types.BuiltinFunctionType))
    }
