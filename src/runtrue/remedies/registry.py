"""The register of remedies: for each cause, the changes that may cure it, the most likely first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from runtrue.findings import STAGE_OF, Finding, Remedy
from runtrue.measure import Measurements
from runtrue.sandbox import Sandbox

Propose = Callable[[Finding, Measurements, Sandbox], Iterator[Remedy]]

REMEDIES: dict[str, list[Propose]] = {}


def remedy(*causes: str) -> Callable[[Propose], Propose]:
    """Register a function that proposes remedies for these causes, behind those that are there already."""

    def register(propose: Propose) -> Propose:
        for cause in causes:
            if cause not in STAGE_OF:
                raise ValueError(f"unknown cause id {cause!r}")
            REMEDIES.setdefault(cause, []).append(propose)
        return propose

    return register


def remedies_for(finding: Finding, measured: Measurements, box: Sandbox) -> list[Remedy]:
    return [found for propose in REMEDIES.get(finding.cause, ()) for found in propose(finding, measured, box)]
