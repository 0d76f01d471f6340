"""From suspicion to fault: treat the suspects, report what cures, explain what vanishes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from runtrue.checks import judge_all
from runtrue.diagnosis import limits
from runtrue.diagnosis.examination import Examination
from runtrue.diagnosis.search import Candidate, Pair, Search
from runtrue.diagnosis.verification import Bundle, Trial, Verification
from runtrue.facts import DataFacts
from runtrue.findings import Finding
from runtrue.measure import Measurements


@dataclass(frozen=True)
class Diagnosis:
    """The findings of one examined task, in the order in which they matter."""

    exam: Examination
    verify: Verification

    def findings(self) -> list[Finding]:
        found = self.exam.suspects()
        certain, suspects, notes = (
            [f for f in found if f.severity == severity] for severity in ("fault", "warning", "note")
        )
        notes = [f for f in notes if f.cause != "underfitting"]  # said only if nothing else is
        known = [self._with_remedy(f) for f in (*certain, *suspects) if self._stands(f)]
        certain, suspects = ([f for f in group if not self._stands(f)] for group in (certain, suspects))
        return [*self._judged(certain, suspects), *known, *notes]

    def _stands(self, finding: Finding) -> bool:
        """No trial of the training can say more about it: it is about validation, or the network learns all the same."""
        return finding.cause in limits.STANDING or (finding.severity == "fault" and self.exam.sound)

    def _judged(self, certain: list[Finding], suspects: list[Finding]) -> list[Finding]:
        if certain:
            return self._certain(certain, suspects)
        if not self.exam.measured.reference.steps and self.exam.measured.start.no_gradient is None:
            return []
        treatable = [f for f in suspects if self._is_worth_treating(f)]
        others = [f for f in suspects if f not in treatable]
        harmless = [f.having(severity="note") for f in others if f.cause in limits.FITS]
        awake = [
            self._with_remedy(f) for f in others if f.evidence.get("in_evaluation")
        ]  # spoils what is predicted later
        return [*self._treat(treatable), *awake, *harmless]

    def _is_worth_treating(self, finding: Finding) -> bool:
        """A network that learns well is left alone, the more so the lighter the suspicion."""
        if self.exam.sound:
            return False
        weight, quality = limits.weight_of(finding.cause), self.exam.measured.quality
        if finding.cause in limits.OFTEN_MEANT and quality >= limits.MEANT:
            return False
        if self.exam.saw_the_whole_plan and self.exam.measured.plan.known:
            return quality < limits.CEILING[weight]
        if finding.cause in limits.FACTS:
            return quality < limits.STRUGGLING
        return quality < limits.EARLY_CEILING[weight]

    # -- faults that are certain from the numbers

    def _certain(self, faults: list[Finding], suspects: list[Finding]) -> list[Finding]:
        """Their remedies are tried together, for the proof and not for the verdict; what else is wrong is looked for behind."""
        search = Search(self.exam, self.verify, ())
        pairs = [Pair(fault, found[0]) for fault in faults if (found := search.remedies(fault))]
        given = tuple(pair.remedy for pair in pairs)
        tried = self.verify.trial(given, "the remedies of what is certain") if pairs else None
        remedy_of = {pair.cause: pair.remedy for pair in pairs}
        cured = tried is not None and self.verify.cures(tried, remedy_of)
        told = [
            fault.having(
                remedy=remedy_of.get(fault.cause),
                outcome=self.verify.outcome(tried, cured) if tried and fault.cause in remedy_of else None,
            )
            for fault in faults
        ]
        if tried is None or cured:
            return told + [_explained(f, faults[0]) for f in suspects if _worth_telling(f)]
        more = self._behind(given, tried)
        rest = [f for f in suspects if _worth_telling(f) and f.cause not in {m.cause for m in more}]
        return told + more + [self._unverified(f, None) for f in rest]

    def _behind(self, given: Bundle, tried: Trial) -> list[Finding]:
        """Further faults of a task whose certain ones are treated already."""
        after = self._after(given, tried, None)
        suspects = [f for f in judge_all(after, self.exam.chosen) if f.severity == "warning"]
        search = Search(self.exam, self.verify, suspects, given)
        best = search.best()
        return self._faults(best) if best is not None else []

    # -- suspects

    def _treat(self, suspects: list[Finding]) -> list[Finding]:
        if not suspects:
            return [] if self.exam.measured.quality >= limits.STRUGGLING else self._left(suspects, {})
        search = Search(self.exam, self.verify, suspects)
        best = search.best() or self._with_more_time(search)
        best = self._with_masked(best) if best is not None and best.quality < limits.SOUND else best
        if best is not None and self._gets_there(best):
            return [self._only_slow(best)]
        if best is not None and (sure := self.verify.confirmed(best.trial, best.causes)) is not None:
            return self._with_consequences(replace(best, trial=sure), suspects)
        if self.exam.measured.quality >= limits.STRUGGLING:
            return [f.having(severity="note") for f in suspects if f.cause in limits.FITS]
        return self._left(suspects, search.tried)

    def _with_masked(self, best: Candidate) -> Candidate:
        """And what shows only now that the treated task is looked at: one fault often hides another."""
        after = self._after(best.trial.remedies, best.trial, best)
        known = set(best.causes)
        suspects = [f for f in judge_all(after, self.exam.chosen) if f.severity == "warning" and f.cause not in known]
        suspects = [f for f in suspects if f.cause not in (*limits.STANDING, *limits.RATES)]
        more = Search(self.exam, self.verify, suspects, best.trial.remedies).best() if suspects else None
        if more is None or more.quality < best.quality + limits.MORE:
            return best
        return Candidate((*best.pairs, *more.pairs), more.trial)

    def _with_more_time(self, search: Search) -> Candidate | None:
        """A cure that needs more steps than the trial had, where the plan has them."""
        for finding in search.suspects:
            trial = search.tried.get(finding.cause)
            longer = self.verify.longer(trial, finding.cause) if trial is not None else None
            if trial is not None and longer is not None and self.verify.cures(longer, (finding.cause,)):
                return Candidate((Pair(finding, trial.remedies[-1]),), longer)
        return None

    def _gets_there(self, best: Candidate) -> bool:
        """The untreated network learns too, only later in its plan. A rate too low was held against the plan already."""
        if self.exam.saw_the_whole_plan or any(limits.weight_of(c) == "fit" for c in best.causes):
            return False
        if best.causes == ("learning-rate-too-high",):
            return self.verify.catches_up(best.trial, limits.LEARNS_LATER, always=True)
        return best.causes != ("learning-rate-too-low",) and self.verify.catches_up(best.trial)

    def _with_consequences(self, best: Candidate, suspects: Sequence[Finding]) -> list[Finding]:
        """The faults, suspects that the cure silenced as symptoms, facts that remain as notes."""
        faults = self._faults(best)
        causes = {fault.cause for fault in faults}
        after = self._after(best.trial.remedies, best.trial, best)
        still = {f.cause for f in judge_all(after, self.exam.chosen)}
        others = [f for f in suspects if f.cause not in causes and _worth_telling(f)]
        symptoms = [_explained(f, faults[0]) for f in others if f.cause not in still]
        notes = [f.having(severity="note") for f in others if f.cause in still and f.cause in limits.FITS]
        return [*faults, *symptoms, *notes]

    def _after(self, remedies: Bundle, trial: Trial, best: Candidate | None) -> Measurements:
        """What the treated task is like: its first step, and the trial as its training."""
        measured = self.exam.measured
        start, penalty = self.verify.start_of(remedies), self.verify.penalty_behind(remedies)
        start = replace(start, regularizers=replace(start.regularizers, penalty=penalty))
        after = replace(measured, start=start, reference=trial.curve, small=None)
        if best is None or any(
            pair.finding.stage == "data" for pair in best.pairs
        ):  # what the network sees is another thing now
            after = replace(after, data=DataFacts((), None, after.data.batch_size))
        return after

    # -- what is said

    def _with_remedy(self, finding: Finding) -> Finding:
        """With its first remedy, untried: the training does not show whether it works."""
        remedies = Search(self.exam, self.verify, ()).remedies(finding)
        return finding.having(remedy=remedies[0]) if remedies else finding

    def _faults(self, best: Candidate) -> list[Finding]:
        """One fault a cause, the most needed first. All share the outcome: they were treated together."""
        outcome = self.verify.outcome(best.trial, cured=True)
        told: dict[str, Finding] = {}
        for pair in best.pairs:
            told.setdefault(pair.cause, pair.finding.having(severity="fault", remedy=pair.remedy, outcome=outcome))
        return list(told.values())

    def _only_slow(self, best: Candidate) -> Finding:
        """The remedy helps, but the network gets there without it: nothing to stop a training for."""
        fault = self._faults(best)[0]
        steps = best.trial.curve.steps
        said = f"{fault.message} (it learns all the same; with the remedy {steps} steps bring it further)"
        return fault.having(severity="note", message=said)

    def _left(self, suspects: Sequence[Finding], tried: dict[str, Trial]) -> list[Finding]:
        """Nothing cured: what was suspected from the numbers, and whether a few examples can be memorised."""
        self.exam.memorise()
        small = [f for f in self.exam.suspects() if f.cause == "underfitting"]
        lost = self.exam.measured.reference.diverged
        told = [f for f in suspects if _worth_telling(f) or (lost and f.cause == "learning-rate-too-high")]
        return [self._unverified(f, tried.get(f.cause)) for f in told] + small

    def _unverified(self, finding: Finding, trial: Trial | None) -> Finding:
        """A suspicion that no trial confirmed, and why."""
        if trial is None:
            return finding.having(message=f"{finding.message} (not verified: there was no remedy or no time to try)")
        name = trial.remedies[-1].name
        said = f"{finding.message} (not verified: {name} did not cure in {trial.curve.steps} steps)"
        outcome = self.verify.outcome(trial, cured=False)
        return finding.having(severity="warning", message=said, remedy=trial.remedies[-1], outcome=outcome)


def _worth_telling(finding: Finding) -> bool:
    return finding.cause not in limits.LAST


def _explained(symptom: Finding, root: Finding) -> Finding:
    return symptom.having(severity="note", explained_by=root.cause)
