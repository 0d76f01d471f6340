"""Changes to what a network is built from: activations, width, ways past the layers, normalization that fits the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import Dataset, IterableDataset

from runtrue import batches, optimizers
from runtrue.calls import ActivationCall
from runtrue.checks.structure import FEW_VALUES, SOFTMAXES, SQUASHING, hidden_calls
from runtrue.findings import Finding, Remedy
from runtrue.init.passes import as_found
from runtrue.measure import Measurements
from runtrue.remedies.registry import remedy
from runtrue.remedies.weights import EXAMPLES
from runtrue.remedies.wiring import optimizing_all
from runtrue.rewiring import ActivationAfter, OtherActivations, Rewired, RewiredStep, Rule
from runtrue.sandbox import Sandbox
from runtrue.surgery import Residual, bridge, core, made, module_at, put, spelled, then
from runtrue.task import Task, TaskError, forward
from runtrue.trials import Changed
from runtrue.widening import NotAChainError, Wide, widened

Treat = Callable[[Task], Task]


def with_rule(task: Task, rule: Rule, **when: bool) -> Task:
    """The task with the functions that its model (or its step) calls made by a rule."""
    assert isinstance(task.model, nn.Module)
    if task.step is not None:
        return task.replace(step=RewiredStep(task.step, rule))
    return task.replace(model=Rewired(task.model, rule, **when))


def holding_all(task: Task) -> Task:
    """An optimizer that is built already is told of new parameters."""
    return optimizing_all(task) if isinstance(task.optimizer, Optimizer) else task


def in_words(names: Iterable[str], most: int = 4) -> str:
    listed = list(dict.fromkeys(names))
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


# -- activations where there are none


@remedy("missing-nonlinearity")
def add_activations(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """A ReLU (then a tanh) behind every hidden layer that has nothing non-linear behind it; behind its BatchNorm, if any."""
    lacking = tuple(finding.evidence["lacking"])
    norms = {name: n.where for n in measured.start.regularizers.norms for name in n.layers if n.where}
    places = {name: norms.get(name, name) for name in lacking}
    as_modules = all(module_at(box.model, place) is not None for place in places.values())
    for kind in (nn.ReLU, nn.Tanh):
        if as_modules:
            yield _activations_behind(tuple(places.values()), kind)
        else:
            yield from _activations_called(lacking, kind, box)


def _activations_behind(places: tuple[str, ...], kind: type[nn.Module]) -> Remedy:
    def treat(task: Task) -> Task:
        assert isinstance(task.model, nn.Module)
        for place in places:
            then(task.model, place, kind())
        return task

    lines = [f"{spelled(p)} = nn.Sequential({spelled(p)}, nn.{kind.__name__}())" for p in places]
    return Remedy(f"{kind.__name__} behind {in_words(places)}", False, "\n".join(lines), treat)


def _activations_called(layers: tuple[str, ...], kind: type[nn.Module], box: Sandbox) -> Iterator[Remedy]:
    """For weights that are used by functions: no module can be exchanged, so the function is followed."""
    weights = [name if _is_parameter(box.model, name) else f"{name}.weight" for name in layers]
    if not all(_is_parameter(box.model, name) for name in weights):
        return
    function = kind.__name__.lower()

    def treat(task: Task) -> Task:
        assert isinstance(task.model, nn.Module)
        return with_rule(
            task, ActivationAfter(tuple(core(task.model).get_parameter(name) for name in weights), function)
        )

    code = f"# in the model's forward: torch.{function}(…) around what is computed with {', '.join(weights)}"
    yield Remedy(f"{kind.__name__} behind {in_words(layers)}", False, code, treat)


def _is_parameter(model: nn.Module, name: str) -> bool:
    return any(name == known for known, _ in model.named_parameters())


# -- other activations


@remedy("saturating-activation", "vanishing-gradient")
def relu_instead(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """ReLU in the place of every hidden softmax, sigmoid and tanh, and He weights in the layers in front (He et al. 2015)."""
    calls = hidden_calls(measured.start, (*SOFTMAXES, *SQUASHING))
    if calls:
        yield from _other_activations(calls, nn.ReLU, measured, box)


@remedy("dead-units")
def leaky_instead(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """LeakyReLU in the place of every hidden ReLU, and He weights in front: a unit that is off has a slope all the same."""
    calls = hidden_calls(measured.start, ("relu", "relu6"))
    if calls:
        yield from _other_activations(calls, nn.LeakyReLU, measured, box)


def _other_activations(
    calls: list[ActivationCall], kind: type[nn.Module], measured: Measurements, box: Sandbox
) -> Iterator[Remedy]:
    """Modules are exchanged where every call of each is among `calls`; else the functions are.

    Layers whose units start alike keep their weights: that is an illness of its own, and has a remedy of its own.
    """
    alike = {r.layer for r in measured.start.layers if r.alike_rows}
    front = dict.fromkeys(n for call in calls for n in call.layers if n not in alike)
    layers = tuple(name for name in front if _is_plain(module_at(box.model, name)))
    places = tuple(dict.fromkeys(call.where for call in calls))
    elsewhere = {call.where for call in measured.start.activations if call not in calls}
    as_modules = all(call.module for call in calls) and not elsewhere & set(places)
    names = " and ".join(dict.fromkeys(call.name for call in calls))
    title = f"{kind.__name__} instead of {names}" + ", He weights in front" * bool(layers)

    def treat(task: Task) -> Task:
        assert isinstance(task.model, nn.Module)
        _draw_he(task.model, layers)
        if not as_modules:
            other = "relu" if kind is nn.ReLU else "leaky_relu"
            return with_rule(task, OtherActivations(tuple((call.name, call.number) for call in calls), other))
        for place in places:
            put(task.model, place, kind())
        return task

    if as_modules:
        lines = [f"{spelled(place)} = nn.{kind.__name__}()" for place in places]
    else:
        lines = [f"# in the model's forward: {'relu' if kind is nn.ReLU else 'leaky_relu'} instead of {names}"]
    yield Remedy(title, False, "\n".join([*lines, *_he_code(layers)]), treat)


def _is_plain(module: nn.Module | None) -> bool:
    return isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))


def _draw_he(model: nn.Module, layers: tuple[str, ...]) -> None:
    """std = sqrt(2 / fan_in), biases 0."""
    for name in layers:
        layer = core(model).get_submodule(name)
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")  # type: ignore[arg-type]
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


def _he_code(layers: tuple[str, ...]) -> list[str]:
    if not layers:
        return []
    return [
        f"for name in {layers!r}:",
        "    layer = model.get_submodule(name)",
        '    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
        "    if layer.bias is not None:",
        "        nn.init.zeros_(layer.bias)",
    ]


# -- ways past the layers


@remedy("vanishing-gradient", "dead-units")
def residual(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Residual connections, y = x + F(x), around hidden layers with outputs of the shape of their inputs (He et al. 2015; N5)."""
    blocks = _blocks(measured, box)
    if not blocks:
        return

    def treat(task: Task) -> Task:
        assert isinstance(task.model, nn.Module)
        for block in blocks:
            bridge(task.model, block)
        return task

    code = "\n".join((RESIDUAL_CODE, f"for first, *rest in {blocks!r}:", BRIDGE_CODE))
    yield Remedy(f"residual connections around {len(blocks)} layers", False, code, treat)


