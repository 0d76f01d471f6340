"""The experiment `gap`: rows are what the judge of curves says, claims that can fail, and images that are only moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from runtrue import curves_judge, lab
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.gap import KINDS, VALIDATION, Moved
from runtrue.lab.gap_judge import judge

TINY: dict[str, Any] = {"seeds": 1, "epochs": 3, "width": 8}


@pytest.fixture(scope="module")
def result() -> Experiment:
    return lab.run("gap", **TINY)


@pytest.mark.slow
def test_the_runs_are_told_apart_at_the_defaults() -> None:
    """Whether the good run is also the most accurate is left to the measurement."""
    found = lab.run("gap")
    assert all(part.held for part in found.judgements[:4]), found.verdict


def test_moved_images_are_shifted_and_mirrored_by_hand() -> None:
    x = torch.arange(36.0).reshape(1, 1, 6, 6).repeat(20, 1, 1, 1)
    assert torch.equal(Moved().eval()(x), x)
    torch.manual_seed(0)
    moved = Moved()(x)
    ways = [
        image.roll((down, right), (1, 2))
        for image in (x[0], x[0].flip(2))
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    ]
    matches = [next(place for place, way in enumerate(ways) if torch.equal(way, image)) for image in moved]
    assert len(set(matches)) == 2 and len({place % 9 for place in matches}) == 1, "one shift, and some are mirrored"


def test_rows_are_what_the_judge_says_of_the_curves(result: Experiment) -> None:
    assert [row["run"] for row in result.series["runs"]] == list(KINDS)
    for row in result.series["runs"]:
        train, val = (result.curves[f"{row['run']}, {name}"] for name in ("training", "validation"))
        judged = [curves_judge.judge(*pair, chance=0.1, examples=VALIDATION) for pair in zip(train, val, strict=True)]
        assert row["verdict_by_seed"] == [one.verdict for one in judged]
        assert row["gap"] == pytest.approx(judged[0].gap, abs=1e-3)


def test_the_same_seed_gives_the_same_and_leaves_the_process_alone(result: Experiment) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert lab.run("gap", **TINY).curves == result.curves
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


def test_text_page_json_and_figure(result: Experiment, tmp_path: Path) -> None:
    text = str(result)
    assert max(map(len, text.splitlines())) <= 100 and "val accuracy" in text and "…" not in text
    page = result.to_html(tmp_path / "gap.html").read_text(encoding="utf-8")
    assert "Which is best" in page and KINDS["severe"].words in page
    assert len(json.loads(result.to_json())["curves"]) == 2 * len(KINDS)
    assert result.chart.to_dict()["height"] == 300


# -- the judge, on rows made by hand


def row(run: str, verdict: str, train: float, val: float, loss: float) -> Row:
    return {
        "run": run, "verdict": verdict, "verdict_by_seed": [verdict] * 3, "train_accuracy": train, "val_accuracy": val,
        "val_accuracy_spread": 0.002, "gap": train - val, "gap_spread": 0.002, "val_loss": loss,
    }  # fmt: skip


def rows(**changed: Row) -> list[Row]:
    """As claimed, but for what is given by the name of the run."""
    as_claimed = [
        row("good", "good", 0.9, 0.86, 0.4),
        row("slight", "slight overfitting", 0.98, 0.82, 0.7),
        row("severe", "severe overfitting", 1.0, 0.7, 1.0),
        row("underfitting", "underfitting", 0.2, 0.2, 2.2),
    ]
    return [one | changed.get(one["run"], {}) for one in as_claimed]


def test_rows_as_claimed_hold() -> None:
    assert all(part.held for part in judge({"runs": rows()}))


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"good": {"verdict_by_seed": ["good", "good", "slight overfitting"]}}, "N3.3a", "4.0 ± 0.2 points"),
        ({"slight": {"verdict_by_seed": ["good"] * 3}}, "N3.3b", "16.0 ± 0.2 points"),
        ({"severe": {"verdict_by_seed": ["slight overfitting"] * 3}}, "N3.3c", "70.0%"),
        ({"underfitting": {"verdict_by_seed": ["good"] * 3}}, "N3.3d", "20.0%"),
        ({"good": {"val_accuracy": 0.81}}, "N3.3e", "by accuracy the good run is not ahead"),
        ({"good": {"val_loss": 0.8}}, "N3.3e", "by loss the good run is not ahead"),
    ],
)
def test_every_part_can_fail(changed: dict[str, Row], code: str, said: str) -> None:
    failed = [part for part in judge({"runs": rows(**changed)}) if not part.held]
    assert [part.code for part in failed] == [code] and said in failed[0].words
