"""Order the checks, treat what they suspect, verify the cure, explain the rest: `check` and `fix`."""

from __future__ import annotations

from runtrue.diagnosis.check import check, choose, ensure_known
from runtrue.diagnosis.treatment import Treatment, fix

__all__ = ["Treatment", "check", "choose", "ensure_known", "fix"]
