"""Is the network built so that it can learn? Non-linearities, room, and normalizations that have something to average over."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from runtrue.calls import ActivationCall, NormCall
from runtrue.checks.architecture import signals
from runtrue.checks.registry import check
from runtrue.checks.weights import SATURATED, by_layer
from runtrue.checks.wiring import some
from runtrue.demos import structure
from runtrue.findings import Finding
from runtrue.measure import Measurements, Start
from runtrue.probes import Reading

PASSES_LITTLE = (
    0.01  # gradient at the first of three squashing layers over that at the output: Xavier tanh at 10 layers has 0.2
)
FEW_VALUES = (
    4  # a channel: at 2 a BatchNorm MLP learned next to nothing, at 4 it kept 70 % of its twin's progress, at 8 all
)
NARROW = 4  # units: at most as many as come in; a hidden layer of 4 on 784 pixels stays at a third of what 32 reach
NARROW_SHARE, NARROW_MOST = (
    0.25,
    16,
)  # units a class, below which a hidden layer is narrow, and only up to so many units

SOFTMAXES = ("softmax", "log_softmax")
SIGMOIDS = ("sigmoid", "hardsigmoid", "logsigmoid")
SQUASHING = (*SIGMOIDS, "tanh", "hardtanh", "softsign")


def weight_layers(start: Start) -> list[Reading]:
    """Layers that mix all their inputs: no convolution in groups, no embedding, nothing that is non-linear inside."""
    return [r for r in start.layers if r.kind in ("linear", "conv") and not r.grouped]


def in_a_row(start: Start, everywhere: bool) -> list[tuple[str, str]]:
    """Pairs of layers with nothing non-linear between. Left out is what is meant so: a first layer with fewer units than its
    inputs and than its follower factorizes one weight into two (MobileNetV2, LoRA); and in a network that has activations
    elsewhere, what ends in a sum of several layers (a residual stream) or in a norm over features.

    everywhere: the network has no activation at all: then sums, norms over features and maxima do not count.
    """
    known = {r.layer: r for r in weight_layers(start)}
    found = []
    for after in known.values():
        alone = after.fed_by if len(after.fed_by) == 1 else ()
        for name in (*after.fed_by, *after.softly_fed_by) if everywhere else alone:
            before = known.get(name)
            if before is not None and before is not after and not before.units < min(before.channels_in, after.units):
                found.append((name, after.layer))
    return found


@check("missing-nonlinearity", sick=structure.no_activations, healthy=structure.with_activations)
def missing_nonlinearity(m: Measurements) -> Iterator[Finding]:
    """Layers with weights follow one another with nothing non-linear between: together they are one linear layer.

    W₂(W₁x + b₁) + b₂ = (W₂W₁)x + …: depth adds nothing. Suspected where most of the hidden layers lack an activation, or where
    none has one at all; then a norm or a maximum between does not count. It is a fault only if activations cure.
    """
    hidden = weight_layers(m.start)[:-1]
    others = [r for r in m.start.layers if r.kind in ("recurrent", "attention")]
    none = not others and not any(r.activation for r in hidden)
    pairs = in_a_row(m.start, everywhere=none)
    lacking = tuple(dict.fromkeys(before for before, _ in pairs))
    if not pairs or (len(lacking) < len(hidden) if none else 2 * len(lacking) <= len(hidden) + len(others)):
        return
    first, then = pairs[0]
    yield Finding(
        "missing-nonlinearity",
        "warning",
        some(lacking),
        f"nothing non-linear stands between {first} and {then}: {len(lacking)} of {len(hidden)} hidden layers have no "
        "activation, and linear layers in a row are one linear layer",
        {"pairs": [list(pair) for pair in pairs], "lacking": list(lacking), "hidden_layers": len(hidden)},
    )


def hidden_calls(start: Start, names: tuple[str, ...]) -> list[ActivationCall]:
    """Activations of these names that stand between layers: no output activation, no gate, no attention."""
    return [c for c in start.activations if c.name in names and c.feeds and not c.gate and c.layers]


@check("saturating-activation", sick=structure.softmax_hidden, healthy=structure.with_activations)
def saturating_activation(m: Measurements) -> Iterator[Finding]:
    """Hidden activations let too little through: softmax between layers, several sigmoids, or units that stand at their bounds.

    A sigmoid passes at most a quarter of the gradient, a softmax over n units about 1/n; a tanh at 0.95 a tenth. Glorot and
    Bengio 2010, section 3. One sigmoid or tanh layer that is not saturated is healthy.
    """
    soft, squashing = hidden_calls(m.start, SOFTMAXES), hidden_calls(m.start, SQUASHING)
    readings = {r.layer: r for r in m.start.layers}
    sigmoids = {name for call in squashing if call.name in SIGMOIDS for name in call.layers}
    squashed = list(dict.fromkeys(name for call in squashing for name in call.layers))
    stuck = [n for n in squashed if n in readings and (readings[n].saturated_fraction or 0.0) > SATURATED]
    passed = passed_back(m)
    if soft:
        what = f"{soft[0].name} is the activation of hidden units ({some(soft[0].layers)}): each passes about 1/n of the gradient"
        where = [name for call in soft for name in call.layers]
    elif 2 * len(stuck) > len(squashed):
        share = 100 * max(readings[n].saturated_fraction or 0.0 for n in stuck)
        what = f"{share:.0f} % of the outputs of {stuck[0]} stand at the bounds of {readings[stuck[0]].activation}"
        what += f" (limit {100 * SATURATED:.0f} %)"
        where = stuck
    elif len(sigmoids) > 1 or (len(squashed) > 2 and passed < PASSES_LITTLE):
        what = f"{squashing[0].name} squashes {len(squashed)} hidden layers; {passed:.1e} of the gradient reaches the first"
        where = squashed
    else:
        return
    rows = [readings[name] for name in dict.fromkeys(where) if name in readings]
    names = tuple(dict.fromkeys(where))
    evidence = {
        "layers": by_layer(rows),
        "activations": [c.name for c in (*soft, *squashing)],
        "gradient_passed": passed,
    }
    yield Finding("saturating-activation", "warning", some(names), what, evidence)


def passed_back(m: Measurements) -> float:
    """Gradient at the output of the first layer over that at the last one's; 1 where it cannot be told."""
    norms = [r.signal_norm or 0.0 for r in signals(m)]
    ratio = norms[0] / norms[-1] if len(norms) > 1 and norms[-1] > 0 else 1.0
    return ratio if math.isfinite(ratio) else 1.0


