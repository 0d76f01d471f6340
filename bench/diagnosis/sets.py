"""Everything that the bench can check, by set."""

from __future__ import annotations

from diagnosis.cases import CASES
from diagnosis.healthy import HEALTHY
from diagnosis.injected import INJECTED
from diagnosis.parts import Case
from diagnosis.threads import THREADS

SETS: dict[str, dict[str, Case]] = {"public": CASES, "threads": THREADS, "injected": INJECTED, "healthy": HEALTHY}
