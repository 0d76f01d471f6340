"""Schemes against their formulas, torch's own, and matrices known by hand; trained weights and drawn ones."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from runtrue import init
from runtrue.init import schemes, trained

torch.set_num_threads(1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# n_in = 300, n_out = 100 for the matrix (100, 300); numbers worked out by hand
EXPECTED: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "normal": (lambda w: init.normal(w, 0.01, seeded()), 0.01),
    "uniform": (lambda w: init.uniform(w, 0.3, seeded()), 0.3 / math.sqrt(3)),
    "xavier_normal": (lambda w: init.xavier_normal(w, generator=seeded()), math.sqrt(2 / 400)),
    "xavier_normal gain": (lambda w: init.xavier_normal(w, 3.0, generator=seeded()), 3 * math.sqrt(2 / 400)),
    "xavier_uniform": (lambda w: init.xavier_uniform(w, generator=seeded()), math.sqrt(2 / 400)),
    "he_normal": (lambda w: init.he_normal(w, generator=seeded()), math.sqrt(2 / 300)),
    "he_normal fan_out": (lambda w: init.he_normal(w, mode="fan_out", generator=seeded()), math.sqrt(2 / 100)),
    "he_normal slope": (lambda w: init.he_normal(w, 0.5, generator=seeded()), math.sqrt(2 / 1.25 / 300)),
    "he_uniform": (lambda w: init.he_uniform(w, generator=seeded()), math.sqrt(2 / 300)),
    "lecun_normal": (lambda w: init.lecun_normal(w, generator=seeded()), math.sqrt(1 / 300)),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_spread_is_the_formula_s(name: str) -> None:
    fill, std = EXPECTED[name]
    weight = torch.empty(100, 300)
    assert fill(weight) is weight
    # the std of n values is off by std / sqrt(2 n) = 0.4 %: five of these
    assert weight.std().item() == pytest.approx(std, rel=0.02)
    assert abs(weight.mean().item()) < 5 * std / math.sqrt(weight.numel())


SAME: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "xavier_normal": (lambda w: init.xavier_normal(w, 2.0), lambda w: nn.init.xavier_normal_(w, 2.0)),
    "xavier_uniform": (init.xavier_uniform, nn.init.xavier_uniform_),
    "he_normal": (lambda w: init.he_normal(w, 0.2), lambda w: nn.init.kaiming_normal_(w, 0.2)),
    "he_normal fan_out": (
        lambda w: init.he_normal(w, mode="fan_out"),
        lambda w: nn.init.kaiming_normal_(w, mode="fan_out"),
    ),
    "he_uniform": (init.he_uniform, nn.init.kaiming_uniform_),
    "lecun_normal": (init.lecun_normal, lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear")),
    "orthogonal": (lambda w: init.orthogonal(w, 1.5), lambda w: nn.init.orthogonal_(w, 1.5)),
}


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (8, 4, 3, 3)])
@pytest.mark.parametrize("name", SAME)
def test_same_numbers_as_torch(name: str, shape: tuple[int, ...]) -> None:
    ours, torchs = SAME[name]
    torch.manual_seed(3)
    a = ours(torch.empty(shape))
    torch.manual_seed(3)
    assert torch.allclose(a, torchs(torch.empty(shape)), rtol=1e-6)


def test_zeros_and_constant_also_for_parameters() -> None:
    layer = nn.Linear(3, 2)
    assert torch.equal(init.zeros(layer.weight), torch.zeros(2, 3))
    assert torch.equal(init.constant(layer.bias, 0.25), torch.full((2,), 0.25))
    assert layer.weight.requires_grad and layer.weight.grad_fn is None


def test_a_generator_leaves_the_global_numbers_alone() -> None:
    before = torch.get_rng_state()
    a = init.orthogonal(init.he_normal(torch.empty(4, 4), generator=seeded()), generator=seeded())
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(a, init.orthogonal(torch.empty(4, 4), generator=seeded()))


def test_fans_of_layers() -> None:
    # one output of a transposed convolution with kernel 4 and stride 2 sums over 2 x 2 places of each of 6 channels
    up = nn.ConvTranspose2d(6, 10, 4, stride=2)
    assert init.fans(up) == (6 * 2 * 2, 10 * 16)
    assert init.fans(nn.Conv2d(8, 16, 3, groups=4)) == (2 * 9, 4 * 9)
    assert init.fans(nn.Conv1d(8, 16, 5)) == init.fans(torch.empty(16, 8, 5)) == (40, 80)
    assert init.fans(nn.Linear(3, 7)) == (3, 7)
    for wrong in (torch.empty(3), nn.BatchNorm1d(3), nn.ReLU()):
        with pytest.raises(ValueError, match="at least 2 dimensions"):
            init.fans(wrong)


def test_transposed_convolution_keeps_the_signal() -> None:
    """Its fans are what the outputs really sum over: He behind a ReLU keeps E[x²] away from the border."""
    up = nn.ConvTranspose2d(64, 64, 4, stride=2, bias=False)
    init.he_normal(up.weight, size=init.fans(up), generator=seeded())
    x = torch.randn(8, 64, 12, 12, generator=seeded(1)).relu()
    y = up(x)[:, :, 4:-4, 4:-4]
    assert y.square().mean().item() == pytest.approx(2 * x.square().mean().item(), rel=0.1)


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (30, 30), (12, 3, 3, 3)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    w = init.orthogonal(torch.empty(shape), gain=2.0).flatten(1)
    small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    assert torch.allclose(small, 4 * torch.eye(min(w.shape)), atol=1e-5)


def test_orthogonal_by_group() -> None:
    w = init.orthogonal(torch.empty(16, 1, 3, 3), groups=16).flatten(1)
    assert torch.allclose(w.square().sum(1), torch.ones(16), atol=1e-5)


def test_wrong_mode_is_named() -> None:
    with pytest.raises(ValueError, match="'fan_in' or 'fan_out', got 'fan_avg'"):
        init.he_normal(torch.empty(2, 2), mode="fan_avg")  # type: ignore[arg-type]


@pytest.mark.parametrize(("activation", "slope"), [("relu", 0.0), ("leaky_relu", 0.3)])
def test_gain_restores_the_power_that_the_activation_takes(activation: str, slope: float) -> None:
    z = torch.randn(1_000_000, generator=seeded())
    kept = nn.functional.leaky_relu(z, slope).square().mean().item()
    assert init.gain_for(activation, slope) ** 2 * kept == pytest.approx(1, rel=0.01)


def test_smooth_rectifiers_keep_what_the_docstring_says() -> None:
    z = torch.randn(1_000_000, generator=seeded())
    kept = [f(z).square().mean().item() for f in (nn.functional.silu, nn.functional.gelu, nn.functional.elu)]
    assert [round(value, 2) for value in kept] == pytest.approx([0.36, 0.43, 0.65], abs=0.011)
    assert {init.gain_for(name) for name in schemes.RECTIFIERS - {"leaky_relu"}} == {math.sqrt(2)}


STARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "torch": lambda w: nn.init.kaiming_uniform_(w, a=math.sqrt(5)),
    "tiny": lambda w: nn.init.normal_(w, 0, 1e-8),
    "small": lambda w: nn.init.normal_(w, 0, 0.01),
    "large": lambda w: nn.init.normal_(w, 0, 100),
    "positive": nn.init.uniform_,
    "orthogonal": nn.init.orthogonal_,
    "zeros": nn.init.zeros_,
    "constant": lambda w: nn.init.constant_(w, 0.1),
    "identity": lambda w: nn.init.eye_(w) if w.dim() == 2 else nn.init.dirac_(w),
    "units alike": lambda w: w.copy_(torch.randn(1, *w.shape[1:]).expand_as(w)),
}


@pytest.mark.parametrize("shape", [(64, 256), (256, 64), (10, 128), (64, 3, 7, 7), (32, 1, 3, 3), (1, 40), (3, 3)])
@pytest.mark.parametrize("start", STARTS)
def test_no_start_looks_trained(start: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for _ in range(5):
        assert not init.looks_trained(STARTS[start](torch.empty(shape)))


def test_a_trained_network_does() -> None:
    """A hidden layer that learned which five of its inputs matter."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(50, 100), nn.ReLU(), nn.Linear(100, 1))
    x = torch.randn(500, 50)
    y = x[:, :5].sum(1, keepdim=True)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    weight = net.get_parameter("0.weight")
    assert not init.looks_trained(weight)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(x), y).backward()
        optimizer.step()
    assert [init.looks_trained(scale * weight) for scale in (1.0, 1e-6, 1e6)] == [True] * 3


def test_each_law_catches_its_own() -> None:
    torch.manual_seed(0)
    drawn = torch.randn(100, 200)
    raised = drawn + 0.3 * torch.randn(100).outer(torch.randn(200))  # s ≈ 0.3 √(mn) = 42 against √m + √n + 5.3 = 29
    starved, starved_column = drawn.clone(), drawn.clone()
    starved[7] *= 0.1
    starved_column[:, 7] *= 0.1
    assert [init.looks_trained(w) for w in (drawn, raised, starved, starved_column)] == [False, True, True, True]
    assert not init.looks_trained(torch.full((20, 20), math.nan)) and not init.looks_trained(torch.empty(0, 5))


def test_largest_singular_value() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(30, 80, dtype=torch.float64) + 1
    exact = torch.linalg.svdvals(matrix)[0].item()
    assert trained._largest_singular_value(matrix) == pytest.approx(exact, rel=1e-6)
