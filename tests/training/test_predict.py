"""What a finished run says of images: by the same pixels as in training, with files that cannot be read named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import runtrue
from runtrue.cli.app import app

pytest.importorskip("pytorch_lightning")
Image = pytest.importorskip("PIL.Image")

from runtrue.training import ConfigError  # noqa: E402
from runtrue.training.predict import as_trained, predict  # noqa: E402
from runtrue.training.run import Trained  # noqa: E402
from runtrue.training.weights import load  # noqa: E402

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


def photographs(folder: Path, count: int = 20) -> Path:
    """A folder a class, each picture of one colour with noise."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(np.array(colour) + rng.normal(0, 30, (20, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    settings: dict[str, Any] = {
        "check": False,
        "progress": False,
        "precision": "32",
        "logger": "none",
        "say": lambda _: None,
    }
    return runtrue.train(
        net="cnn:4", data=f"folder:{photos}", size=16, epochs=4, batch_size=12, lr=0.05,
        run=tmp_path_factory.mktemp("runs") / "colours", **settings,
    )  # fmt: skip


def test_a_folder_of_class_folders_is_learned_and_named(run: Trained, photos: Path) -> None:
    assert run.val_accuracy > 0.9
    found = predict(run.path, [photos / "red" / "0.png", photos / "blue" / "0.png"], top=2)
    assert [one.classes[0][0] for one in found.predictions] == ["red", "blue"] and not found.skipped
    for one in found.predictions:
        assert len(one.classes) == 2 and 1.0 >= one.classes[0][1] > one.classes[1][1]


def test_the_probabilities_are_those_of_the_network_on_the_same_pixels(run: Trained, photos: Path) -> None:
    told = load(run.folder.weights)[1]
    assert told.classes == ("blue", "green", "red") and told.side == 16 and told.channels == 3
    path = photos / "green" / "3.png"
    with Image.open(path) as image:
        square = image.resize(
            (19, 16), Image.Resampling.BICUBIC
        )  # by hand and roughly: the short side, then the middle
        pixels = torch.tensor(np.asarray(square)[:, 1:17].astype(np.float32) / 255).permute(2, 0, 1)
    mean, std = (torch.tensor(numbers).reshape(3, 1, 1) for numbers in (told.mean, told.std))
    by_hand = run.net(((pixels - mean) / std)[None]).softmax(1)[0]
    found = dict(predict(run.path, [path]).predictions[0].classes)
    for name, share in zip(told.classes, by_hand.tolist(), strict=True):
        assert found[name] == pytest.approx(share, abs=0.03)


def test_files_that_cannot_be_read_are_named_and_the_others_go_on(run: Trained, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    done = CliRunner().invoke(
        app, ["predict", str(run.path), str(tmp_path), str(photos / "red" / "1.png"), "--format", "json"]
    )
    assert done.exit_code == 1
    assert json.loads(done.stdout)[0]["classes"][0]["label"] == "red" and len(json.loads(done.stdout)) == 1
    assert "notes.png: no image of a known format" in done.stderr and "empty.jpg: empty: 0 bytes" in done.stderr


def test_what_is_no_run_and_what_is_no_image(run: Trained, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has the run finished"):
        predict(tmp_path, [tmp_path])
    with pytest.raises(ConfigError, match="there is no image in"):
        predict(run.path, [tmp_path])
    with pytest.raises(ConfigError, match="top must be at least 1"):
        predict(run.path, [tmp_path], top=0)
    (tmp_path / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ConfigError, match="is no safetensors file"):
        predict(tmp_path, [tmp_path])


def test_grey_networks_see_grey_images() -> None:
    pixels = torch.tensor([[255, 0, 0], [10, 10, 10]], dtype=torch.uint8).reshape(2, 3, 1, 1)
    assert as_trained(pixels, 1).flatten().tolist() == [76, 10]
    with pytest.raises(ConfigError, match="takes 4 channels"):
        as_trained(pixels, 4)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--net", "resnet21"], "6n + 2"),
        (["--data", "folder:nowhere"], "nowhere"),
        (["--lr", "-1"], "lr must be above 0"),
        (["--resume", "nowhere"], "is no run"),
        (["missing.yaml"], "missing.yaml cannot be read"),
        (["--strategy", "dpp"], "did you mean 'ddp'?"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["train", "--no-check", *arguments])
    assert done.exit_code == 2 and says in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("runs/*/epochs.jsonl"))


def test_a_rate_that_nobody_can_learn_at_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", "fashion-mnist-subset", "--net", "mlp:50x3", "--norm", "none", "--lr", "50", "--epochs", "3"]
    done = CliRunner().invoke(app, ["train", *arguments, "--run", "run"])
    assert done.exit_code == 1, done.output
    assert "learning-rate-too-high" in done.stdout and "not started: learning-rate-too-high" in done.stderr
    assert (tmp_path / "run" / "check.json").is_file() and not (tmp_path / "run" / "epochs.jsonl").exists()


def test_every_option_is_a_setting() -> None:
    from runtrue.training.config import NAMES

    group: Any = typer.main.get_command(app)
    options = {parameter.name for parameter in group.commands["train"].params}
    assert options - set(NAMES) == {"config", "resume", "no_check", "no_watch", "run"}
