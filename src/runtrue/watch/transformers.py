"""The watch as a callback of Hugging Face's Trainer.

    from runtrue.watch.transformers import Watch
    Trainer(model, args, ..., callbacks=[Watch("runs/a")])

The loss of each step is the model's own, where its outputs have one; else what the Trainer logs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import TrainerCallback

from runtrue.findings import Finding
from runtrue.watch.api import watch
from runtrue.watch.hooks import Hook
from runtrue.watch.watching import Watch as Watching


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
    """run: the folder of the record; None: the Trainer's output_dir, False: no record. every, say: as for `runtrue.watch`."""

    def __init__(
        self, run: str | Path | bool | None = None, *, every: int | None = None, say: Callable[[str], None] | None = None
    ) -> None:  # fmt: skip
        self.run, self.every, self.say = run, every, say
        self.watching: Watching | None = None
        self._verdicts: tuple[Finding, ...] = ()
        self._loss: Tensor | float | None = None
        self._handle: Any = None

    @property
    def verdicts(self) -> tuple[Finding, ...]:
        return self.watching.verdicts if self.watching is not None else self._verdicts

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        folder = Path(args.output_dir) if self.run in (None, True) else Path(str(self.run))
        keep = self.run is not False and state.is_world_process_zero
        optimizer = parts.get("optimizer")
        self.watching = watch(
            parts["model"], getattr(optimizer, "optimizer", optimizer), folder if keep else None, every=self.every, say=self.say,
            start=state.global_step, ranks=args.world_size > 1,
        )  # fmt: skip
        self._handle = parts["model"].register_forward_hook(Hook(self._after_forward))

    def _after_forward(self, model: Any, inputs: Any, outputs: Any) -> None:
        """Models of the library tell the loss among their outputs."""
        found = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if isinstance(found, Tensor) and found.requires_grad:
            self._loss = found.detach()

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        if self.watching is not None:
            self.watching.step(self._loss)
            self._loss = None

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **parts: Any) -> None:
        if self._loss is None:
            self._loss = (logs or {}).get("loss")

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **parts: Any
    ) -> None:
        if self.watching is not None:
            known = {"eval_loss": "val_loss", "eval_accuracy": "val_accuracy"}
            found = {known[name]: value for name, value in (metrics or {}).items() if name in known}
            last = next((row["loss"] for row in reversed(state.log_history) if "loss" in row), None)
            self.watching.epoch(**found, **({} if last is None else {"train_loss": last}))

    def on_train_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        if self.watching is not None:
            self._verdicts = self.watching.verdicts
            self.watching.close()
            self._handle.remove()
            self.watching = None
