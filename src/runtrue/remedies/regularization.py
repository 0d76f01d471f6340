"""Let the network learn: less decay, a weaker penalty, less dropout, and layers awake while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import nn

from runtrue import optimizers
from runtrue.findings import Finding, Remedy
from runtrue.lossparts import Parted
from runtrue.measure import Measurements
from runtrue.remedies.registry import remedy
from runtrue.remedies.structure import with_rule
from runtrue.rewiring import AsInTraining, DropoutAt, Unwritten
from runtrue.sandbox import Sandbox
from runtrue.task import Task

WEAKER = (0.01, 0.0)  # of what the user chose: first a hundredth, then nothing
LESS = (0.2, 0.0)  # dropout that hardly ever harms, and none


@remedy("regularization-too-strong")
def less_decay(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """A hundredth of the weight decay, then none."""
    if "weight_decay" in finding.evidence:
        yield from (_decay_times(factor, box) for factor in WEAKER)


def _decay_times(factor: float, box: Sandbox) -> Remedy:
    def treat(task: Task) -> Task:
        return task.replace(optimizer=optimizers.with_decay(task.optimizer or optimizers.adam, factor))

    now = box.optimizer(box.task)
    decays = [group.get("weight_decay", 0.0) * factor for group in now.param_groups]
    if len(decays) == 1:
        code = "optimizer = " + optimizers.code(now, weight_decay=decays[0])
    else:
        code = f'for group in optimizer.param_groups:\n    group["weight_decay"] *= {factor:g}'
    return Remedy(f"weight decay {max(decays):.3g}", True, code, treat)


@remedy("regularization-too-strong")
def weaker_penalty(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """A hundredth of what the loss adds to torch's loss function, then nothing."""
    if "penalty" in finding.evidence:
        yield from map(_penalty_times, WEAKER)


def _penalty_times(factor: float) -> Remedy:
    def treat(task: Task) -> Task:
        if task.step is not None:
            return task.replace(step=Parted(task.step, factor))
        return task.replace(loss=Parted(task.loss, factor)) if task.loss is not None else task

    title = f"the penalty times {factor:g}" if factor else "no penalty in the loss"
    code = (
        f"# in the loss: data + {factor:g} * penalty, instead of data + penalty"
        if factor
        else "# in the loss: the data part alone"
    )
    return Remedy(title, True, code, treat)


@remedy("regularization-too-strong")
def leave_weights(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """The forward pass no longer writes into the weights."""
    if "norm_ratio" in finding.evidence:
        names = tuple(finding.evidence["norm_ratio"])

        def treat(task: Task) -> Task:
            assert isinstance(task.model, nn.Module)
            return with_rule(task, Unwritten(tuple(task.model.parameters())))

        code = f"# in the forward pass or the loss, remove what writes into {', '.join(names[:4])} (clamp_, renorm_, copy_)"
        yield Remedy("leave the weights to the optimizer", False, code, treat)


@remedy("dropout-too-strong")
def less_dropout(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Dropout of at most 0.2, then none; or none in evaluation, where it was seen there."""
    if finding.evidence.get("in_evaluation"):
        code = "# in the model's forward: F.dropout(x, p, training=self.training)"
        treat = partial(with_rule, rule=DropoutAt(0.0), only_evaluation=True)
        if box.task.step is None:
            yield Remedy("no dropout in evaluation", True, code, treat)
        return
    for most in LESS:
        yield Remedy(
            f"dropout at most {most:g}", True, _dropout_code(box.model, most), partial(_with_dropout, most=most)
        )


def _with_dropout(task: Task, most: float) -> Task:
    """Modules in place; what the code drops itself, by a rule."""
    assert isinstance(task.model, nn.Module)
    for module, name in _dropouts(task.model):
        setattr(module, name, min(getattr(module, name), most))
    return with_rule(task, DropoutAt(most))


def _dropouts(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Modules that drop, and the attribute that says how much: `p`, or `dropout` of recurrent layers and attention."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            yield module, "p"
        elif isinstance(getattr(module, "dropout", None), float):
            yield module, "dropout"


def _dropout_code(model: nn.Module, most: float) -> str:
    lines = []
    if any(name == "p" for _, name in _dropouts(model)):
        lines += [
            "for module in model.modules():",
            "    if isinstance(module, nn.modules.dropout._DropoutNd):",
            f"        module.p = min(module.p, {most:g})",
        ]
    if any(name == "dropout" for _, name in _dropouts(model)):
        lines += [
            "for module in model.modules():",
            '    if isinstance(getattr(module, "dropout", None), float):',
            f"        module.dropout = min(module.dropout, {most:g})",
        ]
    return "\n".join(lines or [f"# in the model's forward: F.dropout(x, {most:g}, training=self.training)"])


@remedy("eval-mode-while-training")
def wake(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Training mode for what sleeps, while the network trains; layers with frozen parameters stay as they are."""
    names = tuple(dict.fromkeys((*finding.evidence["norms"], *finding.evidence["dropouts"])))

    def treat(task: Task) -> Task:
        assert isinstance(task.model, nn.Module)
        found = {name: m for name, m in task.model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
        means = [found[name].running_mean for name in finding.evidence["norms"] if name in found]
        return with_rule(task, AsInTraining(tuple(mean for mean in means if mean is not None)), only_training=True)

    code = (
        "model.train()  # before each epoch of training, and behind each evaluation\n"
        f"# and remove what puts {', '.join(names[:4])} into evaluation mode: .eval(), .train(False), a train() of its own"
    )
    yield Remedy("training mode while it trains", True, code, treat)
