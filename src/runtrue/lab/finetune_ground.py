"""What the experiment `finetune` stands on: images of classes to be learned, and a network that was trained on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from runtrue import datasets, nets
from runtrue.finetune.difference import take
from runtrue.finetune.dry import SurgeryError
from runtrue.finetune.heads import replace_head
from runtrue.lab.runs import Examples, alone, fit, seed_by_seed

OLD, NEW = (0, 1, 2, 5, 8, 9), (3, 4, 6, 7)
"""Of Fashion-MNIST: T-shirt, trouser, pullover, sandal, bag and boot; dress, coat, shirt and sneaker."""
DEPTH = 8
DONOR_EPOCHS, DONOR_RATE, DONOR_BATCH = 10, 0.1, 50
ZOO = "mobilenet_v2"  # where no network is named
VALIDATION = 300
"""Pictures of a folder to validate with, at most: more would take longer than the training."""
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Rates:
    """Learning rates of SGD with momentum. scratch: of everything, from scratch; head: of the head alone, in mode 1; new: of what
    is new in mode 2, and of everything at one high rate."""

    scratch: float
    head: float
    new: float


SMALL = Rates(scratch=0.1, head=0.2, new=0.1)
"""Of 4 or 5 tried for each way, about the best for it at 5, 20 and 50 images a class (seeds 10 and 11, which the figures of the
guide are not made of)."""
LARGE = Rates(scratch=0.05, head=0.2, new=0.02)
"""For MobileNetV2, tried on 213 photographs at 20 images a class and 40 steps (seed 10): one value for training from scratch, up
to five for each other way. At 0.05 for all layers what ImageNet taught is lost."""


@dataclass(frozen=True)
class Ground:
    """train, val: by seed, inputs (N, C, H, W) and labels (N,) from 0 on. classes: their names. states: of the donor, by seed.
    made: builds the network as the donor was, without its weights. donor: in words."""

    train: Mapping[int, Examples]
    val: Mapping[int, Examples]
    classes: Sequence[str]
    states: Mapping[int, State]
    made: Callable[[], nn.Module]
    donor: str
    rates: Rates

    def start(self, seed: int, *, trained: bool) -> tuple[nn.Module, str, frozenset[str]]:
        """The network with a head for the new classes, that head's name, and the names of the parameters that start anew.

        Draws from torch's own generator, which it seeds.
        """
        torch.manual_seed(seed)
        model = self.made()
        head = replace_head(model, len(self.classes))[-1]
        if not trained:
            return model, head, frozenset(dict(model.named_parameters()))
        return model, head, take(model, self.states[seed]).fresh

    def sizes(self) -> list[int]:
        """Images of each class to train with; of all seeds the fewest."""
        counts = [torch.bincount(labels, minlength=len(self.classes)) for _, labels in self.train.values()]
        return [int(n) for n in torch.stack(counts).amin(0)]


def some_of(examples: Examples, count: int, seed: int) -> Examples:
    """So many of each class, other ones for each seed; all of a class that has fewer."""
    draw = Generator().manual_seed(seed)
    places = []
    for label in examples[1].unique():
        own = (examples[1] == label).nonzero()[:, 0]
        places.append(own[torch.randperm(len(own), generator=draw)[:count]])
    chosen = torch.cat(places)
    return examples[0][chosen], examples[1][chosen]


# -- Fashion-MNIST, and a network that is trained here


def of_fashion(seeds: Sequence[int]) -> Ground:
    """Images of 14 by 14 pixels: the means of four. For each seed another donor."""
    train, val = (halved_in_size(datasets.fashion_mnist(split)) for split in ("train", "test"))
    states = seed_by_seed(partial(donor, part(train, OLD), part(val, OLD)), ["donor"], seeds)["donor"]
    return Ground(
        dict.fromkeys(seeds, part(train, NEW)),
        dict.fromkeys(seeds, part(val, NEW)),
        [datasets.CLASSES[label] for label in NEW],
        dict(zip(seeds, states, strict=True)),
        partial(nets.resnet, DEPTH, len(OLD), 1),
        f"ResNet-{DEPTH}, {DONOR_EPOCHS} epochs on {len(OLD)} other classes",
        SMALL,
    )


def halved_in_size(examples: Examples) -> Examples:
    return F.avg_pool2d(examples[0], 2), examples[1]


def part(examples: Examples, classes: tuple[int, ...]) -> Examples:
    """Of these classes alone, numbered from 0 on."""
    places = torch.isin(examples[1], torch.tensor(classes))
    return examples[0][places], torch.bucketize(examples[1][places], torch.tensor(classes))


def donor(train: Examples, val: Examples, _: str, seed: int) -> State:
    torch.manual_seed(seed)
    net = nets.resnet(DEPTH, len(OLD), 1)
    optimizer = torch.optim.SGD(net.parameters(), DONOR_RATE, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, DONOR_EPOCHS)
    fit(net, train, val, epochs=DONOR_EPOCHS, batch_size=DONOR_BATCH, optimizer=optimizer, schedule=schedule, seed=seed)
    return net.state_dict()


# -- pictures of the user's, and a network of a zoo


def of_folder(
    data: str, net: str | None, weights: str | None, side: int, seeds: Sequence[int], most: int
) -> Ground:  # fmt: skip
    """For each seed another division of the pictures, where they bring none; of each class `most` to train with are kept.

    Raises DataError, ZooError, WeightsError, and SurgeryError for a network that does not train on such pictures.
    """
    from runtrue.finetune import zoo

    with alone():
        model, known, _ = zoo.build(net or ZOO, weights=weights or True)
    mean, std = (torch.tensor(values)[:, None, None] for values in (known.mean, known.std))
    train: dict[int, Examples] = {}
    val: dict[int, Examples] = {}
    names: Sequence[str] = ()
    for seed in seeds:
        images = datasets.load(place(data), size=known.side if known.fixed else side, seed=seed)
        names = images.classes
        some = torch.randperm(len(images.val), generator=Generator().manual_seed(seed))[:VALIDATION]
        for into, (pixels, labels) in (
            (train, some_of((images.train.images, images.train.labels), most, seed)),
            (val, (images.val.images[some], images.val.labels[some])),
        ):
            into[seed] = (pixels.float() / 255 - mean) / std, labels
    donated = "weights of yours" if weights else "its own weights"
    made = partial(untrained, net or ZOO)
    told = f"{known.library}:{known.name}, {donated}"
    ground = Ground(train, val, names, dict.fromkeys(seeds, model.state_dict()), made, told, LARGE)
    prove(ground, seeds[0])
    return ground


def untrained(net: str) -> nn.Module:
    from runtrue.finetune import zoo

    return zoo.build(net, weights=False)[0]


def place(data: str) -> str:
    """`folder:PATH` or `csv:PATH`."""
    if data.partition(":")[0] in ("folder", "csv"):
        return data
    return f"csv:{data}" if Path(data).expanduser().is_file() else f"folder:{data}"


def prove(ground: Ground, seed: int) -> None:
    """Raises SurgeryError if the network cannot be trained as it is: no answer, or one that is no number a class."""
    pixels, labels = (tensor[:2] for tensor in ground.train[seed])
    with alone():
        model, _, _ = ground.start(seed, trained=False)
        try:
            F.cross_entropy(model.train()(pixels), labels)
        except Exception as error:
            shape = " × ".join(map(str, pixels.shape[1:]))
            raise SurgeryError(
                f"{ground.donor.partition(',')[0]} cannot be trained on pictures of {shape}: {' '.join(str(error).split())[:200]}"
            ) from error
