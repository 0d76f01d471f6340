"""`runtrue check` on files with LightningModules: where the data come from, exit codes, and what is said of a wrong call."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runtrue.cli.app import app

pytest.importorskip("pytorch_lightning")

FILE = """
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

x = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
y = (x[:, 0] > 0).long()

class Data(pl.LightningDataModule):
    def setup(self, stage):
        self.rows = TensorDataset(x, y)
    def train_dataloader(self):
        return DataLoader(self.rows, 16, shuffle=True)

class Net(pl.LightningModule):
    def __init__(self, offset: int = 0):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1] + self.hparams.offset)
        self.log("loss", loss)
        return loss
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.02)

class Sick(Net):
    def __init__(self):
        super().__init__(offset=1)

def made():
    return Net()

ready = Net()
pair = (x, y)

def loader():
    return DataLoader(TensorDataset(x, y), 16, shuffle=True)

class Needs(Net):
    def __init__(self, width):
        super().__init__()

if __name__ == "__main__":
    pl.Trainer(max_epochs=30).fit(Net(), Data())
"""

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "lit.py").write_text(FILE, encoding="utf-8")
    (tmp_path / "two.py").write_text(
        "from lit import *\nclass Other(Data): ...\nclass More(Data): ...\n", encoding="utf-8"
    )
    for name in ("lit", "two"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["check", *arguments, "--budget", "3s"])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


@pytest.mark.parametrize("name", ["Net", "made", "ready"])
def test_a_class_a_function_and_an_instance(call: Call, name: str) -> None:
    code, out, err = call(f"lit.py:{name}", "--format", "json")
    assert code == 0 and json.loads(out)["ok"], (out, err)


@pytest.mark.parametrize("data", ["lit.py:Data", "lit.py:pair", "lit.py:loader"])
def test_data_that_are_named(call: Call, data: str) -> None:
    code, out, err = call("lit.py:Net", "--data", data, "--format", "json")
    assert code == 0 and json.loads(out)["ok"], (out, err)


def test_a_fault_has_exit_code_1_and_its_cure_the_words_of_the_module(call: Call) -> None:
    code, out, _ = call("lit.py:Sick", "--format", "json")
    (fault,) = json.loads(out)["faults"]
    assert code == 1 and fault["cause"] == "labels-out-of-range"
    assert fault["remedy"]["code"] == "# in training_step\ntargets = targets - 1"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lit.py:Needs",), "Needs needs arguments (missing a required argument: 'width'): write a function"),
        (("two.py:Net",), "there are several data modules (Other, More): say which by --data file.py:name"),
        (("lit.py:Net", "--data", "lit.py:nope"), "lit.py has no 'nope'"),
        (("lit.py:Net", "--data", "lit.py"), "the target 'lit.py' has no name"),
        (
            ("lit.py:Data",),
            "lit.py:Data is the class Data, not a Task, a LightningModule or a function that returns one",
        ),
        (("demo:healthy-mlp", "--data", "lit.py:pair"), "--data lit.py:pair is for a LightningModule"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(call: Call, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = call(*arguments)
    assert code == 2 and out == "" and said in err and len(err.splitlines()) == 1, err
