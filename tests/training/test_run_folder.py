"""The folder of a run: whole files, a history that forgets what is trained again, checkpoints in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from runtrue.training.config import ConfigError
from runtrue.training.folder import RunFolder, new_folder, surroundings
from runtrue.training.resume import damage, newest_sound


def test_a_name_that_is_taken_gets_the_next_number(tmp_path: Path) -> None:
    names = [new_folder(tmp_path, "mlp:10x2 / photos").name for _ in range(3)]
    assert names == ["mlp-10x2-photos-1", "mlp-10x2-photos-2", "mlp-10x2-photos-3"]


def test_an_epoch_that_is_trained_again_replaces_its_row_and_those_behind_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for epoch in (0, 1, 2, 1):
        folder.add_epoch({"epoch": epoch, "step": 10 * epoch, "val_loss": float("nan")})
    assert [row["epoch"] for row in folder.history()] == [0, 1]


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.add_epoch({"epoch": 0})
    with folder.epochs.open("a") as file:
        file.write('{"epoch": 1, "val_lo')
    assert folder.history() == [{"epoch": 0}]


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no run: it has no config\.yaml"):
        RunFolder(tmp_path).read_config()


def test_what_a_run_ran_with_is_told() -> None:
    told = surroundings()
    assert (
        told["versions"]["torch"] == torch.__version__.split("+")[0] or torch.__version__ in told["versions"]["torch"]
    )
    assert {"runtrue", "python", "pytorch-lightning"} <= set(told["versions"])


def checkpoint(folder: RunFolder, name: str, step: int) -> Path:
    folder.checkpoints.mkdir(exist_ok=True)
    path = folder.checkpoints / f"{name}-step={step}.ckpt"
    content = {"state_dict": {"w": torch.zeros(1000)}, "optimizer_states": [], "lr_schedulers": [], "loops": {}}
    torch.save({**content, "global_step": step}, path)
    return path


def test_the_newest_whole_checkpoint_is_used_and_damaged_ones_are_named(tmp_path: Path) -> None:
    folder, said = RunFolder(tmp_path), list[str]()
    assert newest_sound(folder, said.append) is None
    first, second, third = (
        checkpoint(folder, name, step) for name, step in (("epoch", 9), ("within", 12), ("epoch", 100))
    )
    assert [step for step, _ in folder.saved()] == [100, 12, 9]
    third.write_bytes(third.read_bytes()[:-200])  # truncated
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 0xFF  # one byte on the disk has changed
    second.write_bytes(bytes(content))
    assert newest_sound(folder, said.append) == first
    assert [line.split(" is damaged")[0] for line in said] == [third.name, second.name]
    first.write_bytes(b"")
    with pytest.raises(ConfigError, match="none of the 3 checkpoints"):
        newest_sound(folder, said.append)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("evil").write_text, ("was here",))


def test_a_checkpoint_is_read_as_data_and_never_as_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "epoch-step=1.ckpt"
    torch.save({"state_dict": Evil()}, path)
    assert damage(path) is not None and not (tmp_path / "evil").exists()
    torch.save({"state_dict": {}}, path)
    assert damage(path) == "it lacks optimizer_states, lr_schedulers, loops, global_step"
