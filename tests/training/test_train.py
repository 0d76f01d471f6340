"""Training from settings to the folder: the same file gives the same weights, faults stop it, wrong input is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import runtrue

pytest.importorskip("pytorch_lightning")

from runtrue.datasets import DataError
from runtrue.task import TaskError
from runtrue.training import Config, ConfigError, UntrainableError
from runtrue.training.folder import RunFolder
from runtrue.training.run import Trained
from runtrue.training.weights import load, network
from runtrue.watch import record_of

Pair = tuple[Tensor, Tensor]
FAST: dict[str, Any] = {
    "check": False,
    "progress": False,
    "precision": "32",
    "say": lambda line: None,
    "logger": "none",
}
TINY: dict[str, Any] = {**FAST, "net": "mlp:16x1", "epochs": 2, "batch_size": 20, "lr": 0.1, "augment": "none"}


def pair(count: int, seed: int) -> Pair:
    """Grey images of 8 by 8 pixels: the brighter half is the label."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 2
    images[:, :, :4][labels == 0] //= 2
    return images, labels


DATA = (pair(100, 0), pair(40, 1))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return runtrue.train(**TINY, data=DATA, run=tmp_path_factory.mktemp("runs") / "first")


def test_the_folder_holds_everything(trained: Trained) -> None:
    names = {path.name for path in trained.path.iterdir()}
    assert names >= {"config.yaml", "run.json", "epochs.jsonl", "checkpoints", "model.safetensors", "report.html"}
    facts = trained.folder.read_facts()
    assert (
        facts["status"] == "finished"
        and facts["versions"]["torch"]
        and facts["parameters"] == (64 + 1 + 2) * 16 + (16 + 1) * 2
    )
    assert [row["epoch"] for row in trained.history] == [0, 1] and trained.history[-1]["step"] == 10
    assert trained.val_accuracy == trained.history[-1]["val_accuracy"] > 0.6
    page = trained.folder.report.read_text()
    assert "mlp:16x1" in page and "validation accuracy" in page


def test_the_saved_weights_are_those_of_the_network(trained: Trained) -> None:
    state, told = load(trained.folder.weights)
    again = network(state, told)
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(again(x), trained.net(x)) and not again.training
    assert told.classes == ("0", "1") and told.side == 8 and len(told.mean) == told.channels == 1


def test_it_is_watched_and_the_weights_are_those_of_an_unwatched_run(trained: Trained, tmp_path: Path) -> None:
    record = record_of(trained.path)
    readings = list(record.readings())
    assert sum(part.count for part in record.steps()) == 10 and readings[0].step == 0
    assert readings[0].numbers["linear1", "std"] > 0 and readings[0].numbers["linear1.weight", "update_ratio"] > 0
    rows = record.epochs()
    assert [row["val_accuracy"] for row in rows] == [row["val_accuracy"] for row in trained.history]
    assert [row["step"] for row in rows] == [5, 10]
    assert not [one for one in record.verdicts() if one["severity"] == "fault"]
    assert "Layers over time" in trained.folder.report.read_text()
    unwatched = runtrue.train(**TINY, data=DATA, watch=False, run=tmp_path / "unwatched")
    assert not (unwatched.path / "watch.sqlite").exists()
    for one, other in zip(trained.net.state_dict().values(), unwatched.net.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_same_settings_give_the_same_weights_and_the_random_state_is_left_alone(
    trained: Trained, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again = runtrue.train(trained.folder.config, data=DATA, run=tmp_path / "again", say=lambda _: None, progress=False)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(trained.net.parameters(), again.net.parameters(), strict=True))
    other = runtrue.train(**TINY, data=DATA, seed=1, run=tmp_path / "other")
    assert not torch.equal(next(trained.net.parameters()), next(other.net.parameters()))


def test_more_epochs_of_a_run_without_decay_are_those_of_a_longer_run(tmp_path: Path) -> None:
    settings = {**TINY, "decay": "none"}
    long = runtrue.train(**{**settings, "epochs": 3}, data=DATA, run=tmp_path / "long")
    runtrue.train(**{**settings, "epochs": 2}, data=DATA, run=tmp_path / "short")
    more = runtrue.train(resume=tmp_path / "short", epochs=3, data=DATA, say=lambda _: None, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(long.net.parameters(), more.net.parameters(), strict=True))
    assert [row["val_loss"] for row in long.history] == [row["val_loss"] for row in more.history]


def test_a_module_of_ones_own(tmp_path: Path) -> None:
    class Own(nn.Module):
        def __init__(self, classes: int, in_channels: int) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64 * in_channels, classes))

        def forward(self, x: Tensor) -> Any:
            return self.net(x)

    done = runtrue.train(**{**TINY, "net": Own}, data=DATA, run=tmp_path / "own")
    assert isinstance(done.net, Own) and RunFolder(tmp_path / "own").read_config().net.endswith("Own")
    with pytest.raises(ConfigError, match="pass it again, net="):
        runtrue.train(resume=tmp_path / "own", data=DATA)


