"""Read both splits and compare, inside the sandbox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from runtrue.batches import Batches, draw, is_pair, map_tensors, tensors_of
from runtrue.sandbox import Sandbox
from runtrue.splits import compare
from runtrue.splits.facts import Relation, Shift, SplitFacts
from runtrue.splits.relation import CLEAR, glance, relate, standardized
from runtrue.splits.rows import VIEWED, Rows, at_random, is_numbered, is_plain_loader, is_shuffled, read, some
from runtrue.task import Task, TaskError, blame
from runtrue.trials import FAILURES

UNRELATED = 0.05  # a p-value above this: the probes see no relation. So one in twenty shuffled sets goes unnoticed
LEAST = 40  # rows with different inputs: under this no probe is worth its name
SHIFTS = (1, -1, 2, -2)
SHIFT_STRENGTH = 8.0  # stds from chance: 600 shuffled real sets reached 4.6, sets moved by a row reach 12 to 14


def measure(box: Sandbox, loss: str | None = None, ignored: int = -100) -> SplitFacts:
    """Everything but `trained`. loss, ignored: what `LossFacts` says of the loss function. The task is left at its start.

    Data that cannot be compared (ragged, sparse) give no facts.
    """
    reader = _Reader(box, loss, ignored)
    try:
        return _facts(box, reader)
    except FAILURES:
        return SplitFacts()
    finally:
        box.start()


def _facts(box: Sandbox, reader: _Reader) -> SplitFacts:
    source = box.task.train
    train = reader.rows(box.batches, is_shuffled(source))
    if train is None:
        return SplitFacts()
    everywhere = train if train.fair else reader.at_random(source) or train
    val, error = reader.val()
    return SplitFacts(
        train=everywhere.facts(),
        val=val.facts() if val else None,
        val_error=error,
        relation=reader.relation(everywhere),
        order=None if is_shuffled(source) else compare.order(train, everywhere),
        repeats=compare.repeats(train) if _each_once(source) else None,
        overlap=compare.overlap(train, val, same_source(box.task)) if val else None,
        inputs=_inputs(everywhere, val) if val and reader.pairs else None,
        targets=_targets(everywhere, val) if val else None,
    )


def _each_once(source: Any) -> bool:
    """A loader with a sampler of its own may mean to give a row several times."""
    return not isinstance(source, DataLoader) or is_plain_loader(source) or not is_numbered(source.dataset)


def same_source(task: Task) -> bool:
    """val is train, or lies in the same memory."""
    if task.val is task.train:
        return True
    if isinstance(task.val, DataLoader) and isinstance(task.train, DataLoader):
        return task.val.dataset is task.train.dataset and is_plain_loader(task.val) and is_plain_loader(task.train)
    if is_pair(task.train) and is_pair(task.val):
        places = [[_place(t) for t in tensors_of(pair[0])] for pair in (task.train, task.val)]
        return places[0] == places[1]
    sets = [s.dataset if is_plain_loader(s) else s for s in (task.train, task.val)]
    return sets[0] is sets[1]


def _place(tensor: Any) -> tuple[int, tuple[int, ...]]:
    known = torch.as_tensor(tensor)
    return known.data_ptr(), tuple(known.shape)


def _inputs(train: Rows, val: Rows) -> Shift | None:
    if train.values is None or val.values is None:
        return None
    return compare.shift(train.values, val.values)


def _targets(train: Rows, val: Rows) -> Shift | None:
    if train.kind != "values" or val.kind != "values":
        return None
    return compare.shift(train.codes[train.told][:VIEWED], val.codes[val.told][:VIEWED])


@dataclass(frozen=True)
class _Reader:
    """Reads what a task brings, as often as it must be read."""

    box: Sandbox
    loss: str | None
    ignored: int

    @property
    def pairs(self) -> bool:
        return self.box.task.step is None

    def rows(self, batches: Batches, fair: bool) -> Rows | None:
        return read(batches, pairs=self.pairs, fair=fair, loss=self.loss, ignored=self.ignored)

    def at_random(self, source: Any) -> Rows | None:
        """Rows from all over the source; None where they cannot be had."""
        other = at_random(source, self.box.seed)
        return self.rows(self._draw(other), True) if is_shuffled(other) else None

    def _draw(self, source: Any) -> Batches:
        return some(source, self.box.task.batch_size, self.box.seed)

    def val(self) -> tuple[Rows | None, str | None]:
        """An iterator is left alone: what is drawn from it cannot be put back."""
        source = self.box.task.val
        if source is None or isinstance(source, Iterator):
            return None, None
        try:
            other = at_random(source, self.box.seed)
            return self.rows(self._draw(other), is_shuffled(other)), None
        except TaskError as error:
            return None, str(error).replace("the training data", "val").replace("train ", "val ")
        except FAILURES as error:
            return None, blame(error)

    def relation(self, train: Rows) -> Relation | None:
        """What the probes find; where they find nothing, what they find for labels moved by a row or two."""
        chosen = _distinct(train)
        if train.kind == "unknown" or "plain" not in train.views or len(chosen) < LEAST:
            return None
        rows, classes, minority = _kinds(train, chosen)
        if minority == 0:
            return None
        found = relate(*_beside(train, chosen), self.box.seed)
        relation = Relation(rows, classes, minority, found.p_value, found.probe, found.strength, found.skill)
        moved = self._moved() if found.p_value > UNRELATED else None
        return relation if moved is None else replace(relation, shift=moved[0], shift_strength=moved[1])

    def _moved(self) -> tuple[int, float] | None:
        """The shift at which labels and inputs belong together, and how far from chance they are there."""
        rows = self._in_order()
        if rows is None or rows.kind == "unknown" or "plain" not in rows.views:
            return None
        chosen, tried = _distinct(rows), []
        if len(chosen) < LEAST or _is_series(rows, chosen):
            return None
        for shift in SHIFTS:
            views, labels = _beside(replace(rows, codes=rows.codes.roll(shift, 0)), chosen)
            tried.append((glance(views, labels, self.box.seed), shift))
        best, shift = max(tried, key=lambda pair: pair[0].strength)
        return (shift, best.strength) if best.p_value <= CLEAR and best.strength >= SHIFT_STRENGTH else None

    def _in_order(self) -> Rows | None:
        """Rows in the order of their numbers; None where they have none."""
        source, size = self.box.task.train, self.box.task.batch_size
        if is_pair(source):
            return self.rows(draw([map_tensors(source, lambda t: t[:VIEWED])], size, drop_single=False), False)
        if is_plain_loader(source):
            loader = DataLoader(source.dataset, source.batch_size, collate_fn=source.collate_fn)
            return self.rows(self._draw(loader), False)
        if is_numbered(source):
            return self.rows(self._draw(DataLoader(source, size)), False)
        return self.rows(self.box.batches, False) if isinstance(source, (list, tuple)) else None


def _is_series(rows: Rows, chosen: Tensor) -> bool:
    """Rows tell of the rows after them: in a time series the label of the row before is no secret, and proves no shift."""
    plain = rows.views["plain"][chosen]
    views = {"plain": plain[:-1]}
    return glance(views, standardized(plain)[1:], 0).p_value <= UNRELATED


def _distinct(rows: Rows) -> Tensor:
    """Which of the viewed rows have a label and inputs that no earlier one has."""
    told, seen, chosen = rows.told, set[int](), []
    for place, row in enumerate(rows.viewed.tolist()):
        if bool(told[row]) and rows.digests[row] not in seen:
            seen.add(rows.digests[row])
            chosen.append(place)
    return torch.tensor(chosen, dtype=torch.long)


def _beside(rows: Rows, chosen: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Views and labels of the chosen ones among the viewed rows."""
    return {name: table[chosen] for name, table in rows.views.items()}, rows.columns(rows.viewed[chosen])


def _kinds(rows: Rows, chosen: Tensor) -> tuple[int, int, int]:
    """How many rows, classes, and rows that are not of the most frequent class."""
    if rows.kind != "classes":
        return len(chosen), 0, len(chosen)
    counts = torch.bincount(rows.codes[rows.viewed[chosen]])
    return len(chosen), int((counts > 0).sum()), len(chosen) - int(counts.max())
