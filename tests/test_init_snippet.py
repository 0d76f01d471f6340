"""`code_for` is run: the weights it draws have the spread, the shape of distribution and the zero biases of `apply`."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue import init

torch.set_num_threads(1)


class Everything(nn.Module):
    """Names with and without numbers, a bare weight, grouped and transposed convolutions, with and without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(60, 60, bias=i != 2) for i in range(6))
        self.bare, self.shift = nn.Parameter(torch.zeros(60, 40)), nn.Parameter(torch.ones(40))
        self.depthwise = nn.Conv1d(40, 40, 9, groups=40)
        self.up, self.selu = nn.ConvTranspose1d(40, 30, 4, stride=2), nn.Conv1d(30, 30, 3)
        self.head = nn.Linear(30, 50)

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = F.leaky_relu(layer(x), 0.2) if i == 5 else layer(x).relu()
        x = torch.addmm(self.shift, x, self.bare).tanh()
        x = self.up(self.depthwise(x[:, :, None].expand(-1, -1, 20))).relu()
        return self.head(F.selu(self.selu(x)).mean(2))


def executed(model: nn.Module, code: str) -> nn.Module:
    patient = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in patient.parameters():
            parameter.fill_(7.0)
    names: dict[str, Any] = {"model": patient}
    exec(code, names)
    return patient


@pytest.mark.parametrize("scheme", init.SCHEMES)
def test_the_code_draws_from_the_same_distributions(scheme: str) -> None:
    torch.manual_seed(0)
    model, x = Everything(), torch.randn(8, 60)
    done = init.apply(model, scheme, example=x)
    code = init.code_for(done)
    assert max(map(len, code.splitlines())) <= 100
    patient = executed(model, code)
    drawn = dict(patient.named_parameters())
    for name, ours in model.named_parameters():
        theirs = drawn[name]
        assert theirs.std(correction=0).item() == pytest.approx(ours.std(correction=0).item(), rel=0.25, abs=1e-8), name
        if ours.numel() >= 2000 and scheme != "zeros":  # a uniform one ends at √3 = 1.73 spreads, a normal one does not
            uniform = [bool(w.abs().max() < 1.8 * w.std(correction=0)) for w in (ours, theirs)]
            assert uniform == [scheme.endswith("uniform")] * 2, name
    if scheme == "lsuv":
        hidden = patient.get_parameter("layers.0.weight")
        assert torch.allclose(hidden @ hidden.T, done[0].gain ** 2 * torch.eye(60), rtol=1e-2, atol=1e-2)


def test_the_numbers_are_the_same_where_order_and_generator_are() -> None:
    """Drawing the same normals in the same order gives the same weights, to the last digit of the formula."""
    net = nn.Sequential(*(m for _ in range(4) for m in (nn.Linear(5, 5), nn.ReLU())))
    torch.manual_seed(1)
    code = init.code_for(init.apply(net))
    torch.manual_seed(1)
    patient = executed(net, code)
    for ours, theirs in zip(net.parameters(), patient.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-6)


def test_the_text() -> None:
    net = nn.Sequential(*(m for _ in range(4) for m in (nn.Linear(5, 5), nn.ReLU())), nn.Linear(5, 2))
    assert init.code_for(init.apply(net)).splitlines() == [
        "from torch import nn",
        "",
        "# He et al. 2015, eq. 10: std = sqrt(2 / ((1 + slope²) fan_in))",
        'for name in (f"{i}" for i in range(0, 7, 2)):',
        "    layer = model.get_submodule(name)",
        '    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
        "    nn.init.zeros_(layer.bias)",
        "",
        "# Xavier, Glorot & Bengio 2010, eq. 12 and 16: std = sqrt(2 / (fan_in + fan_out))",
        'for name in ("8",):',
        "    layer = model.get_submodule(name)",
        "    nn.init.xavier_normal_(layer.weight)",
        "    nn.init.zeros_(layer.bias)",
    ]


def names_in(code: str) -> list[str]:
    head = code[code.index("for name in") + len("for name in") : code.index(":\n    layer")]
    return list(eval(head))


@pytest.mark.parametrize(
    "names",
    [
        ["a"],
        ["a", "b1", "b2"],
        [f"layers.{i}" for i in (0, 1, 2, 3)],
        [f"layer{k}.{i}.conv{j}" for k in (1, 2) for i in range(5) for j in (1, 2)],
        [f"x.{i}" for i in (1, 2, 4, 8)],
        [f"x.0{i}" for i in range(4)],
        [f"{{odd}}.{i}" for i in range(4)],
        [f'quo"te{i}' for i in (3, 5, 7)],
        [f"a_long_name_{letter}.projection" for letter in "abcdefghijklmnopq"],
        [f"down.{i}" for i in (9, 8, 7)],
        [""],
    ],
)
def test_abbreviated_names_are_exact(names: list[str]) -> None:
    paths = [(f"{name}.weight" if name else "weight", f"{name}.bias" if name else "bias") for name in names]
    done = [init.Applied(n, "xavier_normal", None, 1.0, "", w, b) for n, (w, b) in zip(names, paths, strict=True)]
    code = init.code_for(done)
    assert sorted(names_in(code)) == sorted(names)
    assert max(map(len, code.splitlines())) <= 100


def test_a_single_layer_as_the_whole_model_and_nothing_at_all() -> None:
    model = nn.Linear(30, 30)
    code = init.code_for(init.apply(model, example=torch.ones(2, 30)))
    assert not executed(model, code).get_parameter("bias").any()
    assert init.code_for([init.Applied("a", None, None, None, "frozen")]) == ""


def test_a_shape_is_trusted_where_it_tells_the_truth() -> None:
    """n_in of a depthwise convolution shows in its weight's shape, n_out does not."""
    for activation, call in (
        (nn.ReLU(), "kaiming_normal_(layer.weight, "),
        (nn.Tanh(), "normal_(layer.weight, std=0.3"),
    ):
        net = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), activation)
        assert f"nn.init.{call}" in init.code_for(init.apply(net))


def test_a_deep_network_stays_short() -> None:
    net = nn.Sequential(*(m for _ in range(200) for m in (nn.Linear(2, 2), nn.Tanh())))
    assert len(init.code_for(init.apply(net)).splitlines()) <= 7
