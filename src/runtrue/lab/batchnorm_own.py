"""`batchnorm` on a task of the user's: is a normalization in front of its activations worth it (N1.6f)?

With and without, the task is swept over learning rates, since each has a best rate of its own; then both are trained on at their
best, and the time of their steps is taken in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import nn

from runtrue import batches, norms, optimizers, trials
from runtrue.curves import end, lost_at
from runtrue.init.passes import as_found
from runtrue.lab.batchnorm_judge import Speed, few, speed, verdict
from runtrue.lab.experiment import Experiment, Judgement, Row
from runtrue.lab.own_rates import constant_of
from runtrue.lab.page import part_section
from runtrue.report.blocks import Block, Chart, Code, Section, Table
from runtrue.report.charts import loss_curves
from runtrue.report.rate_charts import rate_shown
from runtrue.sandbox import Sandbox, sandbox
from runtrue.sweep import STEPS, sweep
from runtrue.tape import record
from runtrue.task import Task, TaskError, forward

CODE = "N1.6f"
CLAIM = "Batch normalization in front of its activations is worth it for this task."
SWEEPS = (0.35, 0.7)
"""Share of the budget after which the sweep without, and then the one with, has to be done; the rest is for the long runs."""
LONGER = 3
"""The runs that are compared have this many times the steps of a curve of the sweeps."""
TURNS, TIMED = 5, 10
"""Turns in which steps are timed, and steps a turn."""
FEWEST = 4
"""Examples in a batch, at least: of fewer, the statistics are noise (see the check of `batch-too-small-for-norm`)."""
NAMES = ("without", "with batch normalization")

Treatment = Callable[[Task], Task]


@dataclass(frozen=True)
class Twin:
    """The task without, or with: its best rate, and the loss of the long run at it."""

    rate: float
    losses: tuple[float, ...]
    treat: Treatment


@dataclass(frozen=True)
class Found:
    """What was measured. `ratio`: time of a step with over that of one without."""

    places: tuple[str, ...]
    twins: tuple[Twin, Twin]
    ratio: float
    constant: float | None

    @property
    def speed(self) -> Speed:
        without, with_norm = (twin.losses for twin in self.twins)
        lost = lost_at(without) is not None or lost_at(with_norm) is not None
        steps = None if lost else min(len(without), len(with_norm))  # the budget may have cut one of them
        return speed(without[:steps], with_norm[:steps], self.ratio, self.level)

    @property
    def level(self) -> float:
        """The loss without learning."""
        return self.constant if self.constant is not None else max(twin.losses[0] for twin in self.twins)


def run(task: Task, *, name: str = "task", budget: float = 60.0, steps: int = STEPS, seed: int = 0) -> Experiment:
    """Train `task` as it is and with a batch normalization in front of every activation that has none, and compare.

    budget: seconds. steps: of each curve of the sweeps. The task is left as it was. The claim holds if the normalized one comes
    to where both come in clearly less time. Raises TaskError if the task cannot be run, has no learning rate, or has no
    activation with a layer in front of it and nothing to normalize between; ValueError for a budget that is not above 0.
    """
    if not budget > 0:
        raise ValueError(f"the budget must be more than 0 seconds, not {budget!r}")
    begin = time.monotonic()
    with sandbox(task, seed) as box:
        places = places_of(box)
        constant = constant_of(box)
        treats: tuple[Treatment, Treatment] = (as_it_is, partial(normalized, names=places))
        twins = [
            twin(box, treat, constant, steps, begin + share * budget, begin + budget)
            for treat, share in zip(treats, SWEEPS, strict=True)
        ]
        found = Found(places, (twins[0], twins[1]), ratio_of(box, twins), constant)
    settings = {"task": name, "steps": steps, "seed": seed, "budget": budget, "normalized": ", ".join(places)}
    part = judge(found)
    return Experiment(
        experiment="batchnorm",
        title=f"Batch normalization for {name}",
        claim=CLAIM,
        judgements=(part,),
        settings={**settings, "torch": torch.__version__},
        series={"twins": [row(name, twin) for name, twin in zip(NAMES, found.twins, strict=True)]},
        curves={name: [list(twin.losses)] for name, twin in zip(NAMES, found.twins, strict=True)},
        draw=lambda experiment: blocks(experiment, found),
    )


# -- measure


def places_of(box: Sandbox) -> tuple[str, ...]:
    """Where a normalization would stand."""
    batch, model = box.batch(0), box.model
    with as_found(model), norms.sequences(model) as sequences:
        tape = record(lambda: forward(box.task, model, batch), model)
    box.start()
    names = tuple(name for name in norms.places(tape, model) if name not in sequences)
    if not names:
        raise TaskError(
            "there is nowhere to put a batch normalization: no linear or convolution layer of the model, called once and not on "
            "sequences, is followed by an activation with no normalization between"
        )
    if 0 < (rows := batches.size_of(batch)) < FEWEST:
        raise TaskError(f"a batch holds {rows} examples, and a batch normalization needs {FEWEST} at least")
    return names


def as_it_is(task: Task) -> Task:
    return task


def normalized(task: Task, names: tuple[str, ...]) -> Task:
    """With the normalizations in their places; an optimizer that is built already is told of the new parameters."""
    assert isinstance(task.model, nn.Module)
    norms.insert(task.model, names)
    if not isinstance(task.optimizer, torch.optim.Optimizer):
        return task
    return task.replace(optimizer=optimizers.rebuilt(task.optimizer, task.model.parameters()))


def twin(box: Sandbox, treat: Treatment, constant: float | None, steps: int, until: float, deadline: float) -> Twin:
    """The best rate of a sweep, the one that ends lowest, and a longer run at it."""
    found = sweep(box, constant=constant, steps=steps, treat=treat, deadline=until)
    kept = [curve for curve in found.curves if curve.lost_at is None]
    if not kept:
        what = "without" if treat is as_it_is else "with"
        raise TaskError(f"{what} batch normalization the loss was lost at every rate: {found.suggestion.reason}")
    rate = min(kept, key=lambda curve: end(curve.losses)).rate

    def at_rate(task: Task) -> Task:
        task = treat(task)
        make = task.optimizer or optimizers.adam
        own = found.own
        return task.replace(optimizer=optimizers.with_rate(make, rate / own) if own else optimizers.at_rate(make, rate))

    curve = trials.run(box, at_rate, steps=LONGER * steps, deadline=deadline)
    return Twin(rate, curve.losses, at_rate)


def ratio_of(box: Sandbox, twins: list[Twin]) -> float:
    """The time of a step with over without, as the median of short runs in turn."""
    pairs = [[trials.run(box, one.treat, steps=TIMED) for one in twins] for _ in range(TURNS)]
    return median(with_norm.seconds / without.seconds for without, with_norm in pairs)


# -- judge and tell


def judge(found: Found) -> Judgement:
    without, with_norm = found.twins
    told = verdict([found.speed.by_second])
    return Judgement(
        CODE,
        CLAIM,
        told == "worth it",
        f"at the best rate of each ({rate_shown(without.rate)} without, {rate_shown(with_norm.rate)} with) the loss ends at "
        f"{few(end(without.losses))} without and {few(end(with_norm.losses))} with; with it the loss is where both get "
        f"{few(found.speed.by_step)} times as fast by steps, a step takes {found.ratio:.2f} times as long, and so "
        f"{few(found.speed.by_second)} times as fast by the clock: {told}.",
    )


def row(name: str, twin: Twin) -> Row:
    losses = twin.losses
    return {"network": name, "rate": twin.rate, "steps": len(losses), "start": losses[0], "end": end(losses)}


def blocks(experiment: Experiment, found: Found) -> list[Block]:
    """Both curves, the verdict, the numbers, and the code."""
    (part,) = experiment.judgements
    rows: list[list[Any]] = [[row[key] for key in row] for row in experiment.series["twins"]]
    without, with_norm = found.twins
    spec = loss_curves(without.losses, with_norm.losses, found.constant, names=NAMES)
    caption = "The loss of each batch at the best rate of each, from the same weights and on the same batches."
    return [
        Chart(spec, caption, part.words),
        part_section(part, "Is it worth it", part.claim),
        Section("The numbers", [Table(["", "rate", "steps", "start", "end"], rows)], id="numbers"),
        Section("To put them in", [Code(norms.code(found.places))], id="code"),
    ]
