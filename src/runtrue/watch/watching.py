"""`Watch`: hangs hooks on a model and its optimizers, reads some steps, counts all of them, and hands everything on."""

from __future__ import annotations

import sys
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer

from runtrue.findings import Finding
from runtrue.tape import Tape
from runtrue.watch import origin
from runtrue.watch.gauge import Gauge, Key, Step
from runtrue.watch.hooks import Hooks
from runtrue.watch.loop import Loop, Witness, facts, named_held, witness_among
from runtrue.watch.pace import Pace
from runtrue.watch.packets import Packet, Sent, fetch, fetch_whole
from runtrue.watch.ranks import ranks
from runtrue.watch.record import FILE, Recorder
from runtrue.watch.scribe import Scribe, finding_as_told

FLUSH = 1.0  # seconds from one packet to the next: what a killed run loses at most
HELD = 512  # steps after which a packet goes whatever the time
HISTOGRAM = 8  # readings from one histogram to the next
TOGETHER = 50  # steps from one reading to the next where several processes have to read the same steps
PATIENCE = 64  # steps that a reading waits for the optimizer, where gradients are accumulated
Log = Callable[[dict[str, float], int], None]


class Watch:
    """Watches the training of a model. `runtrue.watch` makes one; use it in a `with` statement, or call `close`."""

    def __init__(
        self, model: nn.Module, optimizers: Iterable[Optimizer], run: Path | None, every: int | None,
        say: Callable[[str], None] | None, log: Log | None, told: Callable[[int, Finding], None] | None,
        start: int = 0, together: bool = False, by_hand: bool = False,
    ) -> None:  # fmt: skip
        """by_hand: `forward_begins` and `forward_ends` are called, since the model itself may not be."""
        self.model, self.optimizers, self.run, self.log = model, list(optimizers), run, log
        self.steps, self.readings = start, 0
        """Steps so far, and how many of them were read."""
        self._say = say or _to_stderr
        self._loop, self._gauge, self._by_hand = Loop(), Gauge(), by_hand
        self._hooks = Hooks(self._give_up)
        self._names = {id(one): named_held(model, one) for one in self.optimizers}
        self._witnesses: dict[int, Witness] = {}
        self._tape: AbstractContextManager[Tape] | None = None
        self._taped = False
        self._open: _Open | None = None
        self._call: origin.Call | None = None
        self._mark: Tensor | None = None
        self._off = False
        self._sought = False
        self._fresh_packet()
        sizes = {n: p.numel() for names in self._names.values() for n, p in names.items() if _sized(p)}
        opens = partial(recorder_of, run / FILE, start, described(model)) if run is not None else None
        group = ranks(model) if together else None
        if group is not None:
            opens, every = (opens if group.rank == 0 else None), every or TOGETHER
            self._say = self._say if group.rank == 0 else _silent
            told = told if group.rank == 0 else None
        self._pace = Pace(every, next=start)
        self._scribe = Scribe(opens, partial(tell, self._say, told), self._say, sizes, group)
        self._began = self._stepped = time.perf_counter()
        self._attach()
        self._arm()

    # What the user calls

    def step(self, loss: Tensor | float | None = None) -> None:
        """Call once a training step. loss: a scalar tensor (or a number) of this step; it is not waited for."""
        if self._off:
            return
        try:
            self._step(loss)
        except Exception as error:  # noqa: BLE001 the training goes on, whatever happens here
            self._give_up(error)

    def epoch(self, **numbers: float) -> None:
        """Call at the end of an epoch with what is known of it: train_accuracy, val_accuracy (0 to 1), train_loss, val_loss, …"""
        if self._off:
            return
        try:
            plain = {name: float(value) for name, value in numbers.items() if value is not None}
            self._flush(epoch=(len(self._epochs), self.steps, plain))
            self._epochs.append(plain)
        except Exception as error:  # noqa: BLE001 the training goes on, whatever happens here
            self._give_up(error)

    @property
    def verdicts(self) -> tuple[Finding, ...]:
        """All so far, in the order in which they arose. Waits until what was seen is judged."""
        if not self._off:
            self._flush()
            self._scribe.settle()
        return tuple(self._scribe.verdicts)

    @property
    def ok(self) -> bool:
        """No fault so far."""
        return not any(finding.severity == "fault" for finding in self.verdicts)

    def close(self) -> None:
        """Take all hooks off and finish the record. May be called twice."""
        self._close_tape()
        self._hooks.remove()
        if self._off:
            return
        try:
            self._flush()
        finally:
            self._off = True
            self._finalizer.detach()
            self._scribe.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Every step

    def _step(self, loss: Tensor | float | None) -> None:
        now = time.perf_counter()
        seconds, self._stepped = now - self._stepped, now
        self._seconds.append(seconds)
        self._losses.append(_scalar(loss))
        self._loop.counts["untold loss"] += loss is None
        self._marks.append(self._mark if self._mark is not None else _NOTHING)
        self._mark = None
        self._note_rates()
        opened = self._open
        was_read = opened is not None
        if opened is not None and opened.finished(self._loop.counts["step"], self.steps):
            self._finish(opened)
        self._pace.took(seconds, was_read, opened.spent if opened else 0.0)
        self.steps += 1
        if self._open is None and self.steps >= self._pace.next:
            self._arm()
        if now - self._flushed > FLUSH or len(self._losses) >= HELD:
            self._flush()

    def _note_rates(self) -> None:
        rates = tuple(
            float(group["lr"]) for one in self.optimizers for group in one.param_groups
            if not isinstance(group["lr"], Tensor) or group["lr"].device.type == "cpu"
        )  # fmt: skip
        if rates != self._rates_now:
            self._rates_now = rates
            self._rates.append((self.steps, rates))

    def _arm(self) -> None:
        """The step that begins now is read."""
        histograms = self.readings % HISTOGRAM == 0
        self._gauge.begin(histograms)
        self._open = _Open(self.steps, self._loop.counts["step"], len(self.optimizers))
        self.readings += 1
        self._taped = False
        self._want(True)

    def _want(self, wanted: bool) -> None:
        for witness in self._witnesses.values():
            witness.wanted = wanted

    def _finish(self, opened: _Open) -> None:
        start = time.perf_counter()
        numbers = {**self._gauge.numbers, **opened.numbers}
        samples = {name: fetch_whole(s) for name, s in (self._gauge.samples or {}).items()}
        self._sent.append(
            Sent(opened.step, start - self._began, tuple(numbers), fetch(list(numbers.values())), samples,
                 facts(self.model, self.optimizers))
        )  # fmt: skip
        self._open = None
        self._want(False)
        self._pace.after(self.steps)
        opened.spent += time.perf_counter() - start

    def _flush(self, epoch: tuple[int, int, dict[str, Any]] | None = None) -> None:
        packet = Packet(
            first=self.steps - len(self._losses), losses=fetch(self._losses), alike=fetch(self._marks),
            stale=fetch(self._stale), seconds=self._seconds, rates=self._rates, readings=self._sent,
            counts=self._loop.counts.copy(), epoch=epoch, origin=self._origin, events=self._events,
        )  # fmt: skip
        self._fresh_packet()
        self._scribe.take(packet)

    def _fresh_packet(self) -> None:
        self._losses: list[Tensor] = []
        self._marks: list[Tensor] = []
        self._stale: list[Tensor] = []
        self._seconds: list[float] = []
        self._rates: list[tuple[int, tuple[float, ...]]] = []
        self._sent: list[Sent] = []
        self._events: list[tuple[int, str, str]] = []
        self._origin = ""
        self._flushed = time.perf_counter()
        if not hasattr(self, "_epochs"):
            self._epochs: list[dict[str, float]] = []
            self._rates_now: tuple[float, ...] = ()

    # Hooks

    def _attach(self) -> None:
        if not self._by_hand:
            self._hooks.before_and_after_forward(self.model, self._before_forward, self._after_forward)
        for optimizer in self.optimizers:
            self._hooks.around_step(optimizer, self._before_step, self._after_step)
        self._finalizer = weakref.finalize(self, _abandoned, self._hooks, self._scribe)

    def forward_begins(self, batch: Any) -> None:
        """For callbacks: what runs from here to `forward_ends` is the forward pass on this batch."""
        try:
            self._begin(self.model, batch)
        except Exception as error:  # noqa: BLE001 the training goes on, whatever happens here
            self._give_up(error)

    def forward_ends(self) -> None:
        self._close_tape()

    def _before_forward(self, model: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        self._begin(model, (args, kwargs))
        on_cpu = torch.is_grad_enabled() and all(t.device.type == "cpu" for t in _batches((args, kwargs)))
        self._call = origin.Call(model, args, kwargs) if on_cpu else None

    def _begin(self, model: nn.Module, batch: Any) -> None:
        self._loop.forward(model.training)
        if self._off or not torch.is_grad_enabled():
            return
        first = next(_batches(batch), None)
        if first is not None and self._mark is None:
            self._mark = mark_of(first)
        opened = self._open
        if opened is not None and not self._taped and not compiled(model):
            with opened.timed():
                self._taped = True
                self._tape = Tape(model, self._gauge).recording()
                self._tape.__enter__()

    def _after_forward(self, model: nn.Module, args: Any, outputs: Any) -> None:
        self._close_tape()
        call = self._call
        if self._off or call is None or not torch.is_grad_enabled():
            return
        for place, output in enumerate(origin.tensors(outputs)):
            if output.requires_grad:
                output.register_hook(partial(call.came_back, place))

    def _close_tape(self) -> None:
        if self._tape is not None:
            tape, self._tape = self._tape, None
            tape.__exit__(None, None, None)

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        """args[0] is the optimizer. Where a closure brings the gradients, they are looked at when it has run."""
        if self._off:
            return None
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self._at_step(optimizer)
            return None
        looked = Looked(closure, partial(self._at_step, optimizer, from_closure=True), self._give_up)
        return (args[:1], {**kwargs, "closure": looked})

    def _at_step(self, optimizer: Optimizer, from_closure: bool = False) -> None:
        """Gradients are there, and the weights are not changed yet."""
        self._loop.step(optimizer, from_closure)
        witness = self._witness(optimizer)
        if witness is not None:
            self._stale.append(witness.stale if witness.stale is not None else _NO)
            witness.stepped = True
            if witness.lost:
                self._seek_origin(witness)
        opened = self._open
        if opened is not None and id(optimizer) not in opened.steps:
            with opened.timed():
                step = opened.steps[id(optimizer)] = Step(opened.numbers)
                step.begin({n: p for n, p in self._names[id(optimizer)].items() if p.grad is not None})
                if witness is not None and witness.before is not None:
                    opened.numbers["", "clipped"] = witness.norm() / witness.before

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        opened = self._open
        step = opened.steps.pop(id(optimizer), None) if opened is not None else None
        if opened is not None and step is not None:
            with opened.timed():
                step.end()

    def _witness(self, optimizer: Optimizer) -> Witness | None:
        """Chosen at the first step, when it is known which parameters get a gradient."""
        found = self._witnesses.get(id(optimizer))
        if found is None and (found := witness_among(self._names[id(optimizer)].values(), self._loop)) is not None:
            self._witnesses[id(optimizer)] = found
            self._hooks.on_gradient(found.parameter, found.fresh, found.added)
        return found

    def _seek_origin(self, witness: Witness) -> None:
        """Once a run: the first gradient that is no number."""
        witness.lost = False
        if self._sought or self._call is None:
            return
        self._sought = True
        found = origin.find(self._call)
        self._origin = f"step {self.steps}: {found}" if found is not None else ""

    # Ends

    def _give_up(self, error: Exception) -> None:
        """An error of ours is told once, and ends the watching alone. Hooks stay until `close`: one may be running."""
        if self._off:
            return
        self._off = True
        where = traceback.extract_tb(error.__traceback__)[-1]
        self._say(
            f"runtrue: stopped watching at step {self.steps}, {type(error).__name__}: {error} "
            f"({Path(where.filename).name}, "
            f"line {where.lineno}); the training goes on"
        )
        self._close_tape()
        self._scribe.close()


class Looked:
    """A closure of the user's, and a look at the gradients behind its first call in a step."""

    def __init__(
        self, closure: Callable[[], Any], look: Callable[[], None], fails: Callable[[Exception], None]
    ) -> None:
        self.closure, self.look, self.fails, self.done = closure, look, fails, False

    def __call__(self) -> Any:
        result = self.closure()
        if not self.done:
            self.done = True
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 the training goes on, whatever happens here
                self.fails(error)
        return result


class _Open:
    """A reading that is not finished: its own step, or with accumulated gradients the one that ends at the optimizer's step."""

    def __init__(self, step: int, optimizer_steps: int, optimizers: int) -> None:
        self.step, self.since, self.optimizers = step, optimizer_steps, optimizers
        self.numbers: dict[Key, Tensor] = {}
        self.steps: dict[int, Step] = {}
        self.spent = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.spent += time.perf_counter() - start

    def finished(self, optimizer_steps: int, step: int) -> bool:
        return optimizer_steps > self.since or step - self.step >= PATIENCE


def described(model: nn.Module) -> dict[str, Any]:
    return {
        "model": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters() if _sized(p)),
        "torch": str(torch.__version__),
        "started": time.time(),
        "compiled": compiled(model),
    }


