"""Rows put right: labels moved to their inputs, classes weighed, batches mixed, copies left out, splits made anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from runtrue import facts
from runtrue.batches import draw, is_pair, map_tensors, size_of, tensors_of, to_device
from runtrue.findings import Finding, Remedy
from runtrue.measure import Measurements
from runtrue.remedies.registry import remedy
from runtrue.remedies.scaling import constants
from runtrue.sandbox import Sandbox
from runtrue.splits import Labels
from runtrue.splits.pool import Epochs, Mixed, Pool, joined, pool_of, pooled
from runtrue.splits.rows import at_random, digests_of, is_numbered, is_plain_loader, labels_of, shuffled
from runtrue.task import Task, split
from runtrue.trials import Changed

HELD_OUT = 0.2  # of the rows, where val was train
BINARY = (nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits)
CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss, F.cross_entropy, F.nll_loss)


@dataclass(frozen=True, eq=False)
class Redrawn(Changed):
    """Other batches in place of the user's own: in a trial those that `change` deals, in training those that `settle` gives."""

    settle: Callable[[], Any]

    def __iter__(self) -> Iterator[Any]:
        source = self.settle()
        return iter(draw(source, 32)) if is_pair(source) else iter(source)

    def settled(self) -> Any:
        return self.settle()


def redrawn(task: Task, batches: Iterator[Any], box: Sandbox, settle: Callable[[], Any]) -> Task:
    """The task with these batches; a change that another remedy made to each batch is kept."""
    before = task.train if isinstance(task.train, Changed) else None

    def change(_: Any) -> Any:
        batch = to_device(next(batches), box.device)
        return before.change(batch) if before else batch

    def settled() -> Any:
        return Changed(settle(), before.change).settled() if before else settle()

    return task.replace(train=Redrawn(task.train, change, settled))


# -- labels


