"""Parameter groups: every parameter in exactly one, decay where it belongs, and the rate that was asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from runtrue import nets
from runtrue.groups import head_of, left_out, parameter_groups


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.blocks = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, bias=False))
        self.blocks10 = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)


def named(groups: list[dict[str, Any]], model: nn.Module) -> dict[str, tuple[float, float, list[str]]]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {g["name"]: (g["lr"], g["weight_decay"], [names[id(p)] for p in g["params"]]) for g in groups}


def test_no_decay_on_biases_and_normalization() -> None:
    net = Body()
    assert named(parameter_groups(net, 0.1, weight_decay=0.01), net) == {
        "weights": (0.1, 0.01, ["stem.weight", "blocks.0.weight", "blocks.2.weight", "blocks10.weight", "head.weight"]),
        "biases and norms": (
            0.1, 0.0, ["stem.bias", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias", "blocks10.bias", "head.bias"],
        ),
    }  # fmt: skip


def test_the_longest_name_wins_and_a_name_is_no_mere_beginning() -> None:
    net = Body()
    rates = {"blocks": 0.5, "blocks.2": 0.25, "stem": 0.0, "head.bias": 3.0}
    assert named(parameter_groups(net, 1.0, weight_decay=0.01, rates=rates), net) == {
        "weights": (1.0, 0.01, ["blocks10.weight", "head.weight"]),
        "biases and norms": (1.0, 0.0, ["blocks10.bias"]),
        "blocks weights": (0.5, 0.01, ["blocks.0.weight"]),
        "blocks biases and norms": (0.5, 0.0, ["blocks.0.bias", "blocks.1.weight", "blocks.1.bias"]),
        "blocks.2 weights": (0.25, 0.01, ["blocks.2.weight"]),
        "head.bias biases and norms": (3.0, 0.0, ["head.bias"]),
    }
    assert left_out(net, rates) == ("stem.weight", "stem.bias")


def test_the_head_has_a_rate_of_its_own_unless_one_is_given() -> None:
    net = Body()
    found = named(parameter_groups(net, 0.1, head=10), net)
    assert found["head weights"] == (1.0, 0.0, ["head.weight"]) and found["weights"][0] == 0.1
    assert named(parameter_groups(net, 0.1, head=10, rates={"head": 2}), net)["head weights"][0] == 0.2
    assert head_of(nets.resnet(8)) == "head" and head_of(nets.mlp([4, 8, 2])) == "head"
    assert head_of(nn.Linear(2, 2)) == "" == head_of(nn.BatchNorm1d(3))


def test_frozen_and_shared_parameters() -> None:
    net = Body()
    net.stem.requires_grad_(False)
    net.blocks[2].weight = net.blocks[0].weight
    groups = parameter_groups(net, 0.1)
    found = [p for group in groups for p in group["params"]]
    assert len(found) == len({id(p) for p in found}) == len([p for p in net.parameters() if p.requires_grad])
    assert left_out(net) == ("stem.weight", "stem.bias")


def test_torchs_optimizers_take_them() -> None:
    net = nets.resnet(8)
    optimizer = torch.optim.SGD(parameter_groups(net, 0.1, weight_decay=0.01, rates={"stage1": 0.1}), momentum=0.9)
    assert [group["name"] for group in optimizer.param_groups][:2] == ["weights", "biases and norms"]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(net.parameters()))


def test_what_is_wrong_is_said() -> None:
    net = Body()
    with pytest.raises(ValueError, match=r"no layer with parameters is called 'block'; nearest: blocks, blocks10"):
        parameter_groups(net, 0.1, rates={"block": 0.1})
    with pytest.raises(ValueError, match="nearest"):
        left_out(net, {"zzz": 0.1})
    with pytest.raises(ValueError, match=r"the factor of 'stem' must be a number from 0 up, got -1"):
        parameter_groups(net, 0.1, rates={"stem": -1})
    with pytest.raises(ValueError, match="no parameter is left to train"):
        parameter_groups(net, 0.1, rates={name: 0 for name, _ in net.named_children()})
