"""Is the network allowed to learn? Decay, penalties and dropout that outweigh the data, and layers that are asleep."""

from __future__ import annotations

import math
from collections.abc import Iterator

from runtrue.calls import DropoutCall
from runtrue.checks.registry import check
from runtrue.checks.wiring import some
from runtrue.demos import structure
from runtrue.findings import Finding
from runtrue.measure import Measurements

PULL = 0.2  # of decay or penalty over the data's at the first step: under it MLPs and CNNs lose less than a tenth, at 2 a third
WRITTEN_DOWN = 0.5  # norm of a weight after a forward pass that wrote into it, over its norm before
DROPS = 0.7  # two layers at 0.7 keep 85 % of what 0 learns, at 0.8 73 %, at 0.9 a tenth
KEPT = 0.05  # share of the paths through all dropouts that is left: four layers at 0.5 keep 0.06 and learn, at 0.7 they do not
COUNTED = 0.3  # dropouts weaker than this do not count for KEPT: a deep transformer has dozens of 0.1
ON_INPUTS = 0.5  # the inputs are kept with 0.8 in Srivastava et al. 2014, section 7.3
ALL_GONE = 0.01  # chance that one pass keeps no unit at all: p^n; half of 3 units has 0.125, half of 16 has 2e-5
FOREIGN = 10.0  # running deviations so many times off, or means so many deviations away: statistics of quite other data
DIFFERS = 0.01  # ‖difference‖ of the outputs of two evaluation passes over ‖outputs‖: rounding gives 1e-6


@check("regularization-too-strong", sick=structure.heavy_decay, healthy=structure.light_decay)
def regularization_too_strong(m: Measurements) -> Iterator[Finding]:
    """Weight decay, or a penalty in the loss, pulls the weights to zero harder than the data pull them anywhere (N2.1).

    Measured at the first step as norms of gradients: λ‖w‖, or that of (loss − what torch's loss function gave), over that of the
    data. It is a fault only if a weaker one cures.
    """
    penalty, decay = m.start.regularizers.penalty, m.start.regularizers.decay
    if decay is not None and decay.ratio > PULL:
        yield Finding(
            "regularization-too-strong",
            "warning",
            "optimizer",
            f"weight_decay={decay.weight_decay:g} pulls {_times(decay.ratio)} as hard as the data at the first step "
            f"(limit {PULL:g})",
            {"weight_decay": decay.weight_decay, "pull": decay.ratio, "limit": PULL, "learning_rate": decay.rate,
             "kept_after_plan": decay.kept(m.plan.steps)},
        )  # fmt: skip
    if penalty is not None and not penalty.on_outputs and penalty.ratio > PULL:
        yield Finding(
            "regularization-too-strong",
            "warning",
            "loss",
            f"the loss is {penalty.data:.4g} by the data and {penalty.whole - penalty.data:.4g} by what is added, which pulls "
            f"{_times(penalty.ratio)} as hard (limit {PULL:g})",
            {"data": penalty.data, "penalty": penalty.whole - penalty.data, "pull": penalty.ratio, "limit": PULL},
        )
    shrunk = [(name, ratio) for name, ratio in m.start.regularizers.overwritten if ratio < WRITTEN_DOWN]
    if shrunk:
        yield Finding(
            "regularization-too-strong",
            "warning",
            some(tuple(name for name, _ in shrunk)),
            f"the forward pass writes into {shrunk[0][0]}: its norm is {_times(shrunk[0][1])} what it was "
            f"(limit {WRITTEN_DOWN:g})",
            {"norm_ratio": dict(shrunk), "limit": WRITTEN_DOWN},
        )


def _times(ratio: float) -> str:
    return f"{ratio:.3g} times" if math.isfinite(ratio) else "infinitely many times"


