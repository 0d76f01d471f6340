"""Measure a task: what is true of it at the start, in numbers. Nothing here judges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from runtrue import facts, probes, regularizers
from runtrue import outputs as results
from runtrue.baselines import Baseline, baseline
from runtrue.batches import tensors_of
from runtrue.calls import ActivationCall, DropoutCall
from runtrue.lossparts import LossWatch
from runtrue.regularizers import Regularizers
from runtrue.sandbox import Sandbox
from runtrue.splits import SplitFacts
from runtrue.surgery import parameters_of, unregistered
from runtrue.tape import Cut, LossCall, Tape
from runtrue.task import Task, TaskError, blame, split
from runtrue.trials import Curve, changed_batches, judge_progress

FORWARD_BATCHES = 4  # batches read for dead units and class frequencies; the first also gives the gradients


@dataclass(frozen=True)
class LossFacts:
    """What reached torch's loss function in the first batch."""

    name: str
    shape: tuple[int, ...]
    classes: int
    low: float
    high: float
    target_dtype: str
    target_shape: tuple[int, ...]
    target_low: float
    target_high: float
    ignore_index: int
    activation: str | None
    as_given: bool = True
    """The targets are those of the batch, in whatever shape; False: the user's loss makes something of them first."""


@dataclass(frozen=True)
class Wiring:
    """Which parameters can train. Names of parameters, by what is missing."""

    total: int
    frozen: tuple[str, ...] = ()
    """Do not ask for a gradient."""
    without_gradient: tuple[str, ...] = ()
    """Ask for one, belong to a layer that ran, and received none."""
    idle: tuple[str, ...] = ()
    """Ask for one, and belong to no layer that ran."""
    not_held: tuple[str, ...] = ()
    """Ask for one, and the optimizer does not hold them."""
    unregistered: tuple[str, ...] = ()
    """Modules in plain lists and dicts, by their place: `parameters()` does not know them."""
    foreign: int = 0
    """Held by the optimizer, and no part of the model."""
    held: int = 0
    cuts: tuple[Cut, ...] = ()


@dataclass(frozen=True)
class Start:
    """The task at its first step."""

    layers: tuple[probes.Reading, ...] = ()
    loss: float = math.nan
    level: float = math.nan
    """Mean loss of the untrained network over the first batches."""
    baseline: Baseline | None = None
    loss_facts: LossFacts | None = None
    outputs: results.OutputFacts | None = None
    wiring: Wiring = field(default_factory=lambda: Wiring(0))
    gradient_norm: float = math.nan
    error: str | None = None
    """Why the first batch could not be trained on."""
    no_gradient: str | None = None
    """Why the loss has no gradient, if it has none."""
    outputs_have_gradient: bool = False
    activations: tuple[ActivationCall, ...] = ()
    regularizers: Regularizers = field(default_factory=Regularizers)


@dataclass(frozen=True)
class Plan:
    """How long the user means to train, and how long a trial can."""

    steps: int
    """Of the whole plan, at the batch size given."""
    trial: int
    known: bool
    """False if the task does not say; a usual length was assumed."""


@dataclass(frozen=True)
class Measurements:
    """All that a check may judge."""

    data: facts.DataFacts
    start: Start
    reference: Curve = field(default_factory=lambda: Curve(()))
    """The untreated task, trained for the plan's trial steps."""
    plan: Plan = field(default_factory=lambda: Plan(0, 0, False))
    small: SmallSet | None = None
    rate: float = math.nan
    bad_loss: float | None = None
    """Loss of a batch with values that are not finite; None if there is no such batch."""
    batches_used_up: bool = False
    shuffled: bool = False
    splits: SplitFacts | None = None
    """Train and val side by side, and whether inputs predict labels (see `runtrue.splits`)."""

    @property
    def progress(self) -> float:
        """Of the untreated run (see `judge_progress`); -inf if there was none or it was lost."""
        return self.progress_of(self.reference)

    def progress_of(self, curve: Curve) -> float:
        return judge_progress(curve, self.constant, self.start.level)

    @property
    def quality(self) -> float:
        return self.quality_of(self.reference)

    def quality_of(self, curve: Curve) -> float:
        """How well a run ended, from -1 (lost) over 0 (as the best constant) to 1: its skill, or its progress where the
        skill cannot be told. Of the two modes the better counts: running statistics lag behind in a short run."""
        if curve.diverged or not curve.steps:
            return -1.0
        known = [s for s in (curve.skill, curve.skill_in_training) if s is not None]
        found = max(known) if known else self.progress_of(curve)
        return min(1.0, max(-1.0, found))

    @property
    def constant(self) -> float | None:
        """Loss of the best constant prediction, where it is known."""
        return self.start.baseline.constant if self.start.baseline else None


