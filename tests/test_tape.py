"""What the tape sees, on one specimen for each thing that makes hooks on modules fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue.tape import Layer, Tape, record


def rows(model: nn.Module, *inputs: Any) -> list[tuple[str, str, str | None]]:
    return [(layer.name, layer.kind, layer.activation) for layer in record(lambda: model(*inputs), model).layers]


class Functional(nn.Module):
    """No activation is a module."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        x = self.b(x).tanh().reshape(-1, 4)
        x = self.c(x).clamp(min=0)
        return self.d(x)


def test_functional_activations() -> None:
    assert [r[2] for r in rows(Functional(), torch.randn(3, 4))] == ["relu", "tanh", "relu", None]


def test_in_place_relu_is_read_before_it_overwrites() -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 2))
    minima: dict[str, float] = {}

    class Watch:
        def layer_output(self, layer: Layer, output: Tensor) -> None:
            minima[f"{layer.name} out"] = float(output.detach().min())

        def activation_output(self, layer: Layer, output: Tensor) -> None:
            minima[f"{layer.name} act"] = float(output.detach().min())

        def loss_call(self, call: Any) -> None:
            raise AssertionError("there is no loss here")

    record(lambda: net(torch.randn(64, 4)), net, Watch())
    assert minima["0 out"] < 0 and minima["0 act"] == 0


def test_a_residual_sum_stands_between_a_layer_and_its_relu() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = (nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(2))
            self.bn1, self.bn2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.bn2(self.conv2(F.leaky_relu(self.bn1(self.conv1(x)), 0.2))) + x)

    block = Block()
    tape = record(lambda: block(torch.randn(2, 3, 4, 4)), block)
    assert [(r.name, r.activation, r.slope, r.normalized) for r in tape.layers] == [
        ("conv1", "leaky_relu", 0.2, True),
        ("conv2", "relu", None, True),
    ]


def test_a_module_used_twice_is_one_layer() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.sigmoid(self.fc(x)))

    net = Twice()
    (layer,) = record(lambda: net(torch.randn(2, 4)), net).layers
    assert (layer.calls, layer.activation) == (2, "sigmoid")


def test_tuple_and_dict_outputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> dict[str, Any]:
            h = self.a(x)
            return {"pair": (F.gelu(h), h), "head": self.b(h)}

    assert rows(Two(), torch.randn(2, 4)) == [("a", "linear", "gelu"), ("b", "linear", None)]


class Words(nn.Module):
    """Embedding with tied head, LSTM, attention, a transformer layer."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.memory = nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
        self.head = nn.Linear(8, 11)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.memory(self.words(x))
        h, _ = self.attention(h, h, h)
        return self.head(self.layer(h))


def test_embedding_recurrence_attention_and_tied_weights() -> None:
    assert rows(Words(), torch.randint(0, 11, (2, 5))) == [
        ("words", "embedding", None),
        ("memory", "recurrent", None),
        ("attention", "attention", None),
        ("layer.self_attn", "attention", None),
        ("layer.linear1", "linear", "relu"),
        ("layer.linear2", "linear", None),
        ("head", "linear", None),
    ]


def test_a_bare_parameter_has_its_own_name() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Parameter(torch.eye(4))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(x @ self.mix)

    assert rows(Bare(), torch.randn(2, 4)) == [("mix", "linear", "tanh")]


def test_what_an_autograd_function_made_passes_through() -> None:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return g * 2

    class Custom(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Double.apply(x)  # type: ignore[no-untyped-call]

    net = nn.Sequential(nn.Linear(4, 4), Custom(), nn.Tanh())
    assert rows(net, torch.randn(2, 4)) == [("0", "linear", "tanh")]


@pytest.mark.parametrize("form", ["detach", "no_grad"])
def test_the_place_where_the_graph_is_cut(form: str) -> None:
    class Cutting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if form == "detach":
                return x.detach() * 2
            with torch.no_grad():
                return x * 2

    net = nn.Sequential(nn.Linear(4, 4), Cutting(), nn.Linear(4, 1))
    cuts = record(lambda: net(torch.randn(2, 4)), net).cuts
    assert next((c.operation, c.where) for c in cuts) == ("detach" if form == "detach" else "mul", "1")


def test_the_activation_in_front_of_the_loss() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Softmax(1))
    tape = Tape(net)
    with tape.recording():
        F.cross_entropy(net(torch.randn(5, 4)), torch.tensor([0, 1, 2, 0, 1]))
    assert (tape.losses[0].name, tape.losses[0].activation) == ("cross_entropy", "softmax")


def test_an_error_in_the_model_leaves_no_hook_and_no_mode() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken")

    before = (len(nn.modules.module._global_forward_hooks), len(nn.modules.module._global_forward_pre_hooks))
    with pytest.raises(RuntimeError, match="broken"):
        record(lambda: Broken()(torch.zeros(1)), Broken())
    assert before == (len(nn.modules.module._global_forward_hooks), len(nn.modules.module._global_forward_pre_hooks))
    assert torch.overrides._get_current_function_mode() is None
