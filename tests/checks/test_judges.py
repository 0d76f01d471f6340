"""The judges, on numbers made up for them: silent on nothing, safe with NaN and infinity, monotone, at their thresholds."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtrue.baselines import Baseline
from runtrue.checks import CHECKS, judge_all
from runtrue.facts import DataFacts, TensorFacts
from runtrue.findings import Finding, plain
from runtrue.measure import LossFacts, Measurements, Plan, SmallSet, Start, Wiring
from runtrue.outputs import OutputFacts
from runtrue.probes import Reading
from runtrue.tape import Cut
from runtrue.trials import Curve

OUTPUTS = OutputFacts("cross_entropy", (8, 10), 0.0, 1.0, True, False, False, "labels", (8,), 0.0, 9.0)
NOTHING = Measurements(DataFacts((), None, 0), Start())


def said(cause: str, measured: Measurements) -> list[Finding]:
    return list(CHECKS[cause].judge(measured))


def layer(name: str = "fc", **numbers: Any) -> Reading:
    """A healthy tanh layer of 100 units, but for the numbers given."""
    healthy: dict[str, Any] = {
        "kind": "linear", "activation": "tanh", "normalized": False, "units": 100, "fan_in": 100, "calls": 1,
        "trainable": True, "mean": 0.0, "std": 0.6, "raw_std": 1.0, "raw_mean": 0.0, "zero_fraction": 0.0,
        "dead_fraction": 0.0, "saturated_fraction": 0.0, "gain": 1.0, "signal_norm": 0.1, "grad_norm": 0.1,
        "weight_norm": 10.0, "update_ratio": 1e-3,
    }  # fmt: skip
    return Reading(layer=name, **(healthy | numbers))


def network(*layers: Reading, **start: Any) -> Measurements:
    given_start: dict[str, Any] = {"loss": 2.3, "baseline": Baseline("cross_entropy", 2.3, 2.3, classes=10)} | start
    return replace(NOTHING, start=Start(layers=layers, **given_start))


def tensor(**numbers: Any) -> TensorFacts:
    standard: dict[str, Any] = {
        "name": "", "dtype": "float32", "shape": (32, 4), "examples": 320, "whole": True, "floating": True,
        "mean": 0.0, "std": 1.0, "low": -3.0, "high": 3.0, "bad_rows": 0, "bad_values": 0, "alike": False,
        "feature_means": (0.0,) * 4, "feature_stds": (1.0,) * 4,
    }  # fmt: skip
    return TensorFacts(**(standard | numbers))


def data(inputs: TensorFacts | None = None, targets: TensorFacts | None = None, **start: Any) -> Measurements:
    given_inputs = (inputs,) if inputs else ()
    return Measurements(DataFacts(given_inputs, targets, 32), Start(loss=1.0, **start))


def loss_facts(name: str = "mse_loss", **numbers: Any) -> LossFacts:
    usual: dict[str, Any] = {
        "shape": (32, 10), "classes": 10, "low": -1.0, "high": 1.0, "target_dtype": "float32", "target_shape": (32,),
        "target_low": 0.0, "target_high": 9.0, "ignore_index": -100, "activation": None,
    }  # fmt: skip
    return LossFacts(name=name, **(usual | numbers))


def trained(
    start: float, end: float, constant: float | None = 1.0, rate: float = 0.1, planned: int = 1000
) -> Measurements:
    base = Baseline("mse_loss", constant, constant) if constant is not None else None
    curve = Curve((start, *[end] * 20))
    return replace(NOTHING, start=Start(baseline=base), reference=curve, plan=Plan(planned, 21, True), rate=rate)


@pytest.mark.parametrize("cause", CHECKS)
def test_silent_on_nothing(cause: str) -> None:
    assert said(cause, NOTHING) == []


HEALTHY = replace(
    data(tensor(), tensor(), loss_facts=loss_facts()),
    start=network(*[layer(f"fc{i}") for i in range(6)], wiring=Wiring(12, held=12)).start,
    reference=Curve((2.3, *[0.4] * 40)),
    plan=Plan(1000, 41, True),
    small=SmallSet(16, 60, True, 2.3, 0.1),
    rate=0.1,
)


@pytest.mark.parametrize("cause", CHECKS)
def test_silent_on_the_healthy(cause: str) -> None:
    assert said(cause, HEALTHY) == []


# -- whatever the numbers are

ANY = st.floats(width=32) | st.sampled_from([0.0, math.nan, math.inf, -math.inf, 1e-30, 1e30])
SOME = st.none() | ANY
READINGS = st.builds(
    Reading,
    layer=st.sampled_from(["a", "b", "c.0"]),
    kind=st.sampled_from(["linear", "conv", "recurrent", "embedding", "attention"]),
    activation=st.sampled_from([None, "relu", "tanh", "sigmoid"]),
    normalized=st.booleans(),
    units=st.integers(0, 50),
    fan_in=st.integers(0, 50),
    calls=st.integers(1, 3),
    trainable=st.booleans(),
    alike_rows=st.booleans(),
    has_grad=st.booleans(),
    **dict.fromkeys(
        ("mean", "std", "raw_std", "raw_mean", "zero_fraction", "dead_fraction", "saturated_fraction", "gain"), SOME
    ),
    **dict.fromkeys(("signal_norm", "grad_norm", "weight_norm", "update_ratio"), SOME),
)
TENSORS = st.builds(
    TensorFacts,
    name=st.just(""),
    dtype=st.sampled_from(["float32", "int64"]),
    shape=st.lists(st.integers(0, 5), max_size=4).map(tuple),
    examples=st.integers(0, 200),
    whole=st.booleans(),
    floating=st.booleans(),
    mean=ANY,
    std=ANY,
    low=ANY,
    high=ANY,
    bad_rows=st.integers(0, 3),
    bad_values=st.integers(0, 3),
    alike=st.booleans(),
    feature_means=st.lists(ANY, max_size=4).map(tuple),
    feature_stds=st.lists(ANY, max_size=4).map(tuple),
    values=st.lists(ANY, max_size=4).map(tuple),
)
LOSSES = st.builds(
    LossFacts,
    name=st.sampled_from(["cross_entropy", "mse_loss", "binary_cross_entropy_with_logits", "nll_loss"]),
    shape=st.just((4, 3)),
    classes=st.integers(1, 5),
    low=ANY,
    high=ANY,
    target_dtype=st.sampled_from(["int64", "float32"]),
    target_shape=st.just((4,)),
    target_low=ANY,
    target_high=ANY,
    ignore_index=st.just(-100),
    activation=st.sampled_from([None, "softmax"]),
)
STARTS = st.builds(
    Start,
    layers=st.lists(READINGS, max_size=5).map(tuple),
    loss=ANY,
    baseline=st.none() | st.builds(Baseline, st.just("mse_loss"), ANY, ANY, st.integers(0, 3)),
    loss_facts=st.none() | LOSSES,
    wiring=st.builds(
        Wiring,
        st.integers(0, 9),
        frozen=st.sampled_from([(), ("a",), tuple("abcdefgh")]),
        without_gradient=st.sampled_from([(), ("a",)]),
        not_held=st.sampled_from([(), ("a",)]),
        cuts=st.sampled_from([(), (Cut("detach", ""),)]),
    ),
    gradient_norm=ANY,
    error=st.sampled_from([None, "no"]),
    no_gradient=st.sampled_from([None, "no"]),
)
MEASURED = st.builds(
    Measurements,
    data=st.builds(DataFacts, st.lists(TENSORS, max_size=2).map(tuple), st.none() | TENSORS, st.integers(0, 9)),
    start=STARTS,
    reference=st.builds(Curve, st.lists(ANY, max_size=6).map(tuple)),
    plan=st.builds(Plan, st.integers(0, 99), st.integers(0, 99), st.booleans()),
    small=st.none() | st.builds(SmallSet, st.integers(1, 9), st.integers(1, 9), st.booleans(), ANY, ANY),
    rate=ANY,
    bad_loss=SOME,
    shuffled=st.booleans(),
)


@settings(max_examples=400, deadline=None)
@given(MEASURED)
def test_no_number_makes_a_judge_raise(measured: Measurements) -> None:
    for finding in judge_all(measured, CHECKS):
        assert finding.message and finding.where and finding.severity in ("fault", "warning", "note")
        json.dumps(plain(finding.evidence), allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(MEASURED)
def test_each_judge_speaks_of_its_own_cause_in_the_order_of_the_stages(measured: Measurements) -> None:
    for cause in CHECKS:
        assert {finding.cause for finding in said(cause, measured)} <= {cause}
    order = list(CHECKS)
    places = [order.index(finding.cause) for finding in judge_all(measured, CHECKS)]
    assert places == sorted(places)


def test_numbers_that_were_not_seen() -> None:
    """Every reading may be None, each alone and all together."""
    optional = [name for name, value in vars(layer()).items() if isinstance(value, float)]
    for gain in (1e-3, 1.0, 1e3):
        for missing in (*([name] for name in optional), [name for name in optional if name != "gain"], optional):
            layers = [layer(f"fc{i}", **({"gain": gain} | dict.fromkeys(missing))) for i in range(4)]
            judge_all(network(*layers, baseline=None), CHECKS)


# -- more of it is never less ill


def monotone(cause: str, make: Any, mild: float, grave: float) -> None:
    if said(cause, make(mild)):
        assert said(cause, make(grave)), f"{cause} is said at {mild} and not at {grave}"


@given(st.floats(1e-6, 1e6), st.floats(1, 1e6))
def test_a_larger_gain_is_no_less_too_large(gain: float, factor: float) -> None:
    monotone("init-too-large", lambda g: network(*[layer(f"fc{i}", gain=g) for i in range(4)]), gain, gain * factor)


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1))
def test_a_smaller_gain_is_no_less_too_small(gain: float, factor: float) -> None:
    monotone("init-too-small", lambda g: network(*[layer(f"fc{i}", gain=g) for i in range(4)]), gain, gain * factor)


@given(st.floats(1e-12, 1e3), st.floats(1e-6, 1))
def test_a_smaller_gradient_is_no_less_vanished(ratio: float, factor: float) -> None:
    def with_first(r: float) -> Measurements:
        return network(layer("a", signal_norm=0.1 * r), *[layer(f"fc{i}") for i in range(3)])

    monotone("vanishing-gradient", with_first, ratio, ratio * factor)


@given(st.floats(1e-3, 1e9), st.floats(1, 1e6))
def test_a_larger_gradient_is_no_less_exploded(ratio: float, factor: float) -> None:
    def with_first(r: float) -> Measurements:
        return network(layer("a", signal_norm=0.1 * r), *[layer(f"fc{i}") for i in range(3)])

    monotone("exploding-gradient", with_first, ratio, ratio * factor)


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_dead_units_are_no_less_dead(one: float, other: float) -> None:
    mild, grave = sorted((one, other))
    monotone("dead-units", lambda d: network(layer("a", dead_fraction=d), layer("b")), mild, grave)


@given(st.floats(1e-3, 1e6), st.floats(1, 1e6))
def test_larger_inputs_are_no_less_unscaled(size: float, factor: float) -> None:
    def sized(s: float) -> Measurements:
        return data(tensor(low=-s, high=s, std=s / 3, feature_stds=(s / 3,) * 4))

    if size >= 0.02:  # under that the inputs are called tiny
        monotone("inputs-not-scaled", sized, size, size * factor)


@given(st.floats(0.1, 1e6), st.floats(1, 1e6))
def test_larger_targets_are_no_less_unscaled(size: float, factor: float) -> None:
    def sized(s: float) -> Measurements:
        return data(None, tensor(mean=0.0, std=s), loss_facts=loss_facts())

    monotone("targets-not-scaled", sized, size, size * factor)


@given(st.integers(-5, 20), st.integers(0, 50))
def test_higher_labels_are_no_less_out_of_range(high: int, more: int) -> None:
    def labelled(h: float) -> Measurements:
        return data(None, None, loss_facts=loss_facts("cross_entropy", target_dtype="int64", target_high=float(h)))

    monotone("labels-out-of-range", labelled, high, high + more)


# -- thresholds, from both sides


@pytest.mark.parametrize(
    ("gain", "small", "large"), [(0.34, 1, 0), (0.36, 0, 0), (1.41, 0, 0), (3.9, 0, 0), (4.1, 0, 1)]
)
def test_gains(gain: float, small: int, large: int) -> None:
    measured = network(*[layer(f"fc{i}", gain=gain) for i in range(4)])
    assert (len(said("init-too-small", measured)), len(said("init-too-large", measured))) == (small, large)


def test_the_last_layer_may_be_small_and_so_may_one_of_three() -> None:
    healthy = [layer(f"fc{i}") for i in range(3)]
    assert not said("init-too-small", network(*healthy, layer("head", gain=1e-4)))
    assert not said("init-too-small", network(layer("a", gain=1e-3), *healthy[:2], layer("head")))
    assert said("init-too-small", network(layer("a", gain=1e-3), layer("b", gain=1e-3), healthy[0], layer("head")))


@pytest.mark.parametrize("changes", [{"normalized": True}, {"kind": "embedding"}, {"gain": None}])
def test_layers_whose_scale_is_not_their_weights_are_left_out(changes: dict[str, Any]) -> None:
    for gain in (1e-5, 1e5):
        measured = network(*[layer(f"fc{i}", **({"gain": gain} | changes)) for i in range(4)])
        assert not said("init-too-small", measured) and not said("init-too-large", measured)


def test_a_signal_that_fades_is_too_small_and_one_that_grows_too_large() -> None:
    fading = network(*[layer(f"fc{i}", gain=0.5, std=0.1**i) for i in range(4)])
    growing = network(*[layer(f"fc{i}", gain=3.0, std=10.0**i) for i in range(4)])
    assert said("init-too-small", fading) and not said("init-too-large", fading)
    assert said("init-too-large", growing) and not said("init-too-small", growing)


def test_a_loss_three_times_its_expectation_at_the_start() -> None:
    layers = [layer(f"fc{i}") for i in range(3)]
    assert not said("init-too-large", network(*layers, loss=2.9 * 2.3))
    (finding,) = said("init-too-large", network(*layers, loss=3.1 * 2.3))
    assert "7.13 where 2.3 is expected" in finding.message


@pytest.mark.parametrize(("ratio", "vanished", "exploded"), [(0.9e-3, 1, 0), (1.1e-3, 0, 0), (990, 0, 0), (1010, 0, 1)])
def test_gradients(ratio: float, vanished: int, exploded: int) -> None:
    measured = network(layer("a", signal_norm=0.1 * ratio), layer("b"), layer("c"))
    assert (len(said("vanishing-gradient", measured)), len(said("exploding-gradient", measured))) == (
        vanished,
        exploded,
    )


def test_where_the_gradient_is_worst() -> None:
    (finding,) = said(
        "vanishing-gradient", network(layer("a", signal_norm=1e-8), layer("b", signal_norm=1e-9), layer("c"))
    )
    assert finding.where == "b" and finding.evidence["ratio"] == pytest.approx(1e-8)


def test_a_gradient_that_is_not_finite_though_the_loss_is() -> None:
    layers = [layer("a", signal_norm=math.inf), layer("b"), layer("c")]
    assert "not finite" in said("exploding-gradient", network(*layers))[0].message
    assert not said("exploding-gradient", network(*layers, loss=math.nan))


@pytest.mark.parametrize(("dead", "units", "count"), [(0.9, 100, 0), (0.91, 100, 1), (1.0, 100, 1), (1.0, 1, 0)])
def test_dead_units(dead: float, units: int, count: int) -> None:
    measured = network(layer("a", dead_fraction=dead, units=units, activation="relu"), layer("b"))
    assert len(said("dead-units", measured)) == count


def test_many_zeros_without_dead_units_are_healthy() -> None:
    assert not said("dead-units", network(layer("a", zero_fraction=0.95, dead_fraction=0.3), layer("b")))


@pytest.mark.parametrize(
    ("changes", "count"),
    [({}, 1), ({"alike_rows": False}, 0), ({"units": 1}, 0), ({"trainable": False}, 0), ({"kind": "embedding"}, 0)],
)
def test_symmetric_layers(changes: dict[str, Any], count: int) -> None:
    first = layer("a", **({"alike_rows": True} | changes))
    assert len(said("init-symmetric", network(first, layer("b"), layer("c")))) == count


def test_a_head_of_zeros_is_healthy() -> None:
    assert not said("init-symmetric", network(layer("a"), layer("b"), layer("head", alike_rows=True)))


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 0),
        ({"high": 19.0}, 0),
        ({"high": 255.0}, 1),
        ({"low": -21.0}, 1),
        ({"mean": 7.0}, 0),
        ({"mean": 9.0}, 1),
        ({"low": 0.0, "high": 0.01, "mean": 0.005, "std": 0.003}, 1),
        ({"low": 0.0, "high": 1.0, "mean": 0.28, "std": 0.35}, 0),
        ({"feature_stds": (0.1, 1.0, 1.0, 1.0)}, 0),
        ({"feature_stds": (0.001, 1.0, 1.0, 1.0)}, 1),
        ({"feature_stds": (0.0, 1.0, 1.0, 1.0)}, 0),
        ({"high": 255.0, "floating": False}, 0),
        ({"high": 255.0, "alike": True}, 0),
    ],
)
def test_inputs(changes: dict[str, Any], count: int) -> None:
    assert len(said("inputs-not-scaled", data(tensor(**changes)))) == count


@pytest.mark.parametrize(
    ("changes", "name", "count"),
    [
        ({"std": 9.0}, "mse_loss", 0),
        ({"std": 11.0}, "mse_loss", 1),
        ({"std": 11.0}, "cross_entropy", 0),
        ({"mean": 9.0, "std": 1.0}, "l1_loss", 1),
        ({"std": 1e-4}, "huber_loss", 1),
        ({"std": 11.0, "alike": True}, "mse_loss", 0),
        ({"std": 11.0, "floating": False}, "mse_loss", 0),
    ],
)
def test_targets(changes: dict[str, Any], name: str, count: int) -> None:
    measured = data(None, tensor(**changes), loss_facts=loss_facts(name))
    assert len(said("targets-not-scaled", measured)) == count


@pytest.mark.parametrize(
    ("name", "dtype", "low", "high", "count"),
    [
        ("cross_entropy", "int64", 0, 9, 0),
        ("cross_entropy", "int64", 1, 10, 1),
        ("cross_entropy", "int64", -1, 8, 1),
        ("cross_entropy", "float32", 0, 12, 0),
        ("nll_loss", "int64", 0, 10, 1),
        ("binary_cross_entropy_with_logits", "float32", 0, 1, 0),
        ("binary_cross_entropy_with_logits", "float32", -1, 1, 1),
        ("binary_cross_entropy", "float32", 0, 2, 1),
        ("mse_loss", "float32", -50, 50, 0),
    ],
)
def test_labels(name: str, dtype: str, low: float, high: float, count: int) -> None:
    facts = loss_facts(name, target_dtype=dtype, target_low=float(low), target_high=float(high))
    found = said("labels-out-of-range", data(None, None, loss_facts=facts))
    assert len(found) == count
    assert all(f.severity == "fault" and (f.evidence["lowest"], f.evidence["highest"]) == (low, high) for f in found)


def test_labels_of_later_batches_count_and_ignored_ones_do_not() -> None:
    facts = loss_facts("cross_entropy", target_dtype="int64", target_low=0.0, target_high=9.0)
    later = tensor(dtype="int64", low=-100.0, high=10.0, values=(-100.0, *map(float, range(11))))
    (finding,) = said("labels-out-of-range", data(None, later, loss_facts=facts))
    assert (finding.evidence["lowest"], finding.evidence["highest"]) == (0.0, 10.0)
    ignored = replace(later, high=9.0, values=(-100.0, *map(float, range(10))))
    assert not said("labels-out-of-range", data(None, ignored, loss_facts=facts))


def test_bad_rows_are_a_fault_only_if_the_loss_is_lost() -> None:
    measured = data(tensor(bad_rows=3, bad_values=5))
    assert [f.severity for f in said("non-finite-data", replace(measured, bad_loss=math.nan))] == ["fault"]
    assert [f.severity for f in said("non-finite-data", replace(measured, bad_loss=0.5))] == ["note"]
    lost = replace(measured, bad_loss=0.5, reference=Curve((2.3, math.nan)))
    assert [f.severity for f in said("non-finite-data", lost)] == ["fault"], (
        "infinity in, and only the gradient shows it"
    )


def test_constant_data() -> None:
    assert said("constant-inputs", data(tensor(alike=True)))[0].severity == "fault"
    two = replace(NOTHING, data=DataFacts((tensor(alike=True), tensor()), None, 32))
    assert not said("constant-inputs", two), "one of two inputs may be constant"
    facts = loss_facts(target_low=3.0, target_high=3.0)
    same = tensor(alike=True, mean=3.0, low=3.0, high=3.0)
    assert said("constant-targets", data(None, same, loss_facts=facts))
    assert not said("constant-targets", data(None, replace(same, whole=False, examples=63), loss_facts=facts))
    assert not said("constant-targets", data(None, same, loss_facts=None)), "nobody reads them"
    assert not said("constant-targets", data(None, same, loss_facts=loss_facts())), "the loss was given others"


@pytest.mark.parametrize(
    ("start", "end", "high", "low"),
    [
        (1.0, 0.2, 0, 0),
        (1.0, 0.39, 0, 0),
        (1.0, 0.45, 1, 1),
        (1.0, 0.95, 1, 1),
        (1.0, 1.4, 1, 1),
        (1.0, 1.6, 1, 0),
        (1.0, math.nan, 1, 0),
    ],
)
def test_rates(start: float, end: float, high: int, low: int) -> None:
    measured = trained(start, end)
    assert len(said("learning-rate-too-high", measured)) == high
    assert len(said("learning-rate-too-low", measured)) == low


def test_underfitting_needs_both_a_poor_trial_and_a_small_set_that_was_not_learned() -> None:
    failed, done = SmallSet(16, 200, False, 1.0, 0.9), SmallSet(16, 50, True, 1.0, 0.05)
    (warning,) = said("underfitting", replace(trained(1.0, 0.99), small=failed))
    assert warning.severity == "warning" and "could not be memorised" in warning.message
    assert not said("underfitting", replace(trained(1.0, 0.2), small=failed))
    for small, words in ((done, "16 examples were memorised"), (None, "no time to find out")):
        (note,) = said("underfitting", replace(trained(1.0, 0.99), small=small))
        assert note.severity == "note" and words in note.message


def test_wiring() -> None:
    wired = Wiring(
        8,
        frozen=("a", "b"),
        not_held=tuple("cdefghi"),
        foreign=3,
        without_gradient=("j",),
        cuts=(Cut("detach", "body"),),
    )
    measured = replace(NOTHING, start=Start(wiring=wired))
    assert "2 of 8 parameters" in said("parameters-frozen", measured)[0].message
    (missing,) = said("parameters-not-optimized", measured)
    assert missing.where == "c, d, e, f, g and 2 more" and "holds 3 tensors" in missing.message
    (cut,) = said("graph-detached", measured)
    assert cut.severity == "warning" and "`detach` in body" in cut.message
    dead = replace(measured, start=Start(wiring=wired, no_gradient="nothing keeps a graph"))
    assert said("graph-detached", dead)[0].severity == "fault"
    nothing = Wiring(3, frozen=("a",), without_gradient=("b", "c"))
    (none,) = said("graph-detached", replace(NOTHING, start=Start(wiring=nothing, outputs_have_gradient=True)))
    assert none.severity == "fault" and "none of the parameters" in none.message and none.evidence["in_the_loss"]
    half = Wiring(4, without_gradient=("a", "b"))
    for end, severity in ((2.2, "fault"), (0.2, "warning")):
        start = Start(wiring=half, level=2.3, outputs=OUTPUTS)
        known = replace(NOTHING, start=start, reference=Curve((end,) * 20))
        assert said("graph-detached", known)[0].severity == severity
    frozen = Wiring(2, frozen=("a", "b"))
    assert not said("graph-detached", replace(NOTHING, start=Start(wiring=frozen, no_gradient="no"))), "they are frozen"
