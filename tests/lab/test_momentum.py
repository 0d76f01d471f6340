"""The experiment `momentum`: paths against closed forms, claims that can fail, and a process that is left alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runtrue import lab
from runtrue.lab import momentum, momentum_ravine
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.momentum_judge import best_row, clearly_lower, judge
from runtrue.lab.momentum_ravine import ARRIVED, KINDS, MOST, STEEP, arrival, losses, path_row, ravine_row

TINY: dict[str, Any] = {"seeds": 2, "epochs": 1, "depth": 1, "width": 4, "batch_size": 1000}
CODES = ["N4.1a", "N4.1b", "N4.1c", "N4.1d", "N4.1e", "N4.1f"]


@pytest.fixture(scope="module")
def result() -> Experiment:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(momentum, "STEEPNESS", (STEEP,))
        patch.setattr(momentum_ravine, "RATES", (1.8, 1.1, 0.36))
        patch.setattr(momentum, "RATES", {"sgd": (0.01, 0.1), "momentum": (0.01,), "nesterov": (0.01,)})
        return lab.run("momentum", **TINY)


@pytest.mark.slow
def test_the_claim_at_the_defaults() -> None:
    found = lab.run("momentum")
    assert [part.code for part in found.judgements] == CODES
    assert found.held, found.verdict


# -- the ravine, against what is known without it


def test_gradient_descent_multiplies_each_coordinate_by_the_same_factor() -> None:
    rate, factors = 0.015, np.array([1 - 0.015, 1 - 0.015 * STEEP])
    for point in path_row("sgd", rate):
        x, y = np.array(momentum_ravine.START) * factors ** point["step"]
        assert (point["x"], point["y"]) == (pytest.approx(x), pytest.approx(y))


def test_momentum_is_the_recursion_of_the_notes() -> None:
    place, v, rate = np.array(momentum_ravine.START), np.zeros(2), 0.004
    for point in path_row("momentum", rate):
        assert (point["x"], point["y"]) == (pytest.approx(place[0]), pytest.approx(place[1]))
        v = 0.9 * v - rate * np.array([1.0, STEEP]) * place
        place = place + v


def test_the_steps_of_gradient_descent_by_hand() -> None:
    """At 1 / κ the walls are gone in one step, and the floor shrinks by 1 - 1 / κ a step."""
    x, y = momentum_ravine.START
    first, floor = (x * x + STEEP * y * y) / 2, x * x / 2
    steps = math.log(ARRIVED * first / floor) / (2 * math.log(1 - 1 / STEEP))
    assert arrival(losses("sgd", 1 / STEEP, STEEP)) == math.ceil(steps)


@pytest.mark.parametrize(("kind", "bears"), [("sgd", 2.0), ("momentum", 3.8), ("nesterov", 3.8 / 2.8)])
def test_the_highest_rate_of_each(kind: str, bears: float) -> None:
    """2, 2 (1 + μ) and 2 (1 + μ) / (1 + 2 μ) over κ: above it the walls throw it out."""
    assert losses(kind, 1.02 * bears / 10, 10)[-1] >= momentum_ravine.LOST
    assert math.isfinite(arrival(losses(kind, 0.98 * bears / 10, 10)))


def test_a_path_arrives_when_it_stays() -> None:
    assert arrival([1.0, 1e-5, 0.5, 1e-5, 1e-6]) == 3
    assert arrival([1.0, 0.5]) == math.inf == arrival([1.0, math.inf])
    assert len(losses("sgd", 1e-9, STEEP, most=50)) == 51 and len(losses("sgd", 1e-9, STEEP, most=MOST // 10)) == 351


def test_the_best_rate_is_the_quickest_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = (2.5, 1.9, 1.0, 0.5, 0.25)
    monkeypatch.setattr(momentum_ravine, "RATES", shares)
    for kind in KINDS:
        took = {share: arrival(losses(kind, share / 10, 10)) for share in shares}
        row = ravine_row(kind, 10.0)
        assert row["steps"] == min(took.values()) and took[row["rate"] * 10] == row["steps"]
        assert row["highest_rate"] * 10 == pytest.approx(max(share for share in shares if took[share] < math.inf))


# -- the experiment


def test_it_says_all_of_it(result: Experiment) -> None:
    assert [part.code for part in result.judgements] == CODES
    assert [(row["optimizer"], row["rate"]) for row in result.series["images"]] == [
        ("sgd", 0.01), ("sgd", 0.1), ("momentum", 0.01), ("nesterov", 0.01),
    ]  # fmt: skip
    assert {row["optimizer"] for row in result.series["ravine"]} == set(KINDS)
    assert result.judgements[1].held and result.judgements[2].held, "the ravine has no settings"


def test_a_run_is_that_of_torch_by_hand(result: Experiment) -> None:
    settings = dict(result.settings)
    first = momentum.train(settings, "sgd", 0.1, 1).losses
    assert result.series["images"][1]["end_by_seed"][1] == pytest.approx(sum(first) / 3)
    assert momentum.train(settings, "sgd", 0.1, 0).losses != first


def test_the_process_is_left_alone(monkeypatch: pytest.MonkeyPatch, result: Experiment) -> None:
    monkeypatch.setattr(momentum, "STEEPNESS", (STEEP,))
    monkeypatch.setattr(momentum_ravine, "RATES", (1.8, 1.1, 0.36))
    monkeypatch.setattr(momentum, "RATES", {"sgd": (0.01, 0.1), "momentum": (0.01,), "nesterov": (0.01,)})
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    again = lab.run("momentum", **TINY)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert again.series == result.series


def test_text_page_json_and_figure(result: Experiment, tmp_path: Path) -> None:
    text = str(result)
    assert max(map(len, text.splitlines())) <= 100 and "…" not in text
    page = result.to_html(tmp_path / "momentum.html").read_text(encoding="utf-8")
    assert "http://" not in page.split("<script>")[0] and "Nesterov momentum" in page
    said = json.loads(result.to_json())
    assert len(said["curves"]["path sgd"][0]) == momentum_ravine.DRAWN + 1
    assert result.chart.to_dict()["height"] == 300


def test_full_is_larger_unless_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def stop(settings: dict[str, Any]) -> None:
        asked.append(dict(settings))
        raise InterruptedError

    monkeypatch.setattr(momentum, "validate", stop)
    choices: list[dict[str, Any]] = [{}, {"full": True}, {"full": True, "epochs": 2}]
    for given in choices:
        with pytest.raises(InterruptedError):
            momentum.run(**given)
    assert [(one["seeds"], one["epochs"]) for one in asked] == [(3, 8), (10, 30), (10, 2)]


def test_settings_out_of_their_limits() -> None:
    with pytest.raises(ValueError, match="epochs must be a whole number from 1 to 2000, got 0"):
        lab.run("momentum", epochs=0)


# -- the judge, on rows made by hand


def ravine(optimizer: str, steps: float, small_steps: float, rises: int = 0) -> Row:
    return {
        "steepness": STEEP, "optimizer": optimizer, "rate": 0.01, "steps": steps, "small_rate": 0.005,
        "small_steps": small_steps, "rises": rises, "highest_rate": 0.02,
    }  # fmt: skip


def images(optimizer: str, rate: float, *ends: float, rises: int = 0) -> Row:
    return {
        "optimizer": optimizer, "rate": rate, "end": sum(ends) / len(ends), "end_spread": 0.01, "rises": rises,
        "accuracy": 0.8, "accuracy_spread": 0.01, "end_by_seed": list(ends),
    }  # fmt: skip


def series(**changed: Row) -> dict[str, list[Row]]:
    rows = {
        "sgd": ravine("sgd", 200, 700), "momentum": ravine("momentum", 80, 90), "nesterov": ravine("nesterov", 50, 80),
        "slow": images("sgd", 0.002, 1.3, 1.31, 1.32), "good": images("sgd", 0.2, 0.3, 0.31, 0.32),
        "m_slow": images("momentum", 0.002, 0.5, 0.51, 0.52), "m_good": images("momentum", 0.02, 0.2, 0.21, 0.22),
        "n_slow": images("nesterov", 0.002, 0.49, 0.5, 0.51), "n_good": images("nesterov", 0.02, 0.1, 0.11, 0.12),
    } | changed  # fmt: skip
    return {
        "ravine": [row for row in rows.values() if "steps" in row],
        "images": [row for row in rows.values() if "end" in row],
    }


def test_rows_as_claimed_hold() -> None:
    assert [part.held for part in judge(series())] == [True] * 6


@pytest.mark.parametrize(
    ("changed", "codes"),
    [
        ({"sgd": ravine("sgd", 200, 700, rises=1)}, ["N4.1a"]),
        ({"sgd": ravine("sgd", 200, 200)}, ["N4.1a"]),
        ({"slow": images("sgd", 0.002, 1.3, 1.31, 1.32, rises=1)}, ["N4.1a"]),
        ({"momentum": ravine("momentum", 300, 90)}, ["N4.1b"]),
        ({"nesterov": ravine("nesterov", 90, 80)}, ["N4.1c"]),
        ({"m_slow": images("momentum", 0.002, 1.3, 1.31, 1.32)}, ["N4.1d"]),
        ({"m_good": images("momentum", 0.02, 0.3, 0.31, 0.32)}, ["N4.1e"]),
        ({"n_good": images("nesterov", 0.02, 0.1, 0.11, 0.4)}, ["N4.1f"]),
    ],
)
def test_every_part_can_fail(changed: dict[str, Row], codes: list[str]) -> None:
    assert [part.code for part in judge(series(**changed)) if not part.held] == codes


def test_what_is_clearly_lower() -> None:
    assert clearly_lower([1.0, 1.1, 1.2], [1.5, 1.6, 1.7])
    assert not clearly_lower([1.0, 1.1, 1.2], [1.01, 1.6, 1.21]), "by one seed"
    assert not clearly_lower([1.0, 1.1, 1.2], [1.5, 1.6, 1.1])
    assert not clearly_lower([1.0], [2.0]) and not clearly_lower([1.0, 1.0], [math.nan, 2.0])
    rows = [images("sgd", 0.1, math.nan, 0.1), images("sgd", 0.2, 0.4, 0.4)]
    assert best_row(rows, "sgd") is rows[1]
