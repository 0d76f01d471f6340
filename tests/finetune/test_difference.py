"""What of a trained network is taken over into a changed one."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from runtrue.finetune.changing import insert
from runtrue.finetune.checkpoints import WeightsError
from runtrue.finetune.difference import take


def net(classes: int = 10, width: int = 8, blocks: int = 2, names: str = "abcdef") -> nn.Sequential:
    parts: list[tuple[str, nn.Module]] = [(names[0], nn.Conv2d(3, width, 3)), (names[1], nn.BatchNorm2d(width))]
    parts += [(names[2 + i], nn.Conv2d(width, width, 3)) for i in range(blocks)]
    return nn.Sequential(OrderedDict([*parts, ("head", nn.Linear(width, classes))]))


def test_a_new_head_alone_starts_anew() -> None:
    donor, mine = net(), net(classes=3)
    before = mine.get_parameter("head.weight").detach().clone()
    found = take(mine, donor.state_dict())
    assert {one.name: (one.theirs, one.ours) for one in found.resized} == {
        "head.weight": ((10, 8), (3, 8)), "head.bias": ((10,), (3,))
    }  # fmt: skip
    assert not found.new and not found.dropped and not found.renamed and found.fresh == {"head.weight", "head.bias"}
    for name, value in mine.state_dict().items():
        assert name.startswith("head") or torch.equal(value, donor.state_dict()[name])
    assert torch.equal(mine.get_parameter("head.weight"), before)
    assert found.describe() == "11 tensors kept, 2 tensors resized"


def test_a_block_less_and_a_block_more() -> None:
    fewer, more = take(net(blocks=1), net().state_dict()), take(net(blocks=3), net().state_dict())
    assert fewer.dropped == ("d.weight", "d.bias") and not fewer.new
    assert more.new == ("e.weight", "e.bias") and not more.dropped


def test_names_that_differ() -> None:
    donor, mine = net(names="uvwxyz"), net()
    with pytest.raises(WeightsError, match=r"renamed must be a mapping"):
        take(mine, donor.state_dict(), renamed="somehow")  # type: ignore[arg-type]
    assert set(take(mine, donor.state_dict()).kept) == {"head.weight", "head.bias"}
    found = take(mine, donor.state_dict(), renamed="by order")
    assert len(found.kept) == 13 and found.renamed["c.weight"] == "w.weight" and not found.new and not found.dropped
    assert torch.equal(mine.get_parameter("c.weight"), donor.get_parameter("w.weight"))
    told = take(net(), donor.state_dict(), renamed={"u": "a", "v": "b"})
    assert set(told.renamed.values()) == {n for n in donor.state_dict() if n[0] in "uv"} and "w.weight" in told.dropped
    with pytest.raises(WeightsError, match=r"no tensor of the weights is called 'q'"):
        take(net(), donor.state_dict(), renamed={"q": "a"})


@pytest.mark.parametrize("prefix", ["model.", "backbone."])
def test_a_prefix_on_either_side(prefix: str) -> None:
    donor = net()
    longer = {prefix + name: value for name, value in donor.state_dict().items()}
    found = take(net(), longer)
    assert len(found.kept) == 13 and found.renamed["a.weight"] == f"{prefix}a.weight"
    holder = nn.ModuleDict({prefix[:-1]: net()})
    assert len(take(holder, donor.state_dict()).kept) == 13


def test_nothing_fits() -> None:
    with pytest.raises(
        WeightsError, match=r"none of the 2 tensors fits .* weight \(2, 5\), ours with a.weight \(8, 3, 3, 3\)"
    ):
        take(net(), nn.Linear(5, 2).state_dict())


def test_halves_become_floats_and_parameters_stay_parameters() -> None:
    mine = net()
    held = dict(mine.named_parameters())
    take(
        mine, {name: value.half() if value.is_floating_point() else value for name, value in net().state_dict().items()}
    )
    assert all(p is held[n] and p.dtype == torch.float32 and p.requires_grad for n, p in mine.named_parameters())


def test_too_little_fits_and_nothing_is_copied() -> None:
    """Of another network the bias of the last layer fits, by chance."""
    donor, mine = nn.ModuleDict({"x": nn.Conv2d(3, 8, 5), "head": nn.Linear(9, 10)}), net()
    before = {name: value.clone() for name, value in mine.state_dict().items()}
    with pytest.raises(
        WeightsError, match=r"only 1 of the 4 tensors fits the network's 13: theirs begin with x\.weight"
    ):
        take(mine, donor.state_dict(), least=0.5)
    assert all(torch.equal(value, before[name]) for name, value in mine.state_dict().items())
    assert take(mine, donor.state_dict()).kept == ("head.bias",)


def chain() -> nn.Sequential:
    """Blocks within blocks, all of one shape: any name that is mistaken for another fits all the same."""
    return nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)) for _ in range(2)), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("after", "now"),
    [
        (["0"], {"0.0": "0.0.0", "0.1": "0.0.1"}), (["0.1"], {"0.1": "0.1.0"}),
        (["0", "0"], {"0.0": "0.0.0.0", "0.1": "0.0.0.1"}), (["0.1", "0"], {"0.0": "0.0.0", "0.1": "0.0.1.0"}),
        (["1.0", "0"], {"1.0": "1.0.0", "0.0": "0.0.0", "0.1": "0.0.1"}),
    ],
    ids=["a block", "a layer", "twice", "a layer, then its block", "two places"],
)  # fmt: skip
def test_what_was_put_in_between_is_new_and_what_was_there_is_kept(after: list[str], now: dict[str, str]) -> None:
    donor, mine = chain(), chain()
    for place in after:
        insert(mine, place, nn.Linear(4, 4))
    found = take(mine, donor.state_dict())
    assert len(found.new) == 2 * len(after) and not found.dropped and not found.resized
    for name, layer in donor.named_modules():
        if isinstance(layer, nn.Linear):
            assert torch.equal(mine.get_parameter(f"{now.get(name, name)}.weight"), layer.weight), name
    other = chain()
    for place in after:
        insert(other, place, nn.Linear(4, 4))
    assert not take(other, mine.state_dict()).renamed, "changed alike, they have the same names"
