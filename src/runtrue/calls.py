"""What a forward pass does beside its layers: normalizations, dropout, activations, and which operations keep a line straight.

Pure readers of one call of a torch function: its name, its arguments. The tape keeps what they return.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Way = Literal["linear", "soft", "bent"]
"""How an operation passes its input on: affine; not affine, yet no activation (a norm over features, a maximum); else."""

LINEAR_OPS = {
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "t", "movedim", "moveaxis",
    "swapaxes", "swapdims", "contiguous", "expand", "expand_as", "repeat", "chunk", "split", "tensor_split", "unbind", "narrow",
    "select", "index_select", "__getitem__", "cat", "concat", "concatenate", "stack", "hstack", "vstack", "pad", "roll", "flip",
    "clone", "to", "float", "double", "half", "bfloat16", "type", "type_as", "cpu", "cuda", "detach", "view_as", "reshape_as",
    "unfold", "fold", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "add", "sub", "rsub", "subtract", "neg",
    "negative", "sum", "mean", "cumsum", "__add__", "__radd__", "__iadd__", "__sub__", "__rsub__", "__isub__", "__neg__",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "interpolate", "upsample", "batch_norm", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
    "feature_alpha_dropout", "feature_dropout",
}  # fmt: skip
PRODUCTS = {
    "mul",
    "multiply",
    "div",
    "divide",
    "true_divide",
    "__mul__",
    "__rmul__",
    "__imul__",
    "__truediv__",
    "__itruediv__",
}
"""Affine while one of the two is a number or a parameter; of two that depend on the data it is a gate."""
MIXES = PRODUCTS | {
    "matmul",
    "mm",
    "bmm",
    "baddbmm",
    "einsum",
    "__matmul__",
    "__rmatmul__",
    "scaled_dot_product_attention",
}
"""Where two that depend on the data meet, one weighs the other: a gate, an attention."""
SOFT_OPS = {
    "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm", "normalize", "max", "amax", "min", "amin",
    *(f"{kind}max_pool{d}d{tail}" for kind in ("", "adaptive_") for d in (1, 2, 3) for tail in ("", "_with_indices")),
}  # fmt: skip
DROPOUTS = {
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "alpha_dropout",
    "feature_alpha_dropout",
    "feature_dropout",
}
STACKED = {"lstm", "gru", "rnn_tanh", "rnn_relu"}


@dataclass(frozen=True)
class NormCall:
    """A batch normalization as it was called."""

    where: str
    layers: tuple[str, ...]
    """The layers that it follows."""
    own_statistics: bool
    """It normalizes by the batch that it is given; False: by its running statistics, as in evaluation."""
    rows: int
    values: int
    """Numbers that the mean and variance of one channel are taken over."""
    fresh: bool = False
    """Its running statistics are those that it was made with: mean 0, variance 1."""
    frozen: bool = False
    """Its own parameters ask for no gradient."""
    foreign: float = 1.0
    """How far the running statistics are from those of the batch: the larger of the median ratio of their deviations, either way
    round, and the median distance of the means in running deviations. 1 where it normalizes by the batch."""


@dataclass(eq=False)
class DropoutCall:
    """A dropout as it was called, also one inside a recurrent layer or an attention."""

    where: str
    p: float
    training: bool
    layers_before: int
    """How many layers had run: 0 means that it drops inputs."""
    function: str = "dropout"
    units: int = 0
    """How many it chooses from, in one example; 0 where that was not seen."""
    goes_on: bool = False
    """A layer, an activation or the like takes in what is left; False: it drops the outputs themselves."""


@dataclass(eq=False)
class ActivationCall:
    """An activation as it was called."""

    name: str
    where: str
    number: int
    """How many activations of this name came before it in the pass."""
    layers: tuple[str, ...]
    """The layers that it follows, with nothing but affine operations between."""
    module: bool = False
    """`where` is a module that does nothing else."""
    feeds: bool = False
    """A layer with weights takes it in: it is hidden, not the output's."""
    gate: bool = False
    """It is multiplied with something that depends on the data: a gate or an attention."""
    place: int = 0
    """How many activations of any name came before it, the loss's included."""
    outside: bool = False
    """It is called outside of the model: by the loss."""
    dim: int | None = None
    """Of a softmax, as given."""


