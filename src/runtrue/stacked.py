"""Variants of one architecture trained at once: their weights stacked along a new first dimension, one forward and one
backward pass for all (`torch.func.functional_call` under `vmap`). Rates, seeds and initial weights may differ.

The variants do not touch: the gradient of the sum of their losses is, for each one's weights, the gradient of its own loss.
One optimizer of the user's class steps them all, since the rules it may be of work element by element. The rate may differ
between the variants because those rules are linear in it, with all else (gradient, state, decay) independent of it:

    θ(η) = θ + (η / η_max) (θ(η_max) - θ)

Whatever does not fit, or fails, gives None: the variants are then trained in another way.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim import Optimizer

from runtrue import optimizers, trials
from runtrue.sandbox import Sandbox
from runtrue.task import Task, TaskError, forward
from runtrue.trials import Curve

Treat = Callable[[Task], Task]

LINEAR_IN_RATE: tuple[type[Optimizer], ...] = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.RMSprop,
    torch.optim.Adadelta,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
)
"""Every element by itself, the step a multiple of the rate. Not so: LBFGS (all together), Rprop (the rate is where it starts),
ASGD (the rate decays by itself), Adafactor and Muon (norms and products of whole matrices), classes of the user's (unknown)."""
_STRUCTURE = ("_parameters", "_buffers", "_modules")


@dataclass(frozen=True, eq=False)
class Stack:
    """Variants ready to be trained at once. `train` starts from the same place each time."""

    box: Sandbox
    task: Task
    """What the variants share: the model as a structure, the loss, the data."""
    parameters: dict[str, Tensor]
    """By name, (variants, *shape)."""
    buffers: dict[str, Tensor]
    made: tuple[Optimizer, ...]
    """The optimizer of each variant."""
    seed: int = 0
    """As of `trials.run`."""

    @property
    def count(self) -> int:
        return len(self.made)

    def train(
        self,
        *,
        steps: int,
        batch: Callable[[int], Any] | None = None,
        until: float | None = None,
        deadline: float = math.inf,
        evaluate: bool = False,
    ) -> list[Curve] | None:
        """As `trials.run` for each variant; None if they cannot be trained at once after all."""
        begin = time.monotonic()
        try:
            draw = batch or trials.changed_batches(self.box, self.task, self.seed)
            curves = self._train(steps, draw, until, deadline, evaluate)
        except Exception:  # noqa: BLE001  vmap has its limits, and models have their ways: they are trained one by one then
            return None
        finally:
            self.box.start()
        return [replace(curve, seconds=(time.monotonic() - begin) / self.count) for curve in curves]

    def _train(
        self, steps: int, draw: Callable[[int], Any], until: float | None, deadline: float, evaluate: bool
    ) -> list[Curve]:
        held = dict(self.box.model.named_parameters())
        leaves = {name: p.clone().requires_grad_(held[name].requires_grad) for name, p in self.parameters.items()}
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        losses_of, step_all = self._losses(), self._stepper(leaves)
        curves = [Curve(())] * self.count
        going: dict[int, list[float]] = {variant: [] for variant in range(self.count)}
        waiting: list[Tensor] = []
        for step in range(steps):
            losses = losses_of(leaves, buffers, draw(step))
            losses.sum().backward()
            step_all()
            self.box.steps += self.count
            waiting.append(losses.detach())
            late = time.monotonic() > deadline
            last = late or step == steps - 1
            if last or len(waiting) == trials.FLUSH or step < 2:
                rows: list[list[float]] = torch.stack(waiting, 1).float().tolist()
                waiting.clear()
                for variant, losses_so_far in list(going.items()):
                    losses_so_far += rows[variant]
                    if late or trials._is_over(losses_so_far, until) or last:
                        curves[variant] = Curve(tuple(going.pop(variant)))
                        if evaluate and math.isfinite(curves[variant].losses[-1]):
                            curves[variant] = self._evaluated(curves[variant], variant, leaves | buffers)
                if not going:
                    break
        return curves

    def _evaluated(self, curve: Curve, variant: int, values: dict[str, Tensor]) -> Curve:
        """With what an evaluation of this variant, as it is now, tells."""
        model = self.box.start().model
        assert isinstance(model, nn.Module)
        with torch.no_grad():
            for name, tensor in (*model.named_parameters(), *model.named_buffers()):
                tensor.copy_(values[name][variant])
        seen = trials._evaluate(self.box, self.task)
        self.box.start()
        return replace(curve, evaluated=seen.loss, skill=seen.skill, skill_in_training=seen.skill_in_training)

    def _losses(self) -> Callable[[dict[str, Tensor], dict[str, Tensor], Any], Tensor]:
        """(parameters, buffers, batch) -> one loss a variant. Random numbers in the forward pass raise."""
        whole = _Whole(self.task)

        def losses(parameters: dict[str, Tensor], buffers: dict[str, Tensor], batch: Any) -> Tensor:
            def one(own: dict[str, Tensor], stats: dict[str, Tensor]) -> Tensor:
                values = {f"model.{name}": value for name, value in (own | stats).items()}
                loss: Tensor = functional_call(whole, values, (batch,))
                return loss

            stacked: Tensor = vmap(one)(parameters, buffers)
            return stacked

        return losses

    def _stepper(self, leaves: dict[str, Tensor]) -> Callable[[], None]:
        """One step of all variants, each at its own rates; gradients are cleared behind it."""
        optimizer = self._optimizer(leaves)
        varied: list[tuple[Tensor, Tensor]] = []
        for number, group in enumerate(optimizer.param_groups):
            rates = [float(made.param_groups[number]["lr"]) for made in self.made]
            group["lr"] = max(rates, key=abs)
            if len(set(rates)) > 1:
                share = torch.tensor([rate / group["lr"] for rate in rates])
                varied += [(p, share.to(p).reshape(-1, *[1] * (p.ndim - 1))) for p in group["params"]]

        def step() -> None:
            before = [parameter.detach().clone() for parameter, _ in varied]
            optimizer.step()
            with torch.no_grad():
                for (parameter, share), old in zip(varied, before):
                    parameter.copy_(old.lerp(parameter, share))
            for leaf in leaves.values():
                leaf.grad = None

        return step

    def _optimizer(self, leaves: dict[str, Tensor]) -> Optimizer:
        """The first variant's optimizer, holding the stacked weights."""
        held = dict(self.box.model.named_parameters())
        return optimizers.twin(self.made[0], {id(held[name]): leaf for name, leaf in leaves.items()})


