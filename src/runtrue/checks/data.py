"""Is there something to learn from, and on a scale that a network can take?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from runtrue.checks.registry import check
from runtrue.demos import basic
from runtrue.facts import TensorFacts
from runtrue.findings import Finding
from runtrue.measure import Measurements

INPUT_LARGEST = 20.0  # |input| above 100 or std above 20 fired on no sound run of 114; standardised data stay under 10
INPUT_OFFSET = (
    8.0  # a mean this many stds from 0: the signal is a ripple on a constant (65 … 70 has 40; 1 … 2 has 5 and learns)
)
INPUT_TINY = 0.02  # largest |input| under this: first-layer outputs start as the bias alone
FEATURE_RATIO = 100.0  # the spread of one feature over that of another: one learning rate cannot serve both
TARGET_LARGEST = 10.0  # mean square root of the targets: outputs start near 1 and must travel there
TARGET_TINY = 1e-3


@check("non-finite-data", sick=basic.nan_pixels, healthy=basic.healthy_mlp)
def non_finite_data(m: Measurements) -> Iterator[Finding]:
    """Inputs or targets hold NaN or infinity, which turns the loss and then every weight into NaN.

    A network may mask such values itself: it is a fault only if the loss of a batch that holds one is not finite, or the training
    was lost (infinity can leave the loss finite and the gradient not).
    """
    for role, tensor in (*(("inputs", t) for t in m.data.inputs), ("targets", m.data.targets)):
        if tensor is not None and tensor.bad_rows:
            run_lost = m.reference.steps > 0 and m.reference.diverged
            lost = run_lost or (m.bad_loss is not None and not math.isfinite(m.bad_loss))
            yield Finding(
                "non-finite-data",
                "fault" if lost else "note",
                f"train {role}{tensor.name}",
                f"{tensor.bad_rows} of {tensor.examples} examples hold {tensor.bad_values} values that are NaN or infinite",
                {
                    "examples": tensor.examples,
                    "bad_examples": tensor.bad_rows,
                    "bad_values": tensor.bad_values,
                    "limit": 0,
                },
            )


@check("constant-inputs", sick=basic.black_images, healthy=basic.healthy_mlp)
def constant_inputs(m: Measurements) -> Iterator[Finding]:
    """Every example has the same inputs: there is nothing to tell examples apart by."""
    if m.data.inputs and all(t.alike for t in m.data.inputs):
        count = m.data.inputs[0].examples
        yield Finding(
            "constant-inputs",
            "fault",
            "train inputs",
            f"all {count} examples that were read have the same inputs (value {m.data.inputs[0].mean:.4g}): "
            "look at what loads and transforms them",
            {"examples": count, "value": m.data.inputs[0].mean, "std_over_examples": 0.0},
        )


@check("constant-targets", sick=basic.one_label, healthy=basic.healthy_mlp)
def constant_targets(m: Measurements) -> Iterator[Finding]:
    """Every example has the same target: a constant output is perfect, and nothing of the inputs is learned.

    Only said where the loss reads the targets, the whole set or at least 64 examples in random order were read, and the
    targets are not a placeholder that the loss ignores.
    """
    t = m.data.targets
    enough = t is not None and (t.whole or (t.examples >= 64 and m.shuffled))
    if t is not None and t.alike and enough and m.start.loss_facts is not None and not constant_facts_differ(m, t):
        yield Finding(
            "constant-targets",
            "fault",
            "train targets",
            f"all {t.examples} targets that were read are the same ({t.mean:.4g}): look at how labels are read, "
            "and whether the set is sorted by class",
            {"examples": t.examples, "value": t.mean},
        )


def constant_facts_differ(m: Measurements, t: TensorFacts) -> bool:
    """The loss was given other targets than these: they are a placeholder."""
    facts = m.start.loss_facts
    return facts is not None and (facts.target_low != t.low or facts.target_high != t.high)


@check("inputs-not-scaled", sick=basic.raw_pixels, healthy=basic.healthy_mlp)
def inputs_not_scaled(m: Measurements) -> Iterator[Finding]:
    """Inputs are far from mean 0 and spread 1, which makes the first layer's outputs, gradients and usable rates wild.

    LeCun et al. 1998 ("Efficient BackProp", 4.3). Suspected from the numbers; it is a fault only if scaling cures.
    """
    for tensor in m.data.inputs:
        reason = judge_scale(tensor)
        if tensor.floating and reason:
            yield Finding(
                "inputs-not-scaled",
                "warning",
                f"train inputs{tensor.name}",
                f"{reason}: networks are initialised for inputs of mean 0 and std 1",
                {
                    "mean": tensor.mean,
                    "std": tensor.std,
                    "min": tensor.low,
                    "max": tensor.high,
                    "feature_stds": list(tensor.feature_stds[:32]),
                    "limit_largest": INPUT_LARGEST,
                },
            )


def judge_scale(tensor: TensorFacts) -> str | None:
    """What is wild about these inputs, in words; None if nothing is."""
    if not math.isfinite(tensor.mean) or tensor.alike:
        return None
    if tensor.largest > INPUT_LARGEST:
        return (
            f"inputs reach {tensor.largest:.4g} (mean {tensor.mean:.4g}, std {tensor.std:.4g}; limit {INPUT_LARGEST:g})"
        )
    if abs(tensor.mean) > INPUT_OFFSET * tensor.std:
        away = abs(tensor.mean) / max(tensor.std, 1e-12)
        return f"inputs have mean {tensor.mean:.4g} and std {tensor.std:.4g}: {away:.3g} stds from 0"
    if 0 < tensor.largest < INPUT_TINY:
        return f"inputs are at most {tensor.largest:.3g} in size (limit {INPUT_TINY:g})"
    spread = [s for s in tensor.feature_stds if s > 0]
    if len(tensor.shape) == 2 and 1 < len(spread) <= 64 and max(spread) > FEATURE_RATIO * min(spread):
        return (
            f"one feature has std {max(spread):.3g}, another {min(spread):.3g} (limit: a factor of {FEATURE_RATIO:g})"
        )
    return None


@check("targets-not-scaled", sick=basic.raw_targets, healthy=basic.scaled_targets)
def targets_not_scaled(m: Measurements) -> Iterator[Finding]:
    """Regression targets are far from mean 0 and spread 1, so the outputs must travel far and the loss dwarfs the rate."""
    t, facts = m.data.targets, m.start.loss_facts
    regression = facts is not None and facts.name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
    if t is None or not t.floating or not (regression or (facts is None and m.start.loss == m.start.loss)) or t.alike:
        return
    size = math.hypot(t.mean, t.std)
    if size > TARGET_LARGEST or 0 < size < TARGET_TINY or abs(t.mean) > INPUT_OFFSET * t.std:
        yield Finding(
            "targets-not-scaled",
            "warning",
            "train targets",
            f"targets have mean {t.mean:.4g} and std {t.std:.4g} (root mean square {size:.4g}, limits {TARGET_TINY:g} and "
            f"{TARGET_LARGEST:g}): outputs start near 0 with a spread near 1",
            {"mean": t.mean, "std": t.std, "min": t.low, "max": t.high, "limit": TARGET_LARGEST},
        )


@check("labels-out-of-range", sick=basic.labels_from_one, healthy=basic.healthy_mlp)
def labels_out_of_range(m: Measurements) -> Iterator[Finding]:
    """A label names a class that the outputs do not have, or a binary target lies outside 0 … 1.

    Cross-entropy over C outputs takes labels 0 … C-1. Binary losses take targets from 0 to 1; BCEWithLogitsLoss does not check
    and falls without bound.
    """
    facts = m.start.loss_facts
    if facts is None or math.isnan(facts.target_low):
        return
    low, high = min_max_of_labels(m)
    evidence = {"lowest": low, "highest": high, "outputs": facts.classes, "loss": facts.name}
    if facts.name in ("cross_entropy", "nll_loss") and "float" not in facts.target_dtype:
        if low < 0 or high >= facts.classes:
            yield Finding(
                "labels-out-of-range",
                "fault",
                "train targets",
                f"labels run from {low:.0f} to {high:.0f}, but the network has {facts.classes} outputs: "
                f"{facts.name} takes 0 to {facts.classes - 1}",
                evidence,
            )
    elif facts.name.startswith("binary_cross_entropy") and (low < 0 or high > 1):
        yield Finding(
            "labels-out-of-range",
            "fault",
            "train targets",
            f"targets run from {low:.4g} to {high:.4g}, but {facts.name} takes 0 to 1",
            evidence,
        )


def min_max_of_labels(m: Measurements) -> tuple[float, float]:
    """Over all batches if the loss gets the targets as they are, else over the first batch; ignored labels left out."""
    facts, t = m.start.loss_facts, m.data.targets
    assert facts is not None
    inside = t is not None and t.low <= facts.target_low and t.high >= facts.target_high
    if t is None or not inside or not facts.as_given or t.dtype != facts.target_dtype:
        return facts.target_low, facts.target_high
    if len(t.values) <= 64:
        kept = [v for v in t.values if v != facts.ignore_index]
        return (min(kept), max(kept)) if kept else (facts.target_low, facts.target_high)
    low = facts.target_low if t.low == facts.ignore_index else t.low
    return low, facts.target_high if t.high == facts.ignore_index else t.high
