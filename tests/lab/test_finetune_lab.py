"""The experiment `finetune`: where each way starts from, claims that can fail, and real photographs under real weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from runtrue import lab
from runtrue.cli.app import app
from runtrue.finetune import SurgeryError
from runtrue.lab import finetune_ground, finetune_train
from runtrue.lab.experiment import Experiment, Row
from runtrue.lab.finetune import WAYS, possible, reached
from runtrue.lab.finetune_ground import NEW, OLD, Ground, of_fashion, prove, some_of
from runtrue.lab.finetune_judge import DEEP, HEAD, ONE_HIGH, ONE_LOW, SCRATCH, curve_name, judge
from runtrue.lab.finetune_train import trained

CODES = ["N1.1a", "N1.1b", "N1.1c", "N1.1d", "N1.1e"]
TINY: dict[str, Any] = {"seeds": 2, "steps": 20, "images": (2, 4)}


@pytest.fixture(scope="module")
def short() -> Iterator[None]:
    """A donor of one epoch, and few looks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune_ground, "DONOR_EPOCHS", 1)
        patch.setattr(finetune_train, "LOOKS", 2)
        yield


@pytest.fixture(scope="module")
def ground(short: None) -> Ground:
    return of_fashion([0, 1])


@pytest.fixture(scope="module")
def result(short: None) -> Experiment:
    return lab.run("finetune", **TINY)


def test_it_says_all_of_it(result: Experiment) -> None:
    assert [part.code for part in result.judgements] == CODES
    assert [(row["images"], row["way"]) for row in result.series["ends"]] == [(n, way) for n in (2, 4) for way in WAYS]
    assert json.loads(result.to_json())["settings"]["donor"].startswith("ResNet-8")
    for row in result.series["ends"]:
        assert row["seconds"] > 0 and 0 <= row["accuracy"] <= 1 and len(row["accuracy_by_seed"]) == 2
        if row["way"] == HEAD:
            assert None not in row["epoch_by_seed"], "mode 1 comes to where it ends"


def test_curves_over_epochs_and_seconds(result: Experiment) -> None:
    for n, way in [(n, way) for n in (2, 4) for way in WAYS]:
        epochs, seconds, accuracies = (
            result.curves[curve_name(what, n, way)] for what in ("epoch", "second", "accuracy")
        )
        assert epochs[0][-1] == 20, "so few images are one batch: an epoch is a step"
        assert all(own == sorted(own) and own[0] > 0 for own in (*epochs, *seconds))
        end = next(row for row in result.series["ends"] if (row["images"], row["way"]) == (n, way))
        assert [own[-1] for own in accuracies] == end["accuracy_by_seed"]


def test_a_seed_gives_the_same_numbers_alone_and_in_company(result: Experiment, short: None) -> None:
    state = torch.get_rng_state()
    again = lab.run("finetune", **TINY | {"images": (2,), "seeds": 1})
    assert torch.equal(state, torch.get_rng_state())
    for one, other in zip(result.series["ends"], again.series["ends"]):
        assert one["accuracy_by_seed"][:1] == other["accuracy_by_seed"]


def test_old_and_new_classes_are_parted(ground: Ground) -> None:
    assert sorted(OLD + NEW) == list(range(10))
    assert ground.sizes() == [300] * 4 and ground.classes == ["dress", "coat", "shirt", "sneaker"]
    assert len(ground.val[0][1]) == 400 and ground.val[0][0].shape[1:] == (1, 14, 14)


def test_where_each_way_starts(ground: Ground) -> None:
    donor = ground.states[1]
    model, head, fresh = ground.start(1, trained=True)
    own = model.state_dict()
    assert not [n for n in own if own[n].shape == donor[n].shape and not torch.equal(own[n], donor[n])]
    assert fresh == {f"{head}.weight", f"{head}.bias"} and len(own[f"{head}.bias"]) == 4
    anew, _, all_of_it = ground.start(1, trained=False)
    weights = [name for name, p in anew.named_parameters() if p.dim() > 1]
    assert all_of_it == set(dict(anew.named_parameters()))
    assert not any(torch.equal(anew.get_parameter(n), donor[n]) for n in weights if n != f"{head}.weight")


def test_a_network_that_cannot_be_trained_so_is_named(ground: Ground) -> None:
    prove(ground, 0)
    large = replace(ground, train={0: (torch.zeros(2, 3, 14, 14), torch.tensor([0, 1]))})
    with pytest.raises(SurgeryError, match=r"ResNet-8 cannot be trained on pictures of 3 × 14 × 14: .*channels"):
        prove(large, 0)


