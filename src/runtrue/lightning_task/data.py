"""Where the batches of a LightningModule come from: a LightningDataModule, the module itself, or what `--data` names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from runtrue.batches import in_this_process, is_pair
from runtrue.lightning_task.standin import Standin, is_data_module, overrides
from runtrue.task import TaskError, blame

USUAL_BATCH = 32  # as of a Task


@dataclass(frozen=True, eq=False)
class Sources:
    """Training and validation data as a task takes them."""

    train: Any
    val: Any
    batch_size: int


def data_module_of(module: nn.Module, data: Any, standin: Standin) -> Any:
    """The user's data module, on a copy that its setup may change; None where the data are no data module.

    Raises TaskError if there are no data at all.
    """
    if data is None and not overrides(module, "train_dataloader"):
        raise TaskError(
            f"{type(module).__name__} has no train_dataloader, and no data were named: add --data file.py:name with a "
            "LightningDataModule, a DataLoader, a Dataset, a pair of tensors or a function that returns one of these"
        )
    if not is_data_module(data):
        return None
    own = copy.copy(data)
    vars(own)["trainer"] = standin
    standin.datamodule = own
    return own


def sources(module: nn.Module, data: Any, data_module: Any) -> Sources:
    """The data of a module that is set up, from the data module, from `data`, or from itself. Raises TaskError if there is
    nothing to train on."""
    size = batch_size(data_module or module) or batch_size(module) or USUAL_BATCH
    if data is not None and data_module is None:
        return Sources(data, None, size)
    holder = module if data_module is None else data_module
    if not overrides(holder, "train_dataloader"):
        raise TaskError(f"{type(holder).__name__} has no train_dataloader: there is nothing to train on")
    train = combined(call(holder, "train_dataloader"))
    if train is None:
        raise TaskError(f"{type(holder).__name__}.train_dataloader returned None: there is nothing to train on")
    val = call(holder, "val_dataloader")
    return Sources(train, val[0] if isinstance(val, (list, tuple)) and val else val, size)


def batch_size(holder: Any) -> int | None:
    """For tensors and datasets: `batch_size` among the hyperparameters of a module, or among its attributes."""
    return number(holder, ("batch_size",))


def number(holder: Any, names: Iterable[str]) -> int | None:
    """The first of these that is a whole number above 0, among the hyperparameters or the attributes."""
    for place in (getattr(holder, "hparams", {}), getattr(holder, "__dict__", {})):
        for name in names:
            found = place.get(name)
            if isinstance(found, int) and not isinstance(found, bool) and found > 0:
                return found
    return None


def call(holder: Any, method: str, *arguments: Any) -> Any:
    if not overrides(holder, method):
        return None
    try:
        return getattr(holder, method)(*arguments)
    except TaskError:
        raise
    except Exception as error:
        raise TaskError(f"{type(holder).__name__}.{method} failed: {blame(error)}") from error


def combined(loaders: Any) -> Any:
    """Several loaders as one, as Lightning combines them: a batch is a list or dict of one of each."""
    if isinstance(loaders, Mapping):
        return Together(dict(loaders))
    if isinstance(loaders, (list, tuple)) and loaders and all(isinstance(part, DataLoader) for part in loaders):
        return loaders[0] if len(loaders) == 1 else Together(list(loaders))
    return loaders


@dataclass(frozen=True, eq=False)
class Together:
    """The longest gives the length, the shorter ones begin again (Lightning's "max_size_cycle")."""

    loaders: Any

    def __iter__(self) -> Iterator[Any]:
        named = self.loaders if isinstance(self.loaders, dict) else dict(enumerate(self.loaders))
        going = {key: _again_and_again(loader) for key, loader in named.items()}
        for _ in range(len(self)):
            batch = {key: next(batches) for key, batches in going.items()}
            yield batch if isinstance(self.loaders, dict) else list(batch.values())

    def __len__(self) -> int:
        parts = self.loaders.values() if isinstance(self.loaders, dict) else self.loaders
        return max(len(loader) for loader in parts)


def _again_and_again(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


# -- the batches as a task wants them


class First:
    """The first few batches of a source, in this process."""

    def __init__(self, source: Any, count: int) -> None:
        self.source, self.count = source, count

    def __iter__(self) -> Iterator[Any]:
        source = in_this_process(self.source) if isinstance(self.source, DataLoader) else self.source
        return islice(iter(source), self.count)


@dataclass(frozen=True, eq=False)
class Collate:
    """A loader's own collate_fn, and what is done with the batch then."""

    collate: Callable[[Any], Any]
    changes: tuple[Callable[[Any], Any], ...]

    def __call__(self, rows: Any) -> Any:
        batch = self.collate(rows)
        for change in self.changes:
            batch = change(batch)
        return batch


@dataclass(frozen=True, eq=False)
class Prepared:
    """Batches of any iterable, each of them changed."""

    source: Iterable[Any]
    change: Callable[[Any], Any]

    def __iter__(self) -> Iterator[Any]:
        return map(self.change, self.source)

    def __len__(self) -> int:
        return len(self.source)  # type: ignore[arg-type]


def as_loader(source: Any, size: int) -> Any:
    """Tensors and datasets behind a loader that shuffles, as a task would draw them; anything else as it is."""
    if is_pair(source):
        source = torch.utils.data.TensorDataset(*map(torch.as_tensor, source))
    if isinstance(source, Dataset) and not isinstance(source, DataLoader):
        if isinstance(source, IterableDataset):
            return DataLoader(source, size)
        return DataLoader(source, size, shuffle=True, generator=torch.Generator().manual_seed(0))
    return source


def prepared(source: Any, *changes: Callable[[Any], Any]) -> Any:
    """The same batches, changed as they are drawn. A loader stays a loader, with its dataset and its order."""
    if not isinstance(source, DataLoader):
        return Prepared(source, Collate(lambda batch: batch, changes))
    other = copy.copy(source)
    other.__dict__["collate_fn"] = Collate(source.collate_fn, changes)
    return other