RESIDUAL_CODE = '''\
class Residual(nn.Module):
    """y = x + F(x)"""

    def __init__(self, *layers):
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.body(x)


def put(name, module):
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)

'''
BRIDGE_CODE = """\
    block = Residual(*map(model.get_submodule, (first, *rest)))
    put(first, block)
    for name in rest:
        put(name, nn.Identity())"""


def _blocks(measured: Measurements, box: Sandbox) -> tuple[tuple[str, ...], ...]:
    """For each layer with equal shapes: its path, and those of the norm and the activation behind it that are modules."""
    start, model = measured.start, box.model
    norms = {name: n.where for n in start.regularizers.norms for name in n.layers}
    once = [c for c in start.activations if c.module and sum(c.where == o.where for o in start.activations) == 1]
    behind = {name: c.where for c in once for name in c.layers if len(c.layers) == 1}
    found = []
    for r in start.layers[:-1]:
        if r.calls != 1 or not _is_plain(module_at(model, r.layer)) or isinstance(_parent(model, r.layer), Residual):
            continue
        if r.normalized and r.layer not in norms:
            continue
        follow = [norms[r.layer]] if r.layer in norms else []
        block = (r.layer, *follow, *([behind[r.layer]] if r.layer in behind else []))
        if all(module_at(model, name) is not None for name in block):
            found.append(block)
    same = _same_shapes(box, tuple(block[0] for block in found))
    return tuple(block for block in found if block[0] in same)