@remedy("labels-unrelated")
def move_labels(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Labels moved by the rows that they are off. Labels that were shuffled cannot be put back: there is no remedy."""
    shift, source = int(finding.evidence["shift"]), box.task.train
    if not shift or not is_pair(source):
        return
    kept = slice(shift, None) if shift > 0 else slice(None, shift)
    inputs, targets = source
    moved = (
        map_tensors(inputs, lambda t: t[kept]),
        map_tensors(targets, lambda t: t.roll(shift, 0)[kept]),
    )
    pool = Pool(moved, size_of(moved), box.task.batch_size, shuffled=True, whole=True)
    code = (
        f"inputs, targets = inputs[{shift}:], targets[:-{shift}]  # each label beside the inputs it belongs to"
        if shift > 0
        else f"inputs, targets = inputs[:{shift}], targets[{-shift}:]  # each label beside the inputs it belongs to"
    )
    yield Remedy(
        f"move the labels {abs(shift)} row{'s' if abs(shift) > 1 else ''} {'down' if shift > 0 else 'up'}",
        False,
        code,
        lambda task: redrawn(task, pool.endless(torch.arange(pool.size), box.seed), box, lambda: moved),
    )


@remedy("class-imbalance")
def weigh_classes(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Errors on rare classes weighted up, so that every class counts the same in the loss (King and Zeng 2001)."""
    labels = measured.splits.train.labels if measured.splits and measured.splits.train else Labels()
    known = measured.start.loss_facts
    made = _made_of(box.task.loss)
    if known is None or made is None or len(labels.names) < 2 or not all(isinstance(n, int) for n in labels.names):
        return
    if made in BINARY:
        weight = torch.tensor(labels.share(0) / max(labels.share(1), 1e-12), device=box.device)
        name, told = "pos_weight", f"torch.tensor({float(weight):.4g})"
    else:
        equal = [1 / (len(labels.names) * labels.share(c)) if labels.share(c) else 0.0 for c in range(known.classes)]
        weight, name = torch.tensor(equal, device=box.device), "weight"
        told = f"torch.tensor([{', '.join(f'{w:.4g}' for w in equal)}])"
    module = isinstance(made, type)
    call = (
        f"nn.{made.__name__}({name}={told})"
        if module
        else f"functools.partial(nn.functional.{made.__name__}, {name}={told})"
    )
    yield Remedy(
        "weigh the classes in the loss",
        True,
        f"loss_fn = {call}  # and the loss's other arguments",
        lambda task: task.replace(loss=_weighted(task.loss, name, weight)),
        rescales_loss=True,
    )


def _made_of(loss: Any) -> Any:
    """Which of torch's losses over classes this is, if it has no weights yet."""
    if type(loss) in (*BINARY, *CLASSES):
        return type(loss) if loss.weight is None and getattr(loss, "pos_weight", None) is None else None
    base = loss.func if isinstance(loss, partial) else loss
    given = loss.keywords if isinstance(loss, partial) else {}
    return base if base in (*BINARY, *CLASSES) and not {"weight", "pos_weight"} & set(given) else None


def _weighted(loss: Any, name: str, weight: Tensor) -> Any:
    if not isinstance(loss, nn.Module):
        return partial(loss, **{name: weight})
    settings = {
        key: getattr(loss, key) for key in ("ignore_index", "reduction", "label_smoothing") if hasattr(loss, key)
    }
    made: Any = type(loss)
    return made(**settings, **{name: weight})


@remedy("class-imbalance")
def draw_evenly(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Batches in which every class is as frequent as any other: rows of rare classes are drawn several times."""
    pool = pool_of(box)
    codes = _codes(pool, measured) if pool else None
    if pool is None or codes is None:
        return
    weights = 1 / torch.bincount(codes).clamp(min=1)[codes].double()

    def choose(generator: torch.Generator | None = None) -> Tensor:
        return torch.multinomial(weights, len(weights), replacement=True, generator=generator)

    def deal(seed: int) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield from pool.batches(choose(generator))

    code = (
        "weights = 1.0 / torch.bincount(targets)[targets].double()\n"
        "sampler = torch.utils.data.WeightedRandomSampler(weights, len(weights))\n"
        f"train = DataLoader(TensorDataset(inputs, targets), batch_size={pool.batch}, sampler=sampler)"
    )
    yield Remedy(
        "draw every class as often",
        True,
        code,
        lambda task: redrawn(task, deal(box.seed), box, lambda: Epochs(pool, choose)),
        rescales_loss=True,
    )


def _codes(pool: Pool, measured: Measurements) -> Tensor | None:
    """The class of each row of the pool; None where a row has no one class."""
    loss = measured.start.loss_facts
    targets = next((torch.as_tensor(t).detach().cpu() for t in tensors_of(split(pool.rows)[1])), None)
    kind, _, codes = labels_of([targets], pool.size, loss.name if loss else None, loss.ignore_index if loss else -100)
    return codes if kind == "classes" and bool((codes >= 0).all()) else None


# -- order


@remedy("unshuffled-batches")
def shuffle(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """The same rows in random order, in batches of the same size."""
    source = box.task.train
    if is_plain_loader(source):
        drawn = draw(at_random(source, box.seed), source.batch_size or 1, box.seed)
        pool = pooled(drawn, shuffled=True, whole=False)
        code = f"train = DataLoader(dataset, batch_size={source.batch_size}, shuffle=True)"
    else:
        pool = pool_of(box)
        code = (
            "order = torch.randperm(len(inputs))  # shuffle the rows before they are put into batches\n"
            "inputs, targets = inputs[order], targets[order]"
        )
    if pool is None:
        return

    def settle() -> Any:
        return shuffled(source) if is_plain_loader(source) else Mixed(_in_batches(source, box.task.batch_size))

    yield Remedy(
        "shuffle the rows",
        True,
        code,
        lambda task: redrawn(task, pool.endless(torch.arange(pool.size), box.seed), box, settle),
    )


# -- twins


@remedy("repeated-examples")
def keep_one(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Of rows with the same inputs the first alone."""
    pool = pool_of(box)
    if pool is None or box.task.step is not None:
        return
    numbers = torch.tensor(_first(digests_of(split(pool.rows)[0], pool.size)[0]))
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


def _first(marks: list[int]) -> list[int]:
    seen: dict[int, int] = {}
    return [row for row, mark in enumerate(marks) if seen.setdefault(mark, row) == row]


@dataclass(frozen=True, eq=False)
class Without:
    """The batches of `source` without rows whose inputs are known, or came earlier in the epoch."""

    source: Any
    batch_size: int
    known: frozenset[int]

    def __iter__(self) -> Iterator[Any]:
        seen = set(self.known)
        for batch in _in_batches(self.source, self.batch_size):
            marks = digests_of(split(batch)[0], size_of(batch))[0]
            keep = torch.tensor([i for i in _first(marks) if marks[i] not in seen], dtype=torch.long)
            seen |= set(marks)
            if len(keep):
                yield map_tensors(batch, partial(_rows, keep))


def _in_batches(source: Any, batch_size: int) -> Any:
    """The user's own batches, or those of a plain loader over a dataset."""
    if callable(source) and not hasattr(source, "__iter__") and not isinstance(source, Dataset):
        source = source()
    return DataLoader(source, batch_size, shuffle=is_numbered(source)) if isinstance(source, Dataset) else source


def _rows(keep: Tensor, tensor: Tensor) -> Tensor:
    return tensor[keep.to(tensor.device)]


# -- splits


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
    return map_tensors(val, partial(_rows, keep))


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
        rows = joined([map_tensors(source, lambda t: t) for source in sources])
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
