"""The folder of a run: what was asked for, with what it ran, how it went, and the weights.

config.yaml         every setting; `runtrue train config.yaml` starts the same run again
run.json            versions, seed, git revision, data, network, how it ended
epochs.jsonl        a line an epoch
checkpoints/        the last two at the end of an epoch, and within one
model.safetensors   the final weights, with labels, normalization constants and the network's settings
check.json          what the check before the training found
watch.sqlite        what was seen of layers, gradients and updates, and the verdicts; `runtrue report` makes a page of it
report.html         the curves
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from runtrue.findings import plain
from runtrue.training.config import Config, ConfigError, read, written

PACKAGES = ("runtrue", "torch", "pytorch-lightning", "numpy", "safetensors", "pillow")
CHECKPOINT = re.compile(r"step=(\d+)\.ckpt$")


@dataclass(frozen=True)
class RunFolder:
    """A run's files. Each is written whole or not at all."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def facts(self) -> Path:
        return self.path / "run.json"

    @property
    def epochs(self) -> Path:
        return self.path / "epochs.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def check(self) -> Path:
        return self.path / "check.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def read_config(self) -> Config:
        """Raises ConfigError if this is no run folder."""
        if not self.config.is_file():
            raise ConfigError(f"{self.path} is no run: it has no {self.config.name}")
        return read(self.config)

    def write_config(self, config: Config) -> None:
        put(self.config, written(config))

    def read_facts(self) -> dict[str, Any]:
        try:
            found = json.loads(self.facts.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_facts(self, **facts: Any) -> None:
        """Beside those that are there."""
        put(self.facts, json.dumps(plain(self.read_facts() | facts), indent=2) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """A row an epoch. A line that was cut off by a crash is left out."""
        if not self.epochs.is_file():
            return []
        return list(rows(self.epochs.read_text(encoding="utf-8")))

    def add_epoch(self, row: Mapping[str, Any]) -> None:
        """Those of the same or a later epoch, from before a resume, are forgotten."""
        kept = [old for old in self.history() if old["epoch"] < row["epoch"]]
        put(self.epochs, "".join(json.dumps(plain(one)) + "\n" for one in [*kept, row]))

    def saved(self) -> list[tuple[int, Path]]:
        """(step, checkpoint), the newest first; of one step, the one at the end of an epoch."""
        found = [
            (int(name[1]), path) for path in self.checkpoints.glob("*.ckpt") if (name := CHECKPOINT.search(path.name))
        ]
        return sorted(found, key=lambda one: (-one[0], one[1].name))


def rows(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "epoch" in row:
            yield {name: math.nan if value is None else value for name, value in row.items()}


def put(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def own_folder(path: Path, *, shared: bool = False) -> Path:
    """A folder that the user names for a new run, made. shared: another process of the same run may be in it. Raises ConfigError
    if it holds something."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())) and not shared:
        raise ConfigError(f"{path} is not empty: resume the run in it (resume=), or choose another folder")
    path.mkdir(parents=True, exist_ok=True)
    return path


def new_folder(root: Path, name: str) -> Path:
    """runs/resnet20-fashion-mnist-1, or the next number that is free; the folder is made."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "run"
    number = 1
    while True:
        path = root / f"{name}-{number}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return path


def surroundings() -> dict[str, Any]:
    """With what a run ran: versions, machine, command, and the revision of the folder it was started in."""
    installed = {one.name: one.version for one in metadata.distributions()}
    versions = {"python": platform.python_version()}
    versions |= {package: installed[package] for package in PACKAGES if package in installed}
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return {"versions": versions, "system": system, "git": revision(), "command": sys.argv}


def revision() -> str | None:
    """The git revision of the current folder, with a + if files differ from it; None outside of a repository."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None
