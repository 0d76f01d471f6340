"""A stage of a residual network: its blocks one after another; on request without keeping what is inside of them.

Activation checkpointing (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", section 3): of n blocks, groups of
about sqrt(n) keep their input alone, and what is inside of a group is computed a second time on the way back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


class Stage(nn.Sequential):
    """The blocks in order. With `checkpointed` a training step computes them twice and holds far less memory meanwhile.

    Outputs, gradients and the running statistics of the normalisations are those without it. Hooks on what is inside of a
    block are called a second time, on the way back.
    """

    checkpointed = False

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H', W')
        if not (self.checkpointed and torch.is_grad_enabled()):
            for block in self:
                x = block(x)
            return x
        size = math.ceil(math.sqrt(len(self)))
        for start in range(0, len(self), size):
            group = self[start : start + size]  # a Stage that is not checkpointed
            x = checkpoint(group, x, use_reentrant=False, context_fn=partial(once_and_again, group))
        return x

    def extra_repr(self) -> str:
        return "checkpointed" if self.checkpointed else ""


def once_and_again(group: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the first computation of a group, and the second: there, normalisations leave their statistics alone."""
    return nullcontext(), statistics_kept(group)


@contextmanager
def statistics_kept(net: nn.Module) -> Iterator[None]:
    """Within, batch normalisations update copies of their running statistics, which are dropped at the end.

    A batch that is passed through twice in one step counts once. A momentum of 0 would not do: 0 times an infinite statistic
    is no number, and the count of batches would go up all the same.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, _BatchNorm)]
    kept = [dict(layer._buffers) for layer in layers]
    try:
        for layer, buffers in zip(layers, kept):
            layer._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
        yield
    finally:
        for layer, buffers in zip(layers, kept):
            layer._buffers.update(buffers)
