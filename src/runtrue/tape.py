"""What a forward pass does, operation by operation: which layers run, and which activation follows each.

Class names do not tell: activations are called as functions, modules are used twice, a residual sum stands between a
layer and its ReLU. The tape watches torch's functions themselves (`TorchFunctionMode`) while modules on the stack give
the names. Sources: none; the idea is that of every autograd tape.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode

from runtrue import calls
from runtrue.calls import ActivationCall, DropoutCall, NormCall
from runtrue.surgery import core, parameters_of, unregistered

ACTIVATIONS = {
    "relu": "relu", "relu6": "relu6", "threshold": "relu", "leaky_relu": "leaky_relu", "prelu": "leaky_relu",
    "rrelu": "leaky_relu", "elu": "elu", "selu": "selu", "celu": "celu", "gelu": "gelu", "silu": "silu", "mish": "mish",
    "hardswish": "hardswish", "softplus": "softplus", "tanh": "tanh", "hardtanh": "hardtanh", "sigmoid": "sigmoid",
    "hardsigmoid": "hardsigmoid", "logsigmoid": "logsigmoid", "softsign": "softsign", "tanhshrink": "tanhshrink",
    "softshrink": "softshrink", "hardshrink": "hardshrink", "softmax": "softmax", "log_softmax": "log_softmax",
    "softmin": "softmax", "sin": "sin",
}  # fmt: skip
"""Name of torch's function (without a trailing underscore) -> name of the activation in our words."""

