"""What a LightningModule has while it is checked instead of a Trainer. Lightning itself is never imported: whoever brings a
LightningModule has done so, as `pytorch_lightning` or as `lightning.pytorch`.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from torch import nn

PACKAGES = ("pytorch_lightning.", "lightning.pytorch.")  # Lightning goes by two names
USUAL_EPOCHS = 10  # where nobody says how long: the plan that a check assumes then
NOT_THE_FIRST = 1
"""The number that every batch has: what is done with batch 0 or with every hundredth is a picture for the log."""


def is_module(value: Any) -> bool:
    """True for a LightningModule, or a class of them."""
    return _descends(value, "LightningModule")


def is_data_module(value: Any) -> bool:
    """True for a LightningDataModule, or a class of them."""
    return _descends(value, "LightningDataModule")


def _descends(value: Any, name: str) -> bool:
    kind = value if isinstance(value, type) else type(value)
    return any(base.__name__ == name and is_lightnings(base) for base in kind.__mro__)


def is_lightnings(kind: type) -> bool:
    """True for a class of the library itself."""
    return kind.__module__.startswith(PACKAGES)


def overrides(value: Any, method: str) -> bool:
    """True if the user's own class (or the object itself) defines this method, and not Lightning.

    `LightningDataModule.from_datasets` writes them into the object.
    """
    owner = next((base for base in type(value).__mro__ if method in vars(base)), None)
    own = owner is not None and not is_lightnings(owner)
    return own or method in getattr(value, "__dict__", {})


class Nothing:
    """A logger to which everything can be said: every attribute and every call gives the same nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self

    def __bool__(self) -> bool:
        return False

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        """Nothing was opened."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Nothing is kept."""

    def __getitem__(self, key: Any) -> Any:
        return self


NOTHING = Nothing()


def void(*arguments: Any, **named: Any) -> None:
    """`self.log`, `self.log_dict`, `self.print`: heard and forgotten."""


def same(value: Any, *arguments: Any, **named: Any) -> Any:
    """`self.all_gather` among one process."""
    return value


class Standin:
    """Answers what real modules ask their Trainer. One process, at the first step of the first epoch of a run of `epochs`."""

    def __init__(self, epochs: int | None, data_module: Any = None) -> None:
        self.max_epochs = epochs or USUAL_EPOCHS
        self.min_epochs, self.max_steps, self.min_steps, self.max_time = None, -1, None, None
        self.current_epoch = self.global_step = self.global_rank = self.local_rank = self.node_rank = 0
        self.world_size = self.num_devices = self.num_nodes = self.accumulate_grad_batches = 1
        self.is_global_zero = self.training = self.enable_validation = True
        self.validating = self.testing = self.predicting = self.evaluating = self.sanity_checking = False
        self.fast_dev_run = self.barebones = self.should_stop = self.received_sigterm = False
        self.precision, self.gradient_clip_val, self.gradient_clip_algorithm = "32-true", None, None
        self.log_every_n_steps, self.check_val_every_n_epoch, self.val_check_interval = 50, 1, 1.0
        self.limit_train_batches = self.limit_val_batches = 1.0
        self.overfit_batches = 0.0
        self.logger: Any = NOTHING
        self.loggers: list[Any] = []
        self.callbacks: list[Any] = []
        self.callback_metrics: dict[str, Any] = {}
        self.logged_metrics: dict[str, Any] = {}
        self.progress_bar_metrics: dict[str, Any] = {}
        self.progress_bar_callback = self.checkpoint_callback = self.early_stopping_callback = None
        self.log_dir, self.default_root_dir, self.ckpt_path = None, os.getcwd(), None
        self.datamodule = data_module
        self.optimizers: list[Any] = []
        self.lr_scheduler_configs: list[Any] = []
        self.strategy = SimpleNamespace(
            _lightning_optimizers=self.optimizers, barrier=void, broadcast=same, reduce=same, root_device=None
        )
        self.fit_loop = SimpleNamespace(setup_data=void, max_epochs=self.max_epochs, max_steps=-1, epoch_loop=NOTHING)
        self.train_dataloader: Any = None
        self.val_dataloaders: Any = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"a check has no Trainer, and what stands in for it has no {name!r}")

    def __deepcopy__(self, memo: dict[int, Any]) -> Standin:
        return self  # a copy of a module is checked under the same plan, and the data are not copied

    @property
    def num_training_batches(self) -> int | float:
        """As Lightning: infinite where the loader does not tell."""
        try:
            return len(self.train_dataloader)
        except (TypeError, NotImplementedError):
            return math.inf

    @property
    def estimated_stepping_batches(self) -> int | float:
        """Optimizer steps of the whole run."""
        return self.num_training_batches * self.max_epochs

    def reset_train_dataloader(self, *arguments: Any) -> None:
        """The loader is there already."""


def attach(module: nn.Module, standin: Standin) -> None:
    """Put the stand-in where the module looks for its Trainer; what it logs and prints goes nowhere. Stays in the module."""
    for part in module.modules():
        if is_module(part):
            vars(part).update(_trainer=standin, log=void, log_dict=void, print=void, all_gather=same)


def begin(module: nn.Module) -> None:
    """The hooks that Lightning calls before the first batch. One that needs more of a Trainer than there is does what it can:
    what it left undone is said by the step that misses it."""
    for hook in ("on_fit_start", "on_train_start", "on_train_epoch_start"):
        if overrides(module, hook):
            with contextlib.suppress(AttributeError, TypeError, KeyError, RuntimeError):
                getattr(module, hook)()
