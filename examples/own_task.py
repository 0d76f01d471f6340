"""A task of your own kind: two inputs, a batch that is a dict, and a loss that is none of torch's.

A siamese network learns whether two images show the same kind of thing. What to do with a batch is said by `step`.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

import runtrue
from runtrue import datasets

torch.set_num_threads(1)  # layers this small gain nothing from more
MARGIN = 1.0


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 16))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:  # (B, 784) twice -> (B,) distances
        distance: Tensor = (self.body(left) - self.body(right)).square().sum(1).add(1e-6).sqrt()
        return distance


def contrastive(distance: Tensor, same: Tensor) -> Tensor:
    """Pulls pairs of one kind together and pushes others apart (Hadsell, Chopra and LeCun 2006, eq. 4)."""
    return (same * distance.square() + (1 - same) * (MARGIN - distance).clamp(min=0).square()).mean()


def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return contrastive(model(batch["left"], batch["right"]), batch["same"])


class Pairs:
    """Batches of pairs, half of them of one kind: any iterable will do as training data."""

    def __init__(self, size: int = 64, count: int = 40) -> None:
        self.size, self.count = size, count
        self.images, self.labels = datasets.fashion_mnist(flat=True)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for _ in range(self.count):
            left, right = torch.randint(len(self.images), (2, self.size), generator=generator)
            kind = [torch.nonzero(self.labels == label).flatten() for label in self.labels[left[::2]]]
            right[::2] = torch.stack([of[torch.randint(len(of), (), generator=generator)] for of in kind])
            same = (self.labels[left] == self.labels[right]).float()
            yield {"left": self.images[left], "right": self.images[right], "same": same}

    def __len__(self) -> int:
        return self.count


def task(rate: float = 1e-3) -> runtrue.Task:
    """Also for the command line: `runtrue check examples/own_task.py:task`."""
    return runtrue.Task(Siamese, train=Pairs(), step=step, optimizer=partial(torch.optim.Adam, lr=rate), epochs=10)


if __name__ == "__main__":
    report = runtrue.check(task(), budget=20)
    print(report)
    assert report.ok, report.faults

    broken = runtrue.check(task(rate=10.0), budget=20)
    fault = broken.faults[0]
    assert fault.cause == "learning-rate-too-high" and fault.remedy and fault.outcome and fault.outcome.cured
    print(f"with a learning rate of 10: {fault.cause}. The cure: {fault.remedy.code}")
