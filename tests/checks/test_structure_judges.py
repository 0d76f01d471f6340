"""The judges of structure and regularization on real first steps: networks of many kinds, sick and healthy, on real images."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from runtrue import Task, datasets, nets
from runtrue.calls import ActivationCall, DropoutCall, NormCall
from runtrue.checks import judge_all
from runtrue.checks.regularization import PULL
from runtrue.facts import DataFacts
from runtrue.findings import Finding, plain
from runtrue.measure import Measurements, Start, measure_data, measure_start
from runtrue.probes import Reading
from runtrue.regularizers import Decay, Penalty, Regularizers
from runtrue.sandbox import sandbox
from runtrue.surgery import Residual

IMAGES, LABELS = datasets.fashion_mnist(limit=100)
SGD = partial(torch.optim.SGD, lr=0.01, momentum=0.9)
CAUSES = {
    "missing-nonlinearity", "saturating-activation", "too-little-capacity", "batch-too-small-for-norm",
    "eval-mode-while-training", "regularization-too-strong", "dropout-too-strong",
}  # fmt: skip
SEEDS = (0, 1)


def measured(model: Callable[[], nn.Module] | nn.Module, seed: int = 0, **parts: Any) -> Measurements:
    given: dict[str, Any] = {
        "train": (IMAGES, LABELS),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": SGD,
        "batch_size": 50,
    }
    with sandbox(Task(model, **(given | parts)), seed) as box:
        return Measurements(measure_data(box), measure_start(box))


def findings(model: Callable[[], nn.Module] | nn.Module, seed: int = 0, **parts: Any) -> list[Finding]:
    return judge_all(measured(model, seed, **parts), CAUSES)


def one(found: list[Finding]) -> Finding:
    assert len(found) == 1, [(f.cause, f.message) for f in found]
    return found[0]


# -- networks


def flat(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), *layers)


def perceptron(
    activation: Callable[[], nn.Module] | None = nn.ReLU, norm: bool = False, depth: int = 3
) -> nn.Sequential:
    parts: list[nn.Module] = []
    for n_in, n_out in [(784, 64), *[(64, 64)] * (depth - 1)]:
        parts += [
            nn.Linear(n_in, n_out),
            *([nn.BatchNorm1d(n_out)] if norm else []),
            *([activation()] if activation else []),
        ]
    return flat(*parts, nn.Linear(64, 10))


def convolutions(
    activation: Callable[[], nn.Module] | None = nn.ReLU, norm: bool = False, pool: bool = True
) -> nn.Sequential:
    parts: list[nn.Module] = []
    for n_in, n_out in ((1, 8), (8, 16), (16, 16)):
        parts += [nn.Conv2d(n_in, n_out, 3, stride=1 if pool else 2), *([nn.BatchNorm2d(n_out)] if norm else [])]
        parts += [*([activation()] if activation else []), *([nn.MaxPool2d(2)] if pool else [])]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(16 if pool else 64, 10))


class Rows(nn.Module):
    """Reads an image row by row: embedded, through a body (B, T, 32) -> (B, T, 32), the mean through a head."""

    def __init__(self, body: nn.Module, head: nn.Module | None = None, embed: bool = True) -> None:
        super().__init__()
        self.embed = nn.Linear(28, 32) if embed else nn.Identity()
        self.places = nn.Parameter(0.02 * torch.randn(28, 32))
        self.body, self.head = body, head or nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:  # (B, 1, 28, 28) -> (B, 10)
        rows = self.embed(x.squeeze(1))
        seen = self.body(rows + self.places if rows.shape[-1] == 32 else rows)
        seen = seen[0] if isinstance(seen, tuple) else seen
        out: Tensor = self.head(seen.mean(1))
        return out


class Attention(nn.Module):
    """Handwritten: one head, softmax(q kᵀ) v, then a projection; a feed-forward part with or without activation."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.feed = nn.Sequential(nn.Linear(32, 64), activation, nn.Linear(64, 32))

    def forward(self, x: Tensor) -> Tensor:  # (B, T, 32) -> (B, T, 32)
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.out(torch.softmax(q @ k.transpose(1, 2) / 32**0.5, -1) @ v)
        out: Tensor = x + self.feed(self.norm2(x))
        return out


