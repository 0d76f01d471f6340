"""Trained networks by name, from torchvision and timm: what there is, how each wants its images, and where its weights lie.

Both libraries are imported when they are asked for. Nothing is downloaded: what is not here is told, with where to get it.
"""

from __future__ import annotations

import difflib
import fnmatch
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from runtrue.finetune import checkpoints, of_timm, of_torchvision
from runtrue.finetune.catalogue import IMAGENET_MEAN, IMAGENET_STD, Known, ZooError
from runtrue.finetune.difference import Difference, take

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Known", "ZooError", "build", "installed", "known", "names", "weights_for"]

LIBRARIES = {"torchvision": of_torchvision, "timm": of_timm}
MOST = 0.5
"""Share of the tensors of a network in its own form that its weights have to fit: those of another one fit here and there, by
chance (the bias of a classifier has 1000 numbers everywhere), and all but the classifier's fit where that alone was changed."""


def names(pattern: str = "*") -> Iterator[str]:
    """Names of networks that take images and tell classes, `library:name`, that fit the pattern (with * and ?, or a part)."""
    wanted = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    for library in installed():
        for name in LIBRARIES[library].names():
            if fnmatch.fnmatch(name, wanted) or fnmatch.fnmatch(f"{library}:{name}", wanted):
                yield f"{library}:{name}"


def installed() -> list[str]:
    """Raises ZooError if there is none of the libraries."""
    found = [name for name in LIBRARIES if find_spec(name) is not None]
    if not found:
        raise ZooError(f'no zoo is installed ({", ".join(LIBRARIES)}): pip install "runtrue[zoo]"')
    return found


def known(name: str) -> Known:
    """Raises ZooError for a name that no installed library has, with the nearest ones."""
    library, bare = _placed(name)
    found: Known = LIBRARIES[library].known(bare)
    return found


def build(name: str, *, weights: str | Path | bool = True) -> tuple[nn.Module, Known, Difference | None]:
    """The network in its own form (1000 classes, mostly), how it wants its images, and what of the weights was taken over.

    weights: True for the library's own, a file of yours (see `checkpoints.read`), or False for none. Raises ZooError, or
    `checkpoints.WeightsError` for a file that is no weights, or not this network's.
    """
    found = known(name)
    if weights is True and not found.here:
        raise ZooError(found.missing())
    model = LIBRARIES[found.library].made(found.name)
    if weights is False:
        return model, found, None
    file = found.file if weights is True else Path(str(weights))
    assert file is not None
    return model, found, take(model, weights_for(model, file), least=MOST)


def weights_for(model: nn.Module, file: str | Path) -> Mapping[str, Tensor]:
    """Name -> tensor, as `checkpoints.read` gives them. Where the names are those of the authors' own program, and timm knows how
    they are called in its form of the network, they are called so."""
    found: Mapping[str, Tensor] = checkpoints.read(file)
    translate = getattr(sys.modules.get(type(model).__module__), "checkpoint_filter_fn", None)
    own = model.state_dict().keys()
    if translate is None or own <= found.keys():
        return found
    try:
        told: dict[str, Tensor] = translate(dict(found), model)
    except Exception:  # noqa: BLE001 made for some forms of weights, it fails in its own way on others
        return found
    return told if len(own & told.keys()) > len(own & found.keys()) else found


def _placed(name: str) -> tuple[str, str]:
    """Library and name. Without a library in the name, the first that has it."""
    library, colon, bare = name.rpartition(":")
    there = installed()
    if colon and library not in there:
        raise ZooError(
            f'{library} is not installed: pip install "runtrue[zoo]"' if library in LIBRARIES
            else f"{library!r} is no zoo ({', '.join(LIBRARIES)})"
        )  # fmt: skip
    for one in [library] if colon else there:
        if LIBRARIES[one].has(bare):
            return one, bare
    absent = "".join(f"; {one} is not installed" for one in LIBRARIES if one not in there)
    every = [n for one in ([library] if colon else there) for n in LIBRARIES[one].names()]
    near = difflib.get_close_matches(bare, every, 3, cutoff=0.4)
    raise ZooError(
        f"no network is called {name!r} in {library or ' or '.join(there)}{absent}"
        f"{'; nearest: ' + ', '.join(near) if near else ''} (`runtrue zoo` lists them)"
    )
