"""The statistics against NumPy in float64 and against numbers known by hand, also where float32 alone would be lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from runtrue import stats

SCALES = st.sampled_from([1e-30, 1e-12, 1.0, 1e12, 1e30])
SHAPES = st.sampled_from([(1,), (7,), (3, 5), (2, 3, 4), (2, 3, 4, 5), (64, 50)])
HALVES = [torch.float16, torch.bfloat16]
WHOLE = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Gaussian of any scale and offset, some of its values zero, sometimes laid out in another order than it is read."""
    shape, scale = draw(SHAPES), draw(SCALES)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    x = scale * (torch.randn(shape, generator=generator) + draw(st.sampled_from([0.0, 1.0, -300.0])))
    x[torch.rand(shape, generator=generator) < draw(st.sampled_from([0.0, 0.4, 1.0]))] = 0
    return x.transpose(0, -1) if draw(st.booleans()) else x


def wide(x: Tensor) -> NDArray[np.float64]:
    return x.detach().double().numpy()


@settings(deadline=None)
@given(tensors())
def test_moments_and_norms_against_numpy(x: Tensor) -> None:
    expected = wide(x)
    size = float(np.abs(expected).max())
    mean, std = stats.moments(x).tolist()
    assert mean == pytest.approx(expected.mean(), rel=1e-4, abs=1e-6 * size)
    assert std == pytest.approx(expected.std(), rel=2e-3, abs=1e-6 * size)
    assert stats.norm(x).item() == pytest.approx(np.sqrt((expected**2).sum()), rel=1e-5)
    assert stats.rms(x).item() == pytest.approx(np.sqrt((expected**2).mean()), rel=1e-5)


@settings(deadline=None)
@given(tensors())
def test_shares_against_numpy(x: Tensor) -> None:
    plain = wide(x)
    assert stats.zero_fraction(x).item() == pytest.approx((plain == 0).mean())
    for dim in range(x.dim()):
        others = tuple(other for other in range(x.dim()) if other != dim)
        expected = (plain == 0).mean(axis=others) if others else (plain == 0).astype(float)
        assert stats.zero_fraction_per_unit(x, dim).numpy() == pytest.approx(expected)
        assert stats.dead_fraction(x, dim).item() == pytest.approx((expected == 1).mean())


@settings(deadline=None)
@given(tensors(), st.integers(1, 30), st.sampled_from([(-1.0, 1.0), (0.0, 1e-30), (-1e31, 3.0), (-299.5, 0.0)]))
def test_histogram_against_numpy(x: Tensor, bins: int, span: tuple[float, float]) -> None:
    found = stats.histogram(x, bins, *span)
    edges = found.edges.numpy()
    assert (edges[0], edges[-1]) == span
    assert edges == pytest.approx(np.linspace(*span, bins + 1), rel=1e-12, abs=1e-12 * max(map(abs, span)))
    expected, _ = np.histogram(wide(x), bins=edges)
    assert found.counts.tolist() == expected.tolist()
    assert int(found.below) == (wide(x) < span[0]).sum()
    assert int(found.above) == (wide(x) > span[1]).sum()


@pytest.mark.parametrize("dtype", [*HALVES, *WHOLE])
def test_other_dtypes(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2 if dtype == torch.bool else 100, (300, 40), generator=generator).to(dtype)
    found = stats.moments(x)
    assert found.dtype == torch.float32 or dtype in (torch.int32, torch.int64)
    assert found.tolist() == pytest.approx([wide(x).mean(), wide(x).std()], rel=1e-5)
    assert stats.norm(x).item() == pytest.approx(np.linalg.norm(wide(x)), rel=1e-5)
    assert stats.zero_fraction(x).item() == pytest.approx((wide(x) == 0).mean(), rel=1e-5)
    assert sum(stats.histogram(x, 3, 0, 99).counts.tolist()) == x.numel()


def test_halves_do_not_overflow() -> None:
    x = torch.full((1000,), 60000.0, dtype=torch.float16)
    assert stats.norm(x).item() == pytest.approx(60000 * math.sqrt(1000))
    assert stats.global_norm([x, x]).item() == pytest.approx(60000 * math.sqrt(2000))
    assert stats.moments(x).tolist() == [60000.0, 0.0]


