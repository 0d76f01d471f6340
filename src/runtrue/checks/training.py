"""Does it learn at all? The most direct questions, asked of short real runs (N3.1)."""

from __future__ import annotations

from collections.abc import Iterator

from runtrue import demos
from runtrue.checks.optimizer import STUCK
from runtrue.checks.registry import check
from runtrue.findings import Finding
from runtrue.measure import Measurements
from runtrue.trials import judge_progress


@check("underfitting", sick=demos.zero_init, healthy=demos.healthy_mlp)
def underfitting(m: Measurements) -> Iterator[Finding]:
    """The network neither learned in the trial nor memorised a few examples with regularization off (N3.1).

    Never a fault by itself: it says that something is wrong, not what. Slow but sound networks fail it too.
    """
    small = m.small
    if small is None or small.memorised or judge_progress(m.reference, m.constant) >= STUCK:
        return
    if m.constant is None and small.end < 0.99 * small.start:
        return  # where the loss ends at best is not known: any fall may be all there is
    how = "the task's own optimizer or Adam" if small.with_adam else "the task's own optimizer"
    yield Finding(
        "underfitting",
        "warning",
        "model",
        f"{small.examples} examples could not be memorised in {small.steps} steps with {how}: "
        f"loss {small.start:.4g} at the start, {small.end:.4g} at the end",
        {"examples": small.examples, "steps": small.steps, "loss_at_start": small.start, "loss_at_end": small.end},
    )
