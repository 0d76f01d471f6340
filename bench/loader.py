"""How long the loader takes for a batch, and which share of a training step that is.

    python bench/loader.py [ROUNDS]

Batches of 128, cropped (4 pixels) and flipped, on one thread: images of CIFAR's shape (random bytes: the time does not depend on
what is seen) and the Fashion-MNIST subset. The bar is a millisecond a batch. Beside it a step of ResNet-20 on the same
batch, and torchvision's usual way, transforms of each image and torch's DataLoader, where torchvision can be imported. All
in turn, in one process, and all on one thread, so that milliseconds of CPU time are what the wall clock shows on a quiet
machine. Writes bench/results/loader.json.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from _common import in_turn, summary, table, write
from runtrue import nets
from runtrue.datasets import Augment, Loader, Split, load

BAR = 1.0
BATCH = 128
MEAN, STD = 0.4, 0.25
IMAGES = 12_800
AUGMENT = Augment.parse("crop,flip")
Batches = Iterator[tuple[Tensor, Tensor]]


def splits() -> dict[str, Split]:
    drawn = torch.Generator().manual_seed(0)
    coloured = torch.randint(0, 256, (IMAGES, 3, 32, 32), generator=drawn, dtype=torch.uint8)
    return {
        "3 × 32 × 32": Split(coloured, torch.randint(0, 10, (IMAGES,), generator=drawn)),
        "1 × 28 × 28": load("fashion-mnist-subset").train,
    }


def endless(batches: Callable[[], Batches]) -> Batches:
    while True:
        yield from batches()


def per_batch(batches: Batches, count: int) -> float:
    """Milliseconds of one batch, mean of `count`."""
    began = time.process_time()
    for _ in range(count):
        next(batches)
    return 1000 * (time.process_time() - began) / count


def of_loader(split: Split, **how: Any) -> Callable[[], float]:
    channels = split.images.shape[1]
    loader = Loader(split, BATCH, mean=(MEAN,) * channels, std=(STD,) * channels, drop_last=True, **how)
    return partial(per_batch, endless(lambda: iter(loader)), 50)


def of_torchvision(split: Split) -> Callable[[], float]:
    """Transforms of one image after the other, as torchvision's reference scripts have them."""
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    channels, side = split.images.shape[1:3]
    change = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.RandomCrop(side, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((MEAN,) * channels, (STD,) * channels),
        ]
    )

    class Changed(Dataset[Any]):
        def __len__(self) -> int:
            return len(split)

        def __getitem__(self, place: int) -> Any:
            return change(split.images[place]), int(split.labels[place])

    loader = DataLoader(Changed(), BATCH, shuffle=True, drop_last=True)
    return partial(per_batch, endless(lambda: iter(loader)), 10)


def torchvision_imports() -> bool:
    """Beside a torch without CUDA the published torchvision lacks two operators, which are declared here."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return False
    except RuntimeError:
        return declared()
    return True


KEPT: list[Any] = []


def declared() -> bool:
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    KEPT.append(library)  # what it declares goes with it
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        return False
    return True


def of_step(split: Split, channels_last: bool) -> Callable[[], float]:
    """A step of ResNet-20 with momentum on one batch, float32."""
    channels = split.images.shape[1]
    torch.manual_seed(0)
    net = nets.resnet(20, in_channels=channels)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loader = Loader(split, BATCH, mean=(MEAN,) * channels, std=(STD,) * channels, channels_last=channels_last)
    inputs, labels = next(iter(loader))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step() -> float:
        began = time.process_time()
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(inputs), labels).backward()
        optimizer.step()
        return 1000 * (time.process_time() - began)

    return step


def main(rounds: int = 5) -> None:
    torch.set_num_threads(1)
    beside = torchvision_imports()
    if not beside:
        print("torchvision cannot be imported here: its rows are left out\n")
    results: dict[str, Any] = {"bar": BAR}
    rows = []
    for shape, split in splits().items():
        runs = {
            "batch": of_loader(split, augment=AUGMENT),
            "batch, channels last": of_loader(split, augment=AUGMENT, channels_last=True),
            "batch, channels last, bf16": of_loader(split, augment=AUGMENT, channels_last=True, dtype=torch.bfloat16),
            "batch, as it is": of_loader(split),
            "step of ResNet-20": of_step(split, channels_last=False),
            "step of ResNet-20, channels last": of_step(split, channels_last=True),
        }
        if beside:
            runs["torchvision, DataLoader"] = of_torchvision(split)
        measured = {name: summary(values) for name, values in in_turn(runs, rounds).items()}
        step = min(told["median"] for name, told in measured.items() if name.startswith("step"))
        for name, told in measured.items():
            share = told["median"] / step
            verdict = "" if not name.startswith("batch") else "under" if told["median"] < BAR else "OVER"
            rows.append((shape, name, told["median"], told["q1"], told["q3"], f"{100 * share:.2f} %", verdict))
            results.setdefault(shape, {})[name] = told | {"share of the faster step": share}
    print(table(["images", "what", "ms", "q1", "q3", "share of a step", f"{BAR:g} ms"], rows))
    print(write("loader", results, batch=BATCH, augment=str(AUGMENT), threads=1, rounds=rounds, torchvision=beside))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