def test_a_mean_far_from_zero_does_not_swallow_the_spread() -> None:
    x = 4096 + torch.tensor([-1.0, 1.0]).repeat(5000)
    assert stats.moments(x).tolist() == [4096.0, 1.0]


def test_many_elements_are_summed_exactly_enough() -> None:
    """One float32 dot product over 2^24 elements would be off by 2e-4."""
    x = torch.randn(2**22, generator=torch.Generator().manual_seed(0)) + 0.3
    assert stats.moments(x).tolist() == pytest.approx([wide(x).mean(), wide(x).std()], rel=1e-6)


def test_double_stays_double() -> None:
    x = torch.tensor([1.0, 1.0 + 1e-12], dtype=torch.float64)
    assert stats.moments(x)[1].item() == pytest.approx(5e-13, rel=1e-3)
    assert all(f(x).dtype == torch.float64 for f in (stats.moments, stats.norm, stats.rms))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite(bad: float) -> None:
    x = torch.tensor([[1.0, bad], [0.0, 1.0]])
    mean, std = stats.moments(x).tolist()
    assert math.isnan(std) and not math.isfinite(mean)
    assert math.isnan(stats.norm(x).item()) if math.isnan(bad) else stats.norm(x).item() == math.inf
    assert not math.isfinite(stats.global_norm([x, torch.ones(3)]).item())
    assert stats.zero_fraction(x).item() == 0.25
    assert stats.saturated_fraction(x, "tanh").item() == (0.5 if math.isnan(bad) else 0.75)
    assert stats.dead_fraction(x, 1).item() == 0
    found = stats.histogram(x, 2, 0.0, 1.0)
    assert found.counts.tolist() == [1, 2]
    assert (int(found.below), int(found.above), int(found.not_finite)) == (0, 0, 1)


def test_nothing() -> None:
    x = torch.zeros(0, 4)
    values = (*stats.moments(x), stats.rms(x), stats.zero_fraction(x), stats.dead_fraction(x, 1))
    assert all(math.isnan(value.item()) for value in values)
    assert stats.zero_fraction_per_unit(x, 1).isnan().all() and stats.zero_fraction_per_unit(x, 1).shape == (4,)
    assert stats.zero_fraction_per_unit(x, 0).shape == (0,)
    assert stats.norm(x).item() == 0 == stats.global_norm([]).item() == stats.global_norm([x]).item()
    assert stats.histogram(x, 3, 0, 1).counts.tolist() == [0, 0, 0]
    assert stats.gather({}) == {}


def test_one_number_without_a_dimension() -> None:
    x = torch.tensor(0.0)
    assert stats.moments(torch.tensor(3.0)).tolist() == [3.0, 0.0]
    assert stats.zero_fraction_per_unit(x, stats.unit_dim(x)).tolist() == [1.0]
    assert stats.dead_fraction(x, -1).item() == 1.0


@pytest.mark.parametrize(
    ("name", "values", "share"),
    [
        ("tanh", [-1.0, -0.951, -0.949, 0.0, 0.949, 0.951, 1.0], 4 / 7),
        ("softsign", [-0.96, 0.5], 0.5),
        ("sigmoid", [0.0, 0.024, 0.026, 0.5, 0.974, 0.976, 1.0], 4 / 7),
        ("hardtanh", [-1.0, -0.99, 0.0, 0.99, 1.0], 0.4),
        ("hardsigmoid", [0.0, 0.01, 0.5, 0.99, 1.0], 0.4),
        ("relu", [0.0, 1.0, 5.0], 0.0),
        (None, [1.0, -1.0], 0.0),
    ],
)
def test_saturation(name: str | None, values: list[float], share: float) -> None:
    x = torch.tensor(values)
    assert stats.saturated_fraction(x, name).item() == pytest.approx(share)
    pair = torch.stack((x, torch.full_like(x, 0.5)), dim=1)  # (N, 2): the second unit never saturates
    assert stats.saturated_fraction_per_unit(pair, name, 1).tolist() == pytest.approx([share, 0.0])