def way(name: str, inputs: Iterable[Tensor], is_constant: Callable[[Tensor], bool]) -> Way:
    """How the function called `name` passes on what it is given. What is not known counts as bent.

    >>> way("reshape", [], bool), way("max_pool2d", [], bool), way("exp", [], bool)
    ('linear', 'soft', 'bent')
    """
    if name in LINEAR_OPS:
        return "linear"
    if name in SOFT_OPS:
        return "soft"
    if name in PRODUCTS and sum(not is_constant(t) for t in inputs) <= 1:
        return "linear"
    return "bent"


def named_arguments(names: tuple[str, ...], args: Iterable[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return dict(zip(names, args)) | dict(kwargs)


_BATCH_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


def norm_call(where: str, layers: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> NormCall | None:
    """Of F.batch_norm(input, running_mean, running_var, weight, bias, training, …)."""
    given = named_arguments(_BATCH_NORM, args, kwargs)
    x, weight = given.get("input"), given.get("weight")
    if not isinstance(x, Tensor) or x.dim() < 2:
        return None
    own = bool(given.get("training", False))
    return NormCall(
        where,
        layers,
        own,
        rows=x.shape[0],
        values=x.numel() // max(x.shape[1], 1),
        fresh=not own and _as_made(given.get("running_mean"), given.get("running_var")),
        frozen=isinstance(weight, Tensor) and not weight.requires_grad,
        foreign=1.0 if own else _foreign(x, given.get("running_mean"), given.get("running_var")),
    )


def _foreign(x: Tensor, mean: Tensor | None, variance: Tensor | None) -> float:
    if mean is None or variance is None or x.numel() < 2 * x.shape[1]:
        return 1.0
    with torch.no_grad():
        channels = x.detach().double().transpose(0, 1).flatten(1)
        kept = variance.double().clamp_min(1e-30).sqrt()
        ratio = (channels.std(1).clamp_min(1e-30) / kept).log().abs().median().exp()
        away = ((channels.mean(1) - mean.double()).abs() / kept).median()
        return float(torch.maximum(ratio, away))


def _as_made(mean: Tensor | None, variance: Tensor | None) -> bool:
    if mean is None or variance is None:
        return False
    with torch.no_grad():
        return not bool(mean.any()) and bool((variance == 1).all())


def _dropped_from(name: str, x: Any) -> int:
    """Of how many one example loses some: numbers, or whole channels."""
    if not isinstance(x, Tensor) or x.dim() < 2:
        return 0
    return x.shape[1] if name != "dropout" else math.prod(x.shape[1:])


def dropout_call(
    name: str, where: str, layers_before: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> DropoutCall | None:
    """Of any function that drops; None if this call is none, or cannot drop anything."""
    p, training, units = 0.0, True, 0
    if name in DROPOUTS:
        given = named_arguments(("input", "p", "training"), args, kwargs)
        units = _dropped_from(name, given.get("input"))
        p, training = given.get("p", 0.5), given.get("training", given.get("train", True))
    elif name in STACKED and len(args) == 9:  # (input, [sizes,] hx, weights, biases, layers, p, training, …)
        first = 5 if isinstance(args[3], (list, tuple)) else 4  # a packed sequence brings its sizes along
        layers, p, training = args[first : first + 3]
        p = p if layers > 1 else 0.0
    elif name == "multi_head_attention_forward":
        p, training = (args[10] if len(args) > 10 else kwargs.get("dropout_p", 0.0)), kwargs.get("training", True)
    elif name == "scaled_dot_product_attention":
        p = named_arguments(("query", "key", "value", "attn_mask", "dropout_p"), args, kwargs).get("dropout_p", 0.0)
    if not p:
        return None
    return DropoutCall(where, float(p), bool(training), layers_before, name, units, goes_on=name not in DROPOUTS)
