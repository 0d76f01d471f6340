"""The experiment `finetune`: where each way starts from, claims that can fail, and real photographs under real weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from runtrue import lab
from runtrue.lab import finetune, finetune_ground
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.finetune import WAYS, some_of, trained
from runtrue.lab.finetune_ground import NEW, OLD, Ground, ground_of
from runtrue.lab.finetune_judge import DEEP, HEAD, ONE_RATE, SCRATCH, judge

CODES = ["N1.1a", "N1.1b", "N1.1c", "N1.1d"]
TINY: dict[str, Any] = {"seeds": 2, "steps": 20, "images": (2, 5)}


@pytest.fixture(scope="module")
def short() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune_ground, "DONOR_EPOCHS", 1)
        yield


@pytest.fixture(scope="module")
def ground(short: Any) -> Ground:
    return ground_of("fashion-mnist", None, None, 112, [0, 1])


@pytest.fixture(scope="module")
def result(short: Any) -> Experiment:
    return lab.run("finetune", **TINY)


def test_it_says_all_of_it(result: Experiment) -> None:
    assert [part.code for part in result.judgements] == CODES
    assert [(row["images"], row["way"]) for row in result.series["ends"]] == [(n, way) for n in (2, 5) for way in WAYS]
    assert len(result.series["curves"]) == 2 * len(WAYS) * 2, "looked at after 10 and 20 steps"
    assert json.loads(result.to_json())["settings"]["donor"].startswith("ResNet-8")
    for row in result.series["ends"]:
        assert row["seconds"] > 0 and 0 <= row["accuracy"] <= 1 and len(row["accuracy_by_seed"]) == 2
        if row["way"] == HEAD:
            assert row["step_reached"] is not None


def test_the_same_seeds_give_the_same_numbers(result: Experiment, short: Any) -> None:
    state = torch.get_rng_state()
    again = lab.run("finetune", **TINY)
    assert torch.equal(state, torch.get_rng_state())
    for one, other in zip(result.series["ends"], again.series["ends"], strict=True):
        assert one["accuracy_by_seed"] == other["accuracy_by_seed"]


def test_old_and_new_classes_are_parted(ground: Ground) -> None:
    assert sorted(OLD + NEW) == list(range(10))
    assert len(ground.train[1]) == 1200 and ground.train[1].unique().tolist() == [0, 1, 2, 3]
    assert len(ground.val[1]) == 400


def test_where_each_way_starts(ground: Ground) -> None:
    donor = ground.states[1]
    model, head, fresh = ground.start(1, trained=True)
    own = model.state_dict()
    assert {
        name for name in own if not torch.equal(own[name], donor[name]) if own[name].shape == donor[name].shape
    } == set()
    assert fresh == {f"{head}.weight", f"{head}.bias"} and len(own[f"{head}.bias"]) == 4
    anew, _, all_of_it = ground.start(1, trained=False)
    weights = [name for name, p in anew.named_parameters() if p.dim() > 1]
    assert all_of_it == set(dict(anew.named_parameters()))
    assert not any(torch.equal(anew.get_parameter(n), donor[n]) for n in weights if n != f"{head}.weight")


def test_images_of_each_class(ground: Ground) -> None:
    x, y = some_of(ground.train, 5, 0)
    assert torch.bincount(y).tolist() == [5] * 4 and len(x) == 20
    assert not torch.equal(x, some_of(ground.train, 5, 1)[0]) and torch.equal(x, some_of(ground.train, 5, 0)[0])
    few = (ground.train[0][:40], ground.train[1][:40])
    assert torch.bincount(some_of(few, 1000, 0)[1]).tolist() == torch.bincount(few[1]).tolist()


def test_in_mode_1_the_head_alone_moves(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[tuple[Any, dict[str, Any]]] = []

    def start(seed: int, trained: bool, whole: Any = Ground.start) -> Any:
        found = whole(ground, seed, trained=trained)
        kept.append((found, {name: value.clone() for name, value in found[0].state_dict().items()}))
        return found

    monkeypatch.setattr(Ground, "start", lambda _, seed, *, trained: start(seed, trained))
    trained(ground, 20, (5, HEAD), 0)
    (model, head, _), before = kept[0]
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{head}.weight", f"{head}.bias"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "steps must be a whole number from 20"), ({"images": ()}, "images must be"),
        ({"images": (1, 5)}, "from 2 up"), ({"seeds": 0}, "seeds must be"), ({"net": "resnet18"}, "data of your own"),
    ],
)  # fmt: skip
def test_settings_out_of_their_limits(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        lab.run("finetune", **settings)


def rows(
    scratch: float,
    head: float,
    deep: float,
    one: float,
    *,
    n: int = 5,
    spread: float = 0.01,
    deep_reached: int | None = 20,
) -> list[Row]:
    values = {SCRATCH: scratch, HEAD: head, DEEP: deep, ONE_RATE: one}
    reached = {SCRATCH: None, HEAD: 50, DEEP: deep_reached, ONE_RATE: 40}
    return [
        {"images": n, "way": way, "accuracy": value, "accuracy_spread": spread, "step_reached": reached[way],
         "second_reached": 1.0 if reached[way] else None}
        for way, value in values.items()
    ]  # fmt: skip


CLAIMED = rows(0.5, 0.7, 0.8, 0.7) + rows(0.7, 0.8, 0.85, 0.8, n=50)


@pytest.mark.parametrize(
    ("ends", "failed"),
    [
        (CLAIMED, set()),
        (rows(0.5, 0.7, 0.8, 0.7) + rows(0.4, 0.8, 0.85, 0.8, n=50), {"N1.1a"}),  # more images gain more
        (rows(0.695, 0.7, 0.8, 0.7), {"N1.1a"}),  # within the spread of the seeds
        (rows(0.5, 0.7, 0.8, 0.7, deep_reached=50), {"N1.1b"}),
        (rows(0.5, 0.7, 0.8, 0.7, deep_reached=None), {"N1.1b"}),
        (CLAIMED + rows(0.8, 0.88, 0.885, 0.8, n=100), {"N1.1c"}),
        (rows(0.5, 0.7, 0.8, 0.79), {"N1.1d"}),
    ],
)
def test_a_part_that_does_not_hold_is_said_not_to(ends: list[Row], failed: set[str]) -> None:
    assert {part.code for part in judge({"ends": ends}) if not part.held} == failed


@pytest.mark.slow
def test_from_a_trained_network_few_images_suffice() -> None:
    found = lab.run("finetune", seeds=2, images=(5, 20), steps=60)
    held = {part.code: part.held for part in found.judgements}
    assert held["N1.1a"], found.verdict


@pytest.mark.slow
def test_photographs_under_weights_of_imagenet(photos: Path, mobilenet: Path) -> None:
    found = lab.run("finetune", data=str(photos), weights=str(mobilenet), seeds=1, images=(5,), steps=20, side=64)
    ends = {row["way"]: row["accuracy"] for row in found.series["ends"]}
    assert ends[HEAD] > ends[SCRATCH] + 0.1, found.verdict
    assert "mobilenet_v2" in found.settings["donor"]


def test_unknown_data() -> None:
    with pytest.raises(ValueError, match=r"there is no folder|no zoo is installed|not on this machine"):
        finetune.run(data="/nowhere/at/all")
