"""Every check, one file a stage. Importing this package fills the register."""

from __future__ import annotations

from collections.abc import Container

from runtrue.checks import architecture, data, optimizer, training, weights, wiring
from runtrue.checks.registry import CHECKS, Check, rank
from runtrue.findings import Finding
from runtrue.measure import Measurements

__all__ = ["CHECKS", "Check", "architecture", "data", "judge_all", "optimizer", "rank", "training", "weights", "wiring"]


def judge_all(measured: Measurements, chosen: Container[str]) -> list[Finding]:
    """What the chosen checks say of these numbers, upstream causes first."""
    found = [f for c in CHECKS.values() if c.cause in chosen for f in c.judge(measured)]
    return sorted(found, key=lambda finding: rank(finding.cause))
