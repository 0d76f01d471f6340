"""`apply`: the scheme follows from what the forward pass does, and what has no business being redrawn is left alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue import init
from runtrue.tape import record

torch.set_num_threads(1)


class Functional(nn.Module):
    """Activations as functions, in place, and a class name that lies."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (nn.Linear(32, 32) for _ in range(5))
        self.relu = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        x = F.relu_(self.b(x))
        x = self.relu(self.c(x))
        x = F.leaky_relu(self.d(x), 0.3)
        return self.e(x)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(16, 16, 3, padding=1, bias=False) for _ in range(2))
        self.bn1, self.bn2 = nn.BatchNorm2d(16), nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        y += x
        return F.relu(y)


def schemes_of(done: list[init.Applied]) -> dict[str, str | None]:
    return {entry.layer: entry.scheme for entry in done}


def test_auto_follows_the_pass_and_not_the_names() -> None:
    torch.manual_seed(0)
    net = Functional()
    done = init.apply(net, example=torch.randn(4, 32))
    assert schemes_of(done) == {
        "a": "he_normal", "b": "he_normal", "c": "xavier_normal", "d": "he_normal", "e": "xavier_normal"
    }  # fmt: skip
    assert [entry.activation for entry in done] == ["relu", "relu", "tanh", "leaky_relu", None]
    assert done[3].slope == 0.3
    for entry, expected in zip(done, (2 / 32, 2 / 32, 1 / 32, 2 / 1.09 / 32, 1 / 32), strict=True):
        layer = net.get_submodule(entry.layer)
        assert isinstance(layer, nn.Linear)
        assert entry.std == pytest.approx(math.sqrt(expected))
        assert layer.weight.std().item() == pytest.approx(math.sqrt(expected), rel=0.12)  # 5 / sqrt(2 · 1024)
        assert not layer.bias.any()


def test_residual_block_last_convolution_is_followed_by_relu() -> None:
    net = nn.Sequential(Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))
    done = init.apply(net, example=torch.randn(1, 16, 5, 5))
    assert schemes_of(done) == {"0.conv1": "he_normal", "0.conv2": "he_normal", "3": "xavier_normal"}
    assert torch.equal(net.get_parameter("0.bn1.weight"), torch.ones(16))
    assert not net.get_buffer("0.bn1.running_mean").any()


@pytest.mark.parametrize(
    ("activation", "scheme"),
    [
        (nn.ReLU(), "he_normal"), (nn.GELU(), "he_normal"), (nn.SiLU(), "he_normal"), (nn.ELU(), "he_normal"),
        (nn.Mish(), "he_normal"), (nn.Softplus(), "he_normal"), (nn.Hardswish(), "he_normal"),
        (nn.SELU(), "lecun_normal"), (nn.Tanh(), "xavier_normal"),
        (nn.Sigmoid(), "xavier_normal"), (nn.Softsign(), "xavier_normal"),
    ],
)  # fmt: skip
def test_scheme_of_each_activation_traced_and_by_order(activation: nn.Module, scheme: str) -> None:
    net = nn.Sequential(nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Dropout(), activation), nn.Linear(5, 2))
    traced, ordered = init.apply(net, example=torch.randn(3, 6)), init.apply(net)
    assert schemes_of(traced) == schemes_of(ordered) == {"0.0": scheme, "1": "xavier_normal"}


def test_the_patient_is_left_as_found() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(), nn.Linear(4, 2))
    net[1].eval()
    before = torch.get_rng_state()
    init.apply(net, example=torch.randn(1, 3, generator=torch.Generator().manual_seed(0)), generator=torch.Generator())
    assert torch.equal(before, torch.get_rng_state())
    assert [module.training for module in net] == [True, False, True, True, True]
    assert net.get_buffer("1.num_batches_tracked") == 0 and not net.get_buffer("1.running_mean").any()
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


class Language(nn.Module):
    """Embedding tied with the output, an LSTM, attention, a frozen and a weight-normalised layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 16)
        self.lstm = nn.LSTM(16, 16, batch_first=True)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.frozen = nn.Linear(16, 16).requires_grad_(False)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))
        self.norm = nn.LayerNorm(16)
        self.own = nn.Linear(16, 16)
        self.output = nn.Linear(16, 40)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor, scale: Tensor) -> Any:
        x = self.lstm(self.embedding(tokens) * scale)[0]
        x = self.attention(x, x, x)[0]
        x = self.own(self.norm(self.normed(self.frozen(x)))).tanh()
        return self.output(x)


@pytest.mark.parametrize("as_dict", [False, True])
def test_left_alone_each_with_its_reason(as_dict: bool) -> None:
    net = Language()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    inputs = {"tokens": torch.randint(40, (2, 5)), "scale": torch.ones(())}
    done = init.apply(net, example=inputs if as_dict else tuple(inputs.values()))
    reasons = {entry.layer: entry.reason.split(":")[0].split(" (")[0] for entry in done}
    assert reasons == {
        "embedding": "embedding",
        "lstm": "recurrent",
        "attention": "attention",
        "frozen": "frozen",
        "normed": "its weight is computed from other parameters",
        "own": "",
    }  # the output is the embedding's weight: told once
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"own.weight", "own.bias"}


def test_an_embedding_that_first_serves_as_a_linear_map_is_left_alone() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.embedding(F.linear(x, self.embedding.weight).argmax(-1))

    (only,) = init.apply(Tied(), example=torch.randn(2, 4))
    assert only.scheme is None and "(an embedding)" in only.reason


def test_tied_weights_are_drawn_once() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh())
    net[2].weight = net[0].weight
    done = init.apply(net, example=torch.randn(2, 8))
    assert [entry.layer for entry in done] == ["0"] == [entry.layer for entry in init.apply(net)]


def test_only_names_layers_and_modules() -> None:
    net = Functional()
    before = net.a.weight.clone()
    done = init.apply(net, example=torch.randn(2, 32), only=["b", "e"])
    assert list(schemes_of(done)) == ["b", "e"] and torch.equal(net.a.weight, before)
    nested = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2))
    assert list(schemes_of(init.apply(nested, only="0"))) == ["0.0"]
    with pytest.raises(ValueError, match=r"only: no layer \['z'\] ran; those that ran: \['a', 'b'"):
        init.apply(net, example=torch.randn(2, 32), only=["a", "z"])


def backbone_with_head() -> nn.Sequential:
    """Layer 2 carries a learned direction; layer 0 in front does not show it; 4 is a fresh head, 6 a tiny one."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 100), nn.ReLU(), nn.Linear(100, 2)
    )
    with torch.no_grad():
        net.get_parameter("2.weight").add_(0.1 * torch.randn(128).outer(torch.randn(128)))
    return net


