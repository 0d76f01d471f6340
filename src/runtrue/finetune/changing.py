"""Parts of a network exchanged, left out or put in between, by the paths that `named_modules` gives them (N1.1, mode 2).

>>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
>>> swap(net, "1", nn.Tanh())
>>> drop(net, "1")
>>> insert(net, "0", nn.BatchNorm2d(8))
>>> [type(part).__name__ for part in net]
['Inserted', 'Passed', 'Conv2d']
>>> try:
...     swap(net, "0", nn.Conv2d(3, 6, 3))
... except SurgeryError as error:
...     print(str(error)[:87])
swap '0': it gives (2, 6, 222, 222) now, (2, 8, 222, 222) before, and 2 cannot take tha
"""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from runtrue.finetune.dry import Flow, SurgeryError, example_for, flow
from runtrue.surgery import put
from runtrue.task import blame

MOST_WORDS = 160  # of an error of torch's that is told


def swap(model: nn.Module, name: str, module: nn.Module, *, example: Any = None) -> None:
    """`module` in the place of the one called `name`.

    example: what the network takes, a batch of two or more (a tensor, a tuple of arguments, or a dict of named ones), on which
    the change is tried; made up by default, as the first layer asks. Raises SurgeryError, and leaves the network as it was,
    if there is no such part or the network does not run any more.
    """
    _tried(model, name, module, example, "swap")


def drop(model: nn.Module, name: str, *, example: Any = None) -> None:
    """The network without the part called `name`: its first input goes on as it is. Raises SurgeryError as `swap` does."""
    _tried(model, name, Passed(), example, "drop")


def insert(model: nn.Module, after: str, module: nn.Module, *, example: Any = None) -> None:
    """`module` behind the part called `after`: the two become one `Inserted` there, of which `difference.take` knows the weights
    of the first by their old names. Raises SurgeryError as `swap` does."""
    _tried(model, after, Inserted(part(model, after, "insert"), module), example, "insert after")


class Passed(nn.Module):
    """In the place of a part that was left out: gives the first of what that was given."""

    def forward(self, x: Any, *_: Any, **__: Any) -> Any:
        return x


class Inserted(nn.Sequential):
    """A part (0), and what was put behind it (1), which is given the first of what the part gives."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = self[0](*args, **kwargs)
        return (self[1](given[0]), *given[1:]) if isinstance(given, tuple) else self[1](given)


def part(model: nn.Module, name: str, what: str) -> nn.Module:
    """Raises SurgeryError for a name that no part has."""
    known: dict[str, nn.Module] = dict(model.named_modules())
    if name and name in known:
        return known[name]
    near = difflib.get_close_matches(name, list(known)[1:], 3, cutoff=0.3)
    raise SurgeryError(
        f"{what}: no part of the network is called {name!r}{'; nearest: ' + ', '.join(near) if near else ''}"
    )


def _tried(model: nn.Module, name: str, module: nn.Module, example: Any, what: str) -> None:
    before = part(model, name, what)
    given = example_for(model) if example is None else example
    was = flow(model, given) if given is not None else Flow()
    if was.error is not None and example is not None:
        raise SurgeryError(
            f"{what} {name!r}: the network does not take the example as it is: {blame(was.error)}"
        ) from was.error
    put(model, name, module)
    if given is None or was.error is not None:
        return  # nothing to try it on
    now = flow(model, given)
    if now.error is not None:
        put(model, name, before)
        raise SurgeryError(_told(what, name, was, now)) from now.error


def _told(what: str, name: str, was: Flow, now: Flow) -> str:
    ours, theirs = now.outputs.get(name), was.outputs.get(name)
    reason = " ".join(str(now.error).split())[:MOST_WORDS]
    if ours is None:
        layer = now.broke_at or name
        return f"{what} {name!r}: {layer} cannot take {now.inputs.get(layer)}, which {now.before(layer)[0]} gives: {reason}"
    breaks = now.broke_at or "the network itself"
    return f"{what} {name!r}: it gives {ours} now, {theirs} before, and {breaks} cannot take that: {reason}"