class _Whole(nn.Module):
    """Model and loss in one: a loss that closes over the model sees the weights of the variant as well."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        assert isinstance(task.model, nn.Module)
        self.model, self._task = task.model, task

    def forward(self, batch: Any) -> Tensor:
        return forward(self._task, self.model, batch)[1]


def stack(box: Sandbox, treats: Sequence[Treat | None], seed: int = 0) -> Stack | None:
    """The task under each of these treatments, stacked; None if they differ in more than weights, buffers and rates."""
    try:
        structure = _structure(box.start().model)
        return _stacked(box, [_variant(box, treat, seed, structure) for treat in treats], seed)
    except (*trials.FAILURES, TaskError):
        return None
    finally:
        box.start()


@dataclass(frozen=True, eq=False)
class _Variant:
    task: Task
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    optimizer: Optimizer


def _variant(box: Sandbox, treat: Treat | None, seed: int, structure: list[Any]) -> _Variant:
    """What a treatment made of the task. Raises ValueError if it cannot be stacked on the untreated structure."""
    task = box.start(seed)
    task = task if treat is None else treat(task)
    model = box.model
    if task.model is not model or not _same(_structure(model), structure):
        raise ValueError("the treatment changes the structure")
    if any(isinstance(module, nn.RNNBase) for module in model.modules()):
        raise ValueError(
            "recurrent layers keep a list of their weights beside them, which a call with others does not see"
        )
    optimizer = box.optimizer(task)
    if type(optimizer) not in LINEAR_IN_RATE:
        raise ValueError(f"{type(optimizer).__name__} is not known to be linear in the rate")
    held = {id(parameter) for parameter in model.parameters()}
    for group in optimizer.param_groups:
        if optimizer.state or group.get("differentiable") or not math.isfinite(group["lr"]):
            raise ValueError("the optimizer has taken steps before, or its steps are no plain ones")
        if any(id(parameter) not in held for parameter in group["params"]):
            raise ValueError("the optimizer holds what is not in the model")
    parameters = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    return _Variant(task, parameters, {name: buffer.clone() for name, buffer in model.named_buffers()}, optimizer)


def _stacked(box: Sandbox, variants: list[_Variant], seed: int) -> Stack:
    first, *others = variants
    for other in others:
        if any(getattr(other.task, part) is not getattr(first.task, part) for part in ("loss", "step", "train")):
            raise ValueError("the variants differ in their data or their loss")
        if not _same(_settings(other.optimizer), _settings(first.optimizer)):
            raise ValueError("the optimizers differ in more than their rates")
    parameters = {name: torch.stack([v.parameters[name] for v in variants]) for name in first.parameters}
    buffers = {name: torch.stack([v.buffers[name] for v in variants]) for name in first.buffers}
    return Stack(box, first.task, parameters, buffers, tuple(v.optimizer for v in variants), seed)


def _settings(optimizer: Optimizer) -> list[Any]:
    """All that must be the same for all variants: everything but the rates."""
    groups = [{k: v for k, v in g.items() if k not in ("params", "lr", "initial_lr")} for g in optimizer.param_groups]
    return [type(optimizer), groups, [[id(parameter) for parameter in g["params"]] for g in optimizer.param_groups]]


def _structure(model: Any) -> list[Any]:
    """What the variants must have in common: modules, their attributes and hooks, shapes and kinds of their tensors."""
    assert isinstance(model, nn.Module)
    found: list[Any] = []
    for name, module in model.named_modules(remove_duplicate=False):
        kept = {key: value for key, value in vars(module).items() if key not in _STRUCTURE}
        tensors = [
            (key, t if t is None else (t.shape, t.dtype, t.device, t.requires_grad, id(t)))
            for key, t in (*module._parameters.items(), *module._buffers.items())
        ]
        found.append((name, type(module), _frozen(kept), tensors))
    return found


def _frozen(value: Any) -> Any:
    """Containers as they are now."""
    if isinstance(value, (dict, OrderedDict)):
        return {key: _frozen(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_frozen(item) for item in value]
    return value


def _same(a: Any, b: Any) -> bool:
    """Equal plain values in equal containers; anything else must be the same object."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and type(a) is type(b):
        return len(a) == len(b) and all(map(_same, a, b))
    plain = isinstance(a, (bool, int, float, complex, str, bytes, torch.dtype, torch.device))
    return a is b or (plain and type(a) is type(b) and a == b)
