"""Rows of a split: who is who by a digest of its inputs, what its label is, and for some of them what the inputs look like."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

from runtrue.batches import Batches, draw, is_pair, size_of, tensors_of
from runtrue.splits.facts import Labels, Split
from runtrue.splits.views import bits, views
from runtrue.task import split

MAX_ROWS = 20_000  # a digest is a microsecond or two, and 5 % of overlap show in far fewer
MAX_SECONDS = 1.5
SECONDS, BYTES = 1.5, 32 * 2**20  # of drawing each set beside the one that is trained on
VIEWED = 1000  # rows whose inputs are looked at: enough for every relation that calibration knows of
COLUMNS = 16  # of targets; wider ones are folded by random signs
MAX_CLASSES = 1000  # the words of a language are no classes to be compared
CLASSES = ("cross_entropy", "nll_loss")
REGRESSION = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
Kind = Literal["classes", "values", "unknown"]


@dataclass(frozen=True, eq=False)
class Rows:
    """n rows, in the order in which they came. codes: class numbers into `names`, or target columns, of the n rows.

    viewed: which rows the views are of. fair: the rows are all there are, or were drawn at random.
    """

    digests: list[int]
    blank: Tensor
    batch: Tensor
    kind: Kind
    names: tuple[int | float, ...]
    codes: Tensor
    viewed: Tensor
    views: dict[str, Tensor]
    whole: bool
    fair: bool

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def told(self) -> Tensor:
        """Rows whose label counts: a mask."""
        return self.codes >= 0 if self.kind == "classes" else torch.isfinite(self.codes).all(1)

    @property
    def values(self) -> Tensor | None:
        """The inputs of the viewed rows, as they are or folded."""
        return self.views.get("values", self.views.get("plain"))

    def columns(self, chosen: Tensor) -> Tensor:
        """Labels of the chosen rows for statistics: a column a class, or normal scores of the targets, float32."""
        if self.kind == "classes":
            return torch.nn.functional.one_hot(self.codes[chosen], max(1, len(self.names))).float()
        return normal_scores(self.codes[chosen]).float()

    def facts(self) -> Split:
        counts = torch.bincount(self.codes[self.told], minlength=len(self.names)) if self.kind == "classes" else None
        labels = Labels()
        if counts is not None:
            ordered = sorted(zip(counts.tolist(), self.names), key=lambda pair: -pair[0])
            labels = Labels(tuple(n for c, n in ordered if c), tuple(c for c, _ in ordered if c))
        carried = bits(self.values) if self.values is not None else 0.0
        return Split(len(self), self.whole, self.fair, self.kind, labels, carried)


def read(batches: Batches, *, pairs: bool, fair: bool, loss: str | None = None, ignored: int = -100) -> Rows | None:
    """Read the batches once; None if they hold no rows. pairs: each is (inputs, targets); else all of it counts as inputs."""
    digests: list[int] = []
    blank, numbers, targets, tables, viewed = [], [], [], [], []
    start, complete, every = time.monotonic(), True, 1
    for number, batch in enumerate(batches):
        count = size_of(batch)
        if len(digests) >= MAX_ROWS or time.monotonic() - start > MAX_SECONDS:
            complete = False
            break
        if not count:
            return None
        if number == 0:
            every = max(1, math.ceil(min(MAX_ROWS, batches.held * count) / VIEWED))
        inputs, wanted = split(batch) if pairs else (batch, None)
        places = torch.arange(-len(digests) % every, count, every)
        if len(places):
            tables.append(views(_rows_of(inputs, places)))
            viewed.append(places + len(digests))
        marks, empty = digests_of(inputs, count)
        digests += marks
        blank.append(empty)
        numbers.append(torch.full((count,), number))
        targets.append(next((torch.as_tensor(t).detach().cpu() for t in tensors_of(wanted)), None))
    if not digests:
        return None
    kind, names, codes = labels_of(targets, len(digests), loss, ignored)
    whole = complete and not batches.used_up and batches.held == batches.per_epoch
    kept, where = _joined(tables, viewed)
    return Rows(
        digests, torch.cat(blank), torch.cat(numbers), kind, names, codes, where, kept, whole, whole or fair
    )  # fmt: skip


def some(source: Any, batch_size: int, seed: int) -> Batches:
    """The first batches of a set beside the one that is trained on, the last one too."""
    return draw(source, batch_size, seed, drop_single=False, seconds=SECONDS, size=BYTES)


def _rows_of(inputs: Any, places: Tensor) -> Any:
    return [torch.as_tensor(t).detach().cpu()[places] for t in tensors_of(inputs) if t.ndim]


def _joined(tables: list[dict[str, Tensor]], viewed: list[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """The tables of all batches as one of each name; none where the shapes change from batch to batch."""
    shapes = {tuple((name, t.shape[1]) for name, t in table.items()) for table in tables}
    if len(shapes) != 1:
        return {}, torch.zeros(0, dtype=torch.long)
    return {name: torch.cat([table[name] for table in tables]) for name in tables[0]}, torch.cat(viewed)


def digests_of(inputs: Any, count: int) -> tuple[list[int], Tensor]:
    """A number for each row that is the same where the inputs are the same, and whether all its values are equal."""
    arrays, blank = [], torch.ones(count, dtype=torch.bool)
    for item in tensors_of(inputs):
        tensor = torch.as_tensor(item).detach().cpu()
        if tensor.dim() == 0 or tensor.numel() == 0:
            continue
        flat = tensor.reshape(count, -1)
        if flat.is_complex():
            flat = torch.view_as_real(flat).reshape(count, -1)
        flat = flat.float() + 0.0 if flat.is_floating_point() else flat.long()  # -0.0 is 0.0
        blank &= flat.amin(1) == flat.amax(1)
        arrays.append(flat.contiguous().numpy())
    found = []
    for row in range(count):
        mark = hashlib.blake2b(digest_size=8)
        for array in arrays:
            mark.update(array[row])
        found.append(int.from_bytes(mark.digest(), "little"))
    return found, blank


# -- labels


def labels_of(
    targets: list[Tensor | None], rows: int, loss: str | None, ignored: int
) -> tuple[Kind, tuple[int | float, ...], Tensor]:
    """What a row is labelled with: one class of a few (also one-hot), or numbers. Labels of places in a row are neither."""
    unknown: tuple[Kind, tuple[int | float, ...], Tensor] = ("unknown", (), torch.full((rows, 1), math.nan))
    known = [t.reshape(len(t), -1) if t is not None and t.dim() else None for t in targets]
    widths = {t.shape[1] if t is not None else 0 for t in known}
    if len(widths) != 1 or 0 in widths:
        return unknown
    table = torch.cat([t for t in known if t is not None])
    if len(table) != rows or table.is_complex():
        return unknown
    exact, width = not table.is_floating_point(), table.shape[1]
    table = table.double()
    if width == 1:
        return _one_column(table[:, 0], exact, loss, ignored)
    zero_one = bool(((table == 0) | (table == 1)).all())
    if zero_one and bool((table.sum(1) == 1).all()):
        return "classes", tuple(range(width)), table.argmax(1)
    if exact and not zero_one:
        return unknown
    if width > COLUMNS:
        signs = torch.randint(0, 2, (width, COLUMNS), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
        table = table @ signs.double()
    return "values", (), table


def _one_column(
    values: Tensor, exact: bool, loss: str | None, ignored: int
) -> tuple[Kind, tuple[int | float, ...], Tensor]:
    counts = torch.isfinite(values) & (values != ignored) if exact else torch.isfinite(values)
    distinct = values[counts].unique()
    if loss in CLASSES and len(distinct) > MAX_CLASSES:
        return "unknown", (), values[:, None]
    few = len(distinct) <= 2 or (exact and loss not in REGRESSION and len(distinct) <= max(20, len(values) // 10))
    if not few and loss not in CLASSES:
        return "values", (), values[:, None]
    codes = torch.searchsorted(distinct, values.contiguous()).clamp(max=max(0, len(distinct) - 1))
    names = tuple(int(v) if float(v).is_integer() else float(v) for v in distinct.tolist())
    return "classes", names, torch.where(counts, codes, torch.full_like(codes, -1))


def normal_scores(values: Tensor) -> Tensor:
    """Ranks as quantiles of the normal distribution, column by column; equal values share their mean rank (van der Waerden)."""
    columns = []
    for column in values.T.contiguous():
        _, place, counts = column.unique(return_inverse=True, return_counts=True)
        ranks = counts.cumsum(0).double() - (counts.double() - 1) / 2
        columns.append(torch.special.ndtri((ranks[place] - 0.5) / len(column)))
    return torch.stack(columns, 1)


# -- sources


def is_numbered(source: Any) -> bool:
    """A Dataset whose items can be had by number."""
    return isinstance(source, Dataset) and not isinstance(source, IterableDataset) and hasattr(source, "__len__")


def is_plain_loader(source: Any) -> bool:
    """A DataLoader that goes through all items of its dataset once, in order or at random."""
    return (
        isinstance(source, DataLoader)
        and is_numbered(source.dataset)
        and source.batch_size is not None
        and type(source.sampler) in (SequentialSampler, RandomSampler)
        and not getattr(source.sampler, "replacement", False)
    )


def is_shuffled(source: Any) -> bool:
    """Its rows are drawn at random, by their own loader or by ours."""
    if isinstance(source, DataLoader):
        return is_plain_loader(source) and type(source.sampler) is RandomSampler
    return is_numbered(source) or is_pair(source)


def at_random(source: Any, seed: int) -> Any:
    """The same rows in random order where they can be had by number; else the source as it is."""
    return source if is_shuffled(source) or not is_plain_loader(source) else shuffled(source, seed)


def shuffled(loader: DataLoader[Any], seed: int | None = None, rows: Dataset[Any] | None = None) -> DataLoader[Any]:
    """The same loader in random order (with a seed: the same order whenever it is drawn), of other rows if they are given."""
    return DataLoader(
        loader.dataset if rows is None else rows,
        loader.batch_size,
        shuffle=True,
        generator=torch.Generator().manual_seed(seed) if seed is not None else None,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
