"""A trial: a short controlled training run. Every variant sees the same seed, the same batches, the same number of steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from runtrue import batches as data
from runtrue import optimizers, skill
from runtrue.keeping import keep_random_state
from runtrue.sandbox import Sandbox
from runtrue.tape import LossCalls
from runtrue.task import Task, TaskError, blame, forward, split

FLUSH = 20  # steps between two looks at the curve: one transfer each, to stop a run that is lost
TAIL = 0.2  # the share of a curve, at its end, whose mean is "the loss at the end"
STILL = 0.9  # of the first loss: what is still there after a quarter of the steps has not begun to learn
WORTH_LOOKING = 40  # steps: of a shorter run the whole is seen
OTHER_EPOCHS = 100_003  # epochs between the orders of two seeds: no plan is that long
RECENT = 5  # steps whose mean must reach a goal
FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What a treatment that does not fit may raise: the result of a trial, not its end. Ctrl-C and the like pass through."""
LOST = 1e6  # times the loss at the start: a run this far up is not coming back


@dataclass(frozen=True)
class Curve:
    """Loss a step of one trial. `error`: why it stopped early, in words; the curve then ends with NaN."""

    losses: tuple[float, ...]
    seconds: float = 0.0
    error: str | None = None
    evaluated: float = math.nan
    """Mean loss in evaluation mode after the last step, if it was asked for: without dropout and the batch's own statistics."""
    skill: float | None = None
    """Of the predictions in evaluation mode (see `skill`), if it was asked for and can be told."""
    skill_in_training: float | None = None
    """The same in training mode, for models whose two modes differ by batch normalization: running statistics lag behind."""

    @property
    def steps(self) -> int:
        return len(self.losses)

    @property
    def start(self) -> float:
        return self.losses[0] if self.losses else math.nan

    @property
    def tail(self) -> tuple[float, ...]:
        return self.losses[-max(1, min(len(self.losses), max(3, round(TAIL * len(self.losses))))) :]

    @property
    def end(self) -> float:
        """Mean loss over the last fifth; NaN if the run was lost."""
        return sum(self.tail) / len(self.tail) if self.losses else math.nan

    @property
    def recent(self) -> float:
        """Mean loss over the last few steps, which is what `until` looks at."""
        last = self.losses[-RECENT:]
        return sum(last) / len(last) if last else math.nan

    @property
    def noise(self) -> float:
        """Standard error of `end`, from the wobble of neighbouring steps (a trend does not count as noise)."""
        steps = [b - a for a, b in zip(self.tail, self.tail[1:])]
        if not steps or not all(map(math.isfinite, steps)):
            return 0.0
        return math.sqrt(sum(s * s for s in steps) / len(steps) / 2 / len(self.tail))

    def first(self, steps: int) -> Curve:
        """The same run as it was after so many steps; a run that was lost stays lost."""
        return self if self.diverged or self.steps <= steps else replace(self, losses=self.losses[:steps])

    @property
    def diverged(self) -> bool:
        return not math.isfinite(self.end)