@dataclass(frozen=True)
class SmallSet:
    """N3.1: the same few examples every step, regularization off."""

    examples: int
    steps: int
    memorised: bool
    start: float
    end: float
    with_adam: bool = False


def measure_data(box: Sandbox) -> facts.DataFacts:
    pairs = box.task.step is None
    return facts.measure(box.batches, pairs=pairs, whole=_all_seen(box))


def loss_on_bad_batch(box: Sandbox) -> float | None:
    """The loss of the first batch that holds a value that is not finite; None if there is none, or it cannot be run."""
    for step in range(box.batches.held):
        batch = box.batch(step)
        if all(bool(torch.isfinite(t).all()) for t in tensors_of(batch) if isinstance(t, Tensor)):
            continue
        try:
            with torch.no_grad():
                return float(box.loss(box.start(), batch)[1])
        except TaskError:
            return None
        finally:
            box.start()
    return None


def _all_seen(box: Sandbox) -> bool:
    return not box.batches.used_up and box.batches.held == box.batches.per_epoch


def measure_start(box: Sandbox, task: Task | None = None) -> Start:
    """One training step from where the task stands (treated or not), read layer by layer. Leaves the weights moved."""
    task = task or box.task
    assert isinstance(task.model, nn.Module)
    probe = probes.Probe()
    tape = Tape(task.model, probe)
    draw = changed_batches(box, task)
    watch = LossWatch()
    batch = draw(0)
    outputs: Any = None
    made_by = None
    try:
        with tape.recording(), watch:
            outputs, loss = box.loss(task, batch)
            made_by = tape.made_by(outputs)
    except (TaskError, RuntimeError, ValueError, IndexError) as error:
        reason = str(error) if isinstance(error, TaskError) else blame(error)
        return Start(
            layers=(), loss_facts=_loss_facts(probe.losses, _targets(task, batch)), error=reason, wiring=_wiring(task, tape),
            outputs=_outputs(task, tape, probe, batch, None, None, math.nan),
            regularizers=Regularizers(tuple(tape.norms), tuple(tape.dropouts)),
        )  # fmt: skip
    if not loss.requires_grad:
        return Start(
            layers=_read(tape, probe, {}), loss=float(loss), loss_facts=_loss_facts(probe.losses, _targets(task, batch)),
            wiring=_wiring(task, tape, box), no_gradient=_why_no_gradient(task, tape),
            outputs_have_gradient=_any_gradient(outputs),
        )  # fmt: skip
    _backward(loss, keep_graph=regularizers.has_rest(loss, watch))
    held_back = _regularizers(box, task, tape, loss, watch)
    losses = [float(loss), *_read_more_batches(box, task, probe)]
    wiring, weights = _step_and_compare(box, task, tape)
    whole = baseline(probe.losses)
    return Start(
        layers=_read(tape, probe, weights),
        loss=float(loss),
        level=sum(losses) / len(losses),
        baseline=_with_penalty(whole, probe.losses, float(loss)),
        loss_facts=_loss_facts(probe.losses, _targets(task, batch)),
        outputs=_outputs(task, tape, probe, batch, outputs, made_by, float(loss)),
        wiring=wiring,
        outputs_have_gradient=_any_gradient(outputs),
        gradient_norm=_gradient_norm(task.model),
        activations=tuple(tape.activations),
        regularizers=held_back,
    )


def _outputs(
    task: Task, tape: Tape, probe: probes.Probe, batch: Any, given: Any, made_by: ActivationCall | None, loss: float
) -> results.OutputFacts | None:
    assert isinstance(task.model, nn.Module)
    wanted = _targets(task, batch)
    value = _recompute(probe.losses[0]) if len(tape.losses) == 1 else None
    return results.measure(
        probe.losses, given, wanted, made_by, tape.activations, tape.spreads, loss, value
    )  # fmt: skip