def _parent(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


def _same_shapes(box: Sandbox, names: tuple[str, ...]) -> set[str]:
    """Those of the named modules whose output has the shape of their only input."""
    same: set[str] = set()

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if len(inputs) == 1 and isinstance(output, Tensor) and inputs[0].shape == output.shape:
                same.add(name)

        return hook

    hooks = [box.model.get_submodule(name).register_forward_hook(look(name)) for name in names]
    try:
        _pass(box.task, _few(box))
    finally:
        for hook in hooks:
            hook.remove()
    return same


def _few(box: Sandbox) -> Any:
    """Examples that are enough to see shapes."""
    return batches.head(box.batch(0), EXAMPLES)


def _pass(task: Task, batch: Any) -> Any:
    """Outputs (or the loss) of one batch; modes, buffers and random numbers stay as they are."""
    assert isinstance(task.model, nn.Module)
    with as_found(task.model):
        outputs, loss = forward(task, task.model, batch)
    return loss if outputs is None else outputs


# -- room


@dataclass(frozen=True)
class Width:
    """Four times as many units as there are, at least `floor`; but no layer beyond 256 for it."""

    floor: int

    def __call__(self, units: int) -> int:
        return max(units, min(TIMES * units, MOST), self.floor)


TIMES, MOST = 4, 256
FLOORS = (32, 64)  # units that a hidden layer gets at least: enough for most small tasks


@remedy("too-little-capacity")
def widen(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Hidden layers of four times as many units, at least 32 (then 64), their weights as torch leaves them."""
    batch = _few(box)
    for floor in FLOORS:
        new = _wider(box, batch, floor)
        if new is None:
            return

        def treat(task: Task, floor: int = floor) -> Task:
            _widen(task, batch, floor)
            return holding_all(task)

        code = "\n".join(f"{spelled(w.name)} = {made(w.module)}" for w in new) + _optimizer_code(box)
        yield Remedy(f"hidden layers of at least {floor} units", False, code, treat)


def _optimizer_code(box: Sandbox) -> str:
    """A line that builds the optimizer again, if it was built before the model was changed."""
    if not isinstance(box.task.optimizer, Optimizer):
        return ""
    return "\noptimizer = " + optimizers.code(box.optimizer(box.task)) + "  # after the last change to the model"


def _widen(task: Task, batch: Any, floor: int) -> list[Wide]:
    assert isinstance(task.model, nn.Module)
    new = widened(core(task.model), lambda: _pass(task, batch), Width(floor))
    for wide in new:
        put(task.model, wide.name, wide.module)
    return new


def _wider(box: Sandbox, batch: Any, floor: int) -> list[Wide] | None:
    """The new modules, if the model runs with them and gives outputs of the same shapes; else None."""
    before = _shapes(_pass(box.start(), batch))
    try:
        new = _widen(box.start(), batch, floor)
        return new if _shapes(_pass(box.task, batch)) == before else None
    except (NotAChainError, TaskError):
        return None
    finally:
        box.start()


def _shapes(outputs: Any) -> list[torch.Size]:
    return [t.shape for t in batches.tensors_of(outputs) if isinstance(t, Tensor)]


# -- normalization that fits the batch

ROWS = 32  # examples that are enough for the statistics of a batch
GROUPS = (8, 4, 2, 1)
LEAST_GROUP = 8  # channels in one group, so that a group of single values has something to average over


@remedy("batch-too-small-for-norm")
def other_norm(finding: Finding, measured: Measurements, box: Sandbox) -> Iterator[Remedy]:
    """Batches of 32 (first, where torch refuses the batch), or group normalization, which looks at one example alone
    (Wu and He 2018)."""
    proposals = [*_larger_batches(finding, box), *_group_norms(box)]
    yield from proposals if finding.severity == "fault" else reversed(proposals)


def _larger_batches(finding: Finding, box: Sandbox) -> Iterator[Remedy]:
    rows, drawn, device = max(1, int(finding.evidence["rows"])), box.batches, box.device
    joined = min(-(-ROWS // rows), drawn.held)
    if rows * joined <= 2 * FEW_VALUES or not _can_join(box):
        return

    def treat(task: Task) -> Task:
        inner = task.train.applied if isinstance(task.train, Changed) else None
        change = Joined(drawn, device, joined, inner)
        return task.replace(train=Regrouped(task.train, change, joined), batch_size=rows * joined)

    code = f"batch_size = {rows * joined}  # of the DataLoader, or Task(batch_size=…)"
    yield Remedy(f"batches of {rows * joined}", True, code, treat)


def _can_join(box: Sandbox) -> bool:
    try:
        batches.together([box.batch(0), box.batch(1)])
    except (RuntimeError, TypeError):
        return False
    return True


@dataclass(frozen=True, eq=False)
class Joined:
    """A batch and others, drawn by lot, as one batch; `inner`: a change that was made to each before."""

    drawn: batches.Batches
    device: torch.device
    count: int
    inner: Callable[[Any], Any] | None = None

    def __call__(self, batch: Any) -> Any:
        others = torch.randint(self.drawn.held, (self.count - 1,)).tolist()
        parts = [batch, *(batches.to_device(self.drawn.get(step), self.device) for step in others)]
        return batches.together([self.inner(part) for part in parts] if self.inner else parts)


@dataclass(frozen=True, eq=False)
class Regrouped(Changed):
    """Training data in larger batches: in a trial by joining drawn ones, for use by joining those that follow one another."""

    count: int = 1
    includes_source: ClassVar[bool] = True

    def settled(self) -> Any:
        """A pair of tensors or a dataset as it is (the task's batch size does it), any other source in groups."""
        source = self.source.settled() if isinstance(self.source, Changed) else self.source
        if batches.is_pair(source) or (isinstance(source, Dataset) and not isinstance(source, IterableDataset)):
            return source
        return Groups(source, self.count)


@dataclass(frozen=True, eq=False)
class Groups:
    """Batches of a loader, `count` at a time as one."""

    source: Any
    count: int

    def __iter__(self) -> Iterator[Any]:
        waiting: list[Any] = []
        for batch in self.source() if callable(self.source) else self.source:
            waiting.append(batch)
            if len(waiting) == self.count:
                yield batches.together(waiting)
                waiting = []
        if waiting:
            yield batches.together(waiting)


_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def _group_norms(box: Sandbox) -> Iterator[Remedy]:
    norms = {
        name: m for name, m in box.model.named_modules() if isinstance(m, _BATCH_NORMS) and m.num_features > 1 and name
    }
    if not norms:
        return

    def treat(task: Task) -> Task:
        assert isinstance(task.model, nn.Module)
        for name in norms:
            put(task.model, name, _as_group_norm(core(task.model).get_submodule(name)))
        return task

    code = "\n".join(
        f"{spelled(name)} = nn.GroupNorm({groups_of(m.num_features)}, {m.num_features}, eps={m.eps:g}, affine={m.affine})"
        for name, m in norms.items()
    )
    code += _optimizer_code(box)
    yield Remedy(f"GroupNorm instead of BatchNorm in {len(norms)} places", False, code, treat)


def groups_of(channels: int) -> int:
    """As many groups as divide the channels evenly and keep 8 in each; 1 if none do.

    >>> groups_of(64), groups_of(16), groups_of(10)
    (8, 2, 1)
    """
    return next((g for g in GROUPS if channels % g == 0 and channels // g >= LEAST_GROUP), 1)


def _as_group_norm(norm: nn.Module) -> nn.GroupNorm:
    """With the scale and shift that the batch normalization has: the same parameters, so that the optimizer still holds them."""
    assert isinstance(norm, _BATCH_NORMS)
    group = nn.GroupNorm(groups_of(norm.num_features), norm.num_features, norm.eps, norm.affine)
    if norm.affine:
        group.weight, group.bias = norm.weight, norm.bias
    return group
