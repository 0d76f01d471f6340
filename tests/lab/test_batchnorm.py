"""The experiment `batchnorm`: networks that differ in nothing else, claims that can fail, a process that is left alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from runtrue import lab
from runtrue.lab import batchnorm, batchnorm_measure
from runtrue.lab.batchnorm import normed, row, thinned
from runtrue.lab.batchnorm_judge import (
    arrival,
    best,
    cost,
    decades,
    depends,
    flow,
    rates,
    regularizes,
    speed,
    verdict,
    weights,
    working,
)
from runtrue.lab.batchnorm_measure import HELD_BACK, Net, gradient_norms, in_turn, sets
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.runs import Epoch, Run
from runtrue.lab.training import CONSTANT

TINY: dict[str, Any] = {
    "data": "gaussian", "seeds": 1, "depth": 3, "width": 8, "batch_size": 50, "epochs": 1, "long": 2,
}  # fmt: skip
RATES, SCALES = (0.03, 0.1, 10.0), (0.1, 1.0)
CODES = ["N1.6a", "N1.6b", "N1.6c", "N1.6d", "N1.6e", "N1.6f"]


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batchnorm_measure, "ROUNDS", 10)
        patch.setattr(batchnorm_measure, "WARMUP", 0)
        patch.setattr(batchnorm, "RATES", RATES)
        patch.setattr(batchnorm, "SCALES", SCALES)
        yield


@pytest.fixture(scope="module")
def result() -> Experiment:
    return lab.run("batchnorm", **TINY)


@pytest.mark.slow
def test_what_holds_at_the_defaults() -> None:
    found = lab.run("batchnorm")
    held = {part.code for part in found.judgements if part.held}
    assert held >= {"N1.6a", "N1.6b", "N1.6c"}, found.verdict
    ratios = [row["ratio"] for row in found.series["time"]]
    assert all(0 < ratio < math.inf for ratio in ratios), "how much it costs is for bench: here others run beside"


def test_every_part_is_judged_and_every_row_is_there(result: Experiment) -> None:
    assert [part.code for part in result.judgements] == CODES
    assert [row["rate"] for row in result.series["rates"]] == list(RATES)
    assert [row["scale"] for row in result.series["scales-norm"]] == list(SCALES)
    assert [row["layer"] for row in result.series["gradients"]] == [1, 2, 3]
    assert len(result.series["dropout"]) == 8 and len(result.series["worth"]) == 3 and len(result.curves) == 6


def test_the_same_run_in_two_parts_is_the_same(result: Experiment) -> None:
    """The scale 1 at the best rate is the network of the rates."""
    for suffix in ("", "-norm"):
        rows = result.series[f"rates{suffix}"]
        at_best = next(row for row in rows if row["rate"] == best(rows)[0])
        at_one = next(row for row in result.series[f"scales{suffix}"] if row["scale"] == 1.0)
        assert at_one["end"] == at_best["end"]


def test_the_same_seed_gives_the_same_and_leaves_the_process_alone(
    result: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    monkeypatch.setattr(batchnorm, "timings", lambda *settings: list(result.series["time"]))
    again = lab.run("batchnorm", **TINY)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    for name in ("gradients", "rates-norm", "dropout"):
        assert again.series[name] == result.series[name]


def test_text_page_json_and_figure(result: Experiment, tmp_path: Path) -> None:
    text = str(result)
    assert max(map(len, text.splitlines())) <= 100 and "…" not in text
    page = result.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "http://" not in page.split("<script>")[0] and "Is it worth it" in page
    said = json.loads(result.to_json())
    assert said["settings"]["full"] is False and set(said["curves"]) == set(result.curves)
    assert result.chart.to_dict()["height"] == 300


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"depth": 0}, "depth must"),
        ({"depth": 2}, "depth must be above 2"),
        ({"epochs": 0}, "epochs must"),
        ({"long": True}, "long must"),
        ({"data": "cifar"}, "data"),
    ],
)
def test_settings_out_of_their_limits(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lab.run("batchnorm", **wrong)


# -- what is measured, against what is known by hand


def test_networks_with_and_without_have_the_same_weights() -> None:
    net = Net(3, 7, 5, scale=4.0)
    plain, with_norm = net.built(1), normed(net).built(1)
    pairs = zip(
        (m for m in plain if isinstance(m, nn.Linear)), (m for m in with_norm if isinstance(m, nn.Linear)), strict=True
    )
    assert all(torch.equal(a.weight, b.weight) and torch.equal(a.bias, b.bias) for a, b in pairs)
    assert [type(m).__name__ for m in with_norm][:3] == ["Linear", "BatchNorm1d", "ReLU"]
    unscaled = Net(3, 7, 5).built(1)
    assert torch.equal(weight(plain, "linear2"), 4 * weight(unscaled, "linear2"))
    assert torch.equal(weight(plain, "head"), weight(unscaled, "head")), "behind it is no normalization"


def weight(net: nn.Module, name: str) -> Tensor:
    layer = net.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach()


@pytest.mark.parametrize(
    ("kind", "spread"), [("he", math.sqrt(2 / 400)), ("small", 0.01), ("torch", 1 / math.sqrt(3 * 400))]
)
def test_first_weights(kind: str, spread: float) -> None:
    assert float(weight(Net(2, 400, 400, kind).built(0), "linear2").std()) == pytest.approx(spread, rel=0.02)


def test_the_gradient_is_that_of_the_chain_rule() -> None:
    """The same from the second half of the network alone, by an ordinary backward pass."""
    net = Net(3, 4, 20)
    norms = gradient_norms(net, "gaussian", 0)
    model = net.built(0)
    (x, labels), _ = sets("gaussian", 0)
    hidden = model[:4](x[:500]).detach().requires_grad_()
    nn.functional.cross_entropy(model[4:](hidden), labels[:500]).backward()
    assert hidden.grad is not None and norms[1] == pytest.approx(float(hidden.grad.norm()), rel=1e-5)


def test_drawn_examples_are_held_back() -> None:
    (x, y), (vx, vy) = sets("gaussian", 3)
    assert len(x) == len(y) == 3000 - HELD_BACK and len(vx) == len(vy) == HELD_BACK
    assert not (x[:, None] == vx[None, :50]).all(2).any()


def test_a_step_that_does_more_takes_longer() -> None:
    def make(norm: bool) -> nn.Module:
        return Net(30 if norm else 1, 64, 16).built(0)

    found = in_turn(make, torch.randn(8, 16), rounds=9)
    assert found["ratio"] > 2 and found["with_ms"] > found["without_ms"] > 0


def test_a_lost_seed_has_no_end() -> None:
    epoch = Epoch(1.0, 0.5, 1.0, 0.5)
    good, lost = Run((1.0,) * 10, (epoch,)), Run((1.0, math.nan), (epoch,))
    assert row([good, good], rate=0.1) == {
        "rate": 0.1, "end": 1.0, "end_spread": 0.0, "removed_fraction": (CONSTANT - 1) / CONSTANT, "end_by_seed": [1, 1],
    }  # fmt: skip
    assert math.isnan(row([good, lost], rate=0.1)["end"])


def test_thinned_curves_keep_the_mean() -> None:
    curve = [float(step) for step in range(1000)]
    assert len(thinned(curve)) == 59 and thinned(curve)[:2] == [8.0, 25.0]
    assert thinned([1.0, 2.0]) == [1.0, 2.0]


# -- the judge, on rows made by hand


def gradient_rows(**kept: float) -> list[Row]:
    """The gradient at layer 1 over that at layer 3, by key."""
    return [{"layer": layer, **{key: value ** (1 - layer / 2) for key, value in kept.items()}} for layer in (0, 1, 2)]


FINE = {"he": 1.0, "he_norm": 2.0, "torch": 0.01, "torch_norm": 1.0, "small": 1e-8, "small_norm": 0.5}


@pytest.mark.parametrize(
    ("changed", "held"),
    [({}, True), ({"small_norm": 0.01}, False), ({"he_norm": 20.0}, False), ({"torch": 0.5, "small": 0.5}, False)],
)
def test_gradients(changed: dict[str, float], held: bool) -> None:
    assert flow(gradient_rows(**{**FINE, **changed})).held is held


def ends(key: str, *values: float) -> list[Row]:
    """Rows half a decade apart, from 0.001 on, of one seed."""
    return [
        {key: float(f"{10 ** (place / 2 - 3):.2g}"), "end": value, "end_by_seed": [value]}
        for place, value in enumerate(values)
    ]


GOOD, BAD, LOST = 0.5, 2.0, math.nan


@pytest.mark.parametrize(
    ("without", "normed", "held"),
    [
        ((GOOD, GOOD, LOST, LOST), (BAD, GOOD, GOOD, LOST), True),
        ((GOOD, GOOD, LOST, LOST), (GOOD, GOOD, BAD, LOST), False),
        ((BAD, GOOD, GOOD, LOST), (GOOD, GOOD, LOST, LOST), False),
        ((BAD, BAD, BAD, LOST), (GOOD, GOOD, GOOD, GOOD), False),
    ],
)
def test_rates(without: tuple[float, ...], normed: tuple[float, ...], held: bool) -> None:
    assert rates(ends("rate", *without), ends("rate", *normed)).held is held


@pytest.mark.parametrize(
    ("without", "normed", "held"),
    [
        ((BAD, GOOD, BAD, BAD), (GOOD, GOOD, GOOD, BAD), True),
        ((BAD, GOOD, BAD, BAD), (GOOD, GOOD, BAD, BAD), False),
        ((GOOD, GOOD, GOOD, GOOD), (GOOD, GOOD, GOOD, GOOD), False),
        ((LOST, LOST, LOST, LOST), (BAD, BAD, BAD, BAD), False),
    ],
)
def test_scales(without: tuple[float, ...], normed: tuple[float, ...], held: bool) -> None:
    assert weights(ends("scale", *without), ends("scale", *normed)).held is held


def test_what_works() -> None:
    rows = ends("rate", GOOD, LOST, GOOD, GOOD, BAD, GOOD)
    assert working(rows, "rate") == [0.01, 0.032] and decades([0.01, 0.032]) == pytest.approx(1.0, abs=0.01)
    assert working(ends("rate", BAD), "rate") == [] and decades([]) == 0
    rows[2]["end_by_seed"].append(BAD)
    assert 0.01 not in working(rows, "rate"), "for every seed"
    assert best(ends("rate", BAD, LOST, GOOD)) == (0.01, GOOD)


def kinds(**gap_and_val: tuple[float, float]) -> list[Row]:
    fine = {"none": (0.2, 0.8), "norm": (0.1, 0.85), "dropout": (0.1, 0.85), "both": (0.08, 0.85)}
    return [
        {"network": "n", "kind": kind, "gap_fraction": gap, "val_fraction": val, "gap_spread": 0.01, "val_spread": 0.01}
        for kind, (gap, val) in {**fine, **gap_and_val}.items()
    ]


@pytest.mark.parametrize(
    ("changed", "held"),
    [
        ({}, True),
        ({"norm": (0.19, 0.85)}, False),  # within the spread of the seeds
        ({"dropout": (0.1, 0.9)}, False),  # dropout still gains
        ({"both": (0.05, 0.88)}, False),
    ],
)
def test_instead_of_dropout(changed: dict[str, tuple[float, float]], held: bool) -> None:
    assert regularizes(kinds(**changed)).held is held


@pytest.mark.parametrize(
    ("ratios", "held"), [((1.3, 1.25, 3.0), True), ((1.3, 1.1, 1.3), False), ((1.5, 1.3, 1.3), False)]
)
def test_about_thirty_percent(ratios: tuple[float, float, float], held: bool) -> None:
    rows = [{"network": str(at), "deep": at < 2, "ratio": ratio} for at, ratio in enumerate(ratios)]
    assert cost(rows).held is held


def falling(rate: float, steps: int = 200) -> list[float]:
    return [2.0 * math.exp(-rate * step) for step in range(steps)]


def test_speed_by_hand() -> None:
    """exp(-2kt) is where exp(-kt) ends after half of the steps."""
    found = speed(falling(0.01), falling(0.02), 1.6, constant=2.0)
    assert found.by_step == pytest.approx(2.0, rel=0.03) and found.by_second == pytest.approx(found.by_step / 1.6)
    turned = speed(falling(0.02), falling(0.01), 1.0, constant=2.0)
    assert turned.by_step == pytest.approx(1 / found.by_step, rel=0.03)
    assert speed([1.0, math.nan], falling(0.1), 1.3, 2.0).by_second == math.inf
    assert speed(falling(0.1), [math.inf], 1.3, 2.0).by_second == 0
    assert speed([1.99] * 50, falling(0.1), 1.3, 2.0).by_second == math.inf, "it came nowhere, and that fast"
    assert speed([1.99] * 50, [2.5] * 50, 1.3, 2.0).by_second == 1
    assert arrival([3.0] * 10, 1.0) == 10


def worth(*verdicts: str) -> list[Row]:
    return [
        {
            "network": str(at),
            "verdict": verdict,
            "by_step": 2.0,
            "by_second": 1.5,
            "least": 1.4,
            "most": 1.6,
            "val_fraction": 0.8,
            "norm_val_fraction": 0.81,
        }
        for at, verdict in enumerate(verdicts)
    ]


def test_it_depends() -> None:
    assert depends(worth("worth it", "not worth it")).held
    assert not depends(worth("worth it", "worth it")).held
    assert not depends(worth("no matter", "not worth it")).held
    lost = {**worth("worth it")[0], "by_second": math.inf, "least": math.inf, "most": math.inf}
    assert "without it nothing is learned (validation accuracy 80.0% without, 81.0% with)" in depends([lost]).words
    assert [verdict(seeds) for seeds in ([1.2, 1.5], [1.2, 1.0], [0.5, 0.8], [0.8, 1.5])] == [
        "worth it", "no matter", "not worth it", "no matter",
    ]  # fmt: skip