LINEAR = {"linear", "bilinear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "__matmul__", "__rmatmul__"}
CONV = {f"conv{t}{d}d" for t in ("", "_transpose") for d in (1, 2, 3)}
EMBEDDING = {"embedding", "embedding_bag"}
RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"}
ATTENTION = {"multi_head_attention_forward"}
NORMALIZATIONS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm"}
LOSSES = {
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss", "gaussian_nll_loss", "hinge_embedding_loss",
    "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss", "soft_margin_loss",
    "cosine_embedding_loss", "margin_ranking_loss", "triplet_margin_loss", "ctc_loss",
}  # fmt: skip
KINDS = (
    dict.fromkeys(LINEAR, "linear")
    | dict.fromkeys(CONV, "conv")
    | dict.fromkeys(EMBEDDING, "embedding")
    | dict.fromkeys(RECURRENT, "recurrent")
    | dict.fromkeys(ATTENTION, "attention")
)


@dataclass(eq=False)
class Layer:
    """One weight and what a forward pass did with it. `name` is the path of the module that called it ("layers.3")."""

    name: str
    kind: str
    module: nn.Module | None
    weight: Tensor | None
    bias: Tensor | None
    calls: int = 1
    activation: str | None = None
    """What follows: "relu", "tanh", …; None if the next layer or the loss comes first."""
    slope: float | None = None
    normalized: bool = False
    """A normalization stands between this layer and what follows."""
    fed_by: dict[Layer, None] = field(default_factory=dict)
    """Layers whose output reaches this one through affine operations alone: nothing non-linear stands between."""
    softly_fed_by: dict[Layer, None] = field(default_factory=dict)
    """Layers with a norm over features or a maximum between, and no activation."""


SHAPERS = {
    "reshape", "view", "flatten", "unflatten", "ravel", "squeeze", "unsqueeze", "permute", "transpose", "movedim", "t",
    "swapaxes", "contiguous", "clone", "to", "float", "double", "half", "bfloat16", "cpu", "cuda", "type", "view_as",
    "reshape_as", "expand", "expand_as", "getitem", "select", "narrow", "split", "chunk", "unbind", "identity",
}  # fmt: skip
"""Functions after which the values are still what the activation made of them."""
CLIPPERS = {"clamp", "clip", "clamp_min", "clamp_max", "nan_to_num"}
"""Functions that change a few values at the edge: a guard in front of a logarithm."""


@dataclass(frozen=True, eq=False)
class LossCall:
    """A call of one of torch's loss functions, with what reached it."""

    name: str
    input: Tensor
    target: Any
    options: Mapping[str, Any]
    made_by: ActivationCall | None = None
    """The activation that made `input`, if nothing but a change of shape came after it."""

    @property
    def activation(self) -> str | None:
        return self.made_by.name if self.made_by else None


@dataclass(frozen=True)
class Spread:
    """An operation outside of the model whose result is larger than each of its inputs: they were broadcast."""

    operation: str
    shapes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Cut:
    """A place where a tensor that could carry a gradient went in and one that cannot came out."""

    operation: str
    where: str


@dataclass(frozen=True, eq=False)
class Source:
    """Where a tensor comes from: layers still waiting for their activation, and the last activation."""

    waiting: tuple[Layer, ...] = ()
    activation: ActivationCall | None = None
    linear: tuple[Layer, ...] = ()
    soft: tuple[Layer, ...] = ()
    calls: tuple[ActivationCall | DropoutCall, ...] = ()
    """Activations and dropouts that reach here through affine operations alone."""


class Observer(Protocol):
    """Sees tensors as they pass, when their values are still what the layer made (in-place ReLU comes later)."""

    def layer_output(self, layer: Layer, output: Tensor) -> None: ...

    def activation_output(self, layer: Layer, output: Tensor) -> None: ...

    def loss_call(self, call: LossCall) -> None: ...


class LossCalls(TorchFunctionMode):
    """The calls of torch's loss functions while it is entered, and nothing else: for passes that must cost little."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[LossCall] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in LOSSES and (call := _loss_call(name, args, kwargs or {}, None)) is not None:
            self.calls.append(call)
        return func(*args, **(kwargs or {}))


def _loss_call(name: str, args: Any, kwargs: Mapping[str, Any], made_by: ActivationCall | None) -> LossCall | None:
    options = dict(zip(("input", "target", "weight"), args)) | dict(kwargs)
    source, target = options.pop("input", None), options.pop("target", None)
    return LossCall(name, source.detach(), target, options, made_by) if isinstance(source, Tensor) else None


Names = tuple[dict[nn.Module, str], dict[int, str], set[int]]
"""Modules by name, names of parameters by id, ids of buffers."""


def names_in(model: nn.Module) -> Names:
    beside, own = unregistered(model), (model, core(model))
    inside = {m: f"{place}.{name}".strip(".") for place, part in beside.items() for name, m in part.named_modules()}
    modules = inside | {m: name for part in own for name, m in part.named_modules()}
    parameters = {id(p): name for name, p in parameters_of(beside).items()}
    parameters |= {id(p): name for part in own for name, p in part.named_parameters()}
    return modules, parameters, {id(b) for b in model.buffers()}


class Tape(TorchFunctionMode):
    """Records while it is entered. `layers` and `losses` are in the order of the calls."""

    def __init__(self, model: nn.Module, observer: Observer | None = None, names: Names | None = None) -> None:
        """names: of the model, where they are known."""
        super().__init__()
        self.layers: list[Layer] = []
        self.losses: list[LossCall] = []
        self.cuts: list[Cut] = []
        self.spreads: list[Spread] = []
        self.norms: list[NormCall] = []
        self.dropouts: list[DropoutCall] = []
        self.activations: list[ActivationCall] = []
        self._dropping: DropoutCall | None = None
        self._count = Counter[str]()
        self._observer = observer
        self._names, self._parameters, self._buffers = names or names_in(model)
        self._stack: list[nn.Module] = []
        self._by_weight: dict[tuple[int, str], Layer] = {}
        self._sources: dict[int, tuple[weakref.ref[Tensor], Source]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        name = name if name.startswith("__") else name.strip("_")
        if name in ("__get__", "__set__"):
            return func(*args, **kwargs)
        inputs = list(_tensors((args, kwargs)))
        before = self._joined(inputs)
        if name in LOSSES:
            self._note_loss(name, args, kwargs)
        self._note_regularizers(name, args, kwargs, before)
        grads = [t for t in inputs if t.requires_grad]
        output = func(*args, **kwargs)
        self._follow(name, args, kwargs, inputs, before, output)
        if grads:
            self._note_cut(name, output)
        return output

    def _follow(self, name: str, args: Any, kwargs: Any, inputs: list[Tensor], before: Source, output: Any) -> None:
        first = next(_tensors(output), None)
        if first is None:
            return
        layer = self._layer_called(name, args, kwargs, inputs) if name in KINDS else None
        if layer is not None:
            self._feed(layer, before)
            self._mark(output, Source((layer,), linear=(layer,)))
            if self._observer:
                self._observer.layer_output(layer, first)
        elif (activation := activation_of(name, args, kwargs)) is not None:
            self._activate(activation, before.waiting, args, kwargs, first)
            call = self._note_activation(activation, args, kwargs, before)
            self._mark(output, Source((), call, calls=(call,) if call else ()))
        elif name in NORMALIZATIONS:
            for waiting in before.waiting:
                waiting.normalized = True
            self._mark(output, self._passed(name, inputs, Source(before.waiting), before))
        else:
            keeps = name.strip("_") in SHAPERS or name in CLIPPERS
            plain = Source(before.waiting, before.activation if keeps else None)
            self._mark(output, self._passed(name, inputs, plain, before))
            if not self._stack and len(inputs) > 1 and first.numel() > max(t.numel() for t in inputs):
                self.spreads.append(Spread(name, tuple(tuple(t.shape) for t in inputs)))

    def made_by(self, output: Any) -> ActivationCall | None:
        """The activation that made the only tensor in `output`; to be asked while the tape records."""
        with torch._C.DisableTorchFunction():
            found = list(_tensors(output))
            source = self._source(found[0]) if len(found) == 1 else None
        return source.activation if source else None

    def _activate(self, name: str, waiting: Iterable[Layer], args: Any, kwargs: Any, output: Tensor) -> None:
        for layer in waiting:
            if layer.activation is None:
                layer.activation = name
                layer.slope = _slope(name, args, kwargs)
            if self._observer and layer.activation == name:
                self._observer.activation_output(layer, output)

    def _passed(self, name: str, inputs: list[Tensor], plain: Source, before: Source) -> Source:
        """`plain`, and of what came in before the operation `name` whatever it passes on."""
        way = calls.way(name, inputs, self._is_constant)
        if name in calls.MIXES and sum(not self._is_constant(t) for t in inputs) > 1:
            self._tell(before, gate=True)
        if way == "linear":
            own = (self._dropping,) if self._dropping is not None else ()
            return replace(plain, linear=before.linear, soft=before.soft, calls=(*before.calls, *own))
        if way == "soft":
            return replace(plain, soft=(*before.linear, *before.soft), calls=before.calls)
        if name not in LOSSES:
            self._tell(before)
        return plain

    def _tell(self, before: Source, *, gate: bool = False, feeds: bool = False) -> None:
        """The calls that reach an operation learn what it is."""
        for call in before.calls:
            if isinstance(call, DropoutCall):
                call.goes_on = True
            else:
                call.gate, call.feeds = call.gate or gate, call.feeds or feeds

    def _is_constant(self, tensor: Tensor) -> bool:
        """A parameter, a buffer or one number: the same whatever the data are."""
        return id(tensor) in self._parameters or id(tensor) in self._buffers or tensor.numel() == 1

    def _feed(self, layer: Layer, before: Source) -> None:
        layer.fed_by.update(dict.fromkeys(before.linear))
        layer.softly_fed_by.update(dict.fromkeys(before.soft))
        self._tell(before, feeds=True)

    @property
    def _where(self) -> str:
        return self._names.get(self._stack[-1], "") if self._stack else ""

    def _note_activation(self, name: str, args: Any, kwargs: Any, before: Source) -> ActivationCall | None:
        module = self._stack[-1] if self._stack else None
        alone = module is not None and module.__class__.__module__ == "torch.nn.modules.activation"
        layers = tuple(layer.name for layer in before.waiting)
        call = ActivationCall(
            name, self._where, self._count[name], layers, alone, place=len(self.activations), outside=module is None,
            dim=kwargs.get("dim", args[1] if len(args) > 1 and isinstance(args[1], int) else None),
        )  # fmt: skip
        self._count[name] += 1
        self._tell(before)
        self.activations.append(call)
        return call

    def _note_regularizers(self, name: str, args: Any, kwargs: Any, before: Source) -> None:
        if name == "batch_norm":
            norm = calls.norm_call(self._where, tuple(layer.name for layer in before.waiting), args, kwargs)
            self.norms += [norm] if norm else []
        self._dropping = calls.dropout_call(name, self._where, len(self.layers), args, kwargs)
        self.dropouts += [self._dropping] if self._dropping else []

    def _layer_called(self, name: str, args: Any, kwargs: Any, inputs: list[Tensor]) -> Layer | None:
        if KINDS[name] in ("recurrent", "attention"):
            own = [t for t in inputs if id(t) in self._parameters]
            weight, bias = next((t for t in own if t.dim() > 1), None), None
        else:
            weight, bias = self._weight_and_bias(name, args, kwargs, inputs)
        if weight is None:
            return None
        module = self._stack[-1] if self._stack else None
        key = (id(weight) if id(weight) in self._parameters else id(module), KINDS[name])
        if key in self._by_weight:
            layer = self._by_weight[key]
            layer.calls += 1
            return layer
        layer = Layer(self._layer_name(module, weight), KINDS[name], module, weight, bias)
        self._by_weight[key] = layer
        self.layers.append(layer)
        return layer

    def _weight_and_bias(
        self, name: str, args: Any, kwargs: Any, inputs: list[Tensor]
    ) -> tuple[Tensor | None, Tensor | None]:
        if name == "linear" or name in CONV:
            named = dict(zip(("input", "weight", "bias"), args)) | dict(kwargs)
            return named.get("weight"), named.get("bias")
        own = [t for t in inputs if id(t) in self._parameters]
        return next((t for t in own if t.dim() > 1), None), next((t for t in own if t.dim() == 1), None)

    def _layer_name(self, module: nn.Module | None, weight: Tensor) -> str:
        """The path of the module that called, if this is its `weight` (or no parameter at all), else the parameter's."""
        path = self._names.get(module, "") if module is not None else ""
        parameter = self._parameters.get(id(weight))
        if parameter is None or getattr(module, "weight", None) is weight:
            return path or "model"
        return path if _is_one_layer(module) else parameter

    def _note_loss(self, name: str, args: Any, kwargs: Any) -> None:
        given = args[0] if args else kwargs.get("input")
        made_by = self._joined([given]).activation if isinstance(given, Tensor) else None
        call = _loss_call(name, args, kwargs, made_by)
        if call is not None:
            self.losses.append(call)
            if self._observer:
                self._observer.loss_call(call)

    def _note_cut(self, name: str, output: Any) -> None:
        produced = [t for t in _tensors(output) if t.is_floating_point()]
        if produced and not any(t.requires_grad for t in produced):
            module = self._stack[-1] if self._stack else None
            self.cuts.append(Cut(name, self._names.get(module, "") if module is not None else ""))

    def _joined(self, tensors: Iterable[Tensor]) -> Source:
        sources = [s for s in map(self._source, tensors) if s is not None]
        waiting = dict.fromkeys(layer for s in sources for layer in s.waiting)
        last = {s.activation for s in sources}
        return Source(
            tuple(waiting),
            last.pop() if len(last) == 1 else None,
            linear=tuple(dict.fromkeys(layer for s in sources for layer in s.linear)),
            soft=tuple(dict.fromkeys(layer for s in sources for layer in s.soft)),
            calls=tuple(dict.fromkeys(call for s in sources for call in s.calls)),
        )

    def _source(self, tensor: Tensor) -> Source | None:
        reference, source = self._sources.get(id(tensor), (None, None))
        return source if reference is not None and reference() is tensor else None

    def _mark(self, output: Any, source: Source) -> None:
        for tensor in _tensors(output):
            self._sources[id(tensor)] = (weakref.ref(tensor), source)

    def _enter_module(self, module: nn.Module, _: Any) -> None:
        if module in self._names:
            self._stack.append(module)

    def _leave_module(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if module in self._names and self._stack:
            self._stack.pop()
        with torch._C.DisableTorchFunction():  # what an autograd.Function made has no source yet: it passes through
            unknown = [t for t in _tensors(output) if self._source(t) is None]
            if unknown:
                joined = self._joined(_tensors(inputs))  # what it did is not known: it may well have bent the line
                self._mark(unknown, Source(joined.waiting, joined.activation))

    @contextmanager
    def recording(self) -> Iterator[Tape]:
        """Record what runs inside; the hooks that give names are global ones, the user's modules stay untouched."""
        enter = hooks.register_module_forward_pre_hook(self._enter_module)
        leave = hooks.register_module_forward_hook(self._leave_module, always_call=True)
        try:
            with self:
                yield self
        finally:
            enter.remove()
            leave.remove()
            self._sources.clear()


def record(run: Callable[[], Any], model: nn.Module, observer: Observer | None = None) -> Tape:
    """Call `run` (which calls `model`) and return what happened. Modes, weights and gradients are the caller's affair.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    >>> [(layer.name, layer.activation) for layer in record(lambda: net(torch.ones(1, 4)), net).layers]
    [('0', 'tanh'), ('2', None)]
    """
    tape = Tape(model, observer)
    with tape.recording():
        run()
    return tape


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def _is_one_layer(module: nn.Module | None) -> bool:
    """An LSTM or an attention is one layer, whatever the names of its weights."""
    return isinstance(module, (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention))


def is_activation(func: Any, args: Any, kwargs: Any) -> bool:
    """True for a call that the tape counts as an activation."""
    name = getattr(func, "__name__", "")
    return activation_of(name if name.startswith("__") else name.strip("_"), args, kwargs) is not None


def activation_of(name: str, args: Any, kwargs: Any) -> str | None:
    """The activation, in our words, that a call of the function called `name` is; None if it is none.

    >>> activation_of("hardtanh", (torch.ones(1), 0.0, 6.0), {}), activation_of("clamp", (torch.ones(1),), {"max": 1})
    ('relu6', None)
    """
    return _activation(name, args, kwargs) if name in ACTIVATIONS or _is_relu(name, args, kwargs) else None


def _is_relu(name: str, args: Any, kwargs: Any) -> bool:
    """max(x, 0) by another name: clamp(min=0), clamp_min(0), maximum(x, zeros)."""
    if name not in ("clamp", "clamp_min"):
        return False
    low = dict(zip(("input", "min", "max"), args)) | dict(kwargs)
    return not isinstance(low.get("min"), Tensor) and low.get("min") == 0


def _activation(name: str, args: Any, kwargs: Any) -> str:
    """In our words. ReLU6 calls hardtanh(x, 0, 6): what is cut off at 0 is a ReLU."""
    if name == "hardtanh":
        low = kwargs.get("min_val", args[1] if len(args) > 1 else -1.0)
        return "relu6" if low >= 0 else "hardtanh"
    return ACTIVATIONS.get(name, "relu")


def _slope(name: str, args: Any, kwargs: Any) -> float | None:
    if name != "leaky_relu":
        return None
    slope = kwargs.get("negative_slope", args[1] if len(args) > 1 else 0.01)
    return float(slope) if isinstance(slope, (int, float)) else 0.25  # PReLU starts at 0.25