def measure_by_data(box: Sandbox) -> Start:
    """`measure_start`; if the loss holds a penalty, the box's task tells its loss without it from now on (see `by_data`)."""
    start = measure_start(box)
    penalty = start.regularizers.penalty
    if penalty is None or penalty.on_outputs:
        return start
    box.start()
    box.task = regularizers.by_data(box.task)
    again = measure_start(box)
    return replace(again, regularizers=replace(again.regularizers, penalty=penalty))


def _regularizers(box: Sandbox, task: Task, tape: Tape, loss: Tensor, watch: LossWatch) -> Regularizers:
    """Between the backward pass and the step; modes and weights stay as they are."""
    assert isinstance(task.model, nn.Module)
    training = task.model.training
    active: tuple[DropoutCall, ...] = ()
    spread = 0.0
    if tape.dropouts and task.step is None:
        active, spread = regularizers.in_evaluation(box, task, changed_batches(box, task))
    return Regularizers(
        norms=tuple(tape.norms),
        dropouts=tuple(tape.dropouts),
        penalty=regularizers.penalty(loss, watch, task.model),
        decay=regularizers.decay(box.optimizer(task)),
        active_in_evaluation=active,
        evaluation_spread=spread,
        training=training,
        overwritten=regularizers.overwritten(task.model, box.initial),
    )


def _backward(loss: Tensor, keep_graph: bool = False) -> None:
    try:
        loss.backward(retain_graph=keep_graph)
    except RuntimeError as error:
        raise TaskError(f"the backward pass failed: {blame(error)}") from error


def _read(tape: Tape, probe: probes.Probe, weights: Mapping[Any, Tensor]) -> tuple[probes.Reading, ...]:
    return probes.readings(tape.layers, probe, weights)


def _read_more_batches(box: Sandbox, task: Task, probe: probes.Probe) -> list[float]:
    """Forward passes without gradients: units that are dead on one batch may live on the next. Returns the losses."""
    assert isinstance(task.model, nn.Module)
    draw = changed_batches(box, task)
    losses: list[Tensor] = []
    for step in range(1, min(FORWARD_BATCHES, box.batches.held)):
        probe.begin_batch()
        try:
            with torch.no_grad(), Tape(task.model, _Forward(probe)).recording():
                losses.append(box.loss(task, draw(step))[1])
        except (TaskError, RuntimeError, ValueError, IndexError):
            break
    return [float(loss) for loss in losses]


@dataclass(eq=False)
class _Forward:
    """Passes activations of later batches on to the probe of the first, by the name of the layer."""

    probe: probes.Probe

    def layer_output(self, layer: Any, output: Tensor) -> None:
        """Numbers of the layer itself are the first batch's."""

    def activation_output(self, layer: Any, output: Tensor) -> None:
        known = next((own for own in self.probe.silent if own.name == layer.name and own.weight is layer.weight), None)
        if known is not None:
            self.probe.activation_output(known, output)

    def loss_call(self, call: LossCall) -> None:
        self.probe.losses.append(call)


def _step_and_compare(box: Sandbox, task: Task, tape: Tape) -> tuple[Wiring, dict[Any, Tensor]]:
    """The real optimizer's step; what it moved is the update. LBFGS needs a closure and is left out."""
    assert isinstance(task.model, nn.Module)
    wiring = _wiring(task, tape, box)
    optimizer = box.optimizer(task)
    before = {id(p): box.initial.get(id(p), p) for p in task.model.parameters()}
    if not isinstance(optimizer, torch.optim.LBFGS):
        try:
            optimizer.step()
        except Exception as error:
            raise TaskError(f"the optimizer's step failed: {blame(error)}") from error
    weights = probes.weight_values(tape.layers, before)
    return wiring, weights


