"""What of a trained network fits a changed one: every tensor that has its name and shape is taken over, the rest is told (N1.1).

>>> donor, mine = (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, n)) for n in (1000, 2))
>>> found = take(mine, donor.state_dict())
>>> found.kept, found.new, [str(one) for one in found.resized]
(('0.weight', '0.bias'), (), ['2.weight (1000, 8) → (2, 8)', '2.bias (1000,) → (2,)'])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Literal

import torch
from torch import Tensor, nn

from runtrue.finetune.changing import Inserted
from runtrue.finetune.checkpoints import WeightsError

PREFIXES = ("model.", "net.", "network.", "backbone.", "encoder.", "base_model.", "student.", "teacher.")
"""What programs put before the names of a whole network that they hold; taken off, or put on, where more fits that way."""

BY_ORDER = "by order"
Renaming = Mapping[str, str] | Literal["by order"] | None
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Resized:
    """A tensor of the same name and another shape: it starts anew."""

    name: str
    theirs: Shape
    ours: Shape

    def __str__(self) -> str:
        return f"{self.name} {self.theirs} → {self.ours}"


@dataclass(frozen=True)
class Difference:
    """Names of parameters and buffers, in the order of the model. renamed: ours -> theirs, a part of `kept`."""

    kept: tuple[str, ...] = ()
    resized: tuple[Resized, ...] = ()
    new: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def fresh(self) -> frozenset[str]:
        """What starts with values of its own: new, or of another size."""
        return frozenset((*self.new, *(one.name for one in self.resized)))

    def describe(self) -> str:
        counts = {"kept": self.kept, "resized": self.resized, "new": self.new, "dropped": self.dropped}
        told = [f"{len(found)} tensors {word}" for word, found in counts.items() if found]
        return ", ".join(told) + (f" ({len(self.renamed)} under another name)" if self.renamed else "")


def take(model: nn.Module, state: Mapping[str, Tensor], *, renamed: Renaming = None, least: float = 0.0) -> Difference:
    """Copy into the model, in place, what fits by name and shape.

    renamed: beginnings of their names -> ours ({"encoder.layer": "blocks"}), or "by order": what is left over on both sides is
    paired where the same shapes follow in the same order under the same last names (weight, bias). least: the share of the
    model's tensors that has to fit.
    Raises WeightsError if nothing fits, or less than that, or for a renaming that no name begins with; nothing is copied then.
    """
    ours = model.state_dict(keep_vars=True)
    source = _before_insertion(model, _called_as_ours(_renamed(state, renamed), ours), ours)
    pairs = {name: source[name] for name in ours if name in source and fits(ours[name], state[source[name]])}
    if renamed == BY_ORDER:
        pairs = _ordered(pairs, ours, state)
    if not pairs or len(pairs) < least * len(ours):
        raise WeightsError(_little_fits(ours, state, len(pairs)))
    with torch.no_grad():
        for name, theirs in pairs.items():
            ours[name].copy_(state[theirs])
    return _told(ours, state, source, pairs)


def _told(
    ours: Mapping[str, Tensor], state: Mapping[str, Tensor], source: Mapping[str, str], pairs: Mapping[str, str]
) -> Difference:
    """source: the names of theirs by ours, whatever the shapes. pairs: those that were taken over."""
    taken = set(pairs.values())
    other = [n for n in ours if n not in pairs and n in source and source[n] not in taken]
    resized = [Resized(n, tuple(state[source[n]].shape), tuple(ours[n].shape)) for n in other]
    known = {one.name for one in resized}
    used = {*taken, *(source[n] for n in known)}
    return Difference(
        kept=tuple(n for n in ours if n in pairs),
        resized=tuple(resized),
        new=tuple(n for n in ours if n not in pairs and n not in known),
        dropped=tuple(n for n in state if n not in used),
        renamed={n: theirs for n, theirs in pairs.items() if source.get(n) != theirs or n != theirs},
    )


def fits(ours: Tensor, theirs: Tensor) -> bool:
    return ours.shape == theirs.shape and ours.is_floating_point() == theirs.is_floating_point()


def _ordered(by_name: dict[str, str], ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, str]:
    """What is left over by order; or all of it, where more fits so: in a list that lost one in the middle, the names that both
    have belong to different ones."""
    used = set(by_name.values())
    left = by_order(
        {n: t for n, t in ours.items() if n not in by_name}, {n: t for n, t in theirs.items() if n not in used}
    )
    return max(by_name | left, by_order(ours, theirs), key=len)


def by_order(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, str]:
    """Ours -> theirs, along the longest runs of the same last names and shapes."""
    keys = [[f"{name.rpartition('.')[2]} {tuple(t.shape)}" for name, t in side.items()] for side in (ours, theirs)]
    names = list(ours), list(theirs)
    found: dict[str, str] = {}
    for a, b, size in SequenceMatcher(a=keys[0], b=keys[1], autojunk=False).get_matching_blocks():
        found.update(zip(names[0][a : a + size], names[1][b : b + size]))
    return found


def _renamed(state: Mapping[str, Tensor], renamed: Renaming) -> dict[str, str]:
    """The name that each of their tensors goes by -> the name that it has in the file."""
    if renamed is None or isinstance(renamed, str):
        if renamed not in (None, BY_ORDER):
            raise WeightsError(f"renamed must be a mapping of beginnings of names, or {BY_ORDER!r}, got {renamed!r}")
        return {name: name for name in state}
    for old in renamed:
        if not any(_begins(name, old) for name in state):
            raise WeightsError(
                f"no tensor of the weights is called {old!r} or begins so; the first is {next(iter(state), '')!r}"
            )
    found = {}
    for name in state:
        old = max((one for one in renamed if _begins(name, one)), key=len, default="")
        found[renamed[old] + name[len(old) :] if old else name] = name
    return found


def _begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix if prefix.endswith(".") else f"{prefix}.")


def _before_insertion(model: nn.Module, source: dict[str, str], ours: Iterable[str]) -> dict[str, str]:
    """With the names that the weights of a part have since something was put behind it (`changing.insert`): everywhere, or, if
    more of them are ours then, where theirs are not of a network that was changed so, too."""
    own = set(ours)

    def known(way: dict[str, str]) -> int:
        return len(own & way.keys())

    everywhere = here = source
    for path, part in model.named_modules():
        if isinstance(part, Inserted) and not isinstance(model.get_submodule(path.rpartition(".")[0]), Inserted):
            inside = f"{path}{'.0' * _depth(part)}"
            everywhere, moved = _moved(everywhere, path, inside), _moved(here, path, inside)
            here = max(moved, here, key=known)
    return max(everywhere, here, key=known)


def _moved(source: dict[str, str], old: str, new: str) -> dict[str, str]:
    return {(new + name[len(old) :] if name.startswith(f"{old}.") else name): theirs for name, theirs in source.items()}


def _depth(part: nn.Module) -> int:
    return 1 + _depth(part[0]) if isinstance(part, Inserted) else 0


def _called_as_ours(source: Mapping[str, str], ours: Iterable[str]) -> dict[str, str]:
    """With a prefix taken off all names, or put before them, if more of them are ours then."""
    own = set(ours)
    ways = [dict(source)]
    ways += [{n.removeprefix(p): t for n, t in source.items()} for p in PREFIXES]
    ways += [{p + n: t for n, t in source.items()} for p in PREFIXES]
    return max(ways, key=lambda way: len(own & way.keys()))


def _little_fits(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], fit: int) -> str:
    first, other = next(iter(ours.items()), ("nothing", None)), next(iter(theirs.items()), ("nothing", None))
    shown = [f"{name} {tuple(t.shape) if t is not None else ''}".strip() for name, t in (other, first)]
    count = f"only {fit}" if fit else "none"
    return (
        f"{count} of the {len(theirs)} tensors fits the network's {len(ours)}: theirs begin with {shown[0]}, ours with "
        f"{shown[1]}. Are these the weights of this architecture? Where only the names differ, say how (renamed)"
    )
