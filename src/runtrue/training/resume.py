"""From where a run goes on: the newest checkpoint that is whole."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from runtrue.training.config import ConfigError
from runtrue.training.folder import RunFolder

NEEDED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "global_step")
DAMAGED = (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile)


def newest_sound(folder: RunFolder, warn: Callable[[str], None], needed: Sequence[str] = NEEDED) -> Path | None:
    """The newest checkpoint that can be read whole; those that cannot are named. None if none was written yet.

    Raises ConfigError if there are checkpoints and none of them can be read.
    """
    saved = folder.saved()
    for _, path in saved:
        if (problem := damage(path, needed)) is None:
            return path
        warn(f"{path.name} is damaged ({problem}): the checkpoint before it is used")
    if saved:
        raise ConfigError(f"none of the {len(saved)} checkpoints in {folder.checkpoints} can be read: train again")
    return None


def damage(path: Path, needed: Sequence[str] = NEEDED) -> str | None:
    """What is wrong with a checkpoint, or None. It is read as data alone (`weights_only`), never as code."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (broken := archive.testzip()) is not None:
                return f"{broken} does not have its checksum"
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        return " ".join(str(error).split())[:120] or type(error).__name__
    missing = [name for name in needed if name not in content]
    return f"it lacks {', '.join(missing)}" if missing else None
