"""The callback under the real Trainer: weights as without it, and the same record as of a loop written by hand."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("pytorch_lightning")

import pytorch_lightning as pl
from test_unchanged import clean

import runtrue
from runtrue.watch import record_of
from runtrue.watch.lightning import Watch, told

pytestmark = pytest.mark.filterwarnings("ignore")  # of the Trainer: few workers, no logger, small batches

BATCHES = 12


def data(seed: int = 0) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4 * BATCHES, 5, generator=generator)
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), 4)


class Automatic(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x)
        return found

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), 0.01)


class Manual(Automatic):
    """Two optimizers, and a closure for neither."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        for optimizer in optimizers:
            loss = F.cross_entropy(self(batch[0]), batch[1])
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net[0].parameters(), 0.1), torch.optim.SGD(self.net[3].parameters(), 0.1)


def fitted(kind: type[Automatic], callbacks: list[Any], place: Path, resume: Any = None, **options: Any) -> Any:
    torch.manual_seed(0)
    module = kind()
    trainer = pl.Trainer(
        **{"max_epochs": 2, "logger": False, "accelerator": "cpu", "enable_progress_bar": False,
           "enable_checkpointing": False, "enable_model_summary": False, "default_root_dir": place, **options},
        callbacks=callbacks,
    )  # fmt: skip
    trainer.fit(module, data(), data(1), ckpt_path=resume)
    return module, trainer


