"""Labels moved to their inputs, classes weighed, batches mixed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue.batches import draw, is_pair, map_tensors, size_of, tensors_of
from runtrue.findings import Finding, Remedy
from runtrue.measure import Measurements
from runtrue.remedies.redrawing import in_batches, redrawn
from runtrue.remedies.registry import remedy
from runtrue.sandbox import Sandbox
from runtrue.splits import Labels
from runtrue.splits.pool import Epochs, Mixed, Pool, pool_of, pooled
from runtrue.splits.rows import at_random, is_plain_loader, labels_of, shuffled
from runtrue.task import split

BINARY = (nn.BCEWithLogitsLoss, F.binary_cross_entropy_with_logits)
CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss, F.cross_entropy, F.nll_loss)


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
        return shuffled(source) if is_plain_loader(source) else Mixed(in_batches(source, box.task.batch_size))

    yield Remedy(
        "shuffle the rows",
        True,
        code,
        lambda task: redrawn(task, pool.endless(torch.arange(pool.size), box.seed), box, settle),
    )
