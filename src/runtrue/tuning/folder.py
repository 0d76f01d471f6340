"""The folder of a fine-tuning: that of a training (see `training.folder`), but for its settings and two more files.

finetune.yaml    every setting, as they were settled
parts.json       what was kept, what is new, and at which rate each part trains
validation.json  the confusion table and the surest mistakes
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtrue.findings import plain
from runtrue.training import values
from runtrue.training.folder import RunFolder, put
from runtrue.tuning.settings import ConfigError, Settings


@dataclass(frozen=True)
class Place:
    """A run's folder, with what a fine-tuning has in it beside."""

    run: RunFolder

    @property
    def settings(self) -> Path:
        return self.run.path / "finetune.yaml"

    @property
    def parts(self) -> Path:
        return self.run.path / "parts.json"

    @property
    def validation(self) -> Path:
        return self.run.path / "validation.json"

    def read_settings(self) -> Settings:
        """Raises ConfigError if this is no folder of a fine-tuning."""
        if not self.settings.is_file():
            raise ConfigError(f"{self.run.path} is no run of runtrue finetune: it has no {self.settings.name}")
        return values.read(self.settings, Settings())

    def write_settings(self, settings: Settings) -> None:
        put(self.settings, values.written(settings))


def write(path: Path, told: Any) -> None:
    put(path, json.dumps(plain(told), indent=2) + "\n")


def read(path: Path) -> Any:
    """What was written; empty where there is nothing that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
