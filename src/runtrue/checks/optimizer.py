"""Does the learning rate fit the task, and the plan? (N3.2: very high, high, good, low)"""

from __future__ import annotations

import math
from collections.abc import Iterator

from runtrue.checks.registry import check
from runtrue.demos import basic
from runtrue.findings import Finding
from runtrue.measure import Measurements

STUCK = 0.1  # share of the baseline removed: under this a trial has shown no learning
POOR = 0.6  # quality under which a training that had its whole plan may have had the wrong rate; a trial decides
STILL = (
    0.05  # of a layer's weights: if all steps, each ten times the first (momentum), move none further, none overshoots
)
RISEN = 1.5  # loss at the end over the larger of start and baseline


def risen(m: Measurements) -> bool:
    """The untreated run ended above where it began, or was lost."""
    curve = m.reference
    if curve.diverged:
        return True
    ceiling = max(abs(curve.start), m.constant or 0.0)
    return ceiling > 0 and curve.end > RISEN * ceiling


def hardly_moves(m: Measurements) -> bool:
    """No layer's weights get anywhere in the whole run, if its steps are about as long as the first."""
    ratios = [layer.update_ratio for layer in m.start.layers if layer.update_ratio is not None]
    return bool(ratios) and 10 * max(ratios) * m.reference.steps < STILL


@check("learning-rate-too-high", sick=basic.rate_too_high, healthy=basic.healthy_mlp)
def learning_rate_too_high(m: Measurements) -> Iterator[Finding]:
    """Steps overshoot: the loss rises, jumps, or sticks far above what a lower rate reaches (N3.2)."""
    curve = m.reference
    if not curve.steps or m.quality >= POOR or (hardly_moves(m) and not risen(m)):
        return
    if risen(m):
        what = f"the loss rose from {curve.start:.4g} to {curve.end:.4g} in {curve.steps} steps"
    else:
        what = f"the loss stays at {curve.end:.4g} after {curve.steps} steps"
    if m.start.outputs is not None and m.start.outputs.sums:
        what += f" (it is summed over batches of {m.data.batch_size}, which multiplies the steps of SGD by that)"
    yield Finding(
        "learning-rate-too-high",
        "warning",
        "optimizer",
        f"at a learning rate of {m.rate:.4g} {what}",
        {"learning_rate": m.rate, "loss_at_start": curve.start, "loss_at_end": curve.end, "steps": curve.steps},
    )


@check("learning-rate-too-low", sick=basic.rate_too_low, healthy=basic.healthy_mlp)
def learning_rate_too_low(m: Measurements) -> Iterator[Finding]:
    """Steps are so small that the planned number of them cannot reach a good loss (N3.2)."""
    curve = m.reference
    if not curve.steps or curve.diverged or risen(m) or m.quality >= POOR:
        return
    yield Finding(
        "learning-rate-too-low",
        "warning",
        "optimizer",
        f"at a learning rate of {m.rate:.4g} the loss went from {curve.start:.4g} to {curve.end:.4g} in {curve.steps} steps "
        f"of {m.plan.steps} planned",
        {
            "learning_rate": m.rate,
            "loss_at_start": curve.start,
            "loss_at_end": curve.end if math.isfinite(curve.end) else None,
            "steps": curve.steps,
            "planned_steps": m.plan.steps,
            "plan_known": m.plan.known,
        },
    )
