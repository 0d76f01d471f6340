"""Trained networks by name, from torchvision and timm: what there is, how each wants its images, and where its weights lie.

Both libraries are imported when they are asked for. Nothing is downloaded that the library would not download itself.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from runtrue.finetune import checkpoints
from runtrue.finetune.difference import Difference, take

LIBRARIES = ("torchvision", "timm")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ZooError(ValueError):
    """No such network, a library that is missing, or weights that are not here: says which, and what to fetch."""


@dataclass(frozen=True)
class Known:
    """A network of a zoo. side: pixels of its images; mean, std: per channel, of values from 0 to 1. file: where the weights
    lie, or would; url: where they come from; "" if it was never trained."""

    name: str
    library: str
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    url: str = ""
    file: Path | None = None

    @property
    def here(self) -> bool:
        """The weights need no download."""
        return self.file is not None and self.file.is_file()

    def describe(self) -> str:
        state = "weights are here" if self.here else "weights need a download" if self.url else "no weights"
        return f"{self.library}:{self.name}  {self.side} px  {state}"


def names(pattern: str = "*") -> Iterator[str]:
    """Names of networks that take images and tell classes, `library:name`, that fit the pattern (with * and ?, or a part)."""
    wanted = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    for library in installed():
        for name in _LISTS[library]():
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
    return _of_torchvision(bare) if library == "torchvision" else _of_timm(bare)


def build(name: str, *, weights: str | Path | bool = True) -> tuple[nn.Module, Known, Difference | None]:
    """The network in its own form (1000 classes, mostly), how it wants its images, and what of the weights was taken over.

    weights: True for the library's own, a file of yours (see `checkpoints.read`), or False for none. Raises ZooError, or
    `checkpoints.WeightsError` for a file that is no weights, or not this network's.
    """
    found = known(name)
    if weights is True and not found.here:
        raise ZooError(_fetch(found))
    model = _made(found)
    if weights is False:
        return model, found, None
    file = found.file if weights is True else Path(str(weights))
    assert file is not None
    return model, found, take(model, checkpoints.read(file))


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
        if bare in set(_LISTS[one]()):
            return one, bare
    every = [n for one in there for n in _LISTS[one]()]
    near = difflib.get_close_matches(bare, every, 3, cutoff=0.4)
    raise ZooError(
        f"no network is called {name!r} in {' or '.join(there)}{'; nearest: ' + ', '.join(near) if near else ''} "
        "(`runtrue zoo` lists them)"
    )


def _fetch(found: Known) -> str:
    if not found.url:
        return f"{found.name} was never trained by {found.library}: give weights of your own (--weights FILE)"
    return (
        f"the weights of {found.library}:{found.name} are not on this machine: download {found.url} and put it at {found.file}, "
        "or name the file (--weights FILE)"
    )


# torchvision


def _torchvision() -> Any:
    try:
        import torchvision.models as found
    except (ImportError, RuntimeError) as error:
        raise ZooError(
            f"torchvision cannot be imported ({' '.join(str(error).split())[:120]}): its version has to fit torch "
            f"{torch.__version__}"
        ) from error
    return found


def _torchvision_names() -> list[str]:
    models = _torchvision()
    return list(models.list_models(module=models))


def _of_torchvision(name: str) -> Known:
    models = _torchvision()
    kinds = list(models.get_model_weights(name))
    if not kinds:
        return Known(name, "torchvision", 224, IMAGENET_MEAN, IMAGENET_STD)
    best = next((one for one in kinds if _cache(one.url).is_file()), models.get_model_weights(name).DEFAULT)
    wants = best.transforms()
    return Known(
        name, "torchvision", int(wants.crop_size[0]), tuple(wants.mean), tuple(wants.std), str(best.url), _cache(best.url)
    )  # fmt: skip


def _cache(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


# timm


def _timm() -> Any:
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        raise ZooError(
            f"timm cannot be imported ({' '.join(str(error).split())[:120]}): it needs a torchvision that fits torch "
            f"{torch.__version__}"
        ) from error
    return timm


def _timm_names() -> list[str]:
    return list(_timm().list_models())


def _of_timm(name: str) -> Known:
    told = _timm().models.get_pretrained_cfg(name)
    if told is None:
        return Known(name, "timm", 224, IMAGENET_MEAN, IMAGENET_STD)
    hub = told.hf_hub_id or ""
    url = told.url or (f"https://huggingface.co/{hub}/resolve/main/model.safetensors" if hub else "")
    file = _hub_file(hub) if hub else None
    if file is None and told.url:
        file = _cache(told.url)
    if file is None and url:
        file = _cache(f"{name}.safetensors")
    return Known(name, "timm", int(told.input_size[-1]), tuple(told.mean), tuple(told.std), url, file)


def _hub_file(repository: str) -> Path | None:
    """In the cache of the Hugging Face hub, where it is there."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    for name in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def _made(found: Known) -> nn.Module:
    made: nn.Module = (
        _torchvision().get_model(found.name, weights=None)
        if found.library == "torchvision"
        else _timm().create_model(found.name, pretrained=False)
    )
    return made


_LISTS: dict[str, Callable[[], list[str]]] = {"torchvision": _torchvision_names, "timm": _timm_names}
