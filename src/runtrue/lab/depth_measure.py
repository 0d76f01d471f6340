"""What the loss sends back to the blocks of a network that is not trained yet: the measuring half of `depth`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue.nets.resnet import Block


@dataclass(frozen=True)
class Back:
    """By block, from the first on, means over batches of the size of the gradient of the loss with respect to the block's input;
    and the agreement: the mean cosine between the gradients of the block's weights for two batches."""

    sizes: tuple[float, ...]
    agreements: tuple[float, ...]

    @property
    def arrives(self) -> float:
        """What arrives at the first block, over what the last one was sent."""
        return self.sizes[0] / self.sizes[-1] if self.sizes[-1] else float("nan")

    @property
    def agreement(self) -> float:
        """The mean over the blocks."""
        return fmean(self.agreements)


def sent_back(net: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> Back:
    """Passes a few batches forward and back in training mode; the gradients are dropped afterwards.

    What two batches agree on is a direction that helps both; what they do not agree on is noise to each other (Balduzzi et al.
    2017, "The Shattered Gradients Problem").
    """
    blocks = [layer for layer in net.modules() if isinstance(layer, Block)]
    sizes, weights = [], []
    net.train()
    for inputs, labels in batches:
        net.zero_grad()
        with inputs_of(blocks) as entering:
            F.cross_entropy(net(inputs), labels).backward()
        sizes.append(torch.stack([size_of(x.grad) for x in entering]))
        weights.append([torch.cat([g.flatten() for g in gradients_of(block)]) for block in blocks])
    net.zero_grad()
    agreements = [agreement([of_batch[place] for of_batch in weights]) for place in range(len(blocks))]
    return Back(tuple(torch.stack(sizes).mean(0).tolist()), tuple(torch.stack(agreements).tolist()))


@contextmanager
def inputs_of(blocks: Sequence[Block]) -> Iterator[list[Tensor]]:
    """The inputs of the blocks of one pass, whose gradients are kept, in the order in which they run."""
    entering: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Tensor]) -> None:
        arguments[0].retain_grad()
        entering.append(arguments[0])

    hooks = [block.register_forward_pre_hook(keep) for block in blocks]
    try:
        yield entering
    finally:
        for hook in hooks:
            hook.remove()


def size_of(gradient: Tensor | None) -> Tensor:
    assert gradient is not None, "a block that the loss does not reach"
    size: Tensor = gradient.double().norm()
    return size


def gradients_of(block: Block) -> list[Tensor]:
    """The gradients of both 3x3 convolutions."""
    return [weight.grad for weight in (block.conv1.weight, block.conv2.weight) if weight.grad is not None]


def agreement(gradients: Sequence[Tensor]) -> Tensor:
    """Mean cosine over all pairs; with gradients of length 1, |Σ g|² = n + Σ over pairs, twice, of their cosine."""
    units = torch.stack([g.double() / g.double().norm().clamp(min=torch.finfo(torch.float64).tiny) for g in gradients])
    count = len(gradients)
    pairs: Tensor = (units.sum(0).square().sum() - units.square().sum()) / (count * (count - 1))
    return pairs