@check("too-little-capacity", sick=structure.one_unit, healthy=structure.with_activations)
def too_little_capacity(m: Measurements) -> Iterator[Finding]:
    """A hidden layer is so narrow that what the targets depend on may not fit through.

    Never certain from the numbers: a few units are enough for a simple task. It is a fault only if more units cure. The waist of
    a network that gives back its own inputs is left out.
    """
    layers = weight_layers(m.start)
    gates = {name for call in m.start.activations if call.gate for name in call.layers}
    narrow = [
        r for r, after in pairwise(layers) if is_narrow(r, layers[-1].units) and not {r.layer, after.layer} & gates
    ]
    if not narrow or gives_back_inputs(m):
        return
    worst = min(narrow, key=lambda r: r.units)
    yield Finding(
        "too-little-capacity",
        "warning",
        some(tuple(r.layer for r in narrow)),
        f"{worst.layer} has {worst.units} unit{'s' * (worst.units > 1)} between {worst.fan_in} inputs and "
        f"{layers[-1].units} outputs of the network",
        {"units": {r.layer: r.units for r in narrow}, "outputs": layers[-1].units, "limit": NARROW},
    )


def is_narrow(layer: Reading, outputs: int) -> bool:
    few = layer.units <= NARROW or (layer.units <= NARROW_MOST and layer.units <= NARROW_SHARE * outputs)
    return 0 < layer.units <= layer.fan_in and few


def gives_back_inputs(m: Measurements) -> bool:
    """An autoencoder: targets of the shape of the inputs."""
    targets = m.data.targets
    return targets is not None and any(t.shape == targets.shape and len(t.shape) > 1 for t in m.data.inputs)


REFUSED = "more than 1 value per channel"  # torch's words where a variance would be taken over one number


@check("batch-too-small-for-norm", sick=structure.pairs_of_images, healthy=structure.batches_with_norm)
def batch_too_small_for_norm(m: Measurements) -> Iterator[Finding]:
    """Batch normalization has too few values a channel to take a mean and a variance over: what it subtracts is the signal.

    With two values a channel the outputs are ±1, whatever the inputs were. A map (N, C, H, W) has N·H·W values, and is healthy
    at any N. torch refuses a single value: that is certain.
    """
    used = [n for n in m.start.regularizers.norms if n.own_statistics]
    least = min(used, key=lambda n: n.values, default=None)
    if least is None:
        return
    refused = m.start.error is not None and REFUSED in m.start.error
    if refused or (m.start.error is None and least.values <= FEW_VALUES):
        yield Finding(
            "batch-too-small-for-norm",
            "fault" if refused else "warning",
            some(tuple(dict.fromkeys(n.where or "model" for n in used if n.values <= FEW_VALUES)))
            or least.where
            or "model",
            _too_few(least, refused),
            {"rows": least.rows, "values_per_channel": least.values, "limit": FEW_VALUES, "error": m.start.error},
        )


def _too_few(norm: NormCall, refused: bool) -> str:
    rows = f"{norm.rows} example{'s' * (norm.rows > 1)}"
    values = f"{norm.values} value{'s' * (norm.values > 1)}"
    told = f"BatchNorm {norm.where or 'in the forward pass'} normalizes over {values} a channel (batches of {rows})"
    return f"{told}: torch refuses to train on it" if refused else f"{told}; more than {FEW_VALUES} are needed"
