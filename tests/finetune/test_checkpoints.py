"""Weights from files: what is taken, and what is refused with which words."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from runtrue.finetune.checkpoints import WeightsError, read

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
    scripted = tmp_path / "script.pt"
    with zipfile.ZipFile(scripted, "w") as archive:
        archive.writestr("script/code/__torch__.py", "class Linear(Module):")
        archive.writestr("script/constants.pkl", b"")
    assert "TorchScript" in refused(scripted)
