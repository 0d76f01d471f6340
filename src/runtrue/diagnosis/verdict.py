"""From suspicion to fault: treat every suspect, report what cures, explain what vanishes with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from runtrue.checks import judge_all
from runtrue.diagnosis import limits
from runtrue.diagnosis.examination import Examination
from runtrue.diagnosis.verification import Trial, Verification
from runtrue.facts import DataFacts
from runtrue.findings import Finding, Remedy
from runtrue.remedies import remedies_for
from runtrue.task import TaskError
from runtrue.trials import FAILURES

Pair = tuple[Finding, Remedy]


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
        if certain:
            return self._certain(certain, suspects) + notes
        start, progress = self.exam.measured.start, self.exam.measured.progress
        if not self.exam.measured.reference.steps and start.no_gradient is None:
            return notes
        struggling = progress < limits.STRUGGLING
        facts = [f.having(severity="note") for f in suspects if f.cause in limits.FACTS and not struggling]
        if progress >= limits.LEARNED:
            return facts + notes
        treatable = [f for f in suspects if struggling or f.cause not in (*limits.FACTS, *limits.RATES)]
        return self._treat(treatable, struggling) + facts + notes

    # -- faults that are certain from the numbers

    def _certain(self, faults: list[Finding], suspects: list[Finding]) -> list[Finding]:
        """Their remedies are tried together, for the proof and not for the verdict."""
        pairs = [(fault, found[0]) for fault in faults if (found := self._remedies(fault))]
        tried = self.verify.trial(tuple(r for _, r in pairs), "the remedies of what is certain") if pairs else None
        remedy_of = {fault.cause: remedy for fault, remedy in pairs}
        told = [
            fault.having(
                remedy=remedy_of.get(fault.cause),
                outcome=self.verify.outcome(tried) if tried and fault.cause in remedy_of else None,
            )
            for fault in faults
        ]
        if tried is not None and not tried.cured:
            return told + [self._unverified(f, None) for f in suspects if _worth_telling(f)]
        return told + [_explained(f, faults[0]) for f in suspects if _worth_telling(f)]

    # -- suspects, one at a time

    def _treat(self, suspects: list[Finding], struggling: bool) -> list[Finding]:
        tried: dict[str, Trial] = {}
        for suspect in suspects:
            trial = self._try(suspect)
            if trial is None:
                continue
            tried[suspect.cause] = trial
            if trial.cured and self._gets_there(suspect, trial):
                return [self._only_slow(suspect, trial)]
            if trial.cured:
                return self._with_consequences(suspect, trial, suspects)
        if not struggling:
            return []
        return self._try_together(suspects) or self._left(suspects, tried)

    def _gets_there(self, suspect: Finding, trial: Trial) -> bool:
        """The untreated network learns too, only later. A rate too low was held against the plan already."""
        if suspect.cause == "learning-rate-too-high":
            return self.verify.catches_up(trial, limits.LEARNS_LATER, always=True)
        return suspect.cause not in limits.RATES and self.verify.catches_up(trial)

    def _try(self, suspect: Finding, first: tuple[Remedy, ...] = ()) -> Trial | None:
        """The remedies for one suspect, in turn, until one cures (of learning rates, the best of two that do)."""
        low = suspect.cause == "learning-rate-too-low" and not first
        if low and self.verify.plan_suffices():
            return None
        best: Trial | None = None
        for remedy in self._remedies(suspect):
            if low and not self.verify.beyond_plan(remedy):
                continue
            trial = self.verify.trial((*first, remedy), f"{suspect.cause}: {remedy.name}")
            if trial is None:
                break
            if best is not None and best.cured:
                return trial if trial.cured and trial.curve.end < best.curve.end else best
            best = trial if best is None or trial.cured else best
            if best.cured and suspect.cause not in limits.RATES:
                break
        return best

    def _with_consequences(self, root: Finding, trial: Trial, suspects: list[Finding]) -> list[Finding]:
        """The root as fault, suspects that its cure silenced as symptoms, facts that remain as notes."""
        after = replace(
            self.exam.measured, start=self.verify.start_of(trial.remedies), reference=trial.curve, small=None
        )
        if root.stage == "data":  # the data as the network sees them are scaled now
            after = replace(after, data=DataFacts((), None, after.data.batch_size))
        still = {f.cause for f in judge_all(after, self.exam.chosen)} | {root.cause}
        symptoms = [_explained(f, root) for f in suspects if f.cause not in still and _worth_telling(f)]
        notes = [
            f.having(severity="note")
            for f in suspects
            if f.cause in still and f.cause in limits.FACTS and f.cause != root.cause
        ]
        return [self._fault(root, trial), *symptoms, *notes]

    # -- several faults at once

    def _try_together(self, suspects: list[Finding]) -> list[Finding]:
        """No single remedy cures: the first of each together, then which of them are needed. Empty if that fails too."""
        pairs = self._first_remedies([f for f in suspects if f.cause not in limits.RATES])
        bundle = tuple(remedy for _, remedy in pairs)
        if not bundle:
            return []
        trial = self.verify.trial(bundle, "the remedies together") if len(bundle) > 1 else None
        for rate in [f for f in suspects if f.cause in limits.RATES]:
            if trial is not None and trial.cured:
                break
            trial = self._try(rate, bundle)
            if trial is not None and trial.cured:
                pairs.append((rate, trial.remedies[-1]))
        if trial is None or not trial.cured:
            return []
        needed = [pair for pair in pairs if not self._cured_without(pair, pairs)] or pairs[:1]
        faults = [self._fault(finding, replace(trial, remedies=(remedy,))) for finding, remedy in needed]
        rest = [f for f in suspects if f.cause not in {fault.cause for fault in faults} and _worth_telling(f)]
        return faults + [_explained(f, faults[0]) for f in rest]

    def _first_remedies(self, suspects: list[Finding]) -> list[Pair]:
        """The first remedy of each suspect; where several share one, it stands with the first of them."""
        pairs: dict[str, Pair] = {}
        for suspect in suspects:
            for remedy in self._remedies(suspect)[:1]:
                pairs.setdefault(remedy.name, (suspect, remedy))
        return list(pairs.values())

    def _cured_without(self, left_out: Pair, used: list[Pair]) -> bool:
        others = tuple(pair[1] for pair in used if pair is not left_out)
        trial = self.verify.trial(others, f"the same without: {left_out[1].name}") if others else None
        return trial is not None and trial.cured

    # -- what is said

    def _remedies(self, finding: Finding) -> list[Remedy]:
        """What may cure it. A proposal that does not fit this model is none."""
        try:
            return remedies_for(finding, self.exam.measured, self.exam.box)
        except (TaskError, *FAILURES):
            self.exam.box.start()
            return []

    def _fault(self, finding: Finding, trial: Trial) -> Finding:
        return finding.having(severity="fault", remedy=trial.remedies[-1], outcome=self.verify.outcome(trial))

    def _only_slow(self, finding: Finding, trial: Trial) -> Finding:
        """The remedy helps, but the network gets there without it: nothing to stop a training for."""
        said = f"{finding.message} (it learns all the same; with the remedy {trial.curve.steps} steps bring it further)"
        return self._fault(finding, trial).having(severity="note", message=said)

    def _left(self, suspects: list[Finding], tried: dict[str, Trial]) -> list[Finding]:
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
        said = f"{finding.message} (not verified: {trial.remedies[-1].name} did not cure in {trial.curve.steps} steps)"
        return self._fault(finding, trial).having(severity="warning", message=said)


def _worth_telling(finding: Finding) -> bool:
    return finding.cause not in limits.RATES


def _explained(symptom: Finding, root: Finding) -> Finding:
    return symptom.having(severity="note", explained_by=root.cause)
