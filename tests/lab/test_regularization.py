"""The experiment `regularization`: weights that are exactly 0, norms within their limit, claims that can fail."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from runtrue import lab, penalties
from runtrue.datasets import fashion_mnist
from runtrue.lab import regularization, regularization_measure
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.regularization_judge import best, harmless, helps, judge, more, worth_taking
from runtrue.lab.regularization_measure import BINS, NOISE, Plan, begun, sets, trained

TINY: dict[str, Any] = {"data": "gaussian", "seeds": 1, "depth": 1, "width": 12, "epochs": 3, "batch_size": 50}
ALL = regularization.BY_KIND
CODES = ["N2.1a", "N2.1b", "N2.1d", "N2.1e", "N2.1c", "N2.1f"]
SETTINGS = {**TINY, "rate": 0.05, "momentum": 0.9}


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regularization_measure, "ROUNDS", 3)
        strengths = {"l1": (1e-4, 0.3), "l2": (1e-3, 1e-1), "elastic-net": (1e-4, 0.3), "max-norm": (2.0, 0.1)}
        patch.setattr(regularization, "BY_KIND", strengths)
        yield


@pytest.fixture(scope="module")
def result() -> Experiment:
    return lab.run("regularization", **TINY)


@pytest.mark.slow
def test_what_holds_at_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regularization, "BY_KIND", ALL)
    found = lab.run("regularization")
    held = {part.code for part in found.judgements if part.held}
    assert held >= {"N2.1b", "N2.1c", "N2.1d"}, found.verdict
    strong = next(row for row in found.series["l1"] if row["strength"] == 1e-2)
    assert strong["zero_fraction"] > 0.5, "L1 cuts weights off, though those on noise no more than the others"


def test_every_part_is_judged_and_every_row_is_there(result: Experiment) -> None:
    assert [part.code for part in result.judgements] == CODES
    assert set(result.series) == {"l1", "l2", "elastic-net", "max-norm", "time"}
    for kind in ("l1", "l2", "elastic-net", "max-norm"):
        first, *others = result.series[kind]
        assert first["strength"] == 0 and len(others) == 2 and first == {**result.series["l1"][0], "strength": 0.0}
    assert [row["penalty"] for row in result.series["time"]] == ["none", "l1", "l2", "elastic-net", "max-norm"]
    assert all(len(rows[0]["counts"]) == BINS for rows in result.histograms.values()) and len(result.histograms) == 5


def test_the_same_seed_gives_the_same_and_leaves_the_process_alone(result: Experiment) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    again = lab.run("regularization", **TINY)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert all(again.series[key] == result.series[key] for key in ("l1", "l2", "max-norm"))


def test_text_page_json_and_figure(result: Experiment, tmp_path: Path) -> None:
    text = str(result)
    assert max(map(len, text.splitlines())) <= 100 and "…" not in text
    page = result.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "http://" not in page.split("<script>")[0] and "Truncation" in page
    assert json.loads(result.to_json())["settings"]["full"] is False
    assert "facet" in result.chart.to_dict()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"width": 1}, "width must"), ({"epochs": 0}, "epochs must"), ({"epochs": True}, "epochs must")],
)
def test_settings_out_of_their_limits(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lab.run("regularization", **wrong)


# -- what is measured, against what is known by hand


def test_the_examples_are_parted_and_noise_is_beside_them() -> None:
    train, val, test = sets("fashion-mnist", 0)
    assert [len(part[1]) for part in (train, val, test)] == [3000, 500, 500]
    assert torch.equal(train[0][:, :-NOISE], fashion_mnist(flat=True)[0])
    assert torch.equal(test[1], fashion_mnist("test")[1][500:])
    added = train[0][:, -NOISE:]
    assert float(added.mean()) == pytest.approx(0, abs=0.01) and float(added.std()) == pytest.approx(1, abs=0.01)
    assert not torch.equal(added, sets("fashion-mnist", 1)[0][0][:, -NOISE:])


def test_one_step_of_each_kind_by_hand() -> None:
    """Without a gradient a step is the penalty's alone."""
    expected: tuple[tuple[Plan, Callable[[Tensor], Tensor]], ...] = (
        (Plan("l1", 0.1), lambda w: w.sign() * (w.abs() - 0.05 * 0.1).clamp_min(0)),
        (Plan("l2", 0.1), lambda w: w * (1 - 2 * 0.05 * 0.1)),
        (Plan("max-norm", 0.2), lambda w: w * (0.2 / w.pow(2).sum(1, keepdim=True).sqrt()).clamp_max(1)),
        (Plan(), lambda w: w),
    )
    for plan, after in expected:
        model, optimizer = begun(plan, 0, SETTINGS)
        before = [p.detach().clone() for p in penalties.penalised(model)]
        model(torch.zeros(1, 20 + NOISE)).sum().mul(0).backward()
        optimizer.step()
        for w, now in zip(before, penalties.penalised(model), strict=True):
            torch.testing.assert_close(now.detach(), after(w), msg=str(plan))