def test_images_of_each_class(ground: Ground) -> None:
    whole = ground.train[0]
    x, y = some_of(whole, 5, 0)
    assert torch.bincount(y).tolist() == [5] * 4 and len(x) == 20
    assert not torch.equal(x, some_of(whole, 5, 1)[0]) and torch.equal(x, some_of(whole, 5, 0)[0])
    few = (whole[0][:40], whole[1][:40])
    assert torch.bincount(some_of(few, 1000, 0)[1]).tolist() == torch.bincount(few[1]).tolist()


@pytest.mark.parametrize(("way", "least", "most"), [(HEAD, 2, 2), (DEEP, 20, 99), (ONE_LOW, 20, 99)])
def test_what_moves(ground: Ground, monkeypatch: pytest.MonkeyPatch, way: str, least: int, most: int) -> None:
    """Of the parameters and the statistics: in mode 1 those of the head alone."""
    kept: list[tuple[Any, dict[str, Any]]] = []
    whole = Ground.start

    def start(self: Ground, seed: int, *, trained: bool) -> Any:
        found = whole(self, seed, trained=trained)
        kept.append((found, {name: value.clone() for name, value in found[0].state_dict().items()}))
        return found

    monkeypatch.setattr(Ground, "start", start)
    trained(ground, 20, (5, way), 0)
    (model, head, _), before = kept[0]
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed >= {f"{head}.weight", f"{head}.bias"} and least <= len(changed) <= most


def test_when_each_seed_came_to_where_mode_1_ends() -> None:
    runs = [
        [{"epoch": e, "second": e / 10, "accuracy": a} for e, a in zip((1, 2, 4), accuracies)]
        for accuracies in ((0.5, 0.7, 0.6), (0.4, 0.5, 0.8))
    ]
    assert reached(runs, [0.7, 0.8]) == {
        "epoch_reached": 3, "epoch_by_seed": [2, 4], "second_reached": pytest.approx(0.3), "second_by_seed": [0.2, 0.4],
    }  # fmt: skip
    never = reached(runs, [0.7, 0.9])
    assert never["epoch_by_seed"] == [2, None] and never["epoch_reached"] is None