def test_the_margin_is_a_tenth_of_the_slope() -> None:
    """Saturation of tanh and of sigmoid begins at the same input, where the slope is less than a tenth of its largest."""
    z = torch.tensor(math.atanh(1 - stats.SATURATION_MARGIN), dtype=torch.float64)
    assert 1 - torch.tanh(z) ** 2 < 0.1
    for change, share in ((1 + 1e-9, 1.0), (1 - 1e-9, 0.0)):
        assert stats.saturated_fraction(torch.tanh(z * change), "tanh").item() == share
        assert stats.saturated_fraction(torch.sigmoid(2 * z * change), "sigmoid").item() == share


def test_units() -> None:
    assert stats.unit_dim(torch.zeros(2, 3, 4, 5), "conv") == 1
    assert stats.unit_dim(torch.zeros(2, 3, 4), "linear") == -1
    assert stats.unit_dim(torch.zeros(2, 3), "conv") == 1
    maps = torch.ones(2, 3, 4, 4)
    maps[:, 1] = 0
    assert stats.zero_fraction_per_unit(maps, stats.unit_dim(maps, "conv")).tolist() == [0, 1, 0]
    assert stats.dead_fraction(maps, 1).item() == pytest.approx(1 / 3)


@settings(deadline=None)
@given(st.lists(tensors(), min_size=1, max_size=5))
def test_global_norm_against_numpy(parts: list[Tensor]) -> None:
    expected = np.linalg.norm(np.concatenate([wide(part).ravel() for part in parts]))
    assert stats.global_norm(parts).item() == pytest.approx(expected, rel=1e-5)


def test_global_norm_of_mixed_dtypes() -> None:
    parts = [torch.full((4,), 2.0, dtype=dtype) for dtype in (torch.float16, torch.float32, torch.float64)]
    assert stats.global_norm(parts).item() == pytest.approx(math.sqrt(48))


def test_gather() -> None:
    found = stats.gather(
        {"a": torch.tensor([0.1], dtype=torch.float64), "b": torch.tensor(3), "c": torch.tensor(math.nan)}
    )
    assert list(found) == ["a", "b", "c"]
    assert found["a"] == 0.1 and found["b"] == 3.0 and math.isnan(found["c"])
    with pytest.raises(ValueError, match=r"'w' has shape \(2,\): reduce it first"):
        stats.gather({"w": torch.ones(2)})


def test_bad_calls_say_why() -> None:
    with pytest.raises(ValueError, match="low < high"):
        stats.histogram(torch.ones(3), 4, 1.0, 1.0)
    with pytest.raises(ValueError, match="at least one bin"):
        stats.histogram(torch.ones(3), 0, 0.0, 1.0)
    with pytest.raises(TypeError, match="view_as_real"):
        stats.moments(torch.ones(3, dtype=torch.complex64))


def test_gradients_do_not_reach_the_statistics() -> None:
    x = torch.ones(3, 2, requires_grad=True)
    found = (stats.moments(x), stats.norm(x), stats.zero_fraction(x), stats.dead_fraction(x, 1))
    assert not any(value.requires_grad for value in found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_same_on_a_gpu() -> None:
    x = torch.randn(200, 30, generator=torch.Generator().manual_seed(0)) + 50
    x[:, 3] = 0
    there = x.cuda()
    for here, moved in (
        (stats.moments(x), stats.moments(there)),
        (stats.norm(x), stats.norm(there)),
        (stats.global_norm([x, x]), stats.global_norm([there, there])),
        (stats.dead_fraction(x, 1), stats.dead_fraction(there, 1)),
        (stats.saturated_fraction(x, "tanh"), stats.saturated_fraction(there, "tanh")),
        (stats.histogram(x, 9, 48, 52).counts, stats.histogram(there, 9, 48, 52).counts),
    ):
        assert moved.device.type == "cuda"
        assert torch.allclose(here, moved.cpu(), rtol=1e-4)
    assert stats.gather({"cpu": stats.norm(x), "gpu": stats.norm(there)})["gpu"] == pytest.approx(stats.norm(x).item())
    for scale in (1e-30, 1e30):
        assert stats.moments(there * scale)[1].item() == pytest.approx(stats.moments(x * scale)[1].item(), rel=1e-4)
