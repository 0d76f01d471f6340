"""The networks of timm, by architecture ("resnet18": its best weights) or by architecture and training ("resnet18.a1_in1k")."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from runtrue.finetune.catalogue import Known, cached, unusable

FILES = ("model.safetensors", "pytorch_model.bin")  # of weights, in a repository of the Hugging Face hub


def _timm() -> Any:
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        raise unusable("timm", error, "it needs a torchvision that fits torch") from error
    return timm


def names() -> list[str]:
    return list(_timm().list_models())


def has(name: str) -> bool:
    timm = _timm()
    return bool(timm.is_model(name)) and (name in set(timm.list_models()) or name in set(timm.list_pretrained()))


def known(name: str) -> Known:
    told = _timm().models.get_pretrained_cfg(name)
    if told is None:
        return Known(name, "timm")
    hub, direct = told.hf_hub_id or "", told.url or ""
    url = f"https://huggingface.co/{hub}/resolve/main/{told.hf_hub_filename or FILES[0]}" if hub else direct
    places = list(_places(name, hub, told.hf_hub_filename, direct))
    file = next((one for one in places if one.is_file()), places[-1] if places else None)
    fixed = bool(told.fixed_input_size)
    return Known(name, "timm", int(told.input_size[-1]), tuple(told.mean), tuple(told.std), url, file, fixed)


def _places(name: str, hub: str, filename: str | None, direct: str) -> Iterator[Path]:
    """Where the weights may lie; the last is where to put them."""
    if hub:
        yield from _of_hub(hub, (filename,) if filename else FILES)
    if direct and not direct.endswith(".npz"):
        yield cached(direct)
    if hub:
        yield cached(f"{name}.safetensors")


def _of_hub(repository: str, files: tuple[str, ...]) -> Iterator[Path]:
    """In the cache of the Hugging Face hub, where it is there."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return
    for name in files:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            yield Path(found)


def made(name: str) -> nn.Module:
    """Without weights."""
    found: nn.Module = _timm().create_model(name, pretrained=False)
    return found