def encoder(first: bool = False, activation: Any = "relu", dropout: float = 0.1) -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout, activation, batch_first=True, norm_first=first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Elman(nn.Module):
    """A recurrent network by hand: one layer called at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.again, self.drop = nn.Linear(32, 32), nn.Linear(32, 32), nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        h, states = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            h = torch.tanh(self.into(x[:, t]) + self.again(self.drop(h)))
            states.append(h)
        return torch.stack(states, 1)


class Squeeze(nn.Module):
    """Squeeze and excitation: a narrow pair of layers and a sigmoid gate."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, inner), nn.Linear(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class Inverted(nn.Module):
    """MobileNetV2's block: widen, look around by channel, narrow without an activation, add."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        wide = 4 * channels
        around = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        self.body = nn.Sequential(
            nn.Conv2d(channels, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6(), around, nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, channels, 1), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class Dense(nn.Module):
    """Every layer sees what all before it made."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1 + 8 * i, 8, 3, padding=1) for i in range(3))
        self.head = nn.Linear(25, 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, F.relu(layer(x))], 1)
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class LowRank(nn.Module):
    """W x + B A x, as LoRA has it."""

    def __init__(self) -> None:
        super().__init__()
        self.full, self.a, self.b = nn.Linear(784, 64), nn.Linear(784, 8, bias=False), nn.Linear(8, 64, bias=False)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        out: Tensor = self.head(F.relu(self.full(x) + self.b(self.a(x))))
        return out


