"""What is read from the data, against NumPy in double precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from runtrue import TaskError, facts
from runtrue.facts import TensorFacts

GENERATOR = torch.Generator().manual_seed(0)


def read(*batches: Tensor, whole: bool = True) -> TensorFacts:
    """The facts of the one input of these batches."""
    data = facts.measure([(x, torch.zeros(len(x))) for x in batches], pairs=True, whole=whole)
    (found,) = data.inputs
    return found


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR)


def test_three_rows_by_hand() -> None:
    found = read(torch.tensor([[1.0, 10.0], [2.0, 10.0]]), torch.tensor([[6.0, 10.0]]))
    assert found.feature_means == (3.0, 10.0)
    assert found.feature_stds == pytest.approx((math.sqrt(14 / 3), 0.0))  # (4 + 1 + 9) / 3
    assert found.mean == 6.5
    assert found.std == pytest.approx(math.sqrt((14 + 6 * 3.5**2) / 6))  # within, and 3.5 between the two columns
    assert (found.low, found.high, found.largest) == (1.0, 10.0, 10.0)
    assert (found.examples, found.shape, found.dtype, found.floating) == (3, (2, 2), "float32", True)
    assert found.values == (1.0, 2.0, 6.0, 10.0)
    assert not found.alike and found.bad_rows == 0


@pytest.mark.parametrize("offset", [0.0, 1e4, -3e6])
def test_an_offset_does_not_swallow_the_spread(offset: float) -> None:
    x = (normal(600, 3) * torch.tensor([0.01, 1.0, 5.0])).double() + offset
    x = x if offset == -3e6 else x.float()
    found, exact = read(*x.split(50)), x.double().numpy()
    np.testing.assert_allclose(found.feature_means, exact.mean(0), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found.feature_stds, exact.std(0), rtol=2e-3)
    assert found.std == pytest.approx(exact.std(), rel=2e-3)


def test_batches_far_from_the_first() -> None:
    """Sums are taken around the first batch; the others may lie elsewhere."""
    x = normal(200, 2) * 0.5
    x[50:] += 300.0
    found = read(*x.split(50))
    np.testing.assert_allclose(found.feature_stds, x.double().numpy().std(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((40, 3), 0), ((40, 3, 5, 7), (0, 2, 3)), ((40, 6, 4), (0, 1)), ((40, 2, 3, 4, 5), (0, 2, 3, 4))],
    ids=["table", "images", "sequences", "volumes"],
)
def test_what_a_feature_is(shape: tuple[int, ...], axes: Any) -> None:
    x = normal(*shape)
    features = x.movedim(-1 if len(shape) == 3 else 1, -1)
    features *= torch.arange(1.0, features.shape[-1] + 1)  # in place: each feature of x has a spread of its own
    found, exact = read(*x.split(16)), x.double().numpy()
    np.testing.assert_allclose(found.feature_means, exact.mean(axes), atol=1e-5)
    np.testing.assert_allclose(found.feature_stds, exact.std(axes), rtol=1e-4)
    assert found.mean == pytest.approx(exact.mean(), abs=1e-5) and found.std == pytest.approx(exact.std(), rel=1e-4)


def test_one_number_an_example_has_no_features() -> None:
    found = read(normal(30), normal(30))
    assert found.feature_means == () == found.feature_stds and found.examples == 60


def test_rows_that_are_not_finite_are_counted_and_left_out() -> None:
    x = normal(50, 4)
    x[3, 0], x[3, 2], x[7, 1], x[20, 3] = math.nan, math.inf, -math.inf, math.nan
    found = read(*x.split(10))
    assert (found.bad_rows, found.bad_values) == (3, 4)
    exact = np.ma.masked_invalid(x.double().numpy())
    np.testing.assert_allclose(found.feature_means, exact.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.feature_stds, exact.std(0), rtol=1e-5)
    assert (found.low, found.high) == (exact.min(), exact.max())


def test_nothing_finite_at_all() -> None:
    found = read(torch.full((4, 3), math.nan))
    assert found.bad_rows == 4 and found.bad_values == 12
    assert all(math.isnan(x) for x in (found.mean, found.std, found.low, found.high)) and found.values == ()


def test_a_feature_that_is_never_finite_leaves_the_others_alone() -> None:
    x = normal(20, 2)
    x[:, 1] = math.nan
    found = read(x)
    assert found.bad_rows == 20
    assert found.mean == pytest.approx(float(x[:, 0].double().mean()), abs=1e-6)
    assert found.std == pytest.approx(float(x[:, 0].double().std(correction=0)), rel=1e-5)


@pytest.mark.parametrize(
    ("batches", "alike"),
    [
        ([torch.ones(3, 2), torch.ones(4, 2)], True),
        ([torch.tensor([[1.0, 2.0], [1.0, 2.0]])], True),
        ([torch.ones(3, 2), torch.ones(4, 2) * 2], False),
        ([torch.ones(1, 2)], False),
        ([torch.full((3, 2), math.nan)], True),
        ([torch.ones(3, 2), torch.ones(3, 3)], False),
    ],
    ids=["one row", "two values", "later batch differs", "one example", "NaN", "another width"],
)
def test_alike_means_that_every_example_is_equal(batches: list[Tensor], alike: bool) -> None:
    assert read(*batches).alike is alike


def test_a_constant_column_has_no_spread() -> None:
    x = normal(100, 3)
    x[:, 1] = 12345.678
    found = read(*x.split(30))
    assert found.feature_stds[1] < 1e-3 < 0.5 < min(found.feature_stds[0], found.feature_stds[2])
    assert found.feature_means[1] == pytest.approx(12345.678, rel=1e-6)


def test_shapes_that_change_are_read_as_one() -> None:
    batches = [normal(8, 5) + 1e4, normal(8, 7) * 3 + 1e4, normal(8, 5) * 2 + 1e4]
    found = read(*batches)
    exact = np.concatenate([x.double().numpy().ravel() for x in batches])
    assert found.feature_means == ()
    assert found.mean == pytest.approx(exact.mean(), rel=1e-9) and found.std == pytest.approx(exact.std(), rel=1e-3)
    assert (found.low, found.high) == (exact.min(), exact.max())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.float16, torch.bfloat16])
def test_other_types(dtype: torch.dtype) -> None:
    x = torch.randint(0, 2 if dtype == torch.bool else 200, (64, 3), generator=GENERATOR).to(dtype)
    found, exact = read(*x.split(16)), x.double().numpy()
    np.testing.assert_allclose(found.feature_means, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.feature_stds, exact.std(0), rtol=1e-6)
    assert found.floating is dtype.is_floating_point and found.dtype == str(dtype).removeprefix("torch.")
    assert (found.low, found.high) == (exact.min(), exact.max())


def test_half_precision_does_not_overflow() -> None:
    x = torch.tensor([[-60000.0], [60000.0]], dtype=torch.float16)
    assert read(x).std == pytest.approx(60000, rel=1e-3)


def test_a_feature_whose_first_batch_is_all_nan_keeps_its_precision() -> None:
    x = normal(40, 1) * 0.01 + 1e4
    found = read(torch.full((10, 1), math.nan), *x.split(10))
    assert found.std == pytest.approx(float(x.double().std(correction=0)), rel=1e-3)


def test_a_full_image_of_bytes_is_summed_without_overflow() -> None:
    assert read(torch.full((70, 3, 32, 32), 255, dtype=torch.uint8)).mean == 255.0


def test_distinct_values_are_listed_up_to_65() -> None:
    assert read(torch.arange(10).repeat(5)).values == tuple(range(10))
    assert 64 < len(read(normal(500)).values) <= 130


def test_targets_and_the_size_of_a_batch() -> None:
    batches = [(normal(16, 2), torch.arange(16) % 3), (normal(5, 2), torch.arange(5) % 3)]
    data = facts.measure(batches, pairs=True, whole=True)
    assert data.batch_size == 16
    assert data.targets is not None and data.targets.values == (0.0, 1.0, 2.0) and data.targets.examples == 21


def test_several_inputs_by_name() -> None:
    batch = ({"left": normal(4, 2), "right": [normal(4, 3), normal(4)]}, torch.zeros(4))
    data = facts.measure([batch], pairs=True, whole=True)
    assert [(t.name, t.shape) for t in data.inputs] == [
        ("['left']", (4, 2)),
        ("['right'][0]", (4, 3)),
        ("['right'][1]", (4,)),
    ]


def test_without_pairs_everything_is_an_input() -> None:
    data = facts.measure([{"x": normal(4, 2), "text": ["a", "b"]}], pairs=False, whole=False)
    assert data.targets is None and [t.name for t in data.inputs] == ["['x']"] and not data.inputs[0].whole


def test_targets_that_are_no_tensor_are_named() -> None:
    with pytest.raises(TaskError, match="holds no tensor"):
        facts.measure([(normal(2, 2), "cat")], pairs=True, whole=True)


ROWS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(2, 12), st.integers(1, 4)),
    elements=st.floats(-1e6, 1e6, width=32) | st.sampled_from([math.nan, math.inf, -math.inf]),
)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(1, 5))
def test_any_table_in_any_cut_is_as_numpy_says(table: Any, size: int) -> None:
    found = read(*torch.from_numpy(table).split(size))
    finite = np.isfinite(table)
    assert found.bad_values == (~finite).sum() and found.bad_rows == (~finite).any(1).sum()
    if not finite.any():
        assert math.isnan(found.mean)
        return
    exact = np.ma.array(table.astype(np.float64), mask=~finite)
    scale = float(np.abs(exact).max()) + 1e-12  # smaller squares leave the range of float32
    assert found.mean == pytest.approx(float(exact.mean()), rel=1e-5, abs=1e-6 * scale)
    assert found.std == pytest.approx(float(exact.std()), rel=1e-4, abs=1e-4 * scale)
    assert (found.low, found.high) == (exact.min(), exact.max())
    for column, (mean, std) in enumerate(zip(found.feature_means, found.feature_stds)):
        if finite[:, column].any():
            assert mean == pytest.approx(float(exact[:, column].mean()), rel=1e-5, abs=1e-6 * scale)
            assert std == pytest.approx(float(exact[:, column].std()), rel=1e-4, abs=1e-4 * scale)


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(np.float64, (12, 3), elements=st.floats(-1e3, 1e3)), st.integers(1, 12), st.integers(1, 12))
def test_the_cut_into_batches_makes_no_difference(table: Any, one: int, other: int) -> None:
    first, second = (read(*torch.from_numpy(table).split(size)) for size in (one, other))
    assert first.mean == pytest.approx(second.mean, abs=1e-9) and first.std == pytest.approx(second.std, abs=1e-5)
    assert first.alike == second.alike == bool((table == table[0]).all())