def test_pretrained_layers_and_those_in_front_are_spared() -> None:
    net = backbone_with_head()
    before = net.get_parameter("0.weight").clone()
    done = init.apply(net)
    assert [(entry.layer, entry.scheme, entry.reason) for entry in done] == [
        ("0", None, "comes before a layer that looks trained"),
        ("2", None, "looks trained"),
        ("4", "he_normal", ""),
        ("6", None, "too small to tell, in a network that looks trained"),
    ]
    assert torch.equal(net.get_parameter("0.weight"), before)
    assert all(entry.scheme for entry in init.apply(net, include_pretrained=True))


def test_bare_weights_grouped_and_transposed_convolutions() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.v = nn.Parameter(torch.zeros(200, 50)), nn.Parameter(torch.zeros(30, 50))
            self.b = nn.Parameter(torch.ones(30))
            self.depthwise = nn.Conv1d(30, 30, 5, groups=30)
            self.up = nn.ConvTranspose1d(30, 8, 4, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            x = F.linear((x @ self.w).relu(), self.v, self.b).relu()
            return self.up(self.depthwise(x[:, :, None].expand(-1, -1, 9)).relu()).relu()

    net = Bare()
    stds = {entry.layer: entry.std for entry in init.apply(net, example=torch.randn(2, 200))}
    inputs = {"w": 200, "v": 50, "depthwise": 5, "up": 60}  # of one output, by hand
    assert stds == pytest.approx({name: math.sqrt(2 / n) for name, n in inputs.items()})
    assert not net.b.any()


def test_a_trace_serves_instead_of_an_example() -> None:
    net = Functional()
    trace = record(lambda: net(torch.randn(2, 32)), net)
    assert schemes_of(init.apply(net, trace=trace))["c"] == "xavier_normal"


@pytest.mark.parametrize("scheme", ["he_uniform", "xavier_uniform", "lecun_normal", "orthogonal", "zeros"])
def test_one_scheme_for_all(scheme: str) -> None:
    net = Functional()
    done = init.apply(net, scheme, example=torch.randn(2, 32))
    assert set(schemes_of(done).values()) == {scheme}
    for entry in done:
        weight = net.get_parameter(entry.weight)
        assert weight.square().mean().sqrt().item() == pytest.approx(entry.std or 0.0, rel=0.1)
    if scheme == "orthogonal":
        assert torch.allclose(net.a.weight @ net.a.weight.T, 2 * torch.eye(32), atol=1e-4)


def test_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="give an input as the model takes it: example=x, a tuple"):
        init.apply(Functional())
    with pytest.raises(ValueError, match="0 is a Block: to see which activation"):
        init.apply(nn.Sequential(Block()))
    with pytest.raises(ValueError, match="unknown scheme 'xavier'; there are auto, lsuv"):
        init.apply(Functional(), "xavier")
    with pytest.raises(ValueError, match="lsuv measures the outputs on an example"):
        init.apply(nn.Sequential(nn.Linear(2, 2)), "lsuv")
    with pytest.raises(ValueError, match="no layer with weights ran"):
        init.apply(nn.ReLU(), example=torch.ones(2))


def test_lazy_layers_are_filled() -> None:
    net = nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(2))
    assert [entry.std for entry in init.apply(net, example=torch.ones(2, 8))] == pytest.approx([0.5, math.sqrt(2 / 7)])


def test_ten_tanh_layers_keep_their_spread_and_ten_relu_layers_too() -> None:
    """N1.4, N1.5: from a start at which layer 10 is dead."""
    for activation, low, high in ((nn.Tanh, 0.15, 0.35), (nn.ReLU, 0.6, 1.1)):
        torch.manual_seed(0)
        net = nn.Sequential(*(module for _ in range(10) for module in (nn.Linear(300, 300), activation())))
        for parameter in net.parameters():
            init.normal(parameter, 0.01) if parameter.dim() > 1 else init.zeros(parameter)
        x = torch.randn(500, 300)
        assert net(x).std() < 1e-5
        init.apply(net, example=x)
        assert low < net(x).std().item() < high
