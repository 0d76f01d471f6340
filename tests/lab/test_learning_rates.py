"""The experiment `learning-rates`: its claims by numbers that are known, each of which can fail; the process is left alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from runtrue import datasets, lab, nets
from runtrue.lab import rates_judge
from runtrue.lab.experiment import Experiment
from runtrue.lab.rates_judge import arrival, early, judge, late_fall
from runtrue.lab.training import CONSTANT, DATA, RATES, examples
from runtrue.rates import JudgedCurve, RateCurve
from runtrue.rates import judge as judge_curves

SHORT: dict[str, Any] = {"seeds": 2, "steps": 240}
TINY: dict[str, Any] = {"seeds": 1, "steps": 20, "depth": 1, "width": 8, "batch_size": 8}


@pytest.fixture(scope="module")
def result() -> Experiment:
    return lab.run("learning-rates", **SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3, 6])
def test_the_claim_holds_at_the_defaults(seed: int) -> None:
    found = lab.run("learning-rates", seed=seed)
    assert found.held, found.verdict


@pytest.mark.slow
def test_without_noise_in_the_labels_a_high_rate_comes_down_in_the_end() -> None:
    """Where every label can be met, gradients shrink near the bottom, and there is no plateau to stay on."""
    found = lab.run("learning-rates", data="gaussian", steps=900)
    assert [part.code for part in found.judgements if not part.held] == ["N3.2b"]


def test_verdicts_and_numbers_of_a_short_run(result: Experiment) -> None:
    rows = {row["claimed"]: row for row in result.series["rates"]}
    assert {kind: row["verdict"] for kind, row in rows.items()} == {kind: kind for kind in rows}
    assert tuple(row["rate"] for row in rows.values()) == RATES["fashion-mnist"]
    assert rows["good"]["end"] < rows["high"]["end"] < rows["very high"]["end"]
    assert rows["good"]["end"] < rows["low"]["end"] < CONSTANT
    for row in rows.values():
        assert row["removed_fraction"] == pytest.approx(1 - row["end"] / CONSTANT)
        assert row["best"] <= row["end"] and len(row["end_by_seed"]) == 2
    assert [part.code for part in result.judgements] == ["N3.2a", "N3.2b", "N3.2c", "N3.2d"]


def test_curves_are_those_of_plain_torch(result: Experiment) -> None:
    """The first steps of seed 1 at the good rate, written out by hand."""
    torch_state = torch.get_rng_state()
    torch.manual_seed(1)
    net = nets.mlp([784, 100, 100, 10], "tanh")
    torch.set_rng_state(torch_state)
    images, labels = datasets.fashion_mnist(flat=True)
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(1))
    speed = [torch.zeros_like(p) for p in net.parameters()]
    losses = []
    for step in range(4):
        rows = order[50 * step : 50 * step + 50]
        loss = torch.nn.functional.cross_entropy(net(images[rows]), labels[rows])
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        losses.append(loss.item())
        with torch.no_grad():
            for v, p, g in zip(speed, net.parameters(), gradients):
                v.mul_(0.9).add_(g)
                p.sub_(0.02 * v)
    assert result.curves["good 0.02"][1][:4] == pytest.approx(losses, rel=1e-3)


def test_the_json_holds_the_curves(result: Experiment) -> None:
    said = json.loads(result.to_json())
    assert set(said["curves"]) == {"very high 0.6", "high 0.15", "good 0.02", "low 0.0005"}
    assert [len(curve) for curve in said["curves"]["low 0.0005"]] == [240, 240]
    assert said["settings"]["optimizer"] == "SGD" and said["settings"]["steps"] == 240


def test_text_page_and_figure(result: Experiment, tmp_path: Path) -> None:
    text = str(result)
    assert max(map(len, text.splitlines())) <= 100 and "very high" in text and "…" not in text
    page = result.to_html(tmp_path / "rates.html").read_text(encoding="utf-8")
    assert "http://" not in page.split("<script>")[0] and "A low rate" in page
    assert result.chart.to_dict()["height"] == 300
    assert "<svg" in result._repr_html_()


def test_the_same_seed_gives_the_same_and_leaves_the_process_alone() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with torch.no_grad():
        first = lab.run("learning-rates", **TINY)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    torch.set_default_dtype(torch.float64)
    try:
        other = lab.run("learning-rates", **{**TINY, "seed": 1})
    finally:
        torch.set_default_dtype(torch.float32)
    assert first.series == lab.run("learning-rates", **TINY).series != other.series


def test_gaussian_data_are_labelled_by_a_linear_teacher() -> None:
    inputs, labels = examples("gaussian", 0)
    assert inputs.shape == (3000, 20) and labels.bincount().numel() == 10
    fitted = torch.linalg.lstsq(inputs, torch.nn.functional.one_hot(labels).float()).solution
    assert ((inputs @ fitted).argmax(1) == labels).float().mean() > 0.7, "ten classes, told apart by a linear map"
    assert not torch.equal(examples("gaussian", 1)[0], inputs)
    assert lab.run("learning-rates", data="gaussian", **TINY).settings["data"] == "gaussian"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 19}, "steps must be a whole number from 20"),
        ({"seeds": 0}, "seeds must be"),
        ({"batch_size": 3001}, "batch_size must be a whole number from 1 to 3000, got 3001"),
        ({"data": "mnist"}, "data must be one of fashion-mnist, gaussian, got 'mnist'"),
        ({"width": True}, "width must be"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lab.run("learning-rates", **settings)
    with pytest.raises(TypeError, match="rate"):
        lab.run("learning-rates", rate=0.1)


# -- the judge, on lines drawn by hand


def line(*corners: tuple[int, float]) -> tuple[float, ...]:
    losses: list[float] = []
    for (start, high), (stop, low) in pairwise(corners):
        losses += [high + (low - high) * (step - start) / (stop - start) for step in range(start, stop)]
    return tuple(losses)


CLAIMED = {
    1.0: line((0, 2.3), (120, 9.0)),
    0.1: line((0, 2.3), (3, 0.9), (120, 0.85)),
    0.01: line((0, 2.3), (12, 0.6), (120, 0.2)),
    0.001: line((0, 2.3), (120, 1.5)),
}


def drawn(**changed: Sequence[float]) -> tuple[JudgedCurve, ...]:
    """The curves of one seed as claimed, but for those given by the kind of their rate."""
    kinds = {"very_high": 1.0, "high": 0.1, "good": 0.01, "low": 0.001}
    losses = CLAIMED | {kinds[kind]: tuple(curve) for kind, curve in changed.items()}
    judged = {c.rate: c for c in judge_curves([RateCurve(rate, curve) for rate, curve in losses.items()], CONSTANT)}
    return tuple(judged[rate] for rate in losses)


def failed(*runs: tuple[JudgedCurve, ...]) -> str:
    return "".join(part.code[-1] for part in judge(runs) if not part.held)


def test_curves_as_claimed_hold() -> None:
    assert failed(drawn(), drawn()) == ""
    lost = drawn(very_high=(2.3, 90.0, math.nan))
    assert failed(lost) == "" and "lost in 1 of 1 runs (at step 2)" in judge([lost])[0].words


@pytest.mark.parametrize(
    ("changed", "codes"),
    [
        ({"very_high": line((0, 2.3), (120, 2.2))}, "a"),
        ({"high": line((0, 2.3), (40, 0.9), (120, 0.85))}, "b"),  # does not fall fast
        ({"high": line((0, 2.3), (3, 1.6), (120, 0.7))}, "b"),  # no plateau
        ({"high": line((0, 2.3), (3, 0.9), (120, 0.2))}, "b"),  # not above the good one
        ({"low": line((0, 2.3), (20, 0.8), (120, 0.45))}, "c"),  # not slow
        ({"good": line((0, 2.3), (12, 1.0), (120, 0.9))}, "bd"),
        ({"high": (2.3, math.nan), "good": (2.3, math.inf)}, "bcd"),
    ],
)
def test_every_part_can_fail(changed: dict[str, Sequence[float]], codes: str) -> None:
    assert failed(drawn(), drawn(**changed)) == codes, "one seed that differs is enough"


def test_readings_by_hand() -> None:
    falls = drawn()[2]
    assert early(falls) == pytest.approx(2.3 - 1.7 / 12 * 2) and rates_judge.early_steps(falls) == 2
    assert arrival(falls, 0.6) == 14 and arrival(falls, 0.0) == math.inf
    flat = replace(falls, losses=(2.0, *[1.0] * 59, *[0.5] * 60))
    assert late_fall(flat) == pytest.approx(0.25 / 1.5)
    assert late_fall(replace(falls, losses=(1.0,) * 40)) == math.inf


def test_rates_stand_where_the_notes_put_them() -> None:
    for rates in RATES.values():
        very_high, high, good, low = rates
        assert very_high > high > good > low
    assert set(RATES) == set(DATA)