def _wiring(task: Task, tape: Tape, box: Sandbox | None = None) -> Wiring:
    assert isinstance(task.model, nn.Module)
    named = dict(task.model.named_parameters())
    asking = {name: p for name, p in named.items() if p.requires_grad}
    beside = unregistered(task.model)
    every = asking | {name: p for name, p in parameters_of(beside).items() if p.requires_grad}
    ran = _ran(tape)
    bare = {name for name, p in asking.items() if p.grad is None}
    held: set[int] = set()
    if box is not None:
        held = {id(p) for group in box.optimizer(task).param_groups for p in group["params"]}
    return Wiring(
        total=len(named) + len(every) - len(asking),
        frozen=tuple(name for name in named if name not in asking),
        without_gradient=tuple(n for n in asking if n in bare and n.rpartition(".")[0] in ran),
        idle=tuple(n for n in asking if n in bare and n.rpartition(".")[0] not in ran),
        not_held=tuple(n for n, p in every.items() if id(p) not in held) if box is not None else (),
        unregistered=tuple(place for place, part in beside.items() if any(True for _ in part.parameters())),
        foreign=len(held - {id(p) for p in (*named.values(), *every.values())}),
        held=len(held),
        cuts=tuple(tape.cuts),
    )


def _ran(tape: Tape) -> set[str]:
    return {layer.name.removesuffix(".weight") for layer in tape.layers}


def _any_gradient(outputs: Any) -> bool:
    return any(t.requires_grad for t in tensors_of(outputs) if isinstance(t, Tensor))


def _why_no_gradient(task: Task, tape: Tape) -> str:
    assert isinstance(task.model, nn.Module)
    if not any(p.requires_grad for p in task.model.parameters()):
        return "no parameter of the model asks for a gradient"
    if tape.cuts:
        cut = tape.cuts[-1]
        return (
            f"`{cut.operation}` {'in ' + cut.where if cut.where else 'in the forward pass or the loss'} cuts the graph"
        )
    return "nothing between the parameters and the loss keeps a graph"


def _gradient_norm(model: nn.Module) -> float:
    found = [p.grad.detach().float().norm() for p in model.parameters() if p.grad is not None and not p.grad.is_sparse]
    return float(torch.stack([f.cpu() for f in found]).norm()) if found else math.nan


def _with_penalty(whole: Baseline | None, calls: list[LossCall], loss: float) -> Baseline | None:
    """A loss of one call alone has a baseline; a sum of terms (a penalty, two heads) has none that is known."""
    if whole is None or not calls:
        return None
    first = calls[0]
    from_call = _recompute(first)
    alone = from_call is not None and abs(from_call - loss) <= 1e-3 * max(abs(loss), abs(from_call)) + 1e-6
    return whole if alone or not math.isfinite(loss) else None


def _recompute(call: LossCall) -> float | None:
    """The loss function's own value on what reached it."""
    try:
        with torch.no_grad():
            value = getattr(nn.functional, call.name)(call.input, call.target, **_known(call))
        return float(value) if value.numel() == 1 else None
    except (RuntimeError, ValueError, IndexError, TypeError):
        return None


def _known(call: LossCall) -> dict[str, Any]:
    return {name: value for name, value in call.options.items() if name not in ("size_average", "reduce")}


def _targets(task: Task, batch: Any) -> Any:
    return split(batch)[1] if task.step is None else None


def _loss_facts(calls: list[LossCall], targets: Any = None) -> LossFacts | None:
    if not calls or not isinstance(calls[0].target, Tensor) or calls[0].target.numel() == 0:
        return None
    call, given, target = calls[0], calls[0].input.detach(), calls[0].target.detach()
    ignored = int(call.options.get("ignore_index", -100) or 0)
    counted = target[target != ignored]  # what the loss leaves out is no label
    return LossFacts(
        name=call.name,
        shape=tuple(given.shape),
        classes=given.shape[1] if given.dim() > 1 else (given.shape[0] if given.dim() else 1),
        low=float(given.min()) if given.numel() else math.nan,
        high=float(given.max()) if given.numel() else math.nan,
        target_dtype=str(target.dtype).removeprefix("torch."),
        target_shape=tuple(target.shape),
        target_low=float(counted.min()) if counted.numel() else math.nan,
        target_high=float(counted.max()) if counted.numel() else math.nan,
        ignore_index=ignored,
        activation=call.activation,
        as_given=not isinstance(targets, Tensor)
        or targets.numel() != call.target.numel()
        or torch.equal(targets.flatten().to(call.target.dtype), call.target.flatten()),
    )
