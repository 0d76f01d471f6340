"""Copies left out, rows held out, splits made anew, one scale for both."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from runtrue import facts
from runtrue.batches import draw, is_pair, map_tensors, size_of, together
from runtrue.findings import Finding, Remedy
from runtrue.measure import Measurements
from runtrue.remedies.redrawing import Without, first_of, redrawn, rows_at
from runtrue.remedies.registry import remedy
from runtrue.remedies.scaling import constants
from runtrue.sandbox import Sandbox
from runtrue.splits.pool import Epochs, Pool, pool_of
from runtrue.splits.rows import at_random, digests_of, is_numbered, is_plain_loader, shuffled
from runtrue.task import Task, split
from runtrue.trials import Changed

HELD_OUT = 0.2  # of the rows, where val was train


@remedy("repeated-examples")
def keep_one(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Of rows with the same inputs the first alone."""
    pool = pool_of(box)
    if pool is None or box.task.step is not None:
        return
    numbers = torch.tensor(first_of(digests_of(split(pool.rows)[0], pool.size)[0]))
    code = (
        "seen = {}\n"
        "keep = [seen.setdefault(row.numpy().tobytes(), i) == i for i, row in enumerate(inputs)]\n"
        "inputs, targets = inputs[keep], targets[keep]"
    )

    def settle() -> Any:
        if not pool.whole:
            return Without(box.task.train, box.task.batch_size, frozenset())
        return (
            pool.take(numbers)
            if is_pair(box.task.train)
            else Epochs(pool, lambda: numbers[torch.randperm(len(numbers))])
        )

    yield Remedy(
        "keep one of the rows that have the same inputs",
        False,
        code,
        lambda task: redrawn(task, pool.endless(numbers, box.seed), box, settle),
    )