class Gated(nn.Module):
    """A gate by hand (x · sigmoid), and an activation that torch has no name for."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.head = nn.Linear(784, 64), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x.flatten(1))
        h = h * torch.sigmoid(h)
        h = self.b(h) * torch.sigmoid(self.c(h))
        out: Tensor = self.head(h.square())
        return out


class Patches(nn.Module):
    """A vision transformer: a convolution cuts patches, a class token is added."""

    def __init__(self) -> None:
        super().__init__()
        self.cut, self.token = nn.Conv2d(1, 32, 7, stride=7), nn.Parameter(torch.zeros(1, 1, 32))
        self.body, self.norm, self.head = encoder(True, "gelu"), nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.cut(x).flatten(2).transpose(1, 2)
        seen = self.body(torch.cat([self.token.expand(len(x), -1, -1), patches], 1))
        out: Tensor = self.head(self.norm(seen[:, 0]))
        return out


HEALTHY: dict[str, Callable[[], nn.Module]] = {
    "mlp": perceptron,
    "mlp, tanh and BatchNorm": lambda: perceptron(nn.Tanh, norm=True),
    "one sigmoid layer": lambda: flat(nn.Linear(784, 64), nn.Sigmoid(), nn.Linear(64, 10)),
    "ten Xavier tanh layers": lambda: flat(*xavier_tanh(10)),
    "logistic regression": lambda: flat(nn.Linear(784, 10)),
    "cnn": convolutions,
    "cnn with BatchNorm": lambda: convolutions(norm=True, pool=False),
    "resnet-8": lambda: nets.resnet(8, 10, in_channels=1, shortcut="B"),
    "lstm": lambda: Rows(nn.LSTM(32, 32, batch_first=True)),
    "two GRU layers with dropout": lambda: Rows(nn.GRU(32, 32, 2, batch_first=True, dropout=0.3)),
    "recurrent by hand": lambda: Rows(Elman()),
    "transformer": lambda: Rows(encoder()),
    "transformer, norm first": lambda: Rows(encoder(True, "gelu")),
    "attention by hand": lambda: Rows(nn.Sequential(Attention(nn.GELU()), Attention(nn.GELU()))),
    "vision transformer": Patches,
    "squeeze and excitation": lambda: nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), Squeeze(16, 2), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(9216, 10)
    ),
    "inverted bottlenecks": lambda: nn.Sequential(
        nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8), Inverted(), Inverted(), nn.Flatten(), nn.Linear(1352, 10)
    ),
    "depthwise separable": lambda: nn.Sequential(
        nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 1), nn.ReLU(),
        nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Flatten(), nn.Linear(1296, 10),
    ),
    "dense connections": Dense,
    "low rank": LowRank,
    "gates by hand": Gated,
    "half of the units dropped": lambda: flat(nets.mlp([784, 64, 64, 10], "relu", dropout=0.5)),
    "a thin deep transformer with dropout": lambda: Rows(nn.Sequential(*[encoder() for _ in range(4)])),
}  # fmt: skip


def xavier_tanh(depth: int) -> list[nn.Module]:
    parts: list[nn.Module] = []
    for n_in, n_out in [(784, 64), *[(64, 64)] * (depth - 1)]:
        parts += [nn.Linear(n_in, n_out), nn.Tanh()]
        nn.init.xavier_normal_(parts[-2].weight)  # type: ignore[arg-type]
    return [*parts, nn.Linear(64, 10)]


@pytest.mark.parametrize("name", HEALTHY)
def test_silent_on_the_healthy(name: str) -> None:
    for seed in SEEDS:
        assert [(f.cause, f.message) for f in findings(HEALTHY[name], seed)] == []


@pytest.mark.parametrize(
    "optimizer", [SGD, partial(torch.optim.AdamW, lr=1e-3), partial(torch.optim.SGD, lr=0.1, weight_decay=5e-4)]
)
def test_usual_decay_is_healthy(optimizer: Any) -> None:
    for name in ("mlp", "cnn with BatchNorm", "transformer"):
        assert findings(HEALTHY[name], optimizer=optimizer) == []


def test_an_autoencoder_may_have_a_waist() -> None:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 3), nn.ReLU(), nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 784)
        )

    pixels = IMAGES.flatten(1)
    assert findings(build, train=(pixels, pixels), loss=F.mse_loss) == []
    (finding,) = findings(build, train=(pixels, pixels[:, :700]), loss=lambda o, t: F.mse_loss(o[:, :700], t))
    assert finding.cause == "too-little-capacity", "the same waist, where the targets are others"


# -- nothing non-linear


def test_a_network_that_is_said_to_be_linear_is_the_product_of_its_matrices() -> None:
    torch.manual_seed(0)
    net = perceptron(None)
    found = one(findings(net))
    assert found.cause == "missing-nonlinearity" and found.severity == "warning"
    assert found.evidence["pairs"] == [["1", "2"], ["2", "3"], ["3", "4"]] and found.where == "1, 2, 3"
    assert "between 1 and 2: 3 of 3 hidden layers" in found.message
    product, bias = torch.eye(784), torch.zeros(784)
    for layer in net:
        if isinstance(layer, nn.Linear):
            product, bias = layer.weight @ product, layer.weight @ bias + layer.bias
    torch.testing.assert_close(net(IMAGES), IMAGES.flatten(1) @ product.T + bias, rtol=1e-3, atol=1e-4)


class Functional(nn.Module):
    """Its layers are weights, used by a function."""

    def __init__(self, activation: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(64, 784) / 28)
        self.second = nn.Parameter(torch.randn(64, 64) / 8)
        self.head = nn.Linear(64, 10)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        h = F.linear(x.flatten(1), self.first)
        h = self.activation(h) if self.activation else h
        h = F.linear(h, self.second)
        out: Tensor = self.head(self.activation(h) if self.activation else h)
        return out


def three_linear() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 10))


LINEAR: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "mlp with BatchNorm": (lambda: perceptron(None, norm=True), ["1", "3", "5"]),
    "mlp with dropout": (lambda: flat(nn.Linear(784, 64), nn.Dropout(0.2), nn.Linear(64, 10)), ["1"]),
    "layer norms alone": (
        lambda: flat(nn.Linear(784, 64), nn.LayerNorm(64), nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 10)), ["1", "3"],
    ),
    "cnn": (lambda: convolutions(None, pool=False), ["0", "1", "2"]),
    "cnn with BatchNorm": (lambda: convolutions(None, norm=True, pool=False), ["0", "2", "4"]),
    "cnn with maxima": (lambda: convolutions(None), ["0", "2", "4"]),
    "only the output is squashed": (lambda: flat(nn.Linear(784, 64), nn.Linear(64, 10), nn.Sigmoid()), ["1"]),
    "weights and functions": (lambda: Functional(None), ["first", "second"]),
    "most of them": (
        lambda: flat(nn.Linear(784, 64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 10)), ["1", "4"],
    ),
    "sums without activations": (
        lambda: flat(nn.Linear(784, 64), Residual(nn.Linear(64, 64)), nn.Linear(64, 10)), ["1", "2.body.0"],
    ),
    "three layers behind an LSTM": (
        lambda: Rows(nn.LSTM(28, 32, batch_first=True), three_linear(), embed=False), ["head.0", "head.1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_layers_in_a_row(name: str) -> None:
    build, lacking = LINEAR[name]
    for seed in SEEDS:
        found = one(findings(build, seed))
        assert found.cause == "missing-nonlinearity" and found.evidence["lacking"] == lacking


def test_half_of_the_layers_may_do_without() -> None:
    assert findings(lambda: flat(nn.Linear(784, 64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))) == []
    assert findings(lambda: Functional(torch.relu)) == []
    assert findings(lambda: Functional(lambda h: h * (h > 0))) == [], "an activation by hand"
    assert (
        findings(
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 10))
        )
        == []
    )


# -- too little comes through


def scaled(net: nn.Module, factor: float) -> nn.Module:
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                layer.weight.mul_(factor)
    return net


class Softmaxed(Rows):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(-1)


SQUASHED: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "softmax in an mlp": (lambda: perceptron(partial(nn.Softmax, dim=1)), "1, 3, 5", "softmax is the activation"),
    "one softmax, one ReLU": (
        lambda: flat(nn.Linear(784, 64), nn.Softmax(1), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), "1", "1/n",
    ),
    "softmax called as a function": (lambda: Functional(partial(torch.softmax, dim=1)), "first, second", "softmax"),
    "sigmoid in an mlp": (lambda: perceptron(nn.Sigmoid), "1, 3, 5", "sigmoid squashes 3 hidden layers"),
    "sigmoid in a cnn": (lambda: convolutions(nn.Sigmoid), "0, 3, 6", "sigmoid squashes 3"),
    "sigmoid in a cnn with BatchNorm": (lambda: convolutions(nn.Sigmoid, norm=True), "0, 4, 8", "sigmoid squashes 3"),
    "hard sigmoid": (lambda: perceptron(nn.Hardsigmoid), "1, 3, 5", "hardsigmoid squashes 3"),
    "saturated tanh": (lambda: scaled(perceptron(nn.Tanh), 30), "1, 3, 5", "stand at the bounds of tanh (limit 50 %)"),
    "sigmoid in a transformer": (
        lambda: Rows(encoder(activation=torch.sigmoid)), "body.layers.0.linear1, body.layers.1.linear1", "squashes 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SQUASHED)
def test_activations_that_pass_too_little(name: str) -> None:
    build, where, words = SQUASHED[name]
    for seed in SEEDS:
        found = one(findings(build, seed))
        assert found.cause == "saturating-activation" and found.severity == "warning"
        assert found.where == where and words in found.message


def test_an_output_and_an_attention_may_have_a_softmax() -> None:
    assert findings(lambda: Softmaxed(Attention(nn.GELU()))) == []
    assert findings(lambda: nn.Sequential(perceptron(), nn.LogSoftmax(1)), loss=F.nll_loss) == []


# -- room


NARROW: dict[str, tuple[Callable[[], nn.Module], str, int]] = {
    "mlp": (lambda: flat(nets.mlp([784, 64, 2, 10], "relu")), "1.linear2", 2),
    "mlp with BatchNorm": (lambda: flat(nets.mlp([784, 1, 64, 10], "relu", norm="batch")), "1.linear1", 1),
    "cnn": (lambda: nets.cnn((8, 2), 10), "conv2", 2),
    "cnn with BatchNorm": (lambda: nets.cnn((8, 3, 8), 10, norm="batch"), "conv2", 3),
    "behind an LSTM": (lambda: Rows(nn.LSTM(32, 32, batch_first=True), nets.mlp([32, 2, 10], "relu")), "head.linear1", 2),
    "for sixty classes": (lambda: flat(nets.mlp([784, 12, 60], "relu")), "1.linear1", 12),
}  # fmt: skip


@pytest.mark.parametrize("name", NARROW)
def test_narrow_layers(name: str) -> None:
    build, where, units = NARROW[name]
    found = one(findings(build))
    assert (found.cause, found.severity, found.where) == ("too-little-capacity", "warning", where)
    assert found.evidence["units"] == {where: units}


def test_few_units_are_enough_for_few_inputs() -> None:
    points, labels = torch.rand(40, 2), torch.arange(40) % 2
    assert findings(lambda: nets.mlp([2, 4, 2], "tanh"), train=(points, labels)) == []
    assert one(findings(lambda: nets.mlp([2, 2, 2], "tanh"), train=(points, labels))).cause == "too-little-capacity"


# -- normalization


@pytest.mark.parametrize(("rows", "count"), [(2, 1), (4, 1), (5, 0), (50, 0)])
def test_batches_for_a_normalization(rows: int, count: int) -> None:
    found = findings(lambda: perceptron(norm=True), batch_size=rows)
    assert len(found) == count
    for finding in found:
        assert finding.cause == "batch-too-small-for-norm" and finding.severity == "warning"
        assert finding.evidence["values_per_channel"] == rows and finding.where == "2, 5, 8"


def test_a_map_has_many_values_a_channel() -> None:
    assert findings(lambda: nets.cnn((8, 16), 10, norm="batch"), batch_size=1) == []
    places = (nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 10))
    small = one(findings(lambda: nn.Sequential(nn.Conv2d(1, 8, 3), *places), batch_size=2))
    assert small.evidence == {"rows": 2, "values_per_channel": 2, "limit": 4, "error": None}, "maps of one place"


def test_what_torch_refuses_is_certain() -> None:
    for build, where in (
        (lambda: perceptron(norm=True), "2"),
        (lambda: nn.Sequential(nn.AvgPool2d(28), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(1, 10)), "1"),
    ):
        found = one(findings(build, batch_size=1))
        assert found.cause == "batch-too-small-for-norm" and found.severity == "fault" and found.where == where
        assert "1 value a channel (batches of 1 example): torch refuses" in found.message


def test_another_error_is_not_this_fault() -> None:
    assert findings(lambda: nn.Sequential(nn.BatchNorm2d(1), nn.Linear(7, 10)), batch_size=1) == []


# -- modes


class Sleepy(nn.Module):
    """Puts its parts to sleep in the forward pass."""

    def __init__(self, net: nn.Module, *kinds: type[nn.Module]) -> None:
        super().__init__()
        self.net, self.kinds = net, kinds

    def forward(self, x: Tensor) -> Tensor:
        for module in self.net.modules():
            if isinstance(module, self.kinds):
                module.eval()
        out: Tensor = self.net(x)
        return out


class Still(nn.Sequential):
    """Never in training mode."""

    def train(self, mode: bool = True) -> Still:
        super().train(False)
        return self


ASLEEP: dict[str, tuple[Callable[[], nn.Module], list[str], list[str]]] = {
    "mlp": (lambda: Sleepy(perceptron(norm=True), nn.BatchNorm1d), ["net.2", "net.5", "net.8"], []),
    "cnn": (lambda: Sleepy(convolutions(norm=True), nn.BatchNorm2d), ["net.1", "net.5", "net.9"], []),
    "dropout of a transformer": (
        lambda: Sleepy(Rows(encoder()), nn.Dropout), [],
        [f"net.body.layers.{i}.{name}" for i in range(2) for name in ("dropout1", "dropout", "dropout2")],
    ),
    "the whole": (lambda: Still(*perceptron(norm=True)), ["2", "5", "8"], []),
}  # fmt: skip


@pytest.mark.parametrize("name", ASLEEP)
def test_parts_that_are_asleep(name: str) -> None:
    build, norms, dropouts = ASLEEP[name]
    found = one(findings(build))
    assert (found.cause, found.severity) == ("eval-mode-while-training", "warning")
    assert found.evidence["norms"] == norms and found.evidence["dropouts"] == dropouts
    assert found.evidence["whole_model"] is (name == "the whole")


def test_running_statistics_of_quite_other_data() -> None:
    """What was trained before may sleep, but not if its running variance fits nothing."""
    net = convolutions(norm=True)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
            nn.init.constant_(norm.running_var, 1e4)
    found = one(findings(lambda: Sleepy(net, nn.BatchNorm2d)))
    assert found.cause == "eval-mode-while-training" and "times off" in found.message


def test_a_step_that_puts_the_model_to_sleep() -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        return F.cross_entropy(model.eval()(batch[0]), batch[1])

    found = one(findings(lambda: perceptron(norm=True), loss=None, step=step))
    assert found.cause == "eval-mode-while-training" and "the whole model" in found.message


def test_what_was_trained_before_may_sleep() -> None:
    net = convolutions(norm=True)
    for _ in range(50):
        net(IMAGES)  # running statistics of its own
    assert findings(Sleepy(net, nn.BatchNorm2d)) == []
    frozen = convolutions(norm=True)
    for module in frozen.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    assert findings(Sleepy(frozen, nn.BatchNorm2d)) == []


# -- decay, penalty


@pytest.mark.parametrize("build", [perceptron, lambda: convolutions(norm=True), lambda: Rows(encoder())])
def test_decay_that_outweighs_the_data(build: Callable[[], nn.Module]) -> None:
    for seed in SEEDS:
        found = one(findings(build, seed, optimizer=partial(torch.optim.SGD, lr=0.01, weight_decay=3.0)))
        assert (
            found.cause == "regularization-too-strong" and found.where == "optimizer" and found.evidence["pull"] > PULL
        )
        assert "weight_decay=3 pulls" in found.message and f"(limit {PULL:g})" in found.message


def test_a_penalty_that_outweighs_the_data() -> None:
    for build in (perceptron, lambda: convolutions(norm=True), lambda: Rows(nn.LSTM(32, 32, batch_first=True))):
        torch.manual_seed(0)
        net = build()

        def loss(outputs: Tensor, labels: Tensor, strength: float, net: nn.Module = net) -> Tensor:
            return (
                F.cross_entropy(outputs, labels)
                + strength * torch.stack([p.abs().sum() for p in net.parameters()]).sum()
            )

        found = one(findings(net, loss=partial(loss, strength=0.1)))
        assert found.cause == "regularization-too-strong" and found.where == "loss"
        assert found.evidence["penalty"] == pytest.approx(
            0.1 * sum(float(p.detach().abs().sum()) for p in net.parameters()), rel=1e-4
        )
        assert findings(net, loss=partial(loss, strength=1e-5)) == []


def test_a_factor_and_a_second_term_are_no_penalty() -> None:
    def dice(outputs: Tensor, labels: Tensor) -> Tensor:
        chosen = outputs.softmax(1).gather(1, labels[:, None])
        return F.cross_entropy(outputs, labels) + 50 * (1 - chosen).mean()

    assert findings(perceptron, loss=dice) == []
    assert findings(perceptron, loss=lambda o, t: 100 * F.cross_entropy(o, t)) == []


class Clamped(nn.Module):
    """Writes into its weights at every pass."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.net, self.limit = perceptron(), limit

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.data.clamp_(-self.limit, self.limit)
        out: Tensor = self.net(x)
        return out


