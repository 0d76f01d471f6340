"""What holds a network back on purpose, measured at its first step: decay, penalty, dropout, normalization, overwritten weights.

Nothing here judges.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from runtrue import probes, stats
from runtrue.batches import tensors_of
from runtrue.calls import DropoutCall, NormCall
from runtrue.lossparts import LossWatch, Parted
from runtrue.sandbox import Sandbox
from runtrue.tape import Tape
from runtrue.task import Task, TaskError

SAME = 1e-5  # relative: two sums of the same float32 terms agree within this


@dataclass(frozen=True)
class Penalty:
    """What the user's loss adds to torch's loss function. The norms are of gradients with respect to all parameters."""

    whole: float
    data: float
    gradient: float
    data_gradient: float
    on_outputs: bool = False
    """It looks at the outputs too (a second loss term, a factor): no penalty on the weights."""

    @property
    def ratio(self) -> float:
        """Pull of the penalty over that of the data."""
        return self.gradient / self.data_gradient if self.data_gradient > 0 else math.inf


@dataclass(frozen=True)
class Decay:
    """Weight decay of the group whose pull is the strongest."""

    weight_decay: float
    rate: float
    ratio: float
    """Pull of the decay over that of the data: λ‖w‖ / ‖gradient‖; for AdamW, whose steps have a gradient of about 1 an entry,
    λ · rms(w)."""
    decoupled: bool = False

    def kept(self, steps: int) -> float:
        """Share of a weight that the decay alone leaves after so many steps of plain descent: (1 − rate · λ)^steps."""
        return max(0.0, 1.0 - self.rate * self.weight_decay) ** steps


@dataclass(frozen=True)
class Regularizers:
    """`norms` and `dropouts` in the order of the calls; `active_in_evaluation`: dropouts that drop there as well."""

    norms: tuple[NormCall, ...] = ()
    dropouts: tuple[DropoutCall, ...] = ()
    penalty: Penalty | None = None
    decay: Decay | None = None
    active_in_evaluation: tuple[DropoutCall, ...] = ()
    evaluation_spread: float = 0.0
    """‖difference‖ of the outputs of one batch in two evaluation passes, over ‖outputs‖."""
    training: bool = True
    """The model was in training mode when the loss was there."""
    overwritten: tuple[tuple[str, float], ...] = ()
    """Parameters that the forward pass or the loss wrote into: name, norm afterwards over norm before."""


def has_rest(loss: Tensor, watch: LossWatch) -> bool:
    """The loss is more than what torch's loss function gave, and the difference can be told."""
    data = watch.data_part()
    if data is None or not data.requires_grad or not math.isfinite(float(loss)):
        return False
    return abs(float(loss - data)) > SAME * max(abs(float(loss)), abs(float(data)))


def penalty(loss: Tensor, watch: LossWatch, model: nn.Module) -> Penalty | None:
    """The rest of a loss whose graph is still there, after its backward pass. None if there is none, or it is not known."""
    data = watch.data_part()
    if data is None or not has_rest(loss, watch) or not (rest := loss - data).requires_grad:
        return None
    asking = [p for p in model.parameters() if p.requires_grad]
    pulls = torch.autograd.grad(rest, [*asking, data], retain_graph=True, allow_unused=True)
    outputs = watch.data_inputs()
    through = torch.autograd.grad(rest, outputs, retain_graph=True, allow_unused=True) if outputs else ()
    # rest = loss − data: a loss that is data · factor leaves a gradient at the outputs, one that adds a penalty leaves none
    return Penalty(
        whole=float(loss),
        data=float(data),
        gradient=_norm(pulls[:-1]),
        data_gradient=_norm(torch.autograd.grad(data, asking, retain_graph=True, allow_unused=True)),
        on_outputs=_norm(through)
        > SAME * _norm(torch.autograd.grad(data, outputs, allow_unused=True) if outputs else ()),
    )


def _norm(gradients: Iterable[Tensor | None]) -> float:
    found = [stats.norm(dense) for g in gradients if (dense := probes.dense(g)) is not None]
    return float(torch.stack([f.cpu() for f in found]).norm()) if found else 0.0


def decay(optimizer: torch.optim.Optimizer) -> Decay | None:
    """Of the weights and gradients as they are: after the backward pass, before the step."""
    found = [d for group in optimizer.param_groups if (d := _group_decay(optimizer, group)) is not None]
    return max(found, key=lambda d: d.ratio, default=None)


def _group_decay(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> Decay | None:
    strength, rate = float(group.get("weight_decay") or 0.0), float(group.get("lr", math.nan))
    held = [p for p in group["params"] if p.grad is not None]
    if strength <= 0 or not held:
        return None
    weights, gradient = _norm(p.detach() for p in held), _norm(p.grad for p in held)
    decoupled = bool(group.get("decoupled_weight_decay")) or type(optimizer).__name__.endswith("AdamW")
    typical = sum(p.numel() for p in held) ** 0.5 if decoupled else gradient
    ratio = strength * weights / typical if typical > 0 else math.inf
    return Decay(strength, rate, ratio if math.isfinite(ratio) else math.inf, decoupled)


def by_data(task: Task) -> Task:
    """The same task, whose loss is told without its penalty: the same gradients, so the same training, and values that can be
    held against the best constant prediction, and against those of a run with another penalty."""
    if task.step is not None:
        return task.replace(step=Parted(task.step, 1.0))
    return task.replace(loss=Parted(task.loss, 1.0)) if task.loss is not None else task


def with_penalty(task: Task) -> Task:
    """`by_data` undone, whatever was put around the loss since."""
    return task.replace(loss=_whole(task.loss), step=_whole(task.step))


def _whole(loss: Any) -> Any:
    if isinstance(loss, Parted):
        return loss.function if loss.weight == 1.0 else loss
    inner = getattr(loss, "loss", None)
    if not callable(inner) or (found := _whole(inner)) is inner:
        return loss
    other = copy.copy(loss)
    other.loss = found
    return other


def overwritten(model: nn.Module, initial: dict[int, Tensor]) -> tuple[tuple[str, float], ...]:
    """Parameters that differ from their initial values before any step was taken."""
    found = []
    for name, parameter in model.named_parameters():
        before = initial.get(id(parameter))
        if before is not None and before.shape == parameter.shape and not torch.equal(before, parameter.detach()):
            size, now = float(stats.norm(before)), float(stats.norm(parameter))
            found.append((name, now / size if size > 0 else math.inf))
    return tuple(found)


def in_evaluation(box: Sandbox, task: Task, batch: Callable[[int], Any]) -> tuple[tuple[DropoutCall, ...], float]:
    """Dropouts that are active in evaluation mode, and how far two passes of one batch are apart because of them."""
    assert isinstance(task.model, nn.Module)
    modes = [(module, module.training) for module in task.model.modules()]
    task.model.eval()
    tape = Tape(task.model)
    try:
        with torch.no_grad():
            with tape.recording():
                first = _all(box.loss(task, batch(0))[0])
            active = tuple(call for call in tape.dropouts if call.training)
            second = _all(box.loss(task, batch(0))[0]) if active else first
    except (TaskError, RuntimeError, ValueError, IndexError):
        return (), 0.0
    finally:
        for module, training in modes:
            module.training = training
    size = float(stats.norm(first))
    return active, float(stats.norm(first - second)) / size if size > 0 and first.shape == second.shape else 0.0


def _all(outputs: Any) -> Tensor:
    """Every number of the outputs in one row."""
    found = [t.flatten().double() for t in tensors_of(outputs) if isinstance(t, Tensor) and t.is_floating_point()]
    return torch.cat(found) if found else torch.zeros(0)
