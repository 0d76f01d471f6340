"""Real processes: killed at any moment and resumed, and two of them that train as one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("pytorch_lightning")

from runtrue.training.folder import RunFolder
from runtrue.training.weights import load

pytestmark = pytest.mark.slow

PROGRAM = """
import torch


def pair(count, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 4
    for k in range(4):
        images[labels == k, :, 2 * k : 2 * k + 2] //= 2
    return images, labels


def data():
    return pair(1200, 0), pair(203, 1)
"""
CONFIG: dict[str, Any] = {
    "net": "mlp:32x2", "data": "mine.py:data", "epochs": 4, "batch_size": 24, "lr": 0.05, "augment": "crop:1,flip",
    "check": False, "precision": "32", "logger": "none", "checkpoint_every": 7, "dropout": 0.2, "norm": "none",
    "l1": 1e-5, "max_norm": 3.0,
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(PROGRAM)
    return tmp_path


def command(place: Path, *arguments: str, **settings: Any) -> list[str]:
    file = place / "settings.yaml"
    file.write_text(json.dumps({**CONFIG, **settings}))  # JSON is YAML
    return [sys.executable, "-m", "runtrue", "train", str(file), *arguments]


def ran(place: Path, *arguments: str, **settings: Any) -> RunFolder:
    """The folder of a run that came to its end."""
    call = (
        command(place, *arguments, **settings) if "--resume" not in arguments else command(place)[:-1] + list(arguments)
    )
    done = subprocess.run(call, cwd=place, env=surroundings(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return RunFolder(place / arguments[-1])


def surroundings() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def same(one: RunFolder, other: RunFolder) -> bool:
    first, second = load(one.weights)[0], load(other.weights)[0]
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def numbers(folder: RunFolder) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in folder.history()]


def test_killed_in_the_middle_of_an_epoch_and_resumed_it_ends_like_an_uninterrupted_run(place: Path) -> None:
    whole = ran(place, "--run", "whole")
    killed = RunFolder(place / "killed")
    resumed = 0
    process = subprocess.Popen(
        command(place, "--run", "killed"), cwd=place, env=surroundings(), stderr=subprocess.DEVNULL
    )
    seen: set[int] = set()
    while process.poll() is None:
        steps = {step for step, _ in killed.saved()} if killed.checkpoints.is_dir() else set()
        if steps - seen and resumed < 3 and max(steps) % 50:  # a checkpoint within an epoch of 50 steps
            seen |= steps
            process.send_signal(signal.SIGKILL)
            process.wait()
            resumed += 1
            call = [sys.executable, "-m", "runtrue", "train", "--resume", "killed"]
            process = subprocess.Popen(call, cwd=place, env=surroundings(), stderr=subprocess.DEVNULL)
        time.sleep(0.002)
    assert process.returncode == 0 and resumed == 3
    assert same(whole, killed) and numbers(whole) == numbers(killed)


def test_two_processes_train_as_one_does_with_the_same_global_batch(place: Path) -> None:
    one = ran(place, "--run", "one", dropout=0.0)
    two = ran(place, "--run", "two", dropout=0.0, devices=2, strategy="ddp")
    assert_alike(one, two)
    assert len({row["step"] for row in two.history()}) == 4


def test_two_processes_that_share_the_parameters_do_so_too(place: Path) -> None:
    one = ran(place, "--run", "one", dropout=0.0)
    two = ran(place, "--run", "two", dropout=0.0, devices=2, strategy="fsdp")
    assert_alike(one, two)


def assert_alike(one: RunFolder, two: RunFolder) -> None:
    """Sums in another order: the same within what float32 leaves of that over 200 steps."""
    for first, second in zip(numbers(one), numbers(two), strict=True):
        assert first == pytest.approx(second, rel=2e-3, abs=5e-3)
    for name, weight in load(one.weights)[0].items():
        assert torch.allclose(weight, load(two.weights)[0][name], atol=2e-3), name


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_that_were_killed_go_on(place: Path, strategy: str) -> None:
    whole = ran(place, "--run", "whole", devices=2, strategy=strategy)
    killed = RunFolder(place / "killed")
    call = command(place, "--run", "killed", devices=2, strategy=strategy)
    process = subprocess.Popen(call, cwd=place, env=surroundings(), stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and not any(step % 50 for step, _ in killed.saved()):
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    ran(place, "--resume", "killed")
    assert same(whole, killed) and numbers(whole) == numbers(killed)