def test_numbers_of_images_that_there_are() -> None:
    assert possible((50, 5, 20), [28, 9, 21]) == [5, 20], "at least one class has 20, none has 50"
    with pytest.raises(ValueError, match="no class has 5 to train with, the largest has 2"):
        possible((5, 20), [1, 2])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "steps must be a whole number from 20"), ({"images": ()}, "images must be"),
        ({"images": (0, 5)}, "from 1 up"), ({"images": (5, 5)}, "different"), ({"seeds": 0}, "seeds must be"),
        ({"side": 8}, "side must be"), ({"net": "resnet18"}, "net goes with pictures of yours"),
        ({"weights": "w.pth"}, "--data FOLDER"),
    ],
)  # fmt: skip
def test_settings_out_of_their_limits(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        lab.run("finetune", **settings)


def rows(
    scratch: float,
    head: float,
    deep: float,
    high: float,
    low: float | None = None,
    *,
    n: int = 5,
    apart: float = 0.01,
    deep_epochs: tuple[float | None, ...] = (2, 3, 2),
    deep_seconds: tuple[float | None, ...] = (1, 1, 1),
) -> list[Row]:
    """Ends of three seeds: all ways differ from seed to seed as much, `deep` by ± `apart` more."""
    values = {SCRATCH: scratch, HEAD: head, DEEP: deep, ONE_HIGH: high, ONE_LOW: high if low is None else low}
    epochs = {DEEP: deep_epochs}
    seconds = {DEEP: deep_seconds}
    return [
        {"images": n, "way": way, "accuracy": value, "accuracy_spread": 0.05, "accuracy_by_seed": [
            value + shift + (apart * sign if way == DEEP else 0) for shift, sign in ((-0.05, -1), (0, 0), (0.05, 1))
        ], "epoch_by_seed": epochs.get(way, (5, 5, 5)), "second_by_seed": seconds.get(way, (2, 2, 2))}
        for way, value in values.items()
    ]  # fmt: skip


CLAIMED = rows(0.5, 0.7, 0.8, 0.7) + rows(0.7, 0.8, 0.85, 0.8, n=50)


@pytest.mark.parametrize(
    ("ends", "failed"),
    [
        (CLAIMED, set()),
        (rows(0.71, 0.7, 0.8, 0.7), {"N1.1a"}),
        (rows(0.79, 0.85, 0.8, 0.7), {"N1.1a", "N1.1d"}),  # of the three seeds one is not better
        (rows(0.5, 0.7, 0.8, 0.7, deep_epochs=(2, 5, 2)), {"N1.1b"}),
        (rows(0.5, 0.7, 0.8, 0.7, deep_epochs=(2, None, 2)), {"N1.1b"}),
        (rows(0.5, 0.7, 0.8, 0.7, deep_seconds=(2.5, 1, 1)), {"N1.1c"}),
        (CLAIMED + rows(0.8, 0.88, 0.885, 0.8, n=100), {"N1.1d"}),
        (rows(0.5, 0.7, 0.8, 0.79), {"N1.1e"}),
        (rows(0.5, 0.7, 0.8, 0.7, 0.81), {"N1.1e"}),
    ],
)
def test_a_part_that_does_not_hold_is_said_not_to(ends: list[Row], failed: set[str]) -> None:
    assert {part.code for part in judge({"ends": ends}) if not part.held} == failed


def test_where_it_held_is_said() -> None:
    told = judge({"ends": CLAIMED + rows(0.8, 0.88, 0.885, 0.8, n=100)})[3].words
    assert (
        told.endswith("Better by more than chance at 5, 50.") and "100 images a class: +0.5 (-0.5, +0.5, +1.5)" in told
    )


def test_one_seed_says_nothing() -> None:
    alone = [row | {k: v[:1] for k, v in row.items() if k.endswith("_by_seed")} for row in CLAIMED]
    for part in judge({"ends": alone}):
        assert not part.held and part.words.endswith("One seed alone cannot tell that from chance.")


@pytest.mark.slow
def test_from_a_trained_network_few_images_suffice() -> None:
    found = lab.run("finetune", seeds=2, images=(5, 20), steps=60)
    gained = [row["accuracy"] for row in found.series["ends"] if row["way"] in (DEEP, SCRATCH)]
    assert gained[1] > gained[0] and gained[3] > gained[2], found.verdict


# -- pictures of the user's


def asked(*words: str) -> str:
    """What the command says of a call that is wrong."""
    found = CliRunner().invoke(app, ["lab", "finetune", *words])
    assert found.exit_code == 2 and "Traceback" not in found.output, found.output
    return " ".join(found.output.split())


def test_no_pictures(mobilenet: Path, tmp_path: Path) -> None:
    mine = ("--weights", str(mobilenet))
    assert "no class" in asked("--data", str(two_of_each(tmp_path / "few")), *mine)
    (tmp_path / "empty").mkdir()
    assert "has no folder of a class" in asked("--data", str(tmp_path / "empty"), *mine)
    assert "No such file" in asked("--data", str(tmp_path / "nowhere"), *mine)


def test_no_network(mobilenet: Path, tmp_path: Path) -> None:
    here = ("--data", str(two_of_each(tmp_path / "few")))
    assert "no network is called 'mobilnet_v2'" in asked(*here, "--net", "mobilnet_v2")
    assert "nowhere.pth" in asked(*here, "--weights", str(tmp_path / "nowhere.pth"))
    assert "Are these the weights of" in asked(*here, "--net", "torchvision:resnet18", "--weights", str(mobilenet))
    assert "net goes with pictures of yours" in asked("--net", "mobilenet_v2")


def two_of_each(folder: Path) -> Path:
    from PIL import Image

    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for shade in (60, 190):
            Image.new("RGB", (48, 40), (shade, 90, len(name) * 20)).save(folder / name / f"{shade}.png")
    return folder


@pytest.mark.slow
def test_photographs_under_weights_of_imagenet(photos: Path, mobilenet: Path) -> None:
    found = lab.run("finetune", data=str(photos), weights=str(mobilenet), seeds=1, images=(5, 20), steps=20, side=64)
    ends = {row["way"]: row["accuracy"] for row in found.series["ends"] if row["images"] == 20}
    assert ends[HEAD] > ends[SCRATCH] + 0.1, found.verdict
    assert "mobilenet_v2" in found.settings["donor"] and found.settings["validation_images"] == 42
    assert found.settings["classes_with_fewer"] == "of 20: fish 9, vehicles 15"