def test_weights_that_are_written_into() -> None:
    found = one(findings(lambda: Clamped(1e-3)))
    assert found.cause == "regularization-too-strong" and found.where.startswith("net.1.weight")
    assert findings(lambda: Clamped(0.1)) == [], "the limit hardly touches them"


# -- dropout


def heavy(p: float, depth: int = 2) -> nn.Module:
    return flat(nets.mlp([784, *[64] * depth, 10], "relu", dropout=p))


class Dropping(nn.Module):
    """`F.dropout` by hand, behind the first layer or on the outputs."""

    def __init__(self, p: float, *, aware: bool, on_outputs: bool = False) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(784, 64), nn.Linear(64, 10)
        self.p, self.aware, self.on_outputs = p, aware, on_outputs

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.body(x.flatten(1)))
        mode = self.training if self.aware else True
        out: Tensor = (
            F.dropout(self.head(h), self.p, mode) if self.on_outputs else self.head(F.dropout(h, self.p, mode))
        )
        return out


DROPPED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "mlp": (lambda: heavy(0.8), "dropout of 0.8 in 1.dropout1 (limit 0.7); 2 dropouts leave 0.04 open"),
    "five of a half": (lambda: heavy(0.5, 5), "5 dropouts together leave 0.031 of the paths open (limit 0.05)"),
    "transformer": (lambda: Rows(encoder(dropout=0.9)), "dropout of 0.9"),
    "between LSTM layers": (lambda: Rows(nn.LSTM(32, 32, 2, batch_first=True, dropout=0.9)), "dropout of 0.9 in body"),
    "cnn": (
        lambda: nn.Sequential(nn.Conv2d(1, 8, 3), nn.Dropout2d(0.75), nn.ReLU(), nn.Flatten(), nn.Linear(5408, 10)),
        "dropout of 0.75 in 1",
    ),
    "on the inputs": (lambda: nn.Sequential(nn.Dropout(0.6), *perceptron()), "in front of the first layer drops inputs"),
    "on the outputs": (lambda: nn.Sequential(*perceptron(), nn.Dropout(0.3)), "drops outputs of the network"),
    "a function on the outputs": (lambda: Dropping(0.3, aware=True, on_outputs=True), "drops outputs of the network"),
}  # fmt: skip


