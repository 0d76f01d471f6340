"""Training with every ingredient of the notes, on PyTorch Lightning: `runtrue.train(...)` and `runtrue train`."""

from __future__ import annotations

from runtrue.training.api import train
from runtrue.training.config import Config, ConfigError
from runtrue.training.errors import UntrainableError

__all__ = ["Config", "ConfigError", "UntrainableError", "train"]