def test_what_is_read_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(*_: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
        net = nn.Linear(20 + NOISE, 10)
        with torch.no_grad():
            net.weight.zero_()
            net.weight[0, 0], net.weight[0, 1], net.weight[0, -1] = 3.0, -4.0, 12.0
        return net, torch.optim.SGD(net.parameters(), lr=0.0)

    monkeypatch.setattr(regularization_measure, "begun", planted)
    found = trained(Plan(), 0, SETTINGS, span=1.0)
    many = 10 * (20 + NOISE)
    assert found.zero == pytest.approx(1 - 3 / many) and found.noise_zero == pytest.approx(1 - 1 / (10 * NOISE))
    assert found.largest_norm == pytest.approx(13) and found.mean_weight == pytest.approx(19 / many)
    assert (found.counts[0], found.counts[BINS // 2], found.counts[-1]) == (1, many - 3, 2) and not found.lost


def test_the_weights_of_a_strong_l1_are_exactly_0_and_those_of_max_norm_within_it(result: Experiment) -> None:
    assert result.series["l1"][-1]["zero_fraction"] > 0.5 and result.series["l2"][-1]["zero_fraction"] == 0
    assert result.series["max-norm"][-1]["largest_norm"] == pytest.approx(0.1, rel=1e-4)


# -- the judge, on rows made by hand


def row(strength: float, val: float, **other: float) -> Row:
    plain = {
        "strength": strength, "train_fraction": 0.95, "val_fraction": val, "val_spread": 0.01, "test_fraction": val,
        "test_spread": 0.01, "gap_fraction": 0.1, "gap_spread": 0.005, "zero_fraction": 0.0,
        "noise_zero_fraction": 0.0, "largest_norm": 2.5,
        "mean_weight": 0.02,
    }  # fmt: skip
    return plain | other


def series(**changed: dict[int, dict[str, float]]) -> dict[str, list[Row]]:
    """As claimed, but for the rows given by the key of the series and their place."""
    rows = {
        "l1": [
            row(0, 0.85),
            row(1e-4, 0.86, zero_fraction=0.7, noise_zero_fraction=0.95, gap_fraction=0.05),
            row(1e-2, 0.3, zero_fraction=1.0),
        ],
        "l2": [row(0, 0.85), row(1e-4, 0.86, mean_weight=0.01), row(1e-2, 0.3, mean_weight=0.001)],
        "elastic-net": [row(0, 0.85), row(1e-4, 0.86), row(1e-2, 0.1)],
        "max-norm": [row(0, 0.85), row(1.0, 0.86, largest_norm=1.0), row(0.3, 0.7, largest_norm=0.3)],
        "time": [
            {"penalty": kind, "step_ms": 1.0, "ratio": 1.0 + 0.05 * (kind != "none")}
            for kind in ("none", "l1", "l2", "elastic-net", "max-norm")
        ],
    }
    for key, places in changed.items():
        for place, change in places.items():
            rows[key.replace("_", "-")][place] |= change
    return rows


def test_rows_as_claimed_hold() -> None:
    assert [part.code for part in judge(series()) if part.held] == CODES


@pytest.mark.parametrize(
    ("changed", "codes"),
    [
        ({"l1": {1: {"zero_fraction": 0.1}}}, ["N2.1a"]),
        ({"l1": {1: {"noise_zero_fraction": 0.6}}}, ["N2.1a"]),
        ({"l2": {1: {"zero_fraction": 0.1}}}, ["N2.1a", "N2.1b"]),
        ({"l2": {1: {"mean_weight": 0.02}}}, ["N2.1b"]),
        ({"max_norm": {1: {"largest_norm": 1.01}}}, ["N2.1d"]),
        ({"max_norm": {0: {"largest_norm": 0.2}}}, ["N2.1d"]),
        ({"l1": {1: {"gap_fraction": 0.095}}}, ["N2.1e"]),
        ({"l1": {1: {"test_fraction": 0.7}}}, ["N2.1e"]),
        ({"max_norm": {2: {"val_fraction": 0.85}}}, ["N2.1c"]),
        ({"time": {3: {"ratio": 1.0}}}, ["N2.1f"]),
    ],
)
def test_every_part_can_fail(changed: dict[str, dict[int, dict[str, float]]], codes: list[str]) -> None:
    assert [part.code for part in judge(series(**changed)) if not part.held] == codes


def test_the_strength_that_is_chosen() -> None:
    rows = [row(0, 0.85), row(1e-4, 0.84), row(1e-3, 0.86), row(1e-2, 0.6), row(1e-1, 0.85)]
    assert best(rows)["strength"] == 1e-3 and worth_taking(rows)["strength"] == 1e-1
    assert worth_taking(rows[:2])["strength"] == 1e-4
    assert harmless(rows)["strength"] == 1e-3, "the last one did no harm by luck"
    assert harmless([rows[0], row(1e-4, 0.1), row(1e-3, 0.1)])["strength"] == 1e-4
    assert more(row(1, 0.88), row(0, 0.85), "val") and not more(row(1, 0.87), row(0, 0.855), "val")
    assert not helps(row(1, 0.9, gap_fraction=math.nan), row(0, 0.85))
