"""What the experiment `finetune` stands on: images of classes to be learned, and a network that was trained on others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from runtrue import nets
from runtrue.datasets import fashion_mnist
from runtrue.finetune.difference import take
from runtrue.finetune.heads import replace_head
from runtrue.lab.runs import Examples, fit, seed_by_seed

OLD, NEW = (0, 1, 2, 5, 8, 9), (3, 4, 6, 7)
"""Of Fashion-MNIST: T-shirt, trouser, pullover, sandal, bag and boot; dress, coat, shirt and sneaker."""
DEPTH = 8
DONOR_EPOCHS, DONOR_RATE, DONOR_BATCH = 10, 0.1, 50
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Ground:
    """train, val: (N, C, H, W) and labels from 0 on. states: of the donor, by seed (one for all of a zoo). made: builds the
    network in the donor's own form, without its weights. donor: in words."""

    train: Examples
    val: Examples
    states: Mapping[int, State]
    made: Any
    donor: str

    def start(self, seed: int, *, trained: bool) -> tuple[nn.Module, str, frozenset[str]]:
        """The network with a head for the new classes, that head's name, and the names of what starts anew."""
        torch.manual_seed(seed)
        model = self.made()
        name = replace_head(model, int(self.train[1].max()) + 1)[-1]
        if not trained:
            return model, name, frozenset(dict(model.named_parameters()))
        state = self.states.get(seed) or next(iter(self.states.values()))
        return model, name, take(model, state).fresh


def ground_of(data: str, net: str | None, weights: str | None, side: int, seeds: Iterable[int]) -> Ground:
    if data == "fashion-mnist":
        if net is not None or weights is not None:
            raise ValueError("net and weights go with data of your own: data=FOLDER")
        return of_fashion(list(seeds))
    return of_folder(data, net or "mobilenet_v2", weights, side)


def of_fashion(seeds: list[int]) -> Ground:
    train, val = fashion_mnist(), fashion_mnist("test")
    made = partial(nets.resnet, DEPTH, len(OLD), 1)
    states = seed_by_seed(partial(donor, part(train, OLD), part(val, OLD)), ["donor"], seeds)["donor"]
    told = f"ResNet-{DEPTH}, {DONOR_EPOCHS} epochs on {len(OLD)} other classes"
    return Ground(part(train, NEW), part(val, NEW), dict(zip(seeds, states, strict=True)), made, told)


def donor(train: Examples, val: Examples, _: str, seed: int) -> State:
    torch.manual_seed(seed)
    net = nets.resnet(DEPTH, len(OLD), 1)
    optimizer = torch.optim.SGD(net.parameters(), DONOR_RATE, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, DONOR_EPOCHS)
    fit(net, train, val, epochs=DONOR_EPOCHS, batch_size=DONOR_BATCH, optimizer=optimizer, schedule=schedule, seed=seed)
    return net.state_dict()


def part(examples: Examples, classes: tuple[int, ...]) -> Examples:
    """Of these classes alone, numbered from 0 on."""
    places = torch.isin(examples[1], torch.tensor(classes))
    labels = examples[1][places]
    return examples[0][places], torch.bucketize(labels, torch.tensor(classes))


def of_folder(data: str, net: str, weights: str | None, side: int) -> Ground:
    """Of a folder of class folders, and a network of a zoo."""
    from runtrue import datasets
    from runtrue.finetune import zoo

    known = zoo.known(net)
    if weights is None and not known.here:
        raise zoo.ZooError(known.missing())
    where = data if data.partition(":")[0] in ("folder", "csv") else f"folder:{data}"
    images = datasets.load(where, size=known.side if known.fixed else side)
    made = partial(made_of, net)
    state = zoo.weights_for(made(), weights if weights is not None else str(known.file))
    mean, std = (torch.tensor(v)[:, None, None] for v in (known.mean, known.std))
    both = [((s.images.float() / 255 - mean) / std, s.labels) for s in (images.train, images.val)]
    return Ground(both[0], both[1], {-1: state}, made, f"{known.library}:{known.name}, its own weights")


def made_of(net: str) -> nn.Module:
    from runtrue.finetune import zoo

    return zoo.build(net, weights=False)[0]
