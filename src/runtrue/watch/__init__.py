"""Watch any training at almost no cost: `runtrue.watch(model, optimizer, run="runs/a")`.

The package is what the function is called by: `runtrue.watch(…)` calls `runtrue.watch.watch(…)`, and
`runtrue.watch.lightning` and `runtrue.watch.transformers` hold the callbacks for these libraries.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from runtrue.watch.record import Record, record_of

if TYPE_CHECKING:  # they bring torch, which a record is read without
    from runtrue.watch.api import watch
    from runtrue.watch.watching import Watch

__all__ = ["Record", "Watch", "record_of", "watch"]


def __getattr__(name: str) -> Any:
    if name == "watch":
        from runtrue.watch.api import watch

        return watch
    if name == "Watch":
        from runtrue.watch.watching import Watch

        return Watch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Callable(ModuleType):
    """A module with the signature of its function: the language allows a module to have a class of its own."""

    def __call__(self, *args: Any, **kwargs: Any) -> Watch:
        from runtrue.watch.api import watch

        return watch(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
