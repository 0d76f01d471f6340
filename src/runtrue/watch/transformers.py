"""The watch as a callback of Hugging Face's Trainer.

    from runtrue.watch.transformers import Watch
    Trainer(model, args, ..., callbacks=[Watch("runs/a")])

A step of the record is one of the optimizer. Its loss is the model's own, where its outputs have one, over all batches whose
gradients were added up; else what the Trainer logs.
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
from runtrue.watch.watching import Log
from runtrue.watch.watching import Watch as Watching


class Watch(TrainerCallback):
    """run: the folder of the record; None: the Trainer's output_dir, False: no record. every, say, log: as for `runtrue.watch`.

    Hand `wandb.log`, or a function of your own, to `log` where the numbers are to go elsewhere too.
    """

    def __init__(
        self, run: str | Path | bool | None = None, *, every: int | None = None, say: Callable[[str], None] | None = None,
        log: Log | None = None,
    ) -> None:  # fmt: skip
        self.run, self.every, self.say, self.log = run, every, say, log
        self.watching: Watching | None = None
        self._verdicts: tuple[Finding, ...] = ()
        self._losses: list[Tensor] = []
        self._parts, self._own = False, False
        self._logged: float | None = None
        self._handle: Any = None

    @property
    def verdicts(self) -> tuple[Finding, ...]:
        return self.watching.verdicts if self.watching is not None else self._verdicts

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._end()
        folder = None if self.run is False else Path(args.output_dir if self.run in (None, True) else str(self.run))
        optimizer = parts.get("optimizer")
        self.watching = watch(
            parts["model"], getattr(optimizer, "optimizer", optimizer), folder, every=self.every, say=self.say, log=self.log,
            start=state.global_step, ranks=args.world_size > 1,
        )  # fmt: skip
        self._handle = parts["model"].register_forward_hook(Hook(self._after_forward), with_kwargs=True)

    def _after_forward(self, model: Any, inputs: Any, kwargs: Mapping[str, Any], outputs: Any) -> None:
        """Models of the library tell the loss among their outputs. If they know the number of items in the whole batch, it is
        this part's share of the loss, else a mean of its own."""
        found = outputs.get("loss") if isinstance(outputs, Mapping) else None
        if isinstance(found, Tensor) and found.requires_grad:
            self._losses.append(found.detach())
            self._parts, self._own = kwargs.get("num_items_in_batch") is not None, True

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        losses, self._losses = self._losses, []
        if self.watching is None:
            return
        if losses:
            whole = sum(losses[1:], losses[0])
            self.watching.step(whole if self._parts else whole / len(losses))
        else:
            self.watching.step(self._logged)
        self._logged = None

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **parts: Any) -> None:
        if not self._own:
            self._logged = (logs or {}).get("loss")

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **parts: Any
    ) -> None:
        if self.watching is not None:
            known = {"eval_loss": "val_loss", "eval_accuracy": "val_accuracy"}
            found = {known[name]: value for name, value in (metrics or {}).items() if name in known}
            last = next((row["loss"] for row in reversed(state.log_history) if "loss" in row), None)
            self.watching.epoch(**found, **({} if last is None else {"train_loss": last}))

    def on_train_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._end()

    def _end(self) -> None:
        """Also at the begin of a training behind one that an error broke off: the Trainer does not tell of errors."""
        self._losses = []
        if self.watching is not None:
            self._verdicts = self.watching.verdicts
            self.watching.close()
            self._handle.remove()
            self.watching = None
