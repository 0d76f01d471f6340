"""Batches of images that lie in memory: picked, moved and normalised a batch at a time, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from runtrue.datasets.augment import Augment, Moves, picked
from runtrue.datasets.images import Split, counted

ORDER, MOVES = 1, 2
"""Streams of random numbers of one epoch: the order of the examples, and what is done to each."""

BORDERED = 512 * 2**20
"""Bytes up to which the images are kept with their border, which saves a third of the time of a batch; CIFAR takes 240 MB."""


class Loader:
    """Batches (inputs, labels) of a split: inputs normalised, (pixel / 255 - mean) / std, with a `mean` and a `std` a channel.

    The order of the examples and what `augment` does to each follow from the seed and the epoch alone, and so does every batch
    by its number. Nothing is drawn from torch's global generator. `set_epoch` chooses the epoch (0 until then), `start_at` a
    batch to begin with: that is all that has to be kept to go on in the middle of an epoch.

    With `world` processes each global batch of `batch_size * world` examples is divided among them, so that all together
    see what one process with batches of that size would see, in the same order and moved in the same way. `batch_size` is
    that of one process. The images are put on `device` once, with the border that crops need where that is not too large.

    Raises ValueError for impossible arguments; for a split without a single whole batch, if `drop_last`; and for a last
    batch that has fewer examples than there are processes, if the batches are for training (`shuffle`).

    >>> from runtrue.datasets import load
    >>> data = load("fashion-mnist-subset")
    >>> loader = Loader(data.train, 128, mean=data.mean, std=data.std, augment=Augment(crop=4, flip=True))
    >>> inputs, labels = next(iter(loader))
    >>> inputs.shape, inputs.dtype, labels.shape, len(loader)
    (torch.Size([128, 1, 28, 28]), torch.float32, torch.Size([128]), 24)
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Augment | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size < 1 or world < 1 or not 0 <= rank < world or seed < 0:
            raise ValueError(
                "need batch_size >= 1, world >= 1, 0 <= rank < world and seed >= 0, "
                f"got batch_size={batch_size}, world={world}, rank={rank}, seed={seed}"
            )
        channels = split.images.shape[1]
        if not len(mean) == len(std) == channels or min(std) <= 0:
            raise ValueError(
                f"the images have {counted(channels, 'channel')}: mean and std need a number for each, std above 0, "
                f"got mean={tuple(mean)}, std={tuple(std)}"
            )
        self.batch_size, self.augment, self.shuffle, self.seed = batch_size, augment or Augment(), shuffle, seed
        self.drop_last, self.dtype, self.channels_last = drop_last, dtype, channels_last
        self.rank, self.world = rank, world
        self.epoch = self.first = 0
        self.images, self.labels = split.images.to(device), split.labels.to(device)
        self.bordered = self.augment.crop > 0 and split.images.numel() <= BORDERED
        if self.bordered:
            self.images = self.augment.bordered(self.images)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        middle, spread = (torch.tensor(list(of), dtype=torch.float64).reshape(1, -1, 1, 1) for of in (mean, std))
        # as large as an image and in its layout, so that one pass over memory does for all channels
        self.scale, self.shift = (
            of.float().expand(1, *split.images.shape[1:]).contiguous(memory_format=layout).to(device)
            for of in (1 / (255 * spread), -middle / spread)
        )
        self._refuse_a_lack()

    def _refuse_a_lack(self) -> None:
        count, whole = len(self.labels), self.batch_size * self.world
        if len(self) == 0:
            raise ValueError(f"{counted(count, 'example')} make no batch of {whole}: take a smaller batch_size")
        if self.shuffle and not self.drop_last and 0 < count % whole < self.world:
            raise ValueError(
                f"the last of the batches has {counted(count % whole, 'example')} for {self.world} processes: take "
                "drop_last=True or another batch_size"
            )

    def __len__(self) -> int:
        """Batches of an epoch, wherever the next iteration starts."""
        whole = self.batch_size * self.world
        return len(self.labels) // whole if self.drop_last else -(-len(self.labels) // whole)

    def set_epoch(self, epoch: int) -> None:
        """From the next iteration on: order and moves of that epoch. Raises ValueError for a number below 0."""
        if epoch < 0:
            raise ValueError(f"epochs are counted from 0, got {epoch}")
        self.epoch = epoch

    def start_at(self, batch: int) -> None:
        """The next iteration begins with that batch of the epoch, those after it with the first one again.

        Raises ValueError outside 0 to `len(loader)`, where nothing is left.
        """
        if not 0 <= batch <= len(self):
            raise ValueError(f"an epoch has batches 0 to {len(self) - 1}, cannot start at {batch}")
        self.first = batch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        first, self.first = self.first, 0
        return self._batches(first, self.epoch)

    def _batches(self, first: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        count, whole = len(self.labels), self.batch_size * self.world
        order = torch.randperm(count, generator=self._generator(epoch, ORDER)) if self.shuffle else torch.arange(count)
        moves = self.augment.draw(count, self._generator(epoch, MOVES))  # of the examples in this order
        order, moves = order.to(self.images.device), moves.to(self.images.device)
        for start in range(first * whole, len(self) * whole, whole):
            mine = self._share(start, min(start + whole, count))
            yield self._normalised(self._moved(order[mine], moves[mine])), self.labels[order[mine]]

    def _moved(self, places: Tensor, moves: Moves) -> Tensor:
        if self.bordered:
            return self.augment.cut(self.images, places, moves)
        return self.augment.moved(picked(self.images, places), moves)

    def _share(self, start: int, end: int) -> slice:
        """The part of this process of a global batch, as even as can be."""
        return slice(*(start + (end - start) * rank // self.world for rank in (self.rank, self.rank + 1)))

    def _normalised(self, images: Tensor) -> Tensor:
        inputs = (interleaved(images) if self.channels_last else images).to(torch.float32)
        return inputs.mul_(self.scale).add_(self.shift).to(self.dtype)

    def _generator(self, epoch: int, stream: int) -> Generator:
        (mixed,) = np.random.SeedSequence((self.seed, epoch, stream)).generate_state(1, np.uint64)
        return Generator().manual_seed(int(mixed))


def interleaved(images: Tensor) -> Tensor:
    """The same images with the channels of a pixel side by side in memory (channels last), one plane after the other."""
    laid = torch.empty_like(images, memory_format=torch.channels_last)
    for plane, channel in zip(laid.unbind(1), images.unbind(1), strict=True):
        plane.copy_(channel)
    return laid
