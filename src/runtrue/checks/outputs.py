"""Do the outputs, the loss and the targets fit each other?

Suspected from one forward pass; whether it is a fault, a trial decides: networks learn to a degree with most of these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from runtrue.checks.registry import check
from runtrue.demos import basic
from runtrue.demos import outputs as demos
from runtrue.findings import Finding
from runtrue.measure import Measurements
from runtrue.outputs import BOUNDS, Maker, OutputFacts

CLASS_LOSSES = ("cross_entropy", "nll_loss")
BINARY_LOSSES = ("binary_cross_entropy", "binary_cross_entropy_with_logits")
NUMBER_LOSSES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
UNREACHED = 0.02  # share of the targets out of reach: a stray outlier or a clipped value is no mismatch
IN_VAIN = 0.1  # skill under which nothing was learned …
FELL = 0.1  # … though the loss fell by this share of where it began
KEEPS_ORDER = ("log_softmax", "softmax", "softmin")


def place_of(maker: Maker) -> str:
    """Where the activation is called, in words."""
    if maker.where is None:
        return "the loss"
    return maker.module or maker.where or "the model's forward"


def evidence_of(o: OutputFacts) -> dict[str, Any]:
    maker = o.maker
    return {
        "loss": o.loss,
        "activation": maker.name if maker else None,
        "outputs": list(o.shape),
        "lowest": o.low,
        "highest": o.high,
        "targets": o.wanted,
        "lowest_target": o.target_low,
        "highest_target": o.target_high,
    }


@check("softmax-before-cross-entropy", sick=demos.softmax_twice, healthy=basic.healthy_mlp)
def softmax_before_cross_entropy(m: Measurements) -> Iterator[Finding]:
    """The outputs are probabilities already, and cross-entropy applies its own softmax to them once more.

    Recognised by the softmax in front of the loss, or by outputs that are not negative and sum to 1. The loss of C classes cannot
    fall below ln(1 + (C - 1) / e), and the gradient of a confident answer, right or wrong, is nearly 0.
    """
    o = m.start.outputs
    if o is None or o.loss != "cross_entropy" or o.columns < 2:
        return
    named = o.maker is not None and o.maker.name == "softmax"
    if not (named or (o.rows_sum_to_one and len(o.shape) == 2)):
        return
    floor = math.log(1 + (o.shape[1] - 1) / math.e)
    where = place_of(o.maker) if o.maker and named else "outputs"
    yield Finding(
        "softmax-before-cross-entropy",
        "warning",
        where,
        f"what reaches cross_entropy went through a softmax ({where}), and cross_entropy applies its own: with {o.shape[1]} "
        f"classes the loss cannot fall below {floor:.3g}; it takes raw outputs",
        {**evidence_of(o), "lowest_possible_loss": floor},
    )


@check("sigmoid-before-bce-with-logits", sick=demos.sigmoid_twice, healthy=demos.footwear)
def sigmoid_before_bce_with_logits(m: Measurements) -> Iterator[Finding]:
    """The outputs went through a sigmoid (or softmax) already, and BCEWithLogitsLoss applies its own.

    Predictions then lie between sigmoid(0) = 0.5 and sigmoid(1) = 0.73: "no" cannot be said.
    """
    o = m.start.outputs
    if o is None or o.loss != "binary_cross_entropy_with_logits" or o.maker is None:
        return
    if o.maker.name in ("sigmoid", "hardsigmoid", "softmax"):
        yield Finding(
            "sigmoid-before-bce-with-logits",
            "warning",
            place_of(o.maker),
            f"what reaches binary_cross_entropy_with_logits went through a {o.maker.name} ({place_of(o.maker)}), and the loss "
            "applies its own sigmoid: probabilities stay between 0.5 and 0.73; it takes raw outputs",
            evidence_of(o),
        )


@check("logits-without-log-softmax", sick=demos.raw_into_nll, healthy=demos.log_softmax_nll)
def logits_without_log_softmax(m: Measurements) -> Iterator[Finding]:
    """NLLLoss gets outputs that are no log-probabilities, or BCELoss outputs that are no probabilities.

    NLLLoss is silent about it: its loss falls without bound while the outputs grow. BCELoss stops where an output leaves 0 … 1.
    """
    o = m.start.outputs
    if o is None:
        return
    if o.loss == "nll_loss" and not o.log_rows and o.columns > 1:
        through = f"a {o.maker.name}" if o.maker else "no activation"
        yield Finding(
            "logits-without-log-softmax",
            "warning",
            place_of(o.maker) if o.maker else "outputs",
            f"nll_loss takes log-probabilities, but the outputs went through {through} (from {o.low:.3g} to {o.high:.3g}; the "
            "exponentials of a row must sum to 1): put a log_softmax in front of it, or use cross_entropy on raw outputs",
            evidence_of(o),
        )
    elif o.loss == "binary_cross_entropy" and o.maker is None:
        outside = o.low < 0 or o.high > 1
        yield Finding(
            "logits-without-log-softmax",
            "fault" if outside and m.start.error is not None else "warning",
            "outputs",
            f"binary_cross_entropy takes probabilities, but nothing keeps the outputs between 0 and 1 (now {o.low:.3g} to "
            f"{o.high:.3g}): put a sigmoid in front of it, or use binary_cross_entropy_with_logits",
            evidence_of(o),
        )


@check("output-activation-mismatch", sick=demos.relu_on_logits, healthy=demos.brightness)
def output_activation_mismatch(m: Measurements) -> Iterator[Finding]:
    """The last activation cannot give what the loss or the targets ask for.

    ReLU, tanh or sigmoid on the outputs of cross-entropy, a bounded activation on targets beyond its bounds, a softmax over
    one unit (always 1) or over the batch, ReLU or tanh in front of a loss that takes probabilities.
    """
    o = m.start.outputs
    reason = mismatch(o) if o is not None else None
    if o is not None and reason is not None:
        assert o.maker is not None
        yield Finding(
            "output-activation-mismatch",
            "warning",
            place_of(o.maker),
            f"the outputs come from a {o.maker.name} ({place_of(o.maker)}): {reason}",
            {**evidence_of(o), "targets_below": o.below, "targets_above": o.above},
        )


def mismatch(o: OutputFacts) -> str | None:
    """Why these outputs cannot be what is wanted, in words; None if they can."""
    if o.maker is None:
        return None
    name = o.maker.name
    if name == "softmax" and (o.columns == 1 or len(o.shape) == 1):
        return "a softmax over one unit gives 1 whatever goes in"
    if name == "softmax" and o.over_batch:
        return "it sums to 1 over the batch instead of over the classes (dim=0 where dim=1 is meant)"
    if o.loss == "cross_entropy" and name not in KEEPS_ORDER and name in BOUNDS:
        low, high = BOUNDS[name]
        return f"cross_entropy takes raw outputs, and these stay between {low:g} and {high:g}"
    if o.loss == "nll_loss" and name in BOUNDS and name not in (*KEEPS_ORDER, "logsigmoid"):
        return "nll_loss takes the logarithms of probabilities"
    if (
        o.loss == "binary_cross_entropy_with_logits"
        and name in BOUNDS
        and name not in ("sigmoid", "hardsigmoid", "softmax")
    ):
        return "the loss applies its own sigmoid, and takes raw outputs on both sides of 0"
    if o.loss == "binary_cross_entropy" and name not in ("sigmoid", "hardsigmoid", "softmax"):
        return "binary_cross_entropy takes probabilities"
    if o.loss == "binary_cross_entropy" and name == "softmax" and o.wanted == "yes-no" and o.columns > 1:
        return "the outputs of a row sum to 1, but several of the targets of a row can be 1, or none"
    if o.loss not in (*CLASS_LOSSES, *BINARY_LOSSES) and o.below + o.above > UNREACHED:
        low, high = BOUNDS[name]
        return (
            f"it gives {low:g} to {high:g}, but {100 * (o.below + o.above):.0f} % of the targets lie outside "
            f"(from {o.target_low:.4g} to {o.target_high:.4g}; limit {100 * UNREACHED:g} %)"
        )
    return None


@check("wrong-loss", sick=demos.absolute_error_of_classes, healthy=basic.healthy_mlp)
def wrong_loss(m: Measurements) -> Iterator[Finding]:
    """The loss does not measure what is wanted.

    Squared or absolute error for classes, cross-entropy over one column (always 0) or for several labels at once, a loss with
    its sign turned; and a loss that is none of torch's and falls, while the predictions do not get any better.
    """
    o = m.start.outputs
    reason = unfit(o) if o is not None else None
    if o is not None and reason is not None:
        yield Finding("wrong-loss", "warning", "loss", reason, {**evidence_of(o), "negated": o.negated})
    elif o is not None and o.loss is None and falls_in_vain(m):
        start, end = m.reference.start, m.reference.end
        reason = (
            f"the loss fell from {start:.4g} to {end:.4g}, but the predictions are no better than a constant (skill "
            f"{m.quality:.2g}, limit {IN_VAIN:g}): it does not measure what is wanted"
        )
        yield Finding(
            "wrong-loss", "warning", "loss", reason, {**evidence_of(o), "falls_in_vain": True, "skill": m.quality}
        )


def falls_in_vain(m: Measurements) -> bool:
    curve = m.reference
    if curve.skill is None or curve.diverged or m.quality >= IN_VAIN:
        return False
    return curve.start - curve.end > FELL * max(abs(curve.start), 1e-12)


def unfit(o: OutputFacts) -> str | None:
    """Why this loss is not the one for these targets, in words; None if it may be."""
    if o.negated:
        return f"the loss is {o.loss} with its sign turned: training makes it worse on purpose"
    if o.loss == "cross_entropy" and o.columns == 1 and len(o.shape) > 1:
        return "cross_entropy over one column is 0 whatever the output: for one unit the loss is binary_cross_entropy_with_logits"
    if o.loss == "cross_entropy" and o.wanted == "yes-no" and o.columns > 1 and o.target_shape == o.shape:
        return "the targets have several 1s (or none) in a row, and cross_entropy knows one class a row: use BCEWithLogitsLoss"
    if o.loss in NUMBER_LOSSES and o.wanted in ("one-hot", "yes-no"):
        better = "cross_entropy" if o.wanted == "one-hot" else "binary cross-entropy"
        return (
            f"the targets are classes ({o.wanted}), but the loss is {o.loss}: its gradient fades where a sigmoid or softmax is "
            f"sure and wrong; {better} is made for them"
        )
    if o.loss == "binary_cross_entropy" and o.wanted == "one-hot" and o.maker is not None and o.maker.name == "softmax":
        return (
            "the outputs are shares of one class out of several, but the loss asks yes or no of each: use cross_entropy"
        )
    return None


@check("loss-shape-broadcast", sick=demos.column_against_row, healthy=demos.brightness)
def loss_shape_broadcast(m: Measurements) -> Iterator[Finding]:
    """Outputs (N, 1) meet targets (N,) in the loss and are broadcast to N × N: every output is compared with every target.

    The best answer to that is the mean of all targets. torch warns for its own losses and says nothing for hand-written ones.
    """
    o = m.start.outputs
    if o is None:
        return
    shapes = (o.shape, o.target_shape) if o.same_numbers else askew(o)
    if shapes is None:
        return
    listed = " and ".join(map(str, shapes))
    known = o.same_numbers and o.loss in (*NUMBER_LOSSES, *BINARY_LOSSES) and math.prod(o.shape) > 1
    if known or grows(o, shapes):
        yield Finding(
            "loss-shape-broadcast",
            "fault" if m.start.error is not None else "warning",
            "loss",
            f"outputs and targets have the shapes {listed}: the loss compares each output with every target; "
            "give both the same shape (targets.view_as(outputs), or outputs.squeeze(1))",
            {**evidence_of(o), "targets_shape": list(shapes[1]), "operations": [s.operation for s in o.spreads]},
        )


def grows(o: OutputFacts, shapes: tuple[tuple[int, ...], ...]) -> bool:
    """A hand-written loss made N × N out of outputs and targets."""
    return any(set(spread.shapes) >= set(shapes) for spread in o.spreads)


def askew(o: OutputFacts) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The shapes in which as many outputs as targets met in a hand-written loss, if one of the two was flattened there.

    A loss over pairs that is meant so gives both the same number of dimensions: (N, 1) and (1, N).
    """
    count = math.prod(o.shape)
    for spread in o.spreads if count == math.prod(o.target_shape) else ():
        if len(spread.shapes) != 2:
            continue
        one, other = sorted(spread.shapes, key=len, reverse=True)
        if len(one) > len(other) and math.prod(one) == math.prod(other) == count:
            return one, other
    return None
