"""Parts of a network that stand still: their parameters and the statistics of their normalizations, whatever the training loop
calls; and the proof that they did (N1.1, mode 1: learning rate 0 for every layer that is not changed)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


class Still:
    """Holds everything but `fresh` from its making until `release`. A model that is copied meanwhile has frozen parameters, and
    normalizations that move again.

    >>> net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    >>> held = Still(net, fresh={"2.weight", "2.bias"})
    >>> _ = net.train()(torch.randn(8, 3))
    >>> held.moved(), [name for name, p in net.named_parameters() if p.requires_grad]
    ([], ['2.weight', '2.bias'])
    """

    def __init__(self, model: nn.Module, fresh: Collection[str]) -> None:
        self.model, self.fresh = model, frozenset(fresh)
        self.asked = {name: p.requires_grad for name, p in model.named_parameters()}
        for name, parameter in model.named_parameters():
            if name not in self.fresh:
                parameter.requires_grad_(False)
        self.norms = list(norms_without(model, self.fresh))
        self.handles = [norm.register_forward_pre_hook(_stay) for _, norm in self.norms]
        self.before = self._digests()

    def moved(self) -> list[str]:
        """Parameters and buffers that are not to the bit what they were."""
        now = self._digests()
        return [name for name, digest in self.before.items() if now.get(name) != digest]

    def release(self) -> None:
        for handle in self.handles:
            handle.remove()
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self.asked.get(name, True))

    def _digests(self) -> dict[str, str]:
        return {name: digest(value) for name, value in self.model.state_dict().items() if name not in self.fresh}


def _stay(norm: nn.Module, inputs: object) -> None:
    norm.training = False


def norms_without(model: nn.Module, fresh: Collection[str]) -> Iterator[tuple[str, nn.Module]]:
    """Normalizations that keep statistics, none of whose parameters is fresh."""
    for name, module in model.named_modules():
        if isinstance(module, _NormBase) and module.track_running_stats:
            own = {f"{name}.{one}".lstrip(".") for one, _ in module.named_parameters(recurse=False)}
            if not own & set(fresh):
                yield name, module


def digest(value: Tensor) -> str:
    """Of the bits of a tensor, wherever it lies."""
    flat = value.detach().cpu().contiguous().reshape(-1)
    return hashlib.blake2b(flat.view(torch.uint8).numpy().tobytes(), digest_size=16).hexdigest()


@contextmanager
def standing_still(model: nn.Module, fresh: Collection[str]) -> Iterator[Still]:
    held = Still(model, fresh)
    try:
        yield held
    finally:
        held.release()
