"""Do the initial weights let a signal through, forward and back? (N1.2 to N1.5)"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from runtrue.checks.registry import check
from runtrue.demos import basic
from runtrue.findings import Finding
from runtrue.measure import Measurements
from runtrue.probes import Reading

GAIN_SMALL = 0.35  # std·sqrt(fan_in): torch's default is 0.577, Xavier 1, He 1.41; N(0, 0.01²) on 500 inputs is 0.22
GAIN_LARGE = 4.0  # N(0, 1) on 500 inputs is 22
SHRUNK = 0.02  # std of the last hidden layer over that of the first: Xavier with tanh keeps 0.45 over 10 layers
GROWN = 50.0
SATURATED = 0.5  # share of saturated elements: N(0, 1) gives over 0.9, Xavier none (lab init)
LOSS_OFF = 3.0  # loss at the start over its expectation: default and Xavier inits stay under 1.5


def weight_layers(m: Measurements) -> list[Reading]:
    """Layers whose scale is their weights' own: no embeddings or recurrences, no normalization behind."""
    return [r for r in m.start.layers if r.kind in ("linear", "conv") and not r.normalized and r.gain is not None]


def by_layer(layers: list[Reading]) -> list[dict[str, Any]]:
    keys = ("layer", "activation", "mean", "std", "raw_std", "gain", "zero_fraction", "saturated_fraction", "grad_norm")
    return [{key: row[key] for key in keys} for row in (layer.to_dict() for layer in layers)]


def shrinkage(hidden: list[Reading]) -> float:
    """std of the last hidden layer over that of the first; 1 where it cannot be told."""
    stds = [r.std for r in hidden if r.std is not None]
    return stds[-1] / stds[0] if len(stds) > 1 and stds[0] > 0 and all(map(math.isfinite, stds)) else 1.0


@check("init-too-small", sick=basic.tanh_small_init, healthy=basic.tanh_xavier)
def init_too_small(m: Measurements) -> Iterator[Finding]:
    """Weights start so small that the signal fades from layer to layer, and the gradient with it (N1.2).

    Glorot and Bengio 2010, eq. 12: an independent input leaves a layer with std(w)·sqrt(fan_in) times its spread.
    """
    hidden = [r for r in weight_layers(m)[:-1] if r.std is not None]
    small = [r for r in hidden if r.gain is not None and 0 < r.gain < GAIN_SMALL]
    fades = shrinkage(hidden) < SHRUNK and any_below(hidden, 1.0) and not any(r.dead_fraction == 1.0 for r in hidden)
    if not hidden or not (len(small) * 2 > len(hidden) or fades):
        return
    first, last = hidden[0], hidden[-1]
    weak = min((r.gain or 1.0) for r in hidden)
    yield Finding(
        "init-too-small",
        "warning",
        f"{first.layer} … {last.layer}" if first is not last else first.layer,
        f"the std of the activations falls from {first.std:.3g} in {first.layer} to {last.std:.3g} in {last.layer}: "
        f"weights amplify by {weak:.3g} a layer (std · sqrt(fan_in); 1 keeps the signal with tanh, 1.41 with ReLU)",
        {"layers": by_layer(weight_layers(m)), "smallest_gain": weak, "limit_gain": GAIN_SMALL},
    )


def any_below(layers: list[Reading], gain: float) -> bool:
    return any(r.gain is not None and r.gain < gain for r in layers)


def reach(r: Reading) -> float:
    """The gain of weights whose mean is not 0 as well, which have no spread where they are all alike."""
    return max(r.gain or 0.0, (r.weight_norm or 0.0) / math.sqrt(max(1, r.units)))


@check("init-too-large", sick=basic.tanh_large_init, healthy=basic.tanh_xavier)
def init_too_large(m: Measurements) -> Iterator[Finding]:
    """Weights start so large that units saturate, or the outputs and the loss start far too big (N1.3)."""
    layers = weight_layers(m)
    large = [r for r in layers if reach(r) > GAIN_LARGE]
    stuck = [r for r in layers if (r.saturated_fraction or 0.0) > SATURATED]
    ratio = shrinkage(layers[:-1])
    expected = m.start.baseline.start if m.start.baseline and m.start.baseline.classes else math.inf
    off = m.start.loss / expected if expected > 0 else 0.0
    if (not large and not (any(reach(r) > 2 for r in stuck)) and not (ratio > GROWN or off > LOSS_OFF)) or not layers:
        return
    worst = max(layers, key=reach)
    reasons = [
        f"weights of {worst.layer} amplify by {reach(worst):.3g} (root mean square · sqrt(fan_in); limit {GAIN_LARGE:g})"
    ]
    if stuck:
        reasons.append(f"{100 * max(r.saturated_fraction or 0 for r in stuck):.0f} % of {stuck[0].layer} is saturated")
    if off > LOSS_OFF:
        reasons.append(f"the loss starts at {m.start.loss:.3g} where {expected:.3g} is expected")
    yield Finding(
        "init-too-large",
        "warning",
        worst.layer,
        "; ".join(reasons),
        {"layers": by_layer(layers), "largest_gain": reach(worst), "limit_gain": GAIN_LARGE, "loss_at_start": m.start.loss,
         "expected_loss": expected},
    )  # fmt: skip


@check("init-symmetric", sick=basic.zero_init, healthy=basic.tanh_xavier)
def init_symmetric(m: Measurements) -> Iterator[Finding]:
    """All units of a layer start alike and receive the same update, so they stay one unit (N1.2).

    Both must hold: equal incoming weights and equal gradients. A head or a branch that starts at zero on top of different
    inputs is healthy.
    """
    layers = [r for r in m.start.layers if r.kind in ("linear", "conv")]
    alike = [r for r in layers[:-1] if r.alike_rows and r.units > 1 and r.trainable]
    if alike:
        names = ", ".join(r.layer for r in alike[:6]) + (" …" if len(alike) > 6 else "")
        yield Finding(
            "init-symmetric",
            "warning",
            names,
            f"all {alike[0].units} units of {alike[0].layer} have the same weights and the same gradient: "
            f"they compute one and the same thing ({len(alike)} of {len(layers)} layers)",
            {"layers": by_layer(alike), "units": alike[0].units},
        )
