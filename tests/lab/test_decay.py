"""The experiment `decay`: rates against torch's own schedulers, claims that can fail, and a process that is left alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LRScheduler, StepLR

from runtrue import lab, schedules
from runtrue.lab import decay
from runtrue.lab.decay_figure import smooth
from runtrue.lab.decay_judge import best_row, judge
from runtrue.lab.experiment import Experiment, Row
from runtrue.schedules import DECAYS

TINY: dict[str, Any] = {"seeds": 2, "epochs": 2, "depth": 1, "width": 4, "batch_size": 1000}
HIGH_AND_LOW = (("low", 0.02), ("high", 0.06))
CODES = ["N4.2a", "N4.2b", "N4.2c", "N4.2d", "N4.2e"]


@pytest.fixture(scope="module")
def result() -> Experiment:
    return lab.run("decay", **TINY)


@pytest.mark.slow
def test_the_formulas_and_their_rates_with_one_seed() -> None:
    """What the parts about images say (N4.2d, N4.2e) needs the three seeds of the defaults."""
    found = lab.run("decay", seeds=1)
    held = {part.code: part.held for part in found.judgements}
    assert [held[code] for code in CODES[:3]] == [True] * 3, found.verdict


def test_it_says_all_of_it(result: Experiment) -> None:
    assert [part.code for part in result.judgements] == CODES
    assert [part.held for part in result.judgements[:3]] == [True] * 3
    assert [(row["decay"], row["rate"]) for row in result.series["images"]] == [
        (name, rate) for name in DECAYS for rate in decay.RATES
    ]


@pytest.mark.parametrize("name", ["step", "exp", "cosine"])
def test_the_rates_are_those_of_torchs_own_schedulers(name: str) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    own: dict[str, LRScheduler] = {
        "step": StepLR(optimizer, 20, 0.8),
        "exp": ExponentialLR(optimizer, math.exp(-schedules.default_k("exp", 60))),
        "cosine": CosineAnnealingLR(optimizer, 60),
    }
    found = []
    for _ in range(61):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        own[name].step()
    assert decay.rates_of(name, 60) == pytest.approx(found, abs=1e-12)
    assert decay.by_hand(name, 60) == pytest.approx(found, abs=1e-12)


def test_one_over_t_by_hand() -> None:
    rates = decay.rates_of("inverse", 60)
    assert [1 / rate for rate in rates] == pytest.approx([1 + 9 * t / 60 for t in range(61)])


def test_a_schedule_that_is_an_epoch_late_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = decay.rates_of
    monkeypatch.setattr(decay, "rates_of", lambda name, epochs: [1.0, *right(name, epochs)[:-1]])
    rows = [decay.schedule_row(name, 60) for name in DECAYS]
    parts = judge({"schedules": rows, "images": series()["images"]})
    assert [part.held for part in parts[:3]] == [False] * 3


def test_the_decay_is_felt(result: Experiment) -> None:
    """The first epoch is the same under each; the second is not, where the rate has fallen by then."""
    curves = {name: result.curves[f"{name} 0.06"][0] for name in DECAYS}
    assert len({curve[0] for curve in curves.values()}) == 1
    assert curves["step"] == curves["none"], "the first step comes after 20 epochs"
    assert len({curves[name][1] for name in ("none", "exp", "inverse", "cosine")}) == 4


def test_the_process_is_left_alone(result: Experiment) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    again = lab.run("decay", **TINY)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert again.series == result.series


def test_text_page_json_and_figure(result: Experiment, tmp_path: Path) -> None:
    text = str(result)
    assert max(map(len, text.splitlines())) <= 100 and "…" not in text
    page = result.to_html(tmp_path / "decay.html").read_text(encoding="utf-8")
    assert "http://" not in page.split("<script>")[0] and "Exponential" in page
    assert len(json.loads(result.to_json())["curves"]["rate step"][0]) == 3
    assert result.chart.to_dict()["height"] == 300


def test_settings_out_of_their_limits() -> None:
    with pytest.raises(ValueError, match="epochs must be a whole number from 1 to 2000, got 2001"):
        lab.run("decay", epochs=2001)


def test_smoothing_by_hand() -> None:
    assert smooth([1.0, 2.0, 6.0, 2.0, 4.0]) == [1.0, 3.0, 3.0, 4.0, 4.0] and smooth([]) == []


# -- the judge, on rows made by hand


def images(name: str, rate: float, ends: list[float], accuracies: list[float]) -> Row:
    return {
        "decay": name, "rate": rate, "end": sum(ends) / 3, "end_spread": 0.01, "val_loss": 0.5,
        "accuracy": sum(accuracies) / 3, "accuracy_spread": 0.01, "end_by_seed": ends, "accuracy_by_seed": accuracies,
    }  # fmt: skip


def series(**changed: Row) -> dict[str, list[Row]]:
    rows = {f"{name}_low": images(name, 0.02, [0.1, 0.11, 0.12], [0.84, 0.85, 0.86]) for name in DECAYS}
    rows |= {f"{name}_high": images(name, 0.06, [0.1, 0.11, 0.12], [0.83, 0.84, 0.85]) for name in DECAYS}
    rows["none_low"] = images("none", 0.02, [0.1, 0.11, 0.12], [0.81, 0.82, 0.83])
    rows["none_high"] = images("none", 0.06, [0.4, 0.41, 0.42], [0.7, 0.71, 0.72])
    ways = [
        {"decay": name, "k": 0.1, "third": 0.5, "two_thirds": 0.3, "last": 0.1, "difference": 1e-15} for name in DECAYS
    ]
    return {"schedules": ways, "images": list((rows | changed).values())}


def test_rows_as_claimed_hold() -> None:
    assert [part.held for part in judge(series())] == [True] * 5


@pytest.mark.parametrize(
    ("changed", "codes"),
    [
        ({"exp_high": images("exp", 0.06, [0.4, 0.4, 0.4], [0.8, 0.8, 0.8])}, ["N4.2d"]),
        ({f"step_{at}": images("step", rate, [0.1] * 3, [0.82, 0.8, 0.84]) for at, rate in HIGH_AND_LOW}, ["N4.2e"]),
        ({"cosine_high": images("cosine", 0.06, [0.9] * 3, [0.1] * 3)}, []),
    ],
)  # fmt: skip
def test_the_parts_about_images_can_fail(changed: dict[str, Row], codes: list[str]) -> None:
    assert [part.code for part in judge(series(**changed)) if not part.held] == codes


def test_the_best_first_rate_is_that_with_most_right() -> None:
    assert best_row(series()["images"], "exp")["rate"] == 0.02
    lost = series(exp_low=images("exp", 0.02, [math.nan] * 3, [math.nan] * 3))["images"]
    assert best_row(lost, "exp")["rate"] == 0.06
