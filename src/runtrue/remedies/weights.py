"""Better initial weights: by the activation that follows each layer, or by the data (LSUV)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.optim import Optimizer

from runtrue import batches, init, norms
from runtrue.findings import Finding, Remedy
from runtrue.init.passes import as_found
from runtrue.measure import Measurements
from runtrue.remedies.registry import remedy
from runtrue.remedies.wiring import optimizing_all
from runtrue.sandbox import Sandbox
from runtrue.tape import Tape, record
from runtrue.task import Task, forward, split

EXAMPLES = 64  # enough to trace, and for the variances that LSUV measures

WEIGHTS = (
    "init-too-small",
    "init-too-large",
    "init-symmetric",
    "vanishing-gradient",
    "exploding-gradient",
    "dead-units",
)


@remedy(*WEIGHTS)
def reinitialise(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Xavier, He or LeCun for each layer, by the activation that follows it (N1.4, N1.5)."""
    batch = batches.head(box.batch(0), EXAMPLES)

    def treat(task: Task) -> Task:
        _apply(task, batch)
        return task

    applied = _apply(box.start(), batch)
    box.start()
    schemes = " and ".join(dict.fromkeys(done.scheme for done in applied if done.scheme))
    if schemes:
        yield Remedy(f"initialise with {schemes}", True, init.code_for(applied), treat)


@remedy("vanishing-gradient", "exploding-gradient", "dead-units")
def by_the_data(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """LSUV (Mishkin and Matas 2016): scale each layer until its output has unit variance on a batch."""
    if box.task.step is not None:
        return
    batch = batches.head(box.batch(0), EXAMPLES)

    def treat(task: Task) -> Task:
        assert isinstance(task.model, nn.Module)
        init.lsuv(task.model, split(batch)[0])
        return task

    code = "import runtrue\n\nruntrue.init.lsuv(model, inputs)  # inputs: a batch as the model takes it"
    yield Remedy("initialise by the data (LSUV)", True, code, treat)


@remedy("vanishing-gradient", "exploding-gradient", "dead-units")
def normalize(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Batch normalization in front of the activations (N1.6; Ioffe and Szegedy 2015)."""
    layers = [
        r for r in measured.start.layers[:-1] if r.kind in ("linear", "conv") and r.activation and not r.normalized
    ]
    names = tuple(
        r.layer for r in layers if isinstance(_module(box.model, r.layer), tuple(kind for kind, _ in norms.NORMS))
    )
    if not names or measured.data.batch_size < 4 or any(r.calls > 1 for r in layers):
        return
    yield Remedy(
        f"BatchNorm in front of {len(names)} activations",
        False,
        norms.code(names),
        lambda task: _with_norms(task, names),
    )


def _with_norms(task: Task, names: tuple[str, ...]) -> Task:
    """Each named layer followed by a batch normalization; an optimizer that is built already is told of the new parameters."""
    assert isinstance(task.model, nn.Module)
    norms.insert(task.model, names)
    return optimizing_all(task) if isinstance(task.optimizer, Optimizer) else task


def _module(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name) if name else None
    except AttributeError:
        return None


def _apply(task: Task, batch: Any) -> list[init.Applied]:
    assert isinstance(task.model, nn.Module)
    return init.apply(task.model, "auto", trace=trace(task, batch))


def trace(task: Task, batch: Any) -> Tape:
    """What a forward pass of this task does; modes and running statistics stay as they are."""
    model = task.model
    assert isinstance(model, nn.Module)
    with as_found(model):
        return record(lambda: forward(task, model, batch), model)
