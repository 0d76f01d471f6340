"""Fine-tuning from a folder of photographs to a network that tells them apart: `runtrue.finetune(...)` and `runtrue finetune`."""

from __future__ import annotations

from runtrue.tuning.api import finetune
from runtrue.tuning.settings import ConfigError, Settings

__all__ = ["ConfigError", "Settings", "finetune"]
