"""Connect what is cut off: unfreeze, give every parameter to the optimizer, keep the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from runtrue import optimizers
from runtrue import outputs as results
from runtrue.findings import Finding, Remedy
from runtrue.init.passes import as_found
from runtrue.measure import Measurements
from runtrue.remedies.outputs import usual_loss
from runtrue.remedies.registry import remedy
from runtrue.sandbox import Sandbox
from runtrue.surgery import Registered, Wrapper, core
from runtrue.task import Task, forward, split


@remedy("parameters-frozen")
def unfreeze(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Every parameter asks for a gradient, and the optimizer holds those that did not. What else it lacks is another fault."""

    def treat(task: Task) -> Task:
        assert isinstance(task.model, nn.Module)
        thawed = {id(p) for p in task.model.parameters() if p.is_floating_point() and not p.requires_grad}
        for parameter in task.model.parameters():
            if id(parameter) in thawed:
                parameter.requires_grad_(True)
        if not isinstance(task.optimizer, Optimizer):
            return optimizing_all(task)
        held = {id(p) for group in task.optimizer.param_groups for p in group["params"]} | thawed
        return task.replace(
            optimizer=optimizers.rebuilt(task.optimizer, [p for p in task.model.parameters() if id(p) in held])
        )

    names = tuple(finding.evidence["frozen"])
    code = f"{_loop(names)}    parameter.requires_grad_(True)\n{_rebuild(box, treat)}"
    yield Remedy(f"unfreeze {len(names)} parameters", True, code, treat)


@remedy("parameters-not-optimized")
def optimize_all(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """The same optimizer, built on the parameters of the model as it is now."""
    beside = finding.evidence.get("unregistered")
    if not beside:
        yield Remedy("give every parameter to the optimizer", True, _rebuild(box, optimizing_all), optimizing_all)
        return

    def treat(task: Task) -> Task:
        assert isinstance(task.model, nn.Module)
        return optimizing_all(task.replace(model=Registered(task.model)))

    lines = [
        f"model.{where} = nn.{'ModuleDict' if isinstance(_attribute(box, where), dict) else 'ModuleList'}(model.{where})"
        for where in dict.fromkeys(place.rpartition("[")[0] for place in beside)
    ]
    lines[0] += "  # in its __init__; a plain list or dict hides its layers from parameters()"
    code = "\n".join([*lines, _rebuild(box, optimizing_all)])
    yield Remedy("register the layers, and give every parameter to the optimizer", True, code, treat)


def _attribute(box: Sandbox, where: str) -> Any:
    holder, _, attribute = where.rpartition(".")
    return getattr(core(box.model).get_submodule(holder), attribute)


def optimizing_all(task: Task) -> Task:
    """The task's own optimizer on all parameters, whatever it held before."""
    model = task.model
    assert isinstance(model, nn.Module)
    if isinstance(task.optimizer, Optimizer):
        return task.replace(optimizer=optimizers.rebuilt(task.optimizer, model.parameters()))
    make: Callable[..., Optimizer] = task.optimizer or optimizers.adam

    def on_all(parameters: Any) -> Optimizer:
        every = list(parameters)
        made = make(every)
        held = {id(p) for group in made.param_groups for p in group["params"]}
        return made if held >= {id(p) for p in every} else optimizers.rebuilt(made, every)

    return task.replace(optimizer=on_all)


def _rebuild(box: Sandbox, treat: Callable[[Task], Task]) -> str:
    made = box.optimizer(treat(box.start()))
    box.start()
    return "optimizer = " + optimizers.code(made) + "  # after the last change to the model"


def _loop(names: tuple[str, ...]) -> str:
    if len(names) > 4:
        return "for parameter in model.parameters():\n"
    listed = ", ".join(f'"{name}"' for name in names)
    return f"for parameter in map(model.get_parameter, ({listed},)):\n"


@remedy("graph-detached")
def keep_graph(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """The forward pass with `detach` and `no_grad` without effect. The lasting cure is to remove them from the code."""
    if finding.evidence.get("in_the_loss"):
        return
    cuts = finding.evidence.get("cuts") or ["(place not seen)"]
    code = f"# in the model's forward, remove what cuts the graph: {', '.join(cuts[:3])}\n# (.detach(), torch.no_grad(), .data)"
    yield Remedy("keep the graph", False, code, lambda task: task.replace(model=Reattached(task.model)))


@remedy("graph-detached")
def differentiable_loss(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Where the cut is between outputs and loss: the usual loss for such outputs and targets."""
    if box.task.loss is None or not finding.evidence.get("in_the_loss"):
        return
    outputs, targets = _outputs_and_targets(box)
    o = results.measure((), outputs, targets, None)
    if o is not None:
        yield from usual_loss(o)


def _outputs_and_targets(box: Sandbox) -> tuple[Any, Any]:
    assert isinstance(box.task.model, nn.Module)
    batch = box.batch(0)
    with as_found(box.task.model):
        outputs, _ = forward(box.task, box.task.model, batch)
    return outputs, split(batch)[1]


class _KeepGraph(TorchFunctionMode):
    """`detach` returns its argument, and no_grad has no effect on what runs inside."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("detach", "detach_") or func is Tensor.data.__get__:  # type: ignore[attr-defined]
            return args[0]
        with torch.enable_grad():
            return func(*args, **(kwargs or {}))


class Reattached(Wrapper):
    """A network whose forward pass keeps the graph, whatever its code says."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.network(*inputs, **named)
        with _KeepGraph():
            return self.network(*inputs, **named)
