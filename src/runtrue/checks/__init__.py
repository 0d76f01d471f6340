"""Every check, one file a stage. Importing this package fills the register."""

from __future__ import annotations

from collections.abc import Container

from runtrue.checks import (  # each fills the register
    architecture,
    data,
    labels,
    optimizer,
    outputs,
    regularization,
    splits,
    structure,
    training,
    weights,
    wiring,
)  # fmt: skip
from runtrue.checks.registry import CHECKS, Check, rank
from runtrue.findings import Finding
from runtrue.measure import Measurements

__all__ = [
    "CHECKS", "Check", "architecture", "data", "judge_all", "labels", "optimizer", "outputs", "rank", "regularization",
    "splits", "structure", "training", "weights", "wiring",
]  # fmt: skip

CHECKS.update({cause: CHECKS.pop(cause) for cause in sorted(CHECKS, key=rank)})  # in the order of the stages


def judge_all(measured: Measurements, chosen: Container[str]) -> list[Finding]:
    """What the chosen checks say of these numbers, upstream causes first."""
    return [finding for known in CHECKS.values() if known.cause in chosen for finding in known.judge(measured)]
