"""The search for the smallest cure, on made-up tasks: how well each set of remedies does is given by a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runtrue.diagnosis import limits, search
from runtrue.diagnosis.search import Candidate, Search
from runtrue.diagnosis.verification import Bundle, Trial, is_cure
from runtrue.findings import Finding, Remedy
from runtrue.trials import Curve

Quality = Callable[[frozenset[str]], float]


def finding(cause: str) -> Finding:
    return Finding(cause, "warning", "here", "made up")


@dataclass
class Table:
    """Stands for trials: the quality of a set of remedies by their names. Counts what was tried."""

    quality: Quality
    untreated: float = 0.0
    allowed: int = 1000
    tried: list[frozenset[str]] = field(default_factory=list)

    def race(self, bundles: Sequence[Bundle], what: str) -> list[Trial | None]:
        names = [frozenset(remedy.name for remedy in bundle) for bundle in bundles]
        names, late = names[: max(0, self.allowed - len(self.tried))], names[max(0, self.allowed - len(self.tried)) :]
        self.tried += names
        return [Trial(b, Curve((1.0,)), self.quality(n)) for b, n in zip(bundles, names)] + [None] * len(late)

    def cures(self, trial: Trial, causes: Sequence[str]) -> bool:
        weights = {limits.weight_of(cause) for cause in causes}
        weight = next(w for w in ("fit", "scale", "rate") if w in weights)
        return is_cure(self.untreated, trial.quality, weight)


REMEDIES = {
    "learning-rate-too-high": ("/10", "/100", "/1000"),
    "learning-rate-too-low": ("x10", "x100", "x1000"),
    "inputs-not-scaled": ("scale",),
    "output-activation-mismatch": ("raw",),
    "init-too-small": ("draw", "lsuv"),
    "vanishing-gradient": ("draw", "lsuv", "norm"),
    "dropout-too-strong": ("drop less",),
    "too-little-capacity": ("widen",),
}


def sought(
    monkeypatch: pytest.MonkeyPatch, quality: Quality, *causes: str, **table: Any
) -> tuple[Candidate | None, Table]:
    def remedies(finding: Finding, *_: Any) -> list[Remedy]:
        return [Remedy(name, True, name, lambda task: task) for name in REMEDIES[finding.cause]]

    monkeypatch.setattr(search, "remedies_for", remedies)
    verify = Table(quality, **table)
    exam = SimpleNamespace(
        saw_the_whole_plan=True,
        measured=SimpleNamespace(quality=verify.untreated),
        box=SimpleNamespace(start=lambda: None),
    )
    made = Search(cast(Any, exam), cast(Any, verify), [finding(cause) for cause in causes])
    return made.best(), verify


def names(candidate: Candidate | None) -> list[str]:
    assert candidate is not None
    return [pair.remedy.name for pair in candidate.pairs]


def test_one_cure_is_enough_and_rates_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def quality(given: frozenset[str]) -> float:
        return 0.97 if "raw" in given else 0.1

    best, table = sought(
        monkeypatch, quality, "output-activation-mismatch", "inputs-not-scaled", "learning-rate-too-low"
    )
    assert names(best) == ["raw"]
    assert table.tried == [{"raw"}, {"scale"}]


def test_of_two_cures_the_heavier_suspicion_then_the_one_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    def quality(given: frozenset[str]) -> float:
        return {"raw": 0.93, "scale": 0.95, "draw": 0.99}.get(next(iter(given)), 0.0)

    best, _ = sought(monkeypatch, quality, "inputs-not-scaled", "output-activation-mismatch", "init-too-small")
    assert names(best) == ["raw"]
    best, _ = sought(monkeypatch, quality, "inputs-not-scaled", "init-too-small")
    assert names(best) == ["scale"]


def test_a_rate_alone_is_preferred_to_a_bundle_that_does_no_better(monkeypatch: pytest.MonkeyPatch) -> None:
    def quality(given: frozenset[str]) -> float:
        return 0.95 if "x100" in given else 0.1

    best, _ = sought(monkeypatch, quality, "inputs-not-scaled", "learning-rate-too-high", "learning-rate-too-low")
    assert names(best) == ["x100"]


def test_a_rate_that_cures_halfway_is_followed_further(monkeypatch: pytest.MonkeyPatch) -> None:
    def quality(given: frozenset[str]) -> float:
        return {"x100": 0.61, "x1000": 0.92}.get(next(iter(given), ""), 0.0) if len(given) == 1 else 0.0

    best, _ = sought(monkeypatch, quality, "learning-rate-too-low", untreated=0.0)
    assert names(best) == ["x1000"]


def test_three_faults_are_found_together_and_what_is_not_needed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def quality(given: frozenset[str]) -> float:
        needed = {"scale", "raw", "/100"}
        return 0.96 if given >= needed else 0.05 if len(given & needed) == 2 else -1.0

    causes = ("inputs-not-scaled", "output-activation-mismatch", "init-too-small", "learning-rate-too-high")
    best, _ = sought(monkeypatch, quality, *causes, untreated=-1.0)
    assert sorted(names(best)) == ["/100", "raw", "scale"]
    assert best is not None and best.causes[0] == "output-activation-mismatch"  # all cost the same: the heaviest leads


def test_the_fault_that_costs_most_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    def quality(given: frozenset[str]) -> float:
        return 0.1 + 0.25 * ("raw" in given) + 0.55 * ("scale" in given) * (1 if "raw" in given else 0.1)

    best, _ = sought(monkeypatch, quality, "output-activation-mismatch", "inputs-not-scaled", untreated=0.1)
    assert names(best) == ["raw", "scale"]


def test_where_both_are_needed_the_fit_leads_however_far_from_a_cure_it_stays_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def quality(given: frozenset[str]) -> float:
        return {frozenset({"raw", "/100"}): 0.99, frozenset({"/100"}): 0.16}.get(given, -1.0)

    best, _ = sought(monkeypatch, quality, "output-activation-mismatch", "learning-rate-too-high", untreated=0.07)
    assert names(best) == ["raw", "/100"]


def test_a_second_remedy_is_tried_where_the_first_does_not_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def quality(given: frozenset[str]) -> float:
        return 0.95 if "lsuv" in given else 0.0

    best, _ = sought(monkeypatch, quality, "init-too-small", "learning-rate-too-low")
    assert names(best) == ["lsuv"]


def test_nothing_cures(monkeypatch: pytest.MonkeyPatch) -> None:
    best, table = sought(monkeypatch, lambda given: 0.05, "inputs-not-scaled", "learning-rate-too-low")
    assert best is None and len(table.tried) < 20


def test_a_small_gain_is_no_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    best, _ = sought(monkeypatch, lambda given: 0.62, "learning-rate-too-low", untreated=0.5)
    assert best is None


def test_a_budget_that_ends_early_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    best, table = sought(
        monkeypatch, lambda given: 0.5 if "scale" in given else 0.0, "inputs-not-scaled", "init-too-small", allowed=2
    )
    assert names(best) == ["scale"] and len(table.tried) == 2


@pytest.mark.parametrize(
    ("before", "after", "weight", "cured"),
    [
        (0.0, 0.95, "rate", True),
        (0.59, 0.97, "rate", False),  # more than 60 % of what is reached: slower, not sick
        (0.55, 0.97, "rate", True),
        (0.7, 0.96, "fit", True),
        (0.7, 0.76, "fit", False),  # gains too little
        (0.05, 0.19, "fit", False),  # has not learned either
        (-1.0, 0.25, "scale", True),
        (0.3, 0.5, "scale", False),  # leaves 71 % of what is missing
    ],
)
def test_what_counts_as_a_cure(before: float, after: float, weight: str, cured: bool) -> None:
    assert is_cure(before, after, weight) is cured


def test_every_cause_has_a_weight() -> None:
    from runtrue.checks import CHECKS

    assert {limits.weight_of(cause) for cause in CHECKS} == {"fit", "scale", "rate"}
    assert limits.weight_of("loss-shape-broadcast") == "fit" and limits.weight_of("inputs-not-scaled") == "scale"
