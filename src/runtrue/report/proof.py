"""The outcome of a trial in one line, for forms that draw no curves."""

from __future__ import annotations

from runtrue.findings import Outcome
from runtrue.report.content import how_tried
from runtrue.report.numbers import shown


def proof_of(outcome: Outcome) -> str:
    """What was seen, on which numbers, and what was held equal. Skill is told too: a remedy may change the loss itself."""
    verdict = "cured" if outcome.cured else "not cured"
    ends = f"loss {shown(outcome.before)} untreated, {shown(outcome.after)} treated"
    if outcome.skill_before is not None and outcome.skill_after is not None:
        ends += f"; skill {shown(outcome.skill_before)} and {shown(outcome.skill_after)} (0 like the best constant, 1 perfect)"
    return f"{verdict}: {ends}. {how_tried(outcome)}"
