"""One call for a fine-tuning: what was asked for, and whom to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtrue.training.folder import RunFolder
from runtrue.tuning import parts
from runtrue.tuning.folder import Place, write
from runtrue.tuning.settings import Settings

Say = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """One call: the settings, the folder, a network that was handed over, and whom to tell."""

    settings: Settings
    folder: RunFolder
    resume: bool = False
    net: Any = None
    renamed: Any = None
    say: Say = print

    @property
    def place(self) -> Place:
        return Place(self.folder)


def told_parts(asked: Asked, rows: list[parts.Part]) -> None:
    write(asked.place.parts, rows)
    for one in parts.told(rows):
        asked.say(one)
