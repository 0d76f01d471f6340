"""A fine-tuning from end to end, on real files: what stands still, what is in the folder, what it says of new pictures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from tuning_pictures import NET, asking  # type: ignore[import-not-found]
from typer.testing import CliRunner

import runtrue
from runtrue.cli.app import app
from runtrue.finetune import checkpoints
from runtrue.finetune.dry import SurgeryError
from runtrue.training.errors import UntrainableError
from runtrue.training.folder import RunFolder
from runtrue.training.predict import predict
from runtrue.tuning import network, trials
from runtrue.tuning.folder import Place
from runtrue.tuning.settings import ConfigError, Settings
from runtrue.watch import record_of

Tune = Callable[..., Any]


def test_a_new_head_and_nothing_else(tune: Tune, small: tuple[str, Path], coloured: Path) -> None:
    told: list[str] = []
    before = torch.get_rng_state()
    tuned = tune(say=told.append)
    assert torch.equal(before, torch.get_rng_state())
    trained, given = load_file(tuned.folder.weights), checkpoints.read(small[1])
    assert trained["9.weight"].shape == (3, 16)
    assert all(torch.equal(trained[name], given[name]) for name in given if not name.startswith("9."))
    assert tuned.val_accuracy == 1.0 and tuned.classes == ("blue", "green", "red")
    facts = tuned.folder.read_facts()
    assert facts["status"] == "finished" and "to the bit what they were" in facts["stood_still"]
    assert any("2 tensors resized" in line for line in told)
    rows = json.loads(Place(tuned.folder).parts.read_text())
    assert [(row["part"], row["state"]) for row in rows][-1] == ("9", "new")
    assert all(row["state"] == "kept" and row["rate"] == 0 for row in rows[:-1])


def test_what_a_run_says_of_pictures(tune: Tune, coloured: Path) -> None:
    tuned = tune()
    found = predict(tuned.folder.path, sorted((coloured / "green").glob("*.png")))
    assert len(found.predictions) == 12 and all(one.classes[0][0] == "green" for one in found.predictions)
    place = Place(tuned.folder)
    held = json.loads(place.validation.read_text())
    assert sum(map(sum, held["confusion"])) == 6 and held["accuracy"] == tuned.val_accuracy


@pytest.mark.parametrize("norms", ["train", "freeze-statistics", "freeze-all"])
def test_all_layers_each_at_its_rate(tune: Tune, small: tuple[str, Path], norms: str) -> None:
    tuned = tune(mode="deep", epochs=3, lr=1e-2, norms=norms, batch_size=8, patience=9)
    trained, given = load_file(tuned.folder.weights), checkpoints.read(small[1])
    assert [row["epoch"] for row in tuned.history] == [0, 1, 2, 3]
    rows = json.loads(Place(tuned.folder).parts.read_text())
    rates = [row["rate"] for row in rows if row["rate"]]
    assert rates == sorted(rates) and rates[-1] == 1e-2
    if tuned.kept_epoch:
        assert not torch.equal(trained["0.weight"], given["0.weight"])
        assert torch.equal(trained["1.running_mean"], given["1.running_mean"]) == (norms != "train")
        assert torch.equal(trained["1.weight"], given["1.weight"]) == (norms == "freeze-all")
    assert tuned.folder.report.is_file() and record_of(tuned.folder.path).epochs()


def test_it_never_ends_below_the_head_alone(tune: Tune) -> None:
    tuned = tune(mode="deep", epochs=4, lr=10.0, norms="freeze-statistics", batch_size=8)
    assert tuned.val_accuracy >= tuned.history[0]["val_accuracy"]
    assert tuned.history[-1]["val_loss"] > tuned.history[0]["val_loss"], "at this rate it collapses"


def test_the_policy_and_the_rate_are_told_with_their_reasons(tune: Tune) -> None:
    told: list[str] = []
    tuned = tune(mode="deep", epochs=1, say=told.append)
    assert any("batch normalization: " in line and "limit 16" in line for line in told)
    assert any("by trials of" in line for line in told)
    settled = Place(tuned.folder).read_settings()
    assert settled.lr is not None and settled.norms != "auto"


def test_a_rate_that_tears_up_what_is_known_is_passed_over(
    tune: Tune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "RATES", (10.0, 1e-4))
    torn = tune(mode="deep", epochs=1, batch_size=8)
    assert Place(torn.folder).read_settings().lr == 1e-4
    told = torn.folder.read_facts()["rate"]
    assert "10: " in told and "validation loss" in told
    monkeypatch.setattr(trials, "RATES", (1e-4, 1e-5))
    kind = tune(mode="deep", epochs=1, batch_size=8, run=tmp_path / "second")
    assert Place(kind.folder).read_settings().lr == 1e-4, "the highest that does no harm"


def test_what_is_torn_up_is_seen_and_explained(tune: Tune) -> None:
    told: list[str] = []
    tuned = tune(
        mode="deep", lr=30.0, kept=1.0, front=1.0, norms="freeze-statistics", epochs=4, batch_size=8, say=told.append
    )
    record = record_of(tuned.folder.path)
    verdicts = [(one["cause"], one["severity"], one["where"]) for one in record.verdicts()]
    assert [row["epoch"] for row in record.epochs()] == [-1, 0, 1, 2, 3]
    assert ("diverging", "fault", "the epochs") in verdicts
    assert any("times as wide as it has stored" in line and "(freeze-statistics)" in line for line in told)
    assert tuned.kept_epoch == 0 and tuned.val_accuracy == 1.0
    assert tuned.folder.read_facts()["torn"][1:] in (tuned.folder.path / "report.html").read_text(encoding="utf-8")
    again = CliRunner().invoke(app, ["report", str(tuned.folder.path)])
    assert again.exit_code == 1 and "fault diverging in the epochs" in again.output and "written: " in again.output


def test_a_network_that_was_never_trained_is_no_fault(tune: Tune, tmp_path: Path) -> None:
    """Its stored statistics are nobody's, and what a head makes of it is not torn up by taking new ones."""
    (tmp_path / "new.py").write_text(NET)
    told: list[str] = []
    tuned = tune(f"{tmp_path / 'new.py'}:build", weights=None, mode="deep", epochs=3, batch_size=8, say=told.append)
    assert any("2 normalizations had seen nothing" in line for line in told), told
    assert record_of(tuned.folder.path).verdicts() == [] and "torn" not in tuned.folder.read_facts()


