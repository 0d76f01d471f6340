"""`Watch`: hangs hooks on a model and its optimizers, reads some steps, counts all of them, and hands everything on."""

from __future__ import annotations

import os
import traceback
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from runtrue.batches import tensors_of
from runtrue.findings import Finding
from runtrue.watch.hooks import Hooks, Looked, closure_of, with_closure
from runtrue.watch.loop import Loop, called
from runtrue.watch.noting import NO, Notes, mark_of
from runtrue.watch.opening import blind, described, finish, recorder_of, tell
from runtrue.watch.pace import Pace
from runtrue.watch.ranks import place, ranks
from runtrue.watch.reading import Reader
from runtrue.watch.scribe import Scribe
from runtrue.watch.seeking import Seeker
from runtrue.watch.voice import Voice, silent
from runtrue.watch.witness import Sentinel, Witness, sentinels_among, witness_among

TOGETHER = 50  # steps from one reading to the next where several processes have to read the same steps
Log = Callable[[dict[str, float], int], None]


class Watch:
    """Watches the training of a model. `runtrue.watch` makes one; use it in a `with` statement, or call `close`."""

    def __init__(
        self, model: nn.Module, optimizers: Iterable[Optimizer], run: Path | None, every: int | None = None,
        say: Callable[[str], None] | None = None, log: Log | None = None,
        told: Callable[[int, Finding], None] | None = None, start: int = 0, together: bool = False,
        by_hand: bool = False,
    ) -> None:  # fmt: skip
        """by_hand: `forward_begins` and `forward_ends` are called, since the model itself may not be."""
        self.model, self.optimizers, self.run, self.log = model, list(optimizers), run, log
        group = ranks(model) if together else None
        first = group is None or group.rank == 0
        self._voice, self._off = Voice(say if first else silent), False
        self._hooks, self._loop, self._notes = Hooks(self._give_up), Loop(), Notes(start)
        self._reader = Reader(
            model, self.optimizers, self._loop, self._notes.event, partial(blind, self._notes, self._voice)
        )
        self._seeker = Seeker(model, self._hooks.hook(self._loop.came_back))
        self._pace = Pace(every or (None if group is None else TOGETHER), next=start)
        self._together = group is not None
        self._sentinels: list[Sentinel] = []
        opens = partial(recorder_of, place(run, group), start, described(model)) if run is not None and first else None
        self._scribe = Scribe(opens, partial(tell, self._voice, told if first else None), self._voice, start, group)
        self._finalizer = weakref.finalize(
            self, finish, self._hooks, self._reader, self._notes, self._loop, self._scribe
        )
        _living.add(self)
        self._attach(by_hand)
        self._reader.arm(start)

    # What the user calls

    @property
    def steps(self) -> int:
        """So far, in the whole run."""
        return self._notes.steps

    @property
    def readings(self) -> int:
        """How many steps were read."""
        return self._reader.count

    def step(self, loss: Tensor | float | None = None) -> None:
        """Call once a training step. loss: a scalar tensor (or a number) of this step; it is not waited for."""
        self._safely(self._step, loss)

    def epoch(self, **numbers: float) -> None:
        """Call at the end of an epoch with what is known of it: train_accuracy, val_accuracy (0 to 1), train_loss, val_loss, …

        Called before the first step, it tells what the network knows already: epoch 0, with which a fine-tuning is compared.
        """
        self._safely(self._epoch, numbers)

    @property
    def verdicts(self) -> tuple[Finding, ...]:
        """All so far, in the order in which they arose. Waits until what was seen is judged."""
        self._safely(self._flush)
        self._scribe.settle()
        return tuple(self._scribe.verdicts)

    @property
    def so_far(self) -> int:
        """How many verdicts there are; waits for nothing."""
        return len(self._scribe.verdicts)

    @property
    def ok(self) -> bool:
        """No fault so far."""
        return not any(finding.severity == "fault" for finding in self.verdicts)

    def close(self) -> None:
        """Take all hooks off and finish the record. May be called twice."""
        self._off = True
        _living.discard(self)
        self._finalizer()
        self._hand_on()

    def abandon(self) -> None:
        """Do nothing any more, and leave the record to another process."""
        self._off, self.log = True, None
        self._finalizer.detach()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __deepcopy__(self, memo: Any) -> Watch:
        """A copy of what holds a watch is not watched, and shares it."""
        return self

    # Every step

    def _safely(self, act: Callable[..., None], *args: Any) -> None:
        """The training goes on, whatever happens in here."""
        if self._off:
            return
        try:
            act(*args)
        except Exception as error:  # noqa: BLE001 see above
            self._give_up(error)

    def _step(self, loss: Tensor | float | None) -> None:
        reader, notes = self._reader, self._notes
        reader.forward_ends()
        opened = reader.open
        self._loop.counts["untold loss"] += loss is None
        seconds = notes.step(loss, self.optimizers)
        if opened is not None and opened.finished(self._loop.counts["step"], notes.steps - 1):
            notes.readings.append(reader.finish(notes.losses[-1] if self._together else None))
            self._pace.after(notes.steps - 1)
        self._pace.took(seconds, opened is not None, opened.spent if opened is not None else 0.0)
        if reader.open is None and notes.steps >= self._pace.next:
            reader.arm(notes.steps)
        if notes.due:
            self._flush()
            self._hand_on()

    def _flush(self, epoch: tuple[int, int, dict[str, Any]] | None = None) -> None:
        self._scribe.take(self._notes.packet(self._loop.counts, epoch))

    def _epoch(self, numbers: Mapping[str, Any]) -> None:
        notes = self._notes
        number = max(0, notes.epoch) if notes.steps else notes.epoch
        self._flush(epoch=(number, notes.steps, self._plain(numbers)))
        notes.epoch = number + 1
        notes.pause_ends()

    def _hand_on(self) -> None:
        """Numbers that have arrived go to the user's own record, on the user's own thread."""
        for numbers, step in self._scribe.summaries():
            if self.log is None:
                continue
            try:
                self.log(numbers, step)
            except Exception as error:  # noqa: BLE001 the training goes on, whatever happens here
                self.log = None
                self._voice(f"runtrue: `log` raised {type(error).__name__}: {error}; it is not called again")

    def _plain(self, numbers: Mapping[str, Any]) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, value in numbers.items():
            try:
                found |= {} if value is None else {name: float(value)}
            except (TypeError, ValueError, RuntimeError):  # noqa: PERF203 a few numbers an epoch
                self._voice.once(name, f"runtrue: epoch({name}=…) got {type(value).__name__}, not a number: left out")
        return found

    # Hooks

    def _attach(self, by_hand: bool) -> None:
        if not by_hand:
            for module in called(self.model):
                self._hooks.around_forward(module, self._before_forward, self._after_forward)
        for optimizer in self.optimizers:
            self._hooks.around_step(optimizer, self._before_step, self._after_step)

    def forward_begins(self, batch: Any) -> None:
        """For callbacks: what runs from here to `forward_ends` is the forward pass on this batch."""
        self._safely(self._begin, self.model, batch)

    def forward_ends(self) -> None:
        self._safely(self._reader.forward_ends)

    def _before_forward(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        if torch.is_grad_enabled() and not self._off:
            self._seeker.forward_begins(module, args, kwargs)
        self._begin(module, (args, kwargs))

    def _begin(self, module: nn.Module, batch: Any) -> None:
        if self._off:
            return
        self._loop.forward(module.training)
        if not torch.is_grad_enabled():
            return
        first = next((t for t in tensors_of(batch) if isinstance(t, Tensor)), None)
        if first is not None and self._notes.mark is None:
            self._notes.mark = mark_of(first)
        self._reader.forward_begins(module)

    def _after_forward(self, module: nn.Module, args: Any, outputs: Any) -> None:
        self._reader.forward_ends()
        if torch.is_grad_enabled() and not self._off:
            self._seeker.forward_ends(outputs)

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        """Where a closure brings the gradients, they are looked at when it has run."""
        if self._off:
            return None
        closure = closure_of(args, kwargs)
        if closure is None:
            self._at_step(optimizer)
            return None
        return with_closure(
            args, kwargs, Looked(closure, partial(self._at_step, optimizer, from_closure=True), self._give_up)
        )

    def _at_step(self, optimizer: Optimizer, from_closure: bool = False) -> None:
        """Gradients are there, and the weights are not changed yet."""
        self._reader.forward_ends()
        self._loop.step(optimizer, from_closure)
        witness = self._reader.witnesses.get(id(optimizer)) or self._find_witnesses(optimizer)
        if witness is not None:
            self._notes.stale.append(witness.stale if witness.stale is not None else NO)
            witness.stepped = True
        if found := self._seeker.seek():
            self._notes.origin = f"step {self.steps}: {found}"
        self._reader.step_begins(optimizer)

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self._off:
            self._reader.step_ends(optimizer)
            self._seeker.forget()

    def _find_witnesses(self, optimizer: Optimizer) -> Witness | None:
        """At the first step, when it is known which parameters get a gradient."""
        parameters = self._reader.named(optimizer).values()
        witness = witness_among(parameters, self._loop)
        if witness is not None:
            self._reader.witnesses[id(optimizer)] = witness
            self._hooks.on_gradient(witness.parameter, witness.fresh)
            self._hooks.on_sum(witness.parameter, witness.added)
        for sentinel in sentinels_among(parameters, self._seeker.lost):
            self._sentinels.append(sentinel)
            self._hooks.on_gradient(sentinel.parameter, sentinel.fresh)
            if sentinel.parameter.grad is not None:  # the first backward pass is over
                sentinel.fresh(sentinel.parameter.grad)
        return witness

    # Ends

    def _give_up(self, error: Exception) -> None:
        """An error of ours is told once, and ends the watching alone. Hooks stay until `close`: one may be running."""
        if self._off:
            return
        self._off = True
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = (
            f"stopped watching at step {self.steps}, {type(error).__name__}: {error} ({Path(where.filename).name}, "
            f"line {where.lineno}); the training goes on"
        )
        self._voice(f"runtrue: {said}")
        self._notes.event("stopped", said)
        self._reader.forward_ends()


_living: weakref.WeakSet[Watch] = weakref.WeakSet()


def _forked() -> None:
    """In a child process, a worker that loads data: the scribe's thread stayed behind, and the record is the parent's."""
    for watch in list(_living):
        watch.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
