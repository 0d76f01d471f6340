"""Weights from files: what is taken, and what is refused with which words."""

from __future__ import annotations

import argparse
import errno
import io
import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from runtrue.finetune.checkpoints import WeightsError, read
from runtrue.finetune.difference import take

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def saved(path: Path, what: Any) -> Path:
    torch.save(what, path)
    return path


@pytest.mark.parametrize(
    "wrapped",
    [
        STATE, {"state_dict": STATE, "epoch": 3, "loss": torch.tensor(0.5)}, {"model": STATE, "optimizer": {"state": {}}},
        {f"module.{n}": t for n, t in STATE.items()}, {"model": {f"module._orig_mod.{n}": t for n, t in STATE.items()}},
        {"state_dict": {**STATE, "steps": 7}}, {"ema": {"module": STATE}, "args": {"lr": 0.1}},
    ],
    ids=["bare", "beside numbers", "beside an optimizer", "of DataParallel", "compiled", "with a number", "nested"],
)  # fmt: skip
def test_weights_are_found_whatever_lies_around_them(wrapped: dict[str, Any], tmp_path: Path) -> None:
    found = read(saved(tmp_path / "weights.bin", wrapped))
    assert found.keys() == STATE.keys() and all(torch.equal(found[n], STATE[n]) for n in STATE)


def test_safetensors_and_the_old_form_of_torch(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(STATE, tmp_path / "a.pth")  # by what is in it, not by its name
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("a.pth", "old.pth"):
        found = read(tmp_path / name)
        assert all(torch.equal(found[n], STATE[n]) for n in STATE)


class Malicious:
    def __reduce__(self) -> Any:
        return os.mkdir, ("touched",)


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"it would run {os.mkdir.__module__}.mkdir" in refused(saved(tmp_path / "bad.pth", {"a": Malicious()}))
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malicious()))
    refused(tmp_path / "plain.pth")
    assert "it would run" in refused(saved(tmp_path / "whole.pth", nn.Linear(2, 2)))
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"), (b"<!DOCTYPE html><html>", "is a web page"), (b"hello, this is text", "neither a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"), (b"PK\x03\x04" + b"\0" * 80, "is damaged"),
        (b'\xef\xbb\xbf\n<html lang="en"><title>404', "is a web page"), (b"<?xml version='1.0'?><Error>", "or to an error"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 80, "an HDF5 file, as Keras writes them"), (b"\x1f\x8b\x08\0rest", "compressed (gzip)"),
        (b"\x93NUMPY\x01\0", "an array of NumPy's"), (b"GGUF\x03\0\0\0" + b"\0" * 9, "a GGUF file"),
        (b'{"error": "not found"}', "it begins with b'{\"error\"'"),
        ((40).to_bytes(8, "little") + b'{"a": nonsense}' + b" " * 60, "is damaged"), (b"\x80\x02}q\x00", "is damaged"),
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert said in refused(path)


def test_a_file_that_is_cut_off_missing_or_holds_something_else(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.pth", {"a": torch.randn(100, 100)}).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    assert "is damaged" in refused(tmp_path / "cut.pth")
    assert "there is no file" in refused(tmp_path / "none.pth")
    assert "cannot be read" in refused(tmp_path)
    assert "holds no weights by name (it holds epoch, loss)" in refused(
        saved(tmp_path / "n.pth", {"epoch": 1, "loss": 2.0})
    )
    assert "holds no weights by name (it holds list)" in refused(saved(tmp_path / "list.pth", [torch.ones(2)]))


def test_safetensors_that_are_cut_off(tmp_path: Path) -> None:
    from safetensors.torch import save

    whole, path = save(STATE), tmp_path / "cut.safetensors"
    for length in (9, 40, len(whole) - 1):  # in the header, and in the numbers
        path.write_bytes(whole[:length])
        assert "is damaged" in refused(path)


def forms() -> dict[str, bytes]:
    from safetensors.torch import save

    found = {"safetensors": save(STATE)}
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save({"state_dict": STATE, "epoch": 1}, file, _use_new_zipfile_serialization=zipped)
        found["zip" if zipped else "old"] = file.getvalue()
    return found


@pytest.mark.parametrize("form", ["safetensors", "zip", "old"])
def test_whatever_is_damaged_is_told_and_nothing_else_is_raised(form: str, tmp_path: Path) -> None:
    """Bytes changed at random, files cut off anywhere: what cannot be read is a WeightsError, never an error of the reader's."""
    draw, whole, path, said = random.Random(0), forms()[form], tmp_path / "damaged", list[str]()
    for trial in range(300):
        damaged = bytearray(whole[: draw.randrange(1, len(whole))] if trial % 3 == 0 else whole)
        for _ in range(draw.choice((0, 1, 3, 20))):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            read(path)
        except WeightsError as error:
            said.append(str(error))
    assert len(said) > 100 and all(str(path) in one for one in said)


def test_archives_that_hold_no_weights(tmp_path: Path) -> None:
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    assert "an archive that torch did not write (it holds a.npy)" in refused(tmp_path / "arrays.npz")
    with zipfile.ZipFile(tmp_path / "photos.pth", "w") as archive:
        archive.writestr("cat/1.png", b"")
    assert "it holds cat/1.png): if the weights are in it, unpack it" in refused(tmp_path / "photos.pth")
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", b"{}")
        archive.writestr("model.weights.h5", b"")
    assert "a model of Keras" in refused(tmp_path / "net.keras")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_program_of_torchs(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "script.pt")
    assert "is a TorchScript program, which is not loaded: save model.state_dict() instead" in refused(
        tmp_path / "script.pt"
    )


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "mine.pth", STATE)
    path.chmod(0)
    if os.access(path, os.R_OK):  # the superuser may read it all the same: told as the system would tell others

        def forbidden(self: Path, *_: Any, **__: Any) -> Any:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

        monkeypatch.setattr(Path, "open", forbidden)
    assert refused(path) == f"{path} cannot be read: Permission denied"


def test_a_checkpoint_of_lightning(tmp_path: Path) -> None:
    """With its loops, its callbacks and its optimizer beside the weights, which have the name of the network before theirs."""
    import pytorch_lightning

    class Module(pytorch_lightning.LightningModule):
        def __init__(self, lr: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(3, 2))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), self.hparams["lr"])

    module = Module()
    trainer = pytorch_lightning.Trainer(
        accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False
    )  # fmt: skip
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    found = read(tmp_path / "last.ckpt")
    assert found.keys() == {"net.0.weight", "net.0.bias"}
    mine = nn.Sequential(nn.Linear(3, 2))
    assert not take(mine, found).fresh
    assert torch.equal(mine.get_parameter("0.weight"), module.net.get_parameter("0.weight"))


def test_options_beside_the_weights_are_no_program(tmp_path: Path) -> None:
    """Published checkpoints of transformers for images hold the options that they were trained with."""
    options = argparse.Namespace(lr=0.1, data="somewhere", layers=[1, 2])
    found = read(saved(tmp_path / "with.pth", {"model": STATE, "args": options}))
    assert found.keys() == STATE.keys()


def test_names_around_names_are_taken_off_and_no_others(tmp_path: Path) -> None:
    parallel = nn.DataParallel(nn.Sequential(nn.Linear(2, 2)))
    assert set(read(saved(tmp_path / "parallel.pth", parallel.state_dict()))) == {"0.weight", "0.bias"}
    own = {"module_list.0.weight": torch.ones(1), "a.module.b": torch.ones(1)}
    assert set(read(saved(tmp_path / "own.pth", own))) == set(own)