@pytest.mark.parametrize("name", DROPPED)
def test_dropout_that_leaves_too_little(name: str) -> None:
    build, words = DROPPED[name]
    found = one(findings(build))
    assert (found.cause, found.severity) == ("dropout-too-strong", "warning") and words in found.message


def test_dropout_in_evaluation() -> None:
    found = one(findings(lambda: Dropping(0.5, aware=False)))
    assert found.cause == "dropout-too-strong" and found.evidence["in_evaluation"] is True
    assert "stays active in evaluation" in found.message and found.evidence["evaluation_spread"] > 0.1
    assert findings(lambda: Dropping(0.5, aware=True)) == []


# -- numbers alone


def test_more_of_it_is_never_less_ill() -> None:
    start = measured(perceptron, optimizer=partial(torch.optim.SGD, lr=0.01, weight_decay=1e-3)).start
    decay = start.regularizers.decay
    assert decay is not None
    base = Measurements(measured(perceptron).data, start)
    counts = []
    for ratio in (0.5 * PULL, 0.99 * PULL, 1.01 * PULL, 10.0, float("inf")):
        held = replace(start.regularizers, decay=replace(decay, ratio=ratio))
        counts.append(len(judge_all(replace(base, start=replace(start, regularizers=held)), CAUSES)))
    assert counts == [0, 0, 1, 1, 1]


