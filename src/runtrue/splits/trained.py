"""What the network itself makes of rows that it was not trained on: the last word where the probes see nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from runtrue.batches import size_of, tensors_of, to_device
from runtrue.sandbox import Sandbox
from runtrue.splits.chance import permutation_p
from runtrue.splits.facts import Recall, Trained
from runtrue.splits.pool import Pool, pool_of
from runtrue.splits.relation import PERMUTATIONS, standardized
from runtrue.splits.rows import CLASSES, MAX_ROWS, at_random, digests_of, labels_of, normal_scores, some
from runtrue.task import Task, TaskError, call_model, split
from runtrue.trials import FAILURES, Changed, changed, take_step

LEAST = 40  # rows: of fewer, a fifth says nothing
SCORED = 2000  # rows at most, of each kind
ONE_IN = 5  # rows is held out


def train_and_score(
    box: Sandbox,
    steps: int,
    treat: Callable[[Task], Task] | None = None,
    *,
    loss: str | None = None,
    deadline: float = math.inf,
) -> Trained | None:
    """Train the task (treated first, if `treat` is given) on four fifths of its rows for so many steps, and score it.

    Rows with the same inputs stay together. loss: the name of the loss function, as `LossFacts` has it. deadline: a
    `time.monotonic()` after which no further step is taken. The task is left as it was at the start. None for a task of few
    rows, with `step`, without labels, or one that cannot be trained.
    """
    pool = None if box.task.step is not None else pool_of(box)
    if pool is None or pool.size < LEAST:
        return None
    numbers = torch.randperm(pool.size, generator=torch.Generator().manual_seed(box.seed))[:MAX_ROWS].sort().values
    try:
        out = _held_out(pool, numbers)
        kept, left = numbers[~out], numbers[out]
        if not len(left) or len(kept) < 2:
            return None
        task = box.start() if treat is None else treat(box.start())
        done = _train(box, task, pool, kept, steps, deadline)
        return _scores(box, task, pool, kept, left, loss, done)
    except (TaskError, *FAILURES):
        return None
    finally:
        box.start()


def _held_out(pool: Pool, numbers: Tensor) -> Tensor:
    """One row in five, chosen by its inputs: the same row twice is on one side."""
    marks: list[int] = []
    for part in numbers.split(1000):
        marks += digests_of(split(pool.take(part))[0], len(part))[0]
    return torch.tensor([mark % ONE_IN == 0 for mark in marks])


def _train(box: Sandbox, task: Task, pool: Pool, kept: Tensor, steps: int, deadline: float) -> int:
    optimizer = box.optimizer(task)
    batches = pool.endless(kept, box.seed, mixed=pool.shuffled)
    for step in range(steps):
        take_step(box, task, optimizer, changed(task, to_device(next(batches), box.device)))
        if time.monotonic() > deadline:
            return step + 1
    return steps


def _scores(
    box: Sandbox, task: Task, pool: Pool, kept: Tensor, left: Tensor, loss: str | None, steps: int
) -> Trained | None:
    score = _Scorer(box, task, loss)
    shown = kept[torch.linspace(0, len(kept) - 1, min(len(kept), SCORED)).long()]
    seen = score.rows([pool.take(part) for part in shown.split(pool.batch)])
    unseen = score.rows([pool.take(part) for part in left[:SCORED].split(pool.batch)])
    if seen is None or unseen is None:
        return None
    return Trained(
        steps, len(kept), len(left), seen.skill, unseen.skill, unseen.p_value(), score.val(), seen.recalls()
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scored:
    """Outputs (n, k) beside labels: class numbers with the class that was answered, or target columns."""

    outputs: Tensor
    codes: Tensor
    answers: Tensor | None
    names: tuple[int | float, ...]

    @property
    def skill(self) -> float:
        if self.answers is not None:
            right, usual = float((self.answers == self.codes).float().mean()), float(torch.bincount(self.codes).max())
            usual /= len(self.codes)
            return (right - usual) / (1 - usual) if usual < 1 else right
        if self.outputs.shape != self.codes.shape:
            return math.nan
        spread = (self.codes - self.codes.mean(0)).square().sum()
        return 1 - float((self.outputs - self.codes).square().sum() / spread.clamp(min=1e-30))

    def recalls(self) -> tuple[Recall, ...]:
        """Of every class that occurs, the most frequent first."""
        if self.answers is None:
            return ()
        counts = torch.bincount(self.codes).tolist()
        right = torch.bincount(self.codes[self.answers == self.codes], minlength=len(counts)).tolist()
        found = [Recall(self.names[i], n, right[i] / n) for i, n in enumerate(counts) if n]
        return tuple(sorted(found, key=lambda recall: -recall.rows))

    def p_value(self) -> float:
        """Of ‖Oᵀ·Y‖², the covariance of outputs and labels, among the same for labels in other orders."""
        labels = (
            torch.nn.functional.one_hot(self.codes).double() if self.answers is not None else normal_scores(self.codes)
        )
        labels, outputs = labels - labels.mean(0), standardized(self.outputs).double()
        generator = torch.Generator().manual_seed(0)
        orders = [
            torch.arange(len(labels)),
            *(torch.randperm(len(labels), generator=generator) for _ in range(PERMUTATIONS)),
        ]
        return permutation_p([float((outputs.T @ labels[order]).square().sum()) for order in orders])


@dataclass(frozen=True, eq=False)
class _Scorer:
    """Scores a trained network in evaluation mode."""

    box: Sandbox
    task: Task
    loss: str | None

    def rows(self, batches: list[Any]) -> Scored | None:
        assert isinstance(self.task.model, nn.Module)
        self.task.model.eval()
        outputs, wanted = [], []
        with torch.no_grad():
            for batch in batches:
                inputs, targets = split(to_device(batch, self.box.device))
                found = next(iter(tensors_of(call_model(self.task.model, inputs))))
                outputs.append(found.detach().cpu().float().reshape(size_of(batch), -1))
                wanted.append(next(iter(tensors_of(targets))).detach().cpu())
        given = torch.cat(outputs)
        kind, names, codes = labels_of(wanted, len(given), self.loss, -100)
        if kind == "unknown":
            return None
        told = codes >= 0 if kind == "classes" else torch.isfinite(codes).all(1)
        given, codes = given[told], codes[told]
        if not len(codes):
            return None
        if kind == "values" and self.loss == "binary_cross_entropy_with_logits":
            given = given.sigmoid()
        return Scored(given, codes, self._answers(given, names) if kind == "classes" else None, names)

    def _answers(self, outputs: Tensor, names: tuple[int | float, ...]) -> Tensor:
        """The class that each row is taken for, as a place in `names`; -1 for one that no label has."""
        values = torch.tensor(names, dtype=torch.float64)
        if outputs.shape[1] > 1:
            chosen = outputs.argmax(1).double()
        elif self.loss in CLASSES or len(names) != 2:
            chosen = outputs[:, 0].double().round()
        else:
            logits = self.loss == "binary_cross_entropy_with_logits" or (
                self.loss is None and bool((outputs < 0).any() or (outputs > 1).any())
            )
            chosen = values[(outputs[:, 0] > (0.0 if logits else float(values.mean()))).long()]
        same = chosen[:, None] == values
        return torch.where(same.any(1), same.long().argmax(1), -1)

    def val(self) -> float | None:
        """Skill on val, where it can be read again and has labels."""
        source, change = self.task.val, None
        if isinstance(source, Changed):
            source, change = source.source, source.applied
        if source is None or isinstance(source, Iterator):
            return None
        try:
            batches, rows = [], 0
            for batch in some(at_random(source, self.box.seed), self.box.task.batch_size, self.box.seed):
                batches.append(batch if change is None else change(batch))
                rows += size_of(batch)
                if rows >= SCORED:
                    break
            scored = self.rows(batches)
            return None if scored is None else scored.skill
        except (TaskError, *FAILURES):
            return None
