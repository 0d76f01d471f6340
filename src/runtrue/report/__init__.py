"""What a check has to say, and the three ways of saying it: text, JSON, one HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtrue.findings import Finding, plain
from runtrue.rates import JudgedCurve

SCHEMA = 1


@dataclass(frozen=True)
class Measured:
    """What was measured on the way, for the page: it never decides anything.

    `layers`: one dict a layer of the untreated network at the start: "layer", "kind", "activation" and the numbers
    "mean", "std", "zero_fraction", "saturated_fraction", "grad_norm", "weight_norm", "update_ratio" (None where
    unknown).
    `curve`: loss of the untreated network, one a step. `facts`: label -> text, the lines of the page's summary
    (model, parameters, loss function, optimizer, data, seed, versions).
    """

    layers: tuple[Mapping[str, Any], ...] = ()
    curve: tuple[float, ...] = ()
    baseline: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    rates: tuple[JudgedCurve, ...] = ()
    """The task at its own and at other learning rates, if any were tried: real runs of the length of the trial."""


@dataclass(frozen=True)
class Report:
    """The findings of one check: faults (root cause first), warnings, notes, and what the check cost."""

    findings: tuple[Finding, ...]
    seconds: float = 0.0
    steps: int = 0
    measured: Measured = field(default_factory=Measured)
    name: str = "task"

    @property
    def faults(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "fault")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "warning")

    @property
    def notes(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.severity == "note")

    @property
    def ok(self) -> bool:
        """True if there is no fault."""
        return not self.faults

    def explained_by(self, cause: str) -> tuple[Finding, ...]:
        """The symptoms that the finding with this cause id explains."""
        return tuple(f for f in self.findings if f.explained_by == cause)

    def to_dict(self) -> dict[str, Any]:
        def say(found: tuple[Finding, ...]) -> list[dict[str, Any]]:
            return [f.to_dict(tuple(s.cause for s in self.explained_by(f.cause))) for f in found]

        return {
            "schema": SCHEMA,
            "ok": self.ok,
            "faults": say(self.faults),
            "warnings": say(self.warnings),
            "notes": say(self.notes),
            "cost": plain({"seconds": round(self.seconds, 3), "steps": self.steps}),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_html(self, path: str | Path) -> Path:
        """Write one self-contained page (offline, light and dark) and return where it lies."""
        from runtrue.report.html import write_page

        return write_page(self, Path(path))

    def _repr_html_(self) -> str:
        from runtrue.report.html import notebook_fragment

        return notebook_fragment(self)

    def __str__(self) -> str:
        from runtrue.report.text import render

        return render(self)