@check("dropout-too-strong", sick=structure.heavy_dropout, healthy=structure.light_dropout)
def dropout_too_strong(m: Measurements) -> Iterator[Finding]:
    """Dropout takes away so much that too little of the signal is left to learn from (N2.2), or drops in evaluation as well.

    Srivastava et al. 2014 drop half of the hidden units and a fifth of the inputs. Suspected from the probabilities, wherever the
    dropout is called; it is a fault only if less cures.
    """
    active = [d for d in m.start.regularizers.dropouts if d.training]
    reason = _too_much(active)
    if reason:
        yield Finding(
            "dropout-too-strong",
            "warning",
            some(tuple(dict.fromkeys(d.where or "model" for d in active))),
            reason,
            {"p": [d.p for d in active], "where": [d.where for d in active], "limit": DROPS, "kept": kept(active)},
        )
    awake, spread = m.start.regularizers.active_in_evaluation, m.start.regularizers.evaluation_spread
    if awake and spread > DIFFERS:
        yield Finding(
            "dropout-too-strong",
            "warning",
            some(tuple(dict.fromkeys(d.where or "model" for d in awake))),
            f"dropout of {awake[0].p:g} stays active in evaluation: the outputs of two passes of one batch are "
            f"{100 * spread:.0f} % apart (limit {100 * DIFFERS:.0f} %). Give F.dropout training=self.training",
            {"p": [d.p for d in awake], "where": [d.where for d in awake], "evaluation_spread": spread, "limit": DIFFERS,
             "in_evaluation": True},
        )  # fmt: skip


def kept(dropouts: list[DropoutCall]) -> float:
    """Share of the paths that all of these leave open, the weak ones not counted."""
    return math.prod(1.0 - d.p for d in dropouts if d.p >= COUNTED)


def _too_much(active: list[DropoutCall]) -> str | None:
    strongest = max(active, key=lambda d: d.p, default=None)
    if strongest is None:
        return None
    if strongest.p >= DROPS:
        where = strongest.where or "the forward pass"
        return f"dropout of {strongest.p:g} in {where} (limit {DROPS:g}); {len(active)} dropouts leave {kept(active):.2g} open"
    if kept(active) < KEPT:
        return f"{len(active)} dropouts together leave {kept(active):.2g} of the paths open (limit {KEPT:g})"
    narrow = [d for d in active if d.units and d.p**d.units > ALL_GONE]
    if narrow:
        worst = max(narrow, key=lambda d: d.p**d.units)
        chance, where = 100 * worst.p**worst.units, worst.where or "the forward pass"
        return f"dropout of {worst.p:g} on {worst.units} units in {where} drops all of them in {chance:.0f} % of the passes"
    outputs = [d for d in active if not d.goes_on and d.layers_before > 0]
    if outputs:
        return f"dropout of {outputs[0].p:g} in {outputs[0].where or 'the forward pass'} drops outputs of the network"
    inputs = [d for d in active if d.layers_before == 0 and d.p >= ON_INPUTS]
    if inputs:
        return f"dropout of {inputs[0].p:g} in front of the first layer drops inputs (limit {ON_INPUTS:g})"
    return None


@check("eval-mode-while-training", sick=structure.asleep, healthy=structure.awake)
def eval_mode_while_training(m: Measurements) -> Iterator[Finding]:
    """Normalization or dropout runs in evaluation mode while the network trains: what they are for does not happen.

    A BatchNorm in evaluation mode divides by its running statistics: with those that it was made with, by nothing at all; with
    those of quite other data, by something that fits nothing. One that was trained on such data, or whose parameters are frozen,
    is meant so.
    """
    start = m.start.regularizers
    whole = not start.training
    norms = [n for n in start.norms if not n.own_statistics and (n.foreign > FOREIGN or n.fresh) and not n.frozen]
    dropouts = [d for d in start.dropouts if not d.training and (whole or not m.start.wiring.frozen)]
    if not norms and not dropouts:
        return
    names = tuple(
        dict.fromkeys(where or "model" for where in (*(n.where for n in norms), *(d.where for d in dropouts)))
    )
    off = max((n.foreign for n in norms), default=1.0)
    kept = (
        "running mean 0, variance 1" if all(n.fresh for n in norms) else f"running statistics up to {off:.3g} times off"
    )
    kinds = [f"{len(norms)} BatchNorm ({kept})"] * bool(norms) + [f"{len(dropouts)} dropout"] * bool(dropouts)
    who = "the whole model is in evaluation mode" if whole else "parts are in evaluation mode"
    yield Finding(
        "eval-mode-while-training",
        "warning",
        some(names),
        f"{who} while it trains: {' and '.join(kinds)} without effect ({some(names)})",
        {"norms": [n.where for n in norms], "dropouts": [d.where for d in dropouts], "whole_model": whole},
    )
