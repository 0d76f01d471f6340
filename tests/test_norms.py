"""Batch normalization put in: in the right places, and so that the code to paste does the same."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue import nets, norms
from runtrue.tape import record


def places(net: nn.Module, x: Tensor) -> tuple[str, ...]:
    return norms.places(record(lambda: net(x), net), net)


def test_every_activation_but_those_that_have_one() -> None:
    assert places(nets.mlp([6, 5, 4, 3]), torch.randn(4, 6)) == ("linear1", "linear2")
    assert places(nets.mlp([6, 5, 4, 3], norm="batch"), torch.randn(4, 6)) == ()
    assert places(nets.cnn((4, 8)), torch.randn(2, 1, 28, 28)) == ("conv1", "conv2")


def test_activations_that_are_called_as_functions_and_layers_called_twice() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.twice, self.head = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.first(x))
            out: Tensor = self.head(F.relu(self.twice(F.relu(self.twice(x)))))
            return out

    assert places(Net(), torch.randn(4, 6)) == ("first",)


def test_inserting_is_what_the_network_with_norms_does() -> None:
    torch.manual_seed(0)
    net, twin = nets.mlp([6, 5, 4, 3]), nets.mlp([6, 5, 4, 3], norm="batch")
    own = [m for m in net if isinstance(m, nn.Linear)]
    for mine, theirs in zip(own, (m for m in twin if isinstance(m, nn.Linear)), strict=True):
        mine.load_state_dict(theirs.state_dict())
    norms.insert(net, ("linear1", "linear2"))
    x = torch.randn(8, 6)
    assert torch.equal(net(x), twin(x)) and torch.equal(net.eval()(x), twin.eval()(x))


def test_the_code_to_paste_does_the_same() -> None:
    model, other = nets.cnn((4, 8)), nets.cnn((4, 8))
    other.load_state_dict(model.state_dict())
    norms.insert(other, ("conv1", "conv2"))
    exec(norms.code(("conv1", "conv2")), {"nn": nn, "model": model})
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(model(x), other(x))
