"""The running mean of the weights, which is what mode "deep" judges and keeps; statistics of normalizations that have seen
nothing."""

from __future__ import annotations

import torch
from torch import nn

from runtrue.tuning.deep import averaged
from runtrue.tuning.norms import filled


class Masked(nn.Module):
    """A weight, a mask with -inf in it, and places in a table: what networks hold beside weights."""

    mask: torch.Tensor
    places: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
        self.register_buffer("places", torch.arange(50))


def test_the_mean_follows_the_weights_and_leaves_the_rest() -> None:
    net = Masked()
    mean = averaged(net, 4)
    for _ in range(3):
        with torch.no_grad():
            net.weight.fill_(1.0)
        mean.update_parameters(net)
    found = mean.module.state_dict()
    assert torch.allclose(found["weight"], torch.full((2,), 1 - 0.75**3))
    assert torch.equal(found["mask"], net.mask) and torch.equal(found["places"], torch.arange(50))
    assert net.weight.tolist() == [1.0, 1.0]


def test_what_does_not_move_is_to_the_bit_what_it_was() -> None:
    net = nn.Linear(30, 30)
    mean, before = averaged(net, 30), net.weight.detach().clone()
    for _ in range(20):
        mean.update_parameters(net)
    assert torch.equal(mean.module.state_dict()["weight"], before)


def test_what_has_seen_nothing_gets_statistics_and_what_has_keeps_its_own() -> None:
    torch.manual_seed(0)
    known, layer, new = nn.BatchNorm1d(3), nn.Linear(3, 4), nn.BatchNorm1d(4)
    net = nn.Sequential(known, layer, new, nn.Dropout(0.5))
    known(torch.randn(8, 3))
    net.eval()
    old = {name: value.clone() for name, value in known.state_dict().items()}
    x, labels = 5 + torch.randn(65, 3), torch.zeros(65)
    assert filled(net, zip(x.split(32), labels.split(32), strict=True)) == 1  # the last batch has a single row
    assert torch.allclose(new.state_dict()["running_mean"], layer(known(x[:64])).mean(0), atol=1e-5)
    assert all(torch.equal(old[name], value) for name, value in known.state_dict().items())
    assert new.momentum == 0.1 and not any(module.training for module in net.modules())
    assert filled(net, []) == 0
