"""The final weights as a file that others can read: safetensors, with everything that is needed to use them beside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from runtrue import nets, targets
from runtrue.datasets import Images
from runtrue.finetune import heads, zoo
from runtrue.training.config import Config, ConfigError
from runtrue.training.naming import called, is_target

FORM = 1  # of what stands beside the tensors


@dataclass(frozen=True)
class Described:
    """What stands beside the tensors. side: of the images, in pixels; mean, std: per channel, of values from 0 to 1; head: the
    layer that was put on a network of a zoo, or of the user's, in a fine-tuning."""

    net: str
    norm: str
    dropout: float
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    side: int
    data: str
    head: str = ""
    framing: Literal["crop", "whole"] = "crop"

    @classmethod
    def of(cls, config: Config, images: Images) -> Described:
        return cls(
            config.net, config.norm, config.dropout, tuple(images.classes), tuple(images.mean), tuple(images.std),
            images.channels, max(images.size), config.data,
        )  # fmt: skip


def save(path: Path, net: nn.Module, config: Config, images: Images) -> None:
    """Write the state of the network, whole or not at all. Tensors that share memory are stored once each."""
    keep(path, net, Described.of(config, images))


def keep(path: Path, net: nn.Module, described: Described) -> None:
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().clone().contiguous() for name, value in net.state_dict().items()}
    told = json.dumps(vars(described))
    beside = path.with_name(f".{path.name}")
    save_file(state, beside, metadata={"runtrue": told, "form": str(FORM)})
    beside.replace(path)


def load(path: Path) -> tuple[dict[str, Tensor], Described]:
    """Tensors and description. Raises ConfigError for a file that is not there, is damaged, or is not runtrue's."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            told: dict[str, str] = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no dict
    except FileNotFoundError:
        raise ConfigError(f"there are no weights {path}: has the run finished?") from None
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} is no safetensors file, or is damaged: {error}") from error
    if "runtrue" not in told:
        raise ConfigError(f"{path} has no labels and constants of runtrue: it was written by something else")
    found: dict[str, Any] = {}
    for name, one in json.loads(told["runtrue"]).items():
        found[name] = tuple(one) if isinstance(one, list) else one
    return state, Described(**found)


def network(state: dict[str, Tensor], told: Described, net: nn.Module | None = None) -> nn.Module:
    """The network with these weights, in evaluation mode."""
    known: dict[str, Any] = {"classes": len(told.classes), "in_channels": told.channels, "size": told.side}
    if net is None:
        norm: Literal["batch"] | None = None if told.norm == "none" else "batch"
        net = nets.named(told.net, **known, norm=norm, dropout=told.dropout)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(f"the weights do not fit {told.net}: {' '.join(str(error).split())[:300]}") from error
    return net.eval()


def of_target(told: Described) -> nn.Module | None:
    """The network of a run that was started with a TARGET, built anew."""
    if told.net.startswith("object:"):
        raise ConfigError(f"the run was given a network of a program ({told.net[7:]}): use predict(…, net=…) in Python")
    if not is_target(told.net):
        return headed(zoo.build(told.net, weights=False)[0], told) if told.head else None
    known = {"classes": len(told.classes), "in_channels": told.channels, "size": told.side}
    known |= {"num_classes": len(told.classes)} if told.head else {}
    found = targets.named(told.net)
    made: nn.Module = found if isinstance(found, nn.Module) else called(found, known, f"the network {told.net}")
    return headed(made, told) if told.head else made


def headed(net: nn.Module, told: Described) -> nn.Module:
    """With a last layer for the classes of the run, where it has another one."""
    found = net.get_submodule(told.head)
    if not heads.is_classifier(found) or heads.outputs_of(found) != len(told.classes):
        heads.replace_head(net, len(told.classes), name=told.head)
    return net


@torch.no_grad()
def probabilities(net: nn.Module, inputs: Tensor) -> Tensor:  # (B, C, H, W) -> (B, classes)
    outputs = net(inputs)
    found: Tensor = getattr(outputs, "logits", outputs).float().flatten(1).softmax(1)
    return found
