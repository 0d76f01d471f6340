"""The experiment `dropout`: the average over masks by hand, claims that can fail, and a process that is left alone."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from runtrue import lab
from runtrue.lab import dropout
from runtrue.lab.dropout_judge import judge
from runtrue.lab.experiment import Experiment, Row

TINY: dict[str, Any] = {"seeds": 1, "epochs": 3, "depth": 1, "width": 16, "batch_size": 100}


@pytest.fixture(scope="module")
def result() -> Experiment:
    return lab.run("dropout", **TINY)


@pytest.mark.slow
def test_the_claim_holds_at_the_defaults() -> None:
    found = lab.run("dropout")
    assert found.held, found.verdict


def masked(inputs: int = 4, p: float = 0.5) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Dropout(p), nn.Linear(inputs, 3)).double()


def test_sampled_networks_are_those_of_all_masks() -> None:
    """Four inputs have 16 masks: what is sampled is among the 16 networks, all come up, and the mean is theirs."""
    net = masked()
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    masks = torch.tensor(list(itertools.product((0.0, 2.0), repeat=4)), dtype=torch.float64)
    every = torch.stack([net[1](x[:1] * mask).softmax(1) for mask in masks]).detach()  # (16, 1, 3)
    torch.manual_seed(2)
    found = dropout.sampled(net, x[:1], 4000)
    distance = (found - every[:, 0]).abs().amax(2)  # (4000, 16)
    assert float(distance.min(1).values.max()) < 1e-12 and set(distance.argmin(1).tolist()) == set(range(16))
    assert torch.allclose(found.mean(0), every.mean(0), atol=0.02)


def test_one_pass_of_a_linear_softmax_is_the_geometric_mean_of_all_masks() -> None:
    """Why one pass may stand for the mean: exact for one layer (Goodfellow et al. 2016, section 7.12)."""
    net = masked().eval()
    x = torch.randn(1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    masks = torch.tensor(list(itertools.product((0.0, 2.0), repeat=4)), dtype=torch.float64)
    logs = torch.stack([net[1](x * mask).log_softmax(1) for mask in masks]).mean(0)
    assert torch.allclose(net(x).softmax(1), logs.exp() / logs.exp().sum(), atol=1e-12)


def test_averages_of_a_network_by_hand() -> None:
    """Without dropout every sampled network is the one pass."""
    net = nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(torch.eye(2))
        net.bias.zero_()
    x, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [1.0, 3.0]]), torch.tensor([0, 1, 1, 1])
    found = dropout.average_of(net, x, labels)
    assert found["agreement"] == 1 and found["by_size"] == [0.75] * len(dropout.SIZES)
    assert found["one_pass_accuracy"] == found["mean_accuracy"] == found["single_accuracy"] == 0.75


def test_rows(result: Experiment) -> None:
    gaps, averages, samples = (result.series[key] for key in ("gap", "average", "samples"))
    assert [row["p"] for row in gaps] == list(dropout.PROBABILITIES) and [row["p"] for row in averages] == [
        row["p"] for row in gaps[1:]
    ]
    for row in gaps:
        assert row["gap"] == pytest.approx(row["train_accuracy"] - row["val_accuracy"])
    for row, average in zip(gaps[1:], averages, strict=True):
        assert average["one_pass_accuracy"] == pytest.approx(row["val_accuracy"]), "the pass that evaluation makes"
    assert samples[0]["accuracy"] == next(row["single_accuracy"] for row in averages if row["p"] == 0.5)
    assert samples[-1]["accuracy"] == next(row["mean_accuracy"] for row in averages if row["p"] == 0.5)


def test_the_same_seed_gives_the_same_and_leaves_the_process_alone(result: Experiment) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert lab.run("dropout", **TINY).series == result.series
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


def test_text_page_json_and_figure(result: Experiment, tmp_path: Path) -> None:
    text = str(result)
    assert max(map(len, text.splitlines())) <= 100 and "one pass accuracy" in text and "…" not in text
    assert "Many networks" in result.to_html(tmp_path / "dropout.html").read_text(encoding="utf-8")
    assert set(json.loads(result.to_json())["series"]) == {"gap", "average", "samples"}
    assert result.chart.to_dict()["height"] == 300


def test_settings_out_of_their_limits() -> None:
    with pytest.raises(ValueError, match="epochs must be a whole number from 1 to 2000, got 0"):
        lab.run("dropout", epochs=0)


# -- the judge, on rows made by hand


def gap(p: float, train: float, val: float, loss: float) -> Row:
    row = {"p": p, "train_accuracy": train, "val_accuracy": val, "gap": train - val, "val_loss": loss}
    return row | {f"{key}_spread": 0.002 for key in ("train_accuracy", "val_accuracy", "gap", "val_loss")}


def average(p: float, single: float, mean: float, one_pass: float, agreement: float) -> Row:
    row = {"single_accuracy": single, "mean_accuracy": mean, "one_pass_accuracy": one_pass, "agreement": agreement}
    return row | {f"{key}_spread": 0.002 for key in row} | {"p": p}


def series(**changed: Row) -> dict[str, list[Row]]:
    """As claimed, but for what is given for the p of 0.5."""
    gaps = [gap(0, 0.97, 0.82, 0.8), gap(0.5, 0.92, 0.83, 0.55), gap(0.9, 0.6, 0.59, 1.1)]
    averages = [average(0.5, 0.8, 0.83, 0.83, 0.99), average(0.9, 0.4, 0.6, 0.6, 0.9)]
    gaps[1] |= {key: value for key, value in changed.items() if key in gaps[1]}
    averages[0] |= {key: value for key, value in changed.items() if key in averages[0]}
    return {"gap": gaps, "average": averages}


def test_rows_as_claimed_hold() -> None:
    parts = judge(series())
    assert all(part.held for part in parts) and [part.code[-1] for part in parts] == list("abcd")
    assert "Too much holds back the learning too" in parts[1].words and "of 90.0% at p = 0.9" in parts[3].words


@pytest.mark.parametrize(
    ("changed", "codes"),
    [
        ({"gap": 0.14}, ["N2.2a"]),  # hardly less than without
        ({"gap": 0.005}, ["N2.2a"]),  # grows again at 0.9
        ({"val_accuracy": 0.8}, ["N2.2b"]),
        ({"val_loss": 0.8}, ["N2.2b"]),
        ({"single_accuracy": 0.828}, ["N2.2c"]),
        ({"one_pass_accuracy": 0.8}, ["N2.2d"]),
        ({"agreement": 0.9}, ["N2.2d"]),
    ],
)
def test_every_part_can_fail(changed: Row, codes: list[str]) -> None:
    assert [part.code for part in judge(series(**changed)) if not part.held] == codes
