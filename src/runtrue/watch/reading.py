"""A reading: one step whose layers and parameters are read, from the forward pass to the optimizer's step.

With accumulated gradients it waits for the optimizer: layers are those of its first forward pass, parameters those of the step
that follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Generic, TypeVar

from torch import Tensor, nn
from torch.optim import Optimizer

from runtrue.tape import names_in
from runtrue.watch.gauge import Gauge
from runtrue.watch.listening import Listening
from runtrue.watch.loop import Loop, compiled, facts, named_held, parameters_of, unwrapped
from runtrue.watch.packets import Key, Sent, fetch, fetch_whole
from runtrue.watch.stepping import Step
from runtrue.watch.witness import Witness

HISTOGRAM = 8  # readings from one histogram to the next
T = TypeVar("T")
LOOKING_UP = 0.001  # share of the time
PATIENCE = 64  # steps that a reading waits for the optimizer, where gradients are accumulated


class Lookup(Generic[T]):
    """What a search through the model finds; searched again as often as that takes little of the time."""

    def __init__(self, search: Callable[[], T]) -> None:
        self.search, self.found = search, list[T]()
        self.until = 0.0

    def __call__(self) -> T:
        start = time.perf_counter()
        if start >= self.until:
            self.found[:] = [self.search()]
            now = time.perf_counter()
            self.until = now + (now - start) / LOOKING_UP
        return self.found[0]


class Open:
    """A reading that is not finished."""

    def __init__(self, step: int, optimizer_steps: int) -> None:
        self.step, self.since = step, optimizer_steps
        self.numbers: dict[Key, Tensor | float] = {}
        self.sizes: dict[str, int] = {}
        self.parts: dict[str, float] = {}
        self.steps: dict[int, Step] = {}
        """By the id of the optimizer; None behind its step."""
        self.taped: set[int] = set()
        self.spent = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.spent += time.perf_counter() - start

    def finished(self, optimizer_steps: int, step: int) -> bool:
        return optimizer_steps > self.since or step - self.step >= PATIENCE


class Reader:
    """noted: told of what cannot be seen, (what, sentence). troubled: of an error of ours, behind which layers are not read."""

    def __init__(
        self, model: nn.Module, optimizers: list[Optimizer], loop: Loop, noted: Callable[[str, str], None],
        troubled: Callable[[Exception], None],
    ) -> None:  # fmt: skip
        self.model, self.optimizers, self.loop = model, optimizers, loop
        self.noted, self.troubled = noted, troubled
        self.began = time.perf_counter()
        self.count = 0
        self.open: Open | None = None
        self.witnesses: dict[int, Witness] = {}
        self._gauge = Gauge(self._fail)
        self._tape: Listening | None = None
        self._blind = False
        self._names: tuple[Key, ...] = ()
        self._facts = Lookup(partial(facts, model, optimizers))
        self._compiled = Lookup(partial(compiled, model))
        self._modules = Lookup(partial(names_in, unwrapped(model)))
        self._named: dict[int, tuple[tuple[int, ...], dict[str, nn.Parameter]]] = {}

    def arm(self, step: int) -> None:
        """The step that begins now is read."""
        self._gauge.begin(histograms=self.count % HISTOGRAM == 0)
        self.open = Open(step, self.loop.counts["step"])
        self.count += 1
        self._want(True)

    def forward_begins(self, called: nn.Module) -> None:
        """Of the networks that are called, each is read once."""
        opened = self.open
        if opened is None or self._blind or self._tape is not None or id(called) in opened.taped:
            return
        opened.taped.add(id(called))
        if self._compiled():
            self.noted("not seen", "torch.compile runs the model: what happens in its layers is not read")
            return
        with opened.timed():
            self._tape = Listening(unwrapped(self.model), self._gauge, self._fail, self._modules())
            self._tape.begin()

    def forward_ends(self) -> None:
        if self._tape is not None:
            tape, self._tape = self._tape, None
            tape.end()

    def step_begins(self, optimizer: Optimizer) -> None:
        """Gradients are there, and the weights are not changed yet."""
        opened = self.open
        if opened is None or id(optimizer) in opened.steps:
            return
        with opened.timed():
            step = opened.steps[id(optimizer)] = Step(opened.numbers, opened.sizes, opened.parts)
            step.begin(self.named(optimizer))
            witness = self.witnesses.get(id(optimizer))
            clipped = witness.clipped() if witness is not None else None
            if clipped is not None:
                opened.numbers["", "clipped"] = clipped

    def step_ends(self, optimizer: Optimizer) -> None:
        step = self.open.steps.get(id(optimizer)) if self.open is not None else None
        if self.open is not None and step is not None:
            with self.open.timed():
                step.end()

    def finish(self, loss: Tensor | None) -> Sent:
        """What was read, on its way to the host. loss: of the step, where it is to be averaged over processes."""
        opened = self.open
        assert opened is not None
        with opened.timed():
            if not opened.taped:
                self.noted("not seen", "no forward pass of the model was seen: what happens in its layers is not read")
            self._gauge.settle()
            numbers = {**self._gauge.numbers, **opened.numbers} | ({} if loss is None else {("", "loss"): loss})
            samples = {name: fetch_whole(s) for name, s in (self._gauge.samples or {}).items()}
            names = tuple(numbers)
            self._names = self._names if names == self._names else names  # readings on their way share them
            sent = Sent(
                opened.step, time.perf_counter() - self.began, self._names, fetch(list(numbers.values())), samples,
                self._facts(), opened.sizes, opened.parts,
            )  # fmt: skip
            self._gauge.end()
        self.open = None
        self._want(False)
        return sent

    def named(self, optimizer: Optimizer) -> Mapping[str, nn.Parameter]:
        """Its parameters by name, as they are now: groups may have come in between."""
        held = tuple(id(p) for p in parameters_of(optimizer))
        known = self._named.get(id(optimizer))
        if known is None or known[0] != held:
            known = self._named[id(optimizer)] = (held, named_held(self.model, optimizer))
        return known[1]

    def _want(self, wanted: bool) -> None:
        for witness in self.witnesses.values():
            witness.wanted = wanted

    def _fail(self, error: Exception) -> None:
        if not self._blind:
            self._blind = True
            self.troubled(error)