SETTINGS: dict[str, tuple[type[Automatic], dict[str, Any]]] = {
    "automatic": (Automatic, {}),
    "manual": (Manual, {}),
    "accumulated": (Automatic, {"accumulate_grad_batches": 3}),
    "clipped": (Automatic, {"gradient_clip_val": 0.01}),
    "bfloat16": (Automatic, {"precision": "bf16-mixed"}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_weights_are_the_same_with_and_without(name: str, tmp_path: Path) -> None:
    kind, options = SETTINGS[name]
    alone, _ = fitted(kind, [], tmp_path, **options)
    said: list[str] = []
    watched, _ = fitted(kind, [Watch(tmp_path, every=1, say=said.append)], tmp_path, **options)
    assert all(
        torch.equal(a, b) for a, b in zip(alone.state_dict().values(), watched.state_dict().values(), strict=True)
    )
    assert clean() and not any("stopped" in line or "while" in line for line in said), said
    record = record_of(tmp_path)
    readings = list(record.readings())
    assert record.steps()[-1].last == 2 * BATCHES - 1 and len(record.epochs()) == 2
    assert len(readings) == (2 * BATCHES // 3 if name == "accumulated" else 2 * BATCHES)
    last = readings[-1].numbers
    assert {
        ("net.0", "std"),
        ("net.0", "signal_rms"),
        ("net.0.weight", "update_ratio"),
        ("net.3.bias", "grad_norm"),
    } <= set(last)
    if name == "clipped":
        norm = sum(x * x for (_, what), x in last.items() if what == "grad_norm") ** 0.5
        assert norm == pytest.approx(0.01, rel=1e-3) and last["", "clipped"] < 0.5
    elif name != "manual":
        assert last["", "clipped"] == 1.0
    assert not record.events()


def test_losses_are_those_of_a_loop_written_by_hand(tmp_path: Path) -> None:
    fitted(Automatic, [Watch(tmp_path / "a", every=1, say=lambda _: None)], tmp_path, max_epochs=1)
    torch.manual_seed(0)
    module = Automatic()
    optimizer = module.configure_optimizers()
    with runtrue.watch(module, optimizer, run=tmp_path / "b", every=1, say=lambda _: None) as watch:
        for x, y in data():
            loss = F.cross_entropy(module(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch.step(loss)
    ours, theirs = record_of(tmp_path / "a"), record_of(tmp_path / "b")
    assert [part.mean for part in ours.steps()] == [part.mean for part in theirs.steps()]
    for one, other in zip(ours.readings(), theirs.readings(), strict=True):
        assert one.step == other.step and one.numbers == other.numbers


def test_steps_without_a_loss_are_no_fault(tmp_path: Path) -> None:
    watch = Watch(tmp_path, say=lambda _: None)
    fitted(Manual, [watch], tmp_path, max_epochs=4)
    assert not [one for one in watch.verdicts if one.severity == "fault"]


def test_a_resumed_training_goes_on_in_the_same_record(tmp_path: Path) -> None:
    whole, _ = fitted(Automatic, [], tmp_path, accumulate_grad_batches=2)
    saver = pl.callbacks.ModelCheckpoint(tmp_path, filename="half")
    watch = Watch(tmp_path, every=1, say=lambda _: None)
    fitted(Automatic, [watch, saver], tmp_path, max_epochs=1, enable_checkpointing=True, accumulate_grad_batches=2)
    before = record_of(tmp_path).steps()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        resumed, _ = fitted(Automatic, [watch], tmp_path, tmp_path / "half.ckpt", accumulate_grad_batches=2)
    record = record_of(tmp_path)
    assert record.steps()[:BATCHES] == before and record.steps()[-1].last == 2 * BATCHES - 1
    assert [part.first for part in record.steps()] == list(range(2 * BATCHES))
    assert [row["epoch"] for row in record.epochs()] == [0, 1]
    assert record.events() == [(BATCHES, "resumed", "the run goes on from step 12")]
    assert all(p.shape == q.shape for p, q in zip(whole.parameters(), resumed.parameters()))


def test_a_part_of_the_module_can_be_watched_and_its_origin_found(tmp_path: Path) -> None:
    class Lost(Automatic):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            first = self.net[0]
            assert isinstance(first, nn.Linear)
            with torch.no_grad():
                if batch_idx == 5:
                    first.weight.fill_(3e38)
            return super().training_step(batch, batch_idx)

    watch = Watch(tmp_path, model="net", say=lambda _: None)
    fitted(Lost, [watch], tmp_path, max_epochs=1)
    (found,) = [one for one in watch.verdicts if one.cause == "diverging"]
    assert "step 5" in found.message and "`linear` in " in found.message


def test_an_error_in_the_training_ends_the_watching(tmp_path: Path) -> None:
    class Fails(Automatic):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 5:
                self(batch[0])
                raise KeyError("of the user")
            return super().training_step(batch, batch_idx)

    watch = Watch(tmp_path, every=1, say=lambda _: None)
    with pytest.raises(KeyError):
        fitted(Fails, [watch], tmp_path)
    assert clean() and watch.watching is None and len(record_of(tmp_path).steps()) == 5


class Heard(pl.loggers.logger.DummyLogger):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[dict[str, float], int]] = []

    def log_metrics(self, metrics: Any = None, step: Any = None, **_: Any) -> None:
        self.rows.append((dict(metrics), step))


def test_numbers_go_to_the_trainers_loggers_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtrue.watch.noting.FLUSH", 0.0)
    for log in (False, True):
        logger = Heard()
        fitted(Automatic, [Watch(False, every=1, say=lambda _: None, log=log)], tmp_path, logger=logger)
        ours = [(row, step) for row, step in logger.rows if any(name.startswith("runtrue/") for name in row)]
        assert bool(ours) == log
    assert ours[-1][0].keys() >= {"runtrue/loss", "runtrue/grad_norm", "runtrue/lr", "runtrue/verdicts"}
    assert [step for _, step in logger.rows] == sorted(step for _, step in logger.rows)


def test_metrics_by_the_names_that_people_give_them() -> None:
    one = torch.tensor(1.0)
    names = [
        "val_acc",
        "train/loss",
        "valid-loss",
        "train_accuracy",
        "val_loss_step",
        "lr",
        "training_loss",
        "validation_f1",
    ]
    assert set(told(dict.fromkeys(names, one))) == {"val_accuracy", "train_loss", "val_loss", "train_accuracy"}