def test_a_network_that_is_handed_over_is_copied_and_keeps_its_first_weights(tmp_path: Path) -> None:
    given = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    before = given.get_parameter("1.weight").detach().clone()
    done = runtrue.train(**{**TINY, "net": given, "lr": 1e-9, "l2": 0.0}, data=DATA, run=tmp_path / "given")
    assert torch.equal(given.get_parameter("1.weight"), before) and torch.allclose(
        dict(done.net.named_parameters())["1.weight"], before
    )
    redrawn = runtrue.train(
        **{**TINY, "net": given, "lr": 1e-9, "l2": 0.0, "init": "he_normal"}, data=DATA, run=tmp_path / "redrawn"
    )
    assert not torch.allclose(dict(redrawn.net.named_parameters())["1.weight"], before) and given.training


def test_l1_makes_weights_exactly_zero_and_max_norm_bounds_each_unit(tmp_path: Path) -> None:
    sparse = runtrue.train(**TINY, data=DATA, l1=0.1, l2=0.0, run=tmp_path / "l1")
    weight = dict(sparse.net.named_parameters())["linear1.weight"]
    assert float((weight.detach() == 0).double().mean()) > 0.2
    bounded = runtrue.train(**TINY, data=DATA, max_norm=0.3, run=tmp_path / "bounded")
    assert float(dict(bounded.net.named_parameters())["linear1.weight"].detach().norm(dim=1).max()) <= 0.3 + 1e-6


def test_a_fault_stops_it_before_the_first_step(tmp_path: Path) -> None:
    wrong = (DATA[0][0], torch.zeros(100, dtype=torch.long)), DATA[1]
    with pytest.raises(UntrainableError) as caught:
        runtrue.train(**{**TINY, "check": True, "check_seconds": 10}, data=wrong, run=tmp_path / "run")
    assert caught.value.report.faults[0].cause in ("constant-targets", "class-imbalance")
    folder = RunFolder(tmp_path / "run")
    assert json.loads(folder.check.read_text())["faults"] and not folder.epochs.exists()
    assert folder.read_facts()["status"].startswith("not started")


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"net": "resnet21"}, ConfigError, "6n + 2"),
        ({"net": "mpl:10x2"}, ConfigError, "mlp"),
        ({"batch_size": 0}, ConfigError, "batch_size must be at least 1"),
        ({"augment": "crpo"}, ConfigError, "augment"),
        ({"net": lambda: nn.Linear(3, 2)}, TaskError, "cannot take images"),
        ({"net": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 1))}, TaskError, "there are 2 classes"),
        ({"net": lambda: 3}, TaskError, "not an nn.Module"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, settings: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        runtrue.train(**{**TINY, **settings}, data=DATA, run=tmp_path / "run")
    assert says in str(caught.value)


def test_a_folder_that_holds_something_is_not_written_over(trained: Trained) -> None:
    with pytest.raises(ConfigError, match="is not empty"):
        runtrue.train(**TINY, data=DATA, run=trained.path)
    with pytest.raises(ConfigError, match="lr cannot be changed"):
        runtrue.train(resume=trained.path, lr=0.5, data=DATA)
    with pytest.raises(ConfigError, match="is no run"):
        runtrue.train(resume=trained.path / "none")


def test_settings_may_be_a_value_a_dict_or_a_file(tmp_path: Path) -> None:
    config = Config().changed(net="mlp:4x1", epochs=1, batch_size=20, check=False, precision="32", logger="none")
    quiet: dict[str, Any] = {"data": DATA, "say": lambda _: None, "progress": False}
    one = runtrue.train(config, run=tmp_path / "a", **quiet)
    two = runtrue.train(config.to_dict(), run=tmp_path / "b", **quiet)
    assert one.history[0]["val_loss"] == two.history[0]["val_loss"]


def test_a_loss_that_is_lost_ends_the_run(tmp_path: Path) -> None:
    lost = runtrue.train(
        **{**TINY, "epochs": 5, "lr": 1e6, "norm": "none", "decay": "none"}, data=DATA, run=tmp_path / "lost"
    )
    assert lost.diverged and len(lost.history) < 5 and lost.folder.read_facts()["status"] == "diverged"


def test_what_came_to_nothing_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="two pairs"):
        runtrue.train(**TINY, data=(DATA[0], 3))
    assert not list(tmp_path.rglob("*.json")) and not list(tmp_path.glob("runs/*"))