def test_a_network_of_one_size_gets_its_own(torchvision: Any) -> None:
    assert network.wants(Settings("vit_b_16")).side == 224 and network.wants(Settings("mobilenet_v2")).side == 160
    with pytest.raises(SurgeryError, match="224 × 224 pixels alone, not of 160"):
        network.wants(Settings("vit_b_16", side=160))


def test_layers_join_in_from_back_to_front(tune: Tune) -> None:
    told = tune(mode="deep", epochs=2, gradual=4, lr=1e-2, batch_size=8, patience=9).folder.saved()
    states = [torch.load(path, weights_only=True)["state_dict"] for _, path in sorted(told)]
    assert torch.equal(states[0]["0.weight"], states[-1]["0.weight"]), "a quarter of the stages: the last one alone"


def killed(arguments: list[str], until: Callable[[], bool]) -> None:
    command = [sys.executable, "-m", "runtrue", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    end = time.monotonic() + 240
    while not until() and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_and_gone_on_with_it_ends_with_the_same_weights(
    tune: Tune, small: tuple[str, Path], coloured: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "mode": "deep",
        "epochs": 8,
        "lr": 1e-2,
        "batch_size": 4,
        "patience": 99,
        "norms": "train",
    }
    whole = tune(**settings)
    cut = tmp_path / "cut"
    options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    asked = [*asking(small, coloured, cut), *options]
    killed(asked, lambda: len(RunFolder(cut).history()) >= 4)
    assert not RunFolder(cut).weights.exists(), "it was killed before its end"
    done = runtrue.finetune(resume=cut, say=lambda text: None)
    first, second = load_file(whole.folder.weights), load_file(done.folder.weights)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert [row["val_loss"] for row in whole.history] == [row["val_loss"] for row in done.history]


def test_images_that_are_not_as_the_weights_want_them(tune: Tune, tmp_path: Path) -> None:
    with pytest.raises(UntrainableError, match="stored another spread than your images have"):
        tune(mean="0", std="0.004")
    assert RunFolder(tmp_path / "run").read_facts()["status"] == "not started: inputs-not-scaled"
    assert not RunFolder(tmp_path / "run").weights.exists()
    assert tune(mean="0", std="0.004", check=False, run=tmp_path / "all the same").val_accuracy > 0.3


def test_a_module_and_what_cannot_be_resumed(tune: Tune, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tuned = tune(model, weights=None, mode="deep", epochs=1, lr=1e-2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(ConfigError, match=r"pass it again, net="):
        tune(None, resume=tuned.folder.path, run=None, weights=None)
    with pytest.raises(ConfigError, match="mode cannot be changed"):
        tune(model, resume=tuned.folder.path, weights=None, mode="head")
    with pytest.raises(ConfigError, match="is not empty"):
        tune()
    with pytest.raises(SurgeryError, match="no layer with weights"):
        tune(nn.Flatten(), weights=None, run=tmp_path / "other")
    assert not (tmp_path / "other").exists(), "it came to nothing"
