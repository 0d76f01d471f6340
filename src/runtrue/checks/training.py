"""Does it learn at all? The most direct questions, asked of short real runs (N3.1)."""

from __future__ import annotations

from collections.abc import Iterator

from runtrue.checks.optimizer import STUCK
from runtrue.checks.registry import check
from runtrue.demos import basic
from runtrue.findings import Finding
from runtrue.measure import Measurements


@check("underfitting", sick=basic.zero_init, healthy=basic.healthy_mlp)
def underfitting(m: Measurements) -> Iterator[Finding]:
    """The network neither learned in the trial nor memorised a few examples with regularization off (N3.1).

    Never a fault by itself: it says that something is wrong, not what. Slow but sound networks fail it too.
    """
    curve, small = m.reference, m.small
    if not curve.steps or curve.diverged or m.progress >= STUCK:
        return
    if small is None or small.memorised:
        yield Finding("underfitting", "note", "model", _undecided(m), {"steps": curve.steps, "loss_at_end": curve.end})
    elif m.constant is not None or small.end >= 0.99 * small.start:  # else any fall may be all there is
        how = "the task's own optimizer or Adam" if small.with_adam else "the task's own optimizer"
        yield Finding(
            "underfitting",
            "warning",
            "model",
            f"{small.examples} examples could not be memorised in {small.steps} steps with {how}: "
            f"loss {small.start:.4g} at the start, {small.end:.4g} at the end",
            {"examples": small.examples, "steps": small.steps, "loss_at_start": small.start, "loss_at_end": small.end},
        )


def _undecided(m: Measurements) -> str:
    """Nothing learned, and nothing found: said, so that silence is not taken for health."""
    curve, small = m.reference, m.small
    seen = (
        f"in {curve.steps} steps the loss went from {curve.start:.4g} to {curve.end:.4g}, which shows no learning yet"
    )
    if small is None:
        return f"{seen}; there was no time to find out why: give a larger budget"
    return (
        f"{seen}, though {small.examples} examples were memorised in {small.steps} steps: it may be slow, "
        "or the inputs may not tell the targets"
    )
