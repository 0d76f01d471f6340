"""The experiment `penalty`: sums by hand, claims that can fail, and a process that is left alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from runtrue import lab, nets, penalties
from runtrue.lab import penalty
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.penalty_judge import hurts, hurts_from, judge, strongest
from runtrue.lab.training import CONSTANT

SHORT: dict[str, Any] = {"seeds": 1, "steps": 100, "width": 50}
TINY: dict[str, Any] = {"seeds": 1, "steps": 20, "depth": 1, "width": 8, "batch_size": 8}
CODES = ["N3.2e", "N3.2f", "N2.1a", "N2.1b", "N2.1c"]


@pytest.fixture(scope="module")
def result() -> Experiment:
    return lab.run("penalty", **SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("data", ["fashion-mnist", "gaussian"])
@pytest.mark.parametrize("seed", [0, 3])
def test_the_claim_holds_at_the_defaults(data: str, seed: int) -> None:
    found = lab.run("penalty", data=data, seed=seed)
    assert found.held, found.verdict


def test_a_short_run_holds_too(result: Experiment) -> None:
    assert [part.code for part in result.judgements] == CODES
    assert result.held, result.verdict


def test_the_penalty_is_that_of_a_network_built_by_hand(result: Experiment) -> None:
    state = torch.get_rng_state()
    torch.manual_seed(0)
    net = nets.mlp([784, 50, 50, 10], "tanh")
    torch.set_rng_state(state)
    weights = [layer.weight.detach().double() for layer in net if isinstance(layer, nn.Linear)]
    size, square = (sum(float(f(w).sum()) for w in weights) for f in (torch.abs, torch.square))
    for key, total in (("l1", size), ("l2", square), ("elastic-net", size + square)):
        for row in result.series[key]:
            assert row["by_hand"] == pytest.approx(row["strength"] * total, rel=1e-12)
            assert row["raised"] == pytest.approx(row["by_hand"], rel=1e-4, abs=1e-6)


def test_the_first_row_is_without_a_penalty_and_learns(result: Experiment) -> None:
    for rows in result.series.values():
        assert rows[0]["strength"] == rows[0]["by_hand"] == rows[0]["raised"] == 0
        assert rows[0]["end"] == pytest.approx(rows[0]["data_end"]) and rows[0]["removed_fraction"] > 0.5
        assert [row["strength"] for row in rows[1:]] == list(penalty.STRENGTHS)
        assert all(row["end"] >= row["data_end"] for row in rows[1:])


def too_much(model: nn.Module, strength: float) -> Tensor:
    return penalties.l1(model, strength, everything=True)


def twice(model: nn.Module, strength: float) -> Tensor:
    return 2 * penalties.l1(model, strength)


@pytest.mark.parametrize("wrong", [too_much, twice])
def test_a_penalty_that_is_built_wrongly_is_found(
    monkeypatch: pytest.MonkeyPatch, wrong: Callable[[nn.Module, float], Tensor]
) -> None:
    monkeypatch.setitem(penalty.KINDS, "l1", lambda strength: lambda model: wrong(model, strength))
    found = lab.run("penalty", **TINY)
    assert not found.judgements[0].held


def test_the_same_seed_gives_the_same_and_leaves_the_process_alone() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with torch.no_grad():
        first = lab.run("penalty", **TINY)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert first.series == lab.run("penalty", **TINY).series != lab.run("penalty", **TINY, seed=1).series


def test_text_page_json_and_figure(result: Experiment, tmp_path: Path) -> None:
    text = str(result)
    assert max(map(len, text.splitlines())) <= 100 and "elastic-net" in text and "…" not in text
    page = result.to_html(tmp_path / "penalty.html").read_text(encoding="utf-8")
    assert "http://" not in page.split("<script>")[0] and "Truncation" in page and "-0%" not in page
    said = json.loads(result.to_json())
    assert set(said["series"]) == {"l1", "l2", "elastic-net"} and "curves" not in said
    assert result.chart.to_dict()["height"] == 300


def test_settings_out_of_their_limits() -> None:
    with pytest.raises(ValueError, match="depth must be a whole number from 1 to 50, got 0"):
        lab.run("penalty", depth=0)


# -- the judge, on rows made by hand


def row(strength: float, data_end: float, **other: float) -> Row:
    plain = {
        "strength": strength, "by_hand": 1.0, "raised": 1.0, "start": CONSTANT + 1, "end": data_end + 0.1,
        "data_end": data_end, "removed_fraction": (CONSTANT - data_end) / CONSTANT, "mean_weight": 0.02,
        "gone_fraction": 0.02, "difference": 1e-8, "data_end_spread": 0.01,
    }  # fmt: skip
    return plain | other


def series(**changed: dict[int, dict[str, float]]) -> dict[str, list[Row]]:
    """As claimed, but for the rows given by the key of the penalty and their place."""
    rows = {
        "l1": [row(0, 0.5), row(1e-3, 0.52, gone_fraction=0.4), row(1, CONSTANT)],
        "l2": [row(0, 0.5), row(1e-3, 0.51, mean_weight=0.015, gone_fraction=0.03), row(1, CONSTANT)],
        "elastic-net": [row(0, 0.5), row(1e-3, 0.53), row(1, CONSTANT)],
    }
    for key, places in changed.items():
        for place, change in places.items():
            rows[key.replace("_", "-")][place] |= change
    return rows


def test_rows_as_claimed_hold() -> None:
    assert all(part.held for part in judge(series()))


@pytest.mark.parametrize(
    ("changed", "codes"),
    [
        ({"l2": {1: {"difference": 1e-4}}}, ["N3.2e"]),
        ({"elastic_net": {1: {"data_end": 0.8}}}, ["N3.2f"]),
        ({"l2": {1: {"end": 4.0}}}, ["N3.2f"]),
        ({"l1": {1: {"gone_fraction": 0.05}}}, ["N2.1a"]),
        ({"l2": {1: {"mean_weight": 0.02}}}, ["N2.1b"]),
        ({"l2": {1: {"gone_fraction": 0.3}}}, ["N2.1a", "N2.1b"]),
        ({"l1": {2: {"removed_fraction": 0.3}}}, ["N2.1c"]),
        ({"l1": {1: {"data_end": math.nan}}}, ["N3.2f"]),
    ],
)
def test_every_part_can_fail(changed: dict[str, dict[int, dict[str, float]]], codes: list[str]) -> None:
    assert [part.code for part in judge(series(**changed)) if not part.held] == codes


def test_where_it_begins_to_hurt() -> None:
    rows = [row(0, 0.5), row(1e-3, 0.6), row(1e-2, 0.9), row(1e-1, 2.0)]
    assert [hurts(one, rows[0]) for one in rows] == [False, False, True, True]
    assert hurts_from(rows) == 1e-2 and strongest(rows) is rows[1]
    assert hurts_from(rows[:2]) is None
    unsure = [row(0, 0.5, data_end_spread=0.3), row(1e-3, 0.9, data_end_spread=0.3)]
    assert not hurts(unsure[1], unsure[0]), "the seeds differ by more than that"
    assert hurts(row(1.0, math.nan), rows[0])
