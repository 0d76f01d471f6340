"""Networks by name: what a name builds, and what a wrong one is told."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from runtrue.nets import cnn, imagenet_resnet, mlp, named, plain, resnet
from runtrue.nets.names import NAMES, OFFERED

SET: dict[str, Any] = {"classes": 7, "in_channels": 2, "size": (28, 32)}
INPUTS = 2 * 28 * 32


def shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in net.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "built"),
    [
        ("resnet20", lambda: resnet(20, 7, 2)),
        ("ResNet-20", lambda: resnet(20, 7, 2)),
        ("resnet20b", lambda: resnet(20, 7, 2, "B")),
        ("resnet26", lambda: resnet(26, 7, 2)),
        ("plain14", lambda: plain(14, 7, 2)),
        ("resnet18", lambda: imagenet_resnet(18, 7, 2)),
        ("resnet50", lambda: imagenet_resnet(50, 7, 2)),
        ("resnet50a", lambda: resnet(50, 7, 2)),
        ("mlp:50x3", lambda: mlp([INPUTS, 50, 50, 50, 7], norm="batch", flatten=True)),
        ("mlp:30,10", lambda: mlp([INPUTS, 30, 10, 7], norm="batch", flatten=True)),
        ("mlp:8", lambda: mlp([INPUTS, 8, 7], norm="batch", flatten=True)),
        ("mlp", lambda: mlp([INPUTS, 300, 100, 7], norm="batch", flatten=True)),
        ("cnn", lambda: cnn((16, 32), 7, 2, "batch", size=(28, 32))),
        ("cnn:4,8,8", lambda: cnn((4, 8, 8), 7, 2, "batch", size=(28, 32))),
    ],
)
def test_a_name_builds_what_it_says(name: str, built: Any) -> None:
    with torch.device("meta"):
        net, expected = named(name, **SET), built()
        assert shapes(net) == shapes(expected) and type(net) is type(expected)
        assert net(torch.zeros(3, 2, 28, 32)).shape == (3, 7)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("resnet")] + ["resnet8", "resnet18"])
def test_norm_and_dropout_are_switches(name: str) -> None:
    def kinds(**switches: Any) -> set[type[nn.Module]]:
        with torch.device("meta"):
            return {type(layer) for layer in named(name, **SET, **switches).modules()}

    normalised = {nn.BatchNorm1d, nn.BatchNorm2d}
    assert kinds() & normalised and nn.Dropout not in kinds()
    assert not kinds(norm=None) & normalised
    assert nn.Dropout in kinds(dropout=0.2)


@pytest.mark.parametrize("name", ["mlp:8x2", "cnn:2,4", "resnet8", "resnet8b", "plain8", "resnet18"])
def test_dropout_does_something_in_training_alone(name: str) -> None:
    net, x = named(name, **{**SET, "size": 32}, dropout=0.5), torch.randn(4, 2, 32, 32)
    plain_net = named(name, **{**SET, "size": 32})
    plain_net.load_state_dict(net.state_dict())
    assert not torch.equal(net(x), net(x))
    net.load_state_dict(plain_net.state_dict())  # the running statistics went on
    torch.testing.assert_close(net.eval()(x), plain_net.eval()(x))


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "resnet50"])
def test_dropout_stands_in_front_of_the_last_convolution_of_each_block(name: str) -> None:
    with torch.device("meta"):
        layers = [type(layer) for layer in named(name, **SET, dropout=0.5).modules() if not list(layer.children())]
    places = [number for number, layer in enumerate(layers) if layer is nn.Dropout]
    assert len(places) == {"resnet8": 3, "resnet18": 8, "resnet50": 16}[name]
    for place in places:
        assert layers[place - 1 : place + 3] == [nn.ReLU, nn.Dropout, nn.Conv2d, nn.BatchNorm2d]


def test_an_image_is_flattened_row_by_row() -> None:
    net = named("mlp:3", classes=2, in_channels=1, size=(2, 3), norm=None)
    x = torch.randn(4, 1, 2, 3)
    rows: Tensor = nn.Sequential(*list(net.children())[1:])(x.reshape(4, 6))
    assert next(iter(dict(net.named_children()))) == "flatten" and torch.equal(net(x), rows)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("resnet21", "nearest: resnet20 or resnet26"),
        ("resnet22b", "nearest: resnet20b or resnet26b"),
        ("plain18", "nearest: plain14 or plain20"),
        ("resnet19", "resnet18, resnet34, resnet50 are for large images; nearest: resnet14 or resnet20"),
        ("plain7", "nearest: plain8"),
        ("resnet0", "nearest: resnet8"),
        ("plain20b", "no shortcuts, so no option B; use plain20"),
        ("resent20", "did you mean resnet20?"),
        ("vgg16", "no network is called 'vgg16'"),
        ("", "no network is called ''"),
        ("mlp:", "did you mean mlp"),
        ("mlp:30xx", "no network is called"),
        ("mlp:30,", "no network is called"),
        ("mlp:0x3", "positive numbers"),
        ("mlp:5x0", "mlp:500x10"),
        ("cnn:8x2", "cnn:16,32"),
        ("cnn:8,0", "channels must be positive numbers"),
        ("cnn:2,2,2,2,2", "5 stages, each halving the side of 28 pixels: need 1 to 4"),
    ],
)
def test_a_wrong_name_is_told_what_there_is(name: str, says: str) -> None:
    with pytest.raises(ValueError) as raised:
        named(name, **SET)
    assert says in str(raised.value)


def test_an_unknown_name_lists_every_kind() -> None:
    with pytest.raises(ValueError) as raised:
        named("lenet", **SET)
    assert all(name in str(raised.value) for name in NAMES)


@pytest.mark.parametrize("name", [name for name in OFFERED if "1202" not in name])  # which takes seconds
def test_what_is_offered_can_be_built(name: str) -> None:
    with torch.device("meta"):
        assert isinstance(named(name, **SET), nn.Module)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20", "resnet18"])
def test_wrong_switches_are_named(name: str) -> None:
    with pytest.raises(ValueError, match="0 <= p < 1, got 1"):
        named(name, **SET, dropout=1.0)
    with pytest.raises(ValueError, match='norm must be "batch" or None'):
        named(name, **SET, norm="layer")  # type: ignore[arg-type]