ANY = st.floats(width=32)
WHERE = st.sampled_from(["", "a", "b.0"])
REGULARIZERS = st.builds(
    Regularizers,
    norms=st.lists(
        st.builds(NormCall, WHERE, st.just(("a",)), st.booleans(), st.integers(0, 5), st.integers(0, 5), st.booleans()),
        max_size=2,
    ).map(tuple),
    dropouts=st.lists(
        st.builds(DropoutCall, WHERE, st.floats(0, 1), st.booleans(), st.integers(0, 3), goes_on=st.booleans()),
        max_size=3,
    ).map(tuple),
    penalty=st.none() | st.builds(Penalty, ANY, ANY, ANY, ANY, st.booleans()),
    decay=st.none() | st.builds(Decay, ANY, ANY, ANY, st.booleans()),
    active_in_evaluation=st.sampled_from([(), (DropoutCall("", 0.5, True, 1),)]),
    evaluation_spread=ANY,
    training=st.booleans(),
    overwritten=st.lists(st.tuples(st.just("a.weight"), ANY), max_size=2).map(tuple),
)
CALLS = st.builds(
    ActivationCall, st.sampled_from(["relu", "softmax", "sigmoid", "tanh"]), WHERE, st.integers(0, 3),
    st.sampled_from([(), ("a",), ("a", "b", "c")]), st.booleans(), st.booleans(), st.booleans(),
)  # fmt: skip
FED = st.sampled_from([(), ("a",), ("a", "b"), ("unknown",)])
READINGS = st.builds(
    Reading, st.sampled_from("abc"), st.sampled_from(["linear", "conv", "recurrent"]), st.sampled_from([None, "tanh"]),
    st.booleans(), st.integers(0, 20), st.integers(0, 20), st.just(1), st.booleans(), signal_norm=st.none() | ANY,
    fed_by=FED, softly_fed_by=FED,
    saturated_fraction=st.none() | ANY, grouped=st.booleans(), channels_in=st.integers(0, 20),
)  # fmt: skip
STARTS = st.builds(
    Start,
    layers=st.lists(READINGS, max_size=4).map(tuple),
    activations=st.lists(CALLS, max_size=3).map(tuple),
    regularizers=REGULARIZERS,
    error=st.sampled_from([None, "Expected more than 1 value per channel when training", "no"]),
)


@settings(max_examples=300, deadline=None)
@given(STARTS)
def test_no_number_makes_a_judge_raise(start: Start) -> None:
    for finding in judge_all(Measurements(DataFacts((), None, 2), start), CAUSES):
        assert finding.message and finding.where and finding.severity in ("fault", "warning")
        json.dumps(plain(finding.evidence), allow_nan=False)
