"""`runtrue.watch`: watch a training loop, whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from runtrue.findings import Finding
from runtrue.watch.watching import Log, Watch


def watch(
    model: nn.Module,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    run: str | Path | None = None,
    *,
    every: int | None = None,
    start: int = 0,
    say: Callable[[str], None] | None = None,
    told: Callable[[int, Finding], None] | None = None,
    log: Log | None = None,
    ranks: bool = False,
) -> Watch:
    """Watch the training of `model` by `optimizer` (one or several); see `Watch` for `step`, `epoch`, `verdicts` and `close`.

    run: a folder for the record, made if it is missing; None to keep none. every: steps from one reading of layers and
    parameters to the next; None: as many as 0.5 % of the training's time allows. start: the step that comes first, if a run
    is gone on with; what its record holds of later ones is replaced. say: where verdicts are printed (standard error). told:
    called with the step and the finding of each verdict, on another thread. log: for those who keep a record elsewhere too;
    called with {"loss", "lr", "seconds", "grad_norm", "update_ratio"} (as far as they are known; means of the steps since the
    last call, gradient and update of the last reading) and the step that they reach to, about once a second, from within
    `step` and `close`, so on the thread that trains. ranks: in a distributed training, bring the numbers of all processes
    together (every process has to call `watch` then; rank 0 writes and tells); without it, each process keeps a record of its
    own.

    The training is not changed: no random number is drawn, and weights are bit-identical with and without. Raises TypeError if
    `model` or `optimizer` is something else, and ValueError for `every` below 1.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"watch needs an nn.Module, got {type(model).__name__}")
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer or ())
    for one in optimizers:
        if not isinstance(one, Optimizer):
            raise TypeError(f"watch needs a torch.optim.Optimizer, or several in a list, got {type(one).__name__}")
    if every is not None and every < 1:
        raise ValueError(f"every is the number of steps from one reading to the next, 1 at least; got {every}")
    return Watch(model, optimizers, None if run is None else Path(run), every, say, log, told, start, together=ranks)
