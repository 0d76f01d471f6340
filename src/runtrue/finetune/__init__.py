"""Stand on a trained network, change what you need, train each part at its own rate: `runtrue.finetune("mobilenet_v2",
"photos/")`.

The package is what the function is called by: `runtrue.finetune(…)` calls `runtrue.tuning.finetune(…)`, and the pieces are its
attributes: `runtrue.finetune.replace_head(model, classes)`, `swap`, `drop`, `insert`, `take`, `groups` and the others of
`PIECES`."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # they bring torch
    from runtrue.finetune.changing import drop, insert, swap
    from runtrue.finetune.checkpoints import WeightsError, read
    from runtrue.finetune.difference import Difference, take
    from runtrue.finetune.dry import SurgeryError
    from runtrue.finetune.features import features
    from runtrue.finetune.heads import replace_head
    from runtrue.finetune.rates import groups
    from runtrue.finetune.still import Still, standing_still
    from runtrue.finetune.zoo import Known, ZooError, build, known, names

PIECES = {
    "Difference": "difference", "Known": "zoo", "Still": "still", "SurgeryError": "dry", "WeightsError": "checkpoints",
    "ZooError": "zoo", "build": "zoo", "drop": "changing", "features": "features", "groups": "rates", "insert": "changing",
    "known": "zoo", "names": "zoo", "read": "checkpoints", "replace_head": "heads", "standing_still": "still", "swap": "changing",
    "take": "difference",
}  # fmt: skip
"""Name -> the module of this package that it is from."""

__all__ = [
    "Difference", "Known", "Still", "SurgeryError", "WeightsError", "ZooError", "build", "drop", "features", "groups", "insert",
    "known", "names", "read", "replace_head", "standing_still", "swap", "take",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in PIECES:
        return getattr(importlib.import_module(f"{__name__}.{PIECES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Callable(ModuleType):
    """A module with the signature of its function: the language allows a module to have a class of its own."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See `runtrue.tuning.finetune`, which stands floors above: it is looked up by its name when it is called."""
        return importlib.import_module("runtrue.tuning.api").finetune(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
