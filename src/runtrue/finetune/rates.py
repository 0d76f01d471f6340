"""How fast each part of a changed network learns: what is new at the full rate, what others trained at a lower one that falls
from back to front, or not at all (N1.1, modes 1 and 2; layer-wise decay: Howard and Ruder 2018, section 3.2).

>>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
>>> for group in groups(net, lr=0.1, fresh={"4.weight", "4.bias"}, kept=0.1, front=0.1):
...     print(group["name"], f"{group['lr']:.3g}", len(group["params"]))
0 weights 0.001 1
0 biases and norms 0.001 1
2 weights 0.01 1
2 biases and norms 0.01 1
new weights 0.1 1
new biases and norms 0.1 1
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from torch import nn

from runtrue.penalties import penalised

STAGES = 8  # different rates among the kept layers, at most: more groups make each step slower and tell no more
NEW = "new"


def groups(
    model: nn.Module,
    lr: float,
    fresh: Collection[str],
    *,
    kept: float = 0.0,
    front: float = 1.0,
    weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Groups for any optimizer of torch, from the front of the network to what is new: "name", "params", "lr", "weight_decay".

    fresh: names of the parameters that start anew (`Difference.fresh`). kept: rate of the last kept layer, as a share of `lr`; 0
    leaves all that was kept out of the groups, and whoever freezes it turns its gradients off (`still.Still` does). front: rate
    of the first layer as a share of that of the last kept one; those between lie on a geometric line, in at most `STAGES` steps.
    No decay on biases and normalization parameters. Parameters without a gradient are left out.

    Raises ValueError for shares that are no shares, or if nothing is left to train.
    """
    for name, share in (("kept", kept), ("front", front)):
        if not 0 <= share < math.inf or (name == "front" and share == 0):
            raise ValueError(
                f"{name} is a share of a rate, {'from 0 up' if name == 'kept' else 'above 0'}; got {share!r}"
            )
    decays = {id(p) for p in penalised(model)}
    stages = stages_of(model, fresh)
    found: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        stage, count, title = stages[name]
        share = 1.0 if stage == count else kept * front ** ((count - 1 - stage) / max(1, count - 1))
        if not parameter.requires_grad or share == 0:
            continue
        weight = id(parameter) in decays
        empty = {
            "name": f"{title} {'weights' if weight else 'biases and norms'}", "params": [], "lr": lr * share,
            "weight_decay": weight_decay if weight else 0.0,
        }  # fmt: skip
        found.setdefault((stage, weight), empty)["params"].append(parameter)
    if not found:
        raise ValueError("no parameter is left to train: nothing is new, and the share of what was kept is 0")
    return [found[key] for key in sorted(found, key=lambda key: (key[0], not key[1]))]


def stages_of(model: nn.Module, fresh: Collection[str]) -> dict[str, tuple[int, int, str]]:
    """Of each parameter: its stage from the front (0) on, how many stages of kept layers there are (which is the stage of what is
    new), and the name of the stage."""
    new = set(fresh)
    names = [name for name, _ in model.named_parameters()]
    layers = list(dict.fromkeys(layer_of(name) for name in names if name not in new))
    count = min(STAGES, len(layers))
    stage = {layer: place * count // len(layers) for place, layer in enumerate(layers)}
    ends: dict[int, list[str]] = {}
    for layer, place in stage.items():
        ends.setdefault(place, []).append(layer or "the network")
    titles = {place: one[0] if len(one) == 1 else f"{one[0]} to {one[-1]}" for place, one in ends.items()}
    return {
        name: (count, count, NEW) if name in new else (stage[layer_of(name)], count, titles[stage[layer_of(name)]])
        for name in names
    }


def layer_of(name: str) -> str:
    """The module that a parameter belongs to."""
    return name.rpartition(".")[0]
