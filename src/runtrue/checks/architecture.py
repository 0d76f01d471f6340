"""Does the gradient reach the first layers, and do the units respond at all?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from runtrue.checks.registry import check
from runtrue.checks.weights import by_layer
from runtrue.demos import basic
from runtrue.findings import Finding
from runtrue.measure import Measurements
from runtrue.probes import Reading

VANISHED = (
    1e-3  # gradient at the first layer over that at the output: Xavier tanh at 10 layers has 0.2, N(0, 0.01²) 1e-7
)
EXPLODED = 1e3
DEAD = 0.9  # share of units silent on every example: sparse ReLU networks with 70 % are healthy (188 sound models)


def signals(m: Measurements) -> list[Reading]:
    """Layers with a known gradient at their output."""
    return [
        r
        for r in m.start.layers
        if r.kind in ("linear", "conv", "recurrent", "attention") and r.signal_norm is not None
    ]


@check("vanishing-gradient", sick=basic.deep_sigmoid, healthy=basic.tanh_xavier)
def vanishing_gradient(m: Measurements) -> Iterator[Finding]:
    """The gradient fades on its way back: the first layers receive next to nothing of it.

    Measured at the outputs of the layers, so that neither the size of a layer nor that of its weights matters.
    """
    layers = signals(m)
    if len(layers) < 3 or not (layers[-1].signal_norm or 0.0) > 0:
        return
    first = min(layers[:-1], key=lambda r: r.signal_norm or 0.0)
    ratio = (first.signal_norm or 0.0) / (layers[-1].signal_norm or 1.0)
    if ratio < VANISHED:
        yield Finding(
            "vanishing-gradient",
            "warning",
            first.layer,
            f"the gradient at {first.layer} is {ratio:.1e} of that at {layers[-1].layer} (limit {VANISHED:g})",
            {"layers": by_layer(layers), "ratio": ratio, "limit": VANISHED},
        )


@check("exploding-gradient", sick=basic.exploding_relu, healthy=basic.relu_he)
def exploding_gradient(m: Measurements) -> Iterator[Finding]:
    """The gradient grows on its way back, or is not finite: one step throws the first layers away."""
    layers = signals(m)
    if len(layers) < 3:
        return
    sizes = [r.signal_norm or 0.0 for r in layers]
    finite = all(map(math.isfinite, sizes)) and not math.isinf(m.start.gradient_norm)
    ratio = max(sizes[:-1]) / sizes[-1] if finite and sizes[-1] > 0 else math.inf
    if (not finite and math.isfinite(m.start.loss)) or (finite and sizes[-1] > 0 and ratio > EXPLODED):
        worst = layers[sizes.index(max(sizes[:-1]))] if finite else layers[0]
        amount = f"{ratio:.1e} times that at {layers[-1].layer} (limit {EXPLODED:g})" if finite else "not finite"
        yield Finding(
            "exploding-gradient",
            "warning",
            worst.layer,
            f"the gradient at {worst.layer} is {amount}",
            {"layers": by_layer(layers), "ratio": ratio, "limit": EXPLODED},
        )


@check("dead-units", sick=basic.dead_relu, healthy=basic.relu_he)
def dead_units(m: Measurements) -> Iterator[Finding]:
    """Nearly all units of a layer are zero for every example: no gradient passes them.

    Counted per unit over several batches, never per element: a ReLU network with most elements at zero is healthy.
    """
    dead = [r for r in all_layers(m) if (r.dead_fraction or 0.0) > DEAD and r.units > 1]
    if dead:
        worst = max(dead, key=lambda r: r.dead_fraction or 0.0)
        share = 100 * (worst.dead_fraction or 0.0)
        yield Finding(
            "dead-units",
            "warning",
            ", ".join(r.layer for r in dead[:6]),
            f"{share:.0f} % of the {worst.units} units of {worst.layer} are zero for every example (limit {100 * DEAD:.0f} %)",
            {
                "layers": [{**row, "dead_fraction": r.dead_fraction} for row, r in zip(by_layer(dead), dead)],
                "limit": DEAD,
            },
        )


def all_layers(m: Measurements) -> list[Reading]:
    """Also layers with a normalization behind: its shift can silence units as well."""
    return [r for r in m.start.layers if r.kind in ("linear", "conv")]