@remedy("train-val-overlap")
def hold_out(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Validation on rows that are not trained on: those of val that train lacks, or a fifth of train where val is train."""
    task = box.task
    if finding.evidence["same_source"] or finding.evidence["share"] >= 1:
        code = (
            "order = torch.randperm(len(inputs))\n"
            f"kept, held_out = order[len(inputs) // {round(1 / HELD_OUT)}:], order[:len(inputs) // {round(1 / HELD_OUT)}]\n"
            "train, val = (inputs[kept], targets[kept]), (inputs[held_out], targets[held_out])"
        )
        yield from _divided(task.train, None, HELD_OUT, f"hold out {HELD_OUT:.0%} of the rows", code, box)
    elif task.step is None:
        known = _marks(box.batches)
        code = (
            "known = {row.numpy().tobytes() for row in inputs}\n"
            "keep = [row.numpy().tobytes() not in known for row in val_inputs]\n"
            "val_inputs, val_targets = val_inputs[keep], val_targets[keep]"
        )
        yield Remedy(
            "leave out the rows of val that train has",
            False,
            code,
            lambda treated: treated.replace(val=_without(treated.val, treated.batch_size, known)),
        )


def _marks(batches: Any) -> frozenset[int]:
    return frozenset(mark for batch in batches for mark in digests_of(split(batch)[0], size_of(batch))[0])


def _without(val: Any, batch_size: int, known: frozenset[int]) -> Any:
    if not is_pair(val):
        return Without(val, batch_size, known)
    marks = digests_of(val[0], size_of(val))[0]
    keep = torch.tensor([row for row, mark in enumerate(marks) if mark not in known], dtype=torch.long)
    return map_tensors(val, partial(rows_at, keep))


@remedy("train-val-mismatch")
def split_again(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Classes that one split lacks: the rows of both together, shuffled, then split into as many as before."""
    if "missing" not in finding.evidence:
        return
    code = (
        "inputs, targets = torch.cat([inputs, val_inputs]), torch.cat([targets, val_targets])\n"
        "order = torch.randperm(len(inputs))\n"
        "kept, held_out = order[len(val_inputs):], order[:len(val_inputs)]\n"
        "train, val = (inputs[kept], targets[kept]), (inputs[held_out], targets[held_out])"
    )
    yield from _divided(box.task.train, box.task.val, None, "shuffle train and val together and split again", code, box)


def _divided(train: Any, val: Any, share: float | None, name: str, code: str, box: Sandbox) -> Iterator[Remedy]:
    """Rows of train (and val) divided anew, in the form that they have. Nothing for a stream: it has no rows by number."""
    generator = torch.Generator().manual_seed(box.seed)
    sources = [train] if val is None else [train, val]
    if all(map(is_pair, sources)):
        rows = together(sources)
        pool = Pool(rows, size_of(rows), box.task.batch_size, shuffled=True, whole=True)
        order = torch.randperm(pool.size, generator=generator)
        cut = size_of(val) if val is not None else round((share or 0.0) * pool.size)
        kept, held_out = order[cut:], order[:cut]

        def treat_pair(task: Task) -> Task:
            mixed = redrawn(task, pool.endless(kept, box.seed), box, lambda: pool.take(kept))
            return mixed.replace(val=pool.take(held_out))

        yield Remedy(name, False, code, treat_pair)
    elif all(is_plain_loader(source) or is_numbered(source) for source in sources):
        sets: list[Dataset[Any]] = [s.dataset if isinstance(s, DataLoader) else s for s in sources]
        whole: Any = ConcatDataset(sets)
        numbers = torch.randperm(len(whole), generator=generator)
        cut = len(ConcatDataset(sets[1:])) if val is not None else round((share or 0.0) * len(whole))
        parts = [Subset(whole, numbers[cut:].tolist()), Subset(whole, numbers[:cut].tolist())]
        first = _like(train, parts[0])
        drawn = draw(first, box.task.batch_size, box.seed)

        def treat(task: Task) -> Task:
            mixed = redrawn(task, map(drawn.get, count()), box, lambda: first)
            return mixed.replace(val=_like(train if val is None else val, parts[1]))

        yield Remedy(name, False, code, treat)


def _like(source: Any, rows: Dataset[Any]) -> Any:
    """These rows behind a loader with the settings of `source`, if that is one."""
    return shuffled(source, rows=rows) if isinstance(source, DataLoader) else rows


@remedy("train-val-mismatch")
def same_scale(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Inputs or targets of val brought to the mean and spread of those of train. Better still: the same transform for both."""
    task, what = box.task, finding.where.removeprefix("val ")
    if "spread" not in finding.evidence or task.step is not None:
        return
    other = facts.measure(draw(at_random(task.val, box.seed), task.batch_size, box.seed), pairs=True, whole=False)
    pair = (measured.data.targets, other.targets) if what == "targets" else (_only(measured.data), _only(other))
    if pair[0] is None or pair[1] is None:
        return
    (mean, std, _), (val_mean, val_std, per) = constants(pair[0]), constants(pair[1])

    def change(batch: Any) -> Any:
        inputs, targets = split(batch)
        scaled = map_tensors(targets if what == "targets" else inputs, _to_scale)
        return (inputs, scaled) if what == "targets" else (scaled, targets)

    def _to_scale(tensor: Tensor) -> Tensor:
        place = tensor.device
        return (tensor - val_mean.to(place)) / val_std.to(place) * std.to(place) + mean.to(place)

    e = finding.evidence
    code = (
        f"# give val the transform that train has; by their numbers (of each {per}) it is about:\n"
        f"val_{what} = (val_{what} - {e['val_mean']:.4g}) / {e['val_std']:.4g} * {e['train_std']:.4g} + {e['train_mean']:.4g}"
    )
    yield Remedy(
        f"bring the {what} of val to the scale of train",
        True,
        code,
        lambda treated: treated.replace(val=Changed(treated.val, change).settled()),
    )


def _only(data: facts.DataFacts) -> facts.TensorFacts | None:
    return data.inputs[0] if len(data.inputs) == 1 else None
