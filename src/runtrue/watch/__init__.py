"""Watch any training at almost no cost: `runtrue.watch(model, optimizer, run="runs/a")`.

The package is what the function is called by: `runtrue.watch(…)` calls `runtrue.watch.watch(…)`, and
`runtrue.watch.lightning` and `runtrue.watch.transformers` hold the callbacks for these libraries.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from runtrue.watch.api import watch
from runtrue.watch.record import Record, record_of
from runtrue.watch.watching import Watch

__all__ = ["Record", "Watch", "record_of", "watch"]


class _Callable(ModuleType):
    """A module with the signature of its function: the language allows a module to have a class of its own."""

    def __call__(self, *args: Any, **kwargs: Any) -> Watch:
        return watch(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