def run(
    box: Sandbox,
    treat: Callable[[Task], Task] | None = None,
    *,
    steps: int,
    batch: Callable[[int], Any] | None = None,
    until: float | None = None,
    deadline: float = math.inf,
    evaluate: bool = False,
    enough: float = math.inf,
    hopeless: float = -math.inf,
    seed: int = 0,
) -> Curve:
    """Train from the initial state for `steps` steps, treated first if `treat` is given, and return the curve.

    batch: step -> batch, instead of the task's own. until: stop once the mean loss of a flush is at most this.
    evaluate: also measure loss and skill in evaluation mode afterwards. enough, hopeless: skills from which on, and down to
    which (with a loss that has not fallen), to stop; looked for at each quarter of the steps.
    seed: added to the sandbox's: other random numbers, and the batches in another order.
    deadline: `time.monotonic()` after which no further step is taken. The task is left as it was at the start.
    Raises TaskError only if the untreated task cannot take its first step; later errors end the curve.
    """
    begin = time.monotonic()
    losses: list[float] = []
    error, seen = None, Evaluation()
    try:
        task = box.start(seed)
        task = task if treat is None else treat(task)
        assert isinstance(task.model, nn.Module)
        optimizer = box.optimizer(task)
        draw = batch or changed_batches(box, task, seed)
        waiting: list[Tensor] = []
        looks = {quarter * steps // 4 for quarter in (1, 2, 3)} if steps >= WORTH_LOOKING else set()
        for step in range(steps):
            waiting.append(take_step(box, task, optimizer, draw(step)))
            late = time.monotonic() > deadline
            if late or len(waiting) == FLUSH or step == steps - 1 or len(losses) + len(waiting) <= 2:
                losses += _flush(waiting)
                if late or _is_over(losses, until):
                    break
            if (enough < math.inf or hopeless > -math.inf) and step + 1 in looks:
                losses += _flush(waiting)
                seen = _look(box, task)
                if _is_settled(losses, seen.skill, enough, hopeless):
                    break
                seen = Evaluation()
        if evaluate and losses and math.isfinite(losses[-1]) and seen.skill is None:
            seen = _evaluate(box, task)
    except TaskError as failure:
        if treat is None and not losses:
            raise
        error = str(failure)
    except FAILURES as failure:
        error = blame(failure)
    finally:
        box.start()
    if error is not None:
        losses.append(math.nan)
    took = time.monotonic() - begin
    return Curve(tuple(losses), took, error, seen.loss, seen.skill, seen.skill_in_training)


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and skill over the first examples, in evaluation mode (and the skill in training mode)."""

    loss: float = math.nan
    skill: float | None = None
    skill_in_training: float | None = None


def _look(box: Sandbox, task: Task) -> Evaluation:
    """In the middle of a run, which goes on as if nobody had looked."""
    assert isinstance(task.model, nn.Module)
    modes = [(module, module.training) for module in task.model.modules()]
    restore = keep_random_state()
    try:
        task.model.eval()
        return Evaluation(*_passes(box, task))
    finally:
        for module, training in modes:
            module.training = training
        restore()


def _evaluate(box: Sandbox, task: Task) -> Evaluation:
    assert isinstance(task.model, nn.Module)
    task.model.eval()
    loss, skilled = _passes(box, task)
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in task.model.modules()):
        return Evaluation(loss, skilled)
    task.model.train()
    return Evaluation(loss, skilled, _passes(box, task)[1])


def _passes(box: Sandbox, task: Task) -> tuple[float, float | None]:
    """Mean loss over passes without gradients, and the skill of what they predict."""
    assert isinstance(task.model, nn.Module)
    losses, outputs, targets = [], [], []
    with torch.no_grad(), LossCalls() as recorder:
        for batch in box.evaluation_batches():
            batch = changed(task, batch)
            given, loss = forward(task, task.model, batch)
            losses.append(loss)
            if task.step is None and isinstance(given, Tensor) and isinstance(wanted := split(batch)[1], Tensor):
                outputs.append(given)
                targets.append(wanted)
    mean = float(torch.stack(losses).mean())
    if recorder.calls:
        return mean, skill.of_calls(recorder.calls)
    return mean, skill.of_outputs(outputs, targets) if len(outputs) == len(losses) else None


def changed_batches(box: Sandbox, task: Task, seed: int = 0) -> Callable[[int], Any]:
    """The box's batches as the (treated) task wants them; with another seed, those of epochs that nobody else sees."""
    first = seed * OTHER_EPOCHS * (box.batches.per_epoch or box.batches.held)
    return lambda step: changed(task, box.batch(first + step))


def changed(task: Task, batch: Any) -> Any:
    """One of the user's own batches as the (treated) task wants it."""
    return task.train.applied(batch) if isinstance(task.train, Changed) else batch


@dataclass(frozen=True, eq=False)
class Changed:
    """Training data with a change made to every batch: how a remedy treats data without touching the user's.

    `source` may be changed data too: changes are made from the inside out.
    """

    source: Any
    change: Callable[[Any], Any]
    includes_source: ClassVar[bool] = False
    """`change` makes the changes of `source` itself."""

    def applied(self, batch: Any) -> Any:
        """What becomes of one of the user's own batches."""
        if isinstance(self.source, Changed) and not self.includes_source:
            batch = self.source.applied(batch)
        return self.change(batch)

    def __iter__(self) -> Iterator[Any]:
        return (self.change(batch) for batch in self.source)

    def __len__(self) -> int:
        return len(self.source)

    def settled(self) -> Any:
        """The changed data in the form of the source: a pair of tensors stays one."""
        source = self.source.settled() if isinstance(self.source, Changed) else self.source
        return tuple(self.change(source)) if data.is_pair(source) else Changed(source, self.change)


def take_step(box: Sandbox, task: Task, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
    """One step of training; the loss stays on the device."""
    if isinstance(optimizer, torch.optim.LBFGS):
        return _closure_step(box, task, optimizer, batch)
    optimizer.zero_grad(set_to_none=True)
    _, loss = box.loss(task, batch)
    loss.backward()
    optimizer.step()
    return loss.detach()


def _closure_step(box: Sandbox, task: Task, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
    first: list[Tensor] = []

    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        _, loss = box.loss(task, batch)
        loss.backward()
        first.append(loss.detach())
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    return first[0]


def _flush(waiting: list[Tensor]) -> list[float]:
    if not waiting:
        return []
    values: list[float] = torch.stack([w.float() for w in waiting]).tolist()
    waiting.clear()
    return values


def _is_over(losses: list[float], until: float | None) -> bool:
    last = losses[-1]
    if not math.isfinite(last) or last > LOST * (abs(losses[0]) + 1e-12):
        losses[-1] = math.inf if math.isfinite(last) else last
        return True
    recent = losses[-RECENT:]
    return until is not None and len(losses) >= RECENT and sum(recent) / len(recent) <= until


def _is_settled(losses: list[float], skilled: float | None, enough: float, hopeless: float) -> bool:
    """Nothing that is still to come will change the verdict."""
    if skilled is None or not losses:
        return False
    recent = losses[-RECENT:]
    return skilled >= enough or (skilled <= hopeless and sum(recent) / len(recent) >= STILL * losses[0])


def small_set(box: Sandbox, count: int = 16) -> Any:
    """The same few examples every step (N3.1), drawn from the first batch."""
    return data.head(box.batch(0), count)


def without_regularization(task: Task) -> Task:
    """Dropout off, in place on the model; weight decay off, in an optimizer of its own (N3.1)."""
    assert isinstance(task.model, nn.Module)
    for module in task.model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):  # recurrent layers and attention
            module.dropout = 0.0  # type: ignore[assignment]
    return task if task.optimizer is None else task.replace(optimizer=optimizers.without_decay(task.optimizer))


def judge_progress(curve: Curve, constant: float | None, level: float | None = None) -> float:
    """Share of the baseline that the training removed: 0 no better than a constant, 1 a loss of 0; -inf if lost.

    constant: the baseline. Where it is not known, the loss of the untrained network takes its place: `level`, its mean over
    several batches, or the first loss of the curve if that is not known either.
    """
    if curve.diverged:
        return -math.inf
    if constant is not None and constant > 0:
        return (constant - curve.end) / constant
    start = level if level is not None and math.isfinite(level) else curve.start
    progress = (start - curve.end) / max(abs(start), 1e-12)
    return progress if math.isfinite(progress) else -math.inf