def recorder_of(path: Path, start: int, told: Mapping[str, Any]) -> Recorder:
    """The file of a run. What an earlier process wrote of this step and later ones is not this run's."""
    recorder = Recorder(path)
    recorder.forget_from(start)
    recorder.tell(**told)
    recorder.flush()
    return recorder


def tell(say: Callable[[str], None], told: Callable[[int, Finding], None] | None, step: int, finding: Finding) -> None:
    say(finding_as_told(step, finding))
    if told is not None:
        told(step, finding)


def _abandoned(hooks: Hooks, scribe: Scribe) -> None:
    """The watch was not closed and is not needed any more."""
    hooks.remove()
    scribe.close()


def mark_of(batch: Tensor) -> Tensor:
    """A number that two batches share only if they are the same: of the first example, and of the last."""
    with torch.no_grad():
        if batch.dim() == 0 or not len(batch):
            return _NOTHING
        return batch[0].sum(dtype=torch.float64) + 0.7 * batch[-1].sum(dtype=torch.float64)


def compiled(model: nn.Module) -> bool:
    """torch.compile runs this model, or a part of it: what happens inside cannot be seen."""
    return any(getattr(m, "_compiled_call_impl", None) is not None or hasattr(m, "_orig_mod") for m in model.modules())


def _batches(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _batches(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _batches(item)


def _scalar(loss: Tensor | float | None) -> Tensor:
    if isinstance(loss, Tensor):
        loss = loss.detach()
        return loss.clone() if loss.numel() == 1 else loss.float().mean()
    return _NOTHING if loss is None else torch.tensor(float(loss), dtype=torch.float64)


def _sized(parameter: nn.Parameter) -> bool:
    return not isinstance(parameter, UninitializedParameter)


def _silent(text: str) -> None:
    """Another rank tells it."""


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


_NOTHING = torch.tensor(float("nan"))
_NO = torch.tensor(0.0)
