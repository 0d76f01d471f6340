"""From suspects to a cure: each alone, then rates, then together; and of what is together, only what is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from runtrue.checks import rank
from runtrue.diagnosis import limits
from runtrue.diagnosis.examination import Examination
from runtrue.diagnosis.verification import Bundle, Trial, Verification
from runtrue.findings import STAGE_OF, Finding, Remedy
from runtrue.remedies import remedies_for
from runtrue.task import TaskError
from runtrue.trials import FAILURES

APPLIED = ("loss and output", "architecture", "wiring", "data", "initial weights", "regularization", "optimizer")
"""Stages in the order in which their remedies are applied: the network is put right before it is wrapped, weights are drawn
for what is there then, and the optimizer comes last."""


@dataclass(frozen=True)
class Pair:
    """A suspect and one of its remedies."""

    finding: Finding
    remedy: Remedy

    @property
    def cause(self) -> str:
        return self.finding.cause


@dataclass(frozen=True)
class Candidate:
    """Remedies that were tried together, each with the suspect that it is for."""

    pairs: tuple[Pair, ...]
    trial: Trial

    @property
    def quality(self) -> float:
        return self.trial.quality

    @property
    def causes(self) -> tuple[str, ...]:
        return tuple(pair.cause for pair in self.pairs)


@dataclass
class Search:
    """One search for a cure. `given`: remedies that are part of every trial (those of faults that are certain)."""

    exam: Examination
    verify: Verification
    suspects: Sequence[Finding]
    given: Bundle = ()
    tried: dict[str, Trial] = field(default_factory=dict)
    """The best trial of each suspect alone."""
    _remedies: dict[str, list[Remedy]] = field(default_factory=dict)

    def best(self) -> Candidate | None:
        """The smallest set of remedies that cures as well as any; None if nothing does."""
        singles = self._alone([f for f in self.suspects if f.cause not in limits.LAST])
        found = self._preferred(singles)
        if found is None or found.quality < limits.SOUND:
            singles += self._alone([f for f in self.suspects if f.cause in limits.LAST])
            found = self._preferred(singles)
        if found is None or found.quality < limits.SOUND:
            together = self._together(singles)
            if together is not None and (found is None or together.quality > found.quality + limits.MORE):
                found = self._pruned(together)
        return found

    def remedies(self, finding: Finding) -> list[Remedy]:
        """What may cure it. A proposal that does not fit this model is none."""
        if finding.cause not in self._remedies:
            try:
                self._remedies[finding.cause] = remedies_for(finding, self.exam.measured, self.exam.box)
            except (TaskError, *FAILURES):
                self._remedies[finding.cause] = []
            self.exam.box.start()
        return self._remedies[finding.cause]

    # -- each alone

    def _alone(self, suspects: Sequence[Finding]) -> list[Candidate]:
        """Every suspect's remedies, the first of each first; a suspect that is cured soundly gets no further ones."""
        found: list[Candidate] = []
        low = [f for f in suspects if f.cause == "learning-rate-too-low"]
        if low and not self.exam.saw_the_whole_plan and self.verify.plan_suffices():
            suspects = [f for f in suspects if f not in low]
        queues = {f.cause: self._queue(f) for f in suspects}
        while any(queues.values()):
            size = (
                2 if any(cause in limits.RATES for cause in queues) else 1
            )  # neighbours among rates tell the direction
            wave = [pair for queue in queues.values() for pair in queue[:size]]
            queues = {cause: queue[size:] for cause, queue in queues.items()}
            trials = self._race([(pair,) for pair in wave], ", ".join(dict.fromkeys(pair.cause for pair in wave)))
            found += trials
            for candidate in trials:
                self._remember(candidate)
            if not trials or max(c.quality for c in found) >= limits.SOUND:
                break
        return found

    def _queue(self, finding: Finding) -> list[Pair]:
        remedies = self.remedies(finding)
        if finding.cause == "learning-rate-too-low" and not self.exam.saw_the_whole_plan:
            remedies = [r for r in remedies if self.verify.beyond_plan(r)]
        return [Pair(finding, remedy) for remedy in remedies]

    def _remember(self, candidate: Candidate) -> None:
        cause = candidate.causes[0]
        if cause not in self.tried or self.tried[cause].quality < candidate.quality:
            self.tried[cause] = candidate.trial

    def _preferred(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """Of those that cure, the best; of those about as good, the one whose cause weighs most and lies furthest upstream."""
        cures = [c for c in candidates if self.verify.cures(c.trial, c.causes)]
        if not cures:
            return None
        top = max(min(c.quality, 1.0) for c in cures)
        near = limits.NEAR if top < limits.SOUND else max(limits.NEAR, top - limits.SOUND)
        alike = [c for c in cures if c.quality >= top - near]
        first = min(alike, key=lambda c: _order(c.causes[0]))
        return max((c for c in alike if c.causes == first.causes), key=lambda c: c.quality)

    # -- together

    def _together(self, singles: Sequence[Candidate]) -> Candidate | None:
        """The best remedy of every suspect at once, at several rates; and the best of those alone with each other."""
        bundle = self._best_of_each([f for f in self.suspects if f.cause not in limits.LAST], singles)
        rates = [Pair(f, r) for f in self.suspects if f.cause in limits.RATES for r in self.remedies(f)[:2]]
        sets = [bundle, *((*bundle, rate) for rate in rates)] if bundle else []
        if len(bundle) == 1:
            sets = sets[1:]  # alone it was tried
        found = self._race(sets, "the remedies together")
        if found and max(c.quality for c in found) < limits.SOUND:
            further = [Pair(f, r) for f in self.suspects if f.cause in limits.RATES for r in self.remedies(f)[2:4]]
            found += self._race([(*bundle, rate) for rate in further], "the remedies together, at other rates")
        cures = [c for c in found if self.verify.cures(c.trial, c.causes)]
        if not cures:
            return None
        top = max(c.quality for c in cures)
        return min((c for c in cures if c.quality >= top - limits.NEAR), key=lambda c: len(c.pairs))

    def _best_of_each(self, suspects: Sequence[Finding], singles: Sequence[Candidate]) -> tuple[Pair, ...]:
        """One remedy a suspect: the one that did best alone; where several suspects share one, it stands with the first."""
        pairs: dict[str, Pair] = {}
        for suspect in suspects:
            own = [c for c in singles if c.causes == (suspect.cause,)]
            if own:
                best = max(own, key=lambda c: c.quality).pairs[0]
                pairs.setdefault(best.remedy.name, best)
        return tuple(pairs.values())

    def _pruned(self, whole: Candidate) -> Candidate:
        """Without the remedies that it does as well without, the least needed first."""
        while len(whole.pairs) > 1:
            without = self._race([_without(whole.pairs, pair) for pair in whole.pairs], "what of it is needed")
            kept = [
                c for c in without if c.quality >= whole.quality - max(limits.NEAR, limits.MORE * self._gain(whole))
            ]
            if not kept:
                return self._ordered(whole, without)
            whole = max(kept, key=lambda c: (round(c.quality / limits.NEAR), -_order(_missing(whole, c).cause)[0]))
        return whole

    def _gain(self, candidate: Candidate) -> float:
        return candidate.quality - self.exam.measured.quality

    def _ordered(self, whole: Candidate, without: Sequence[Candidate]) -> Candidate:
        """The pairs by how much is lost without them; those that cost about the same by weight and stage."""
        lost = {id(_missing(whole, c)): whole.quality - c.quality for c in without}
        most = max(lost.values(), default=0.0)

        def place(pair: Pair) -> tuple[int, int, int]:
            alike = lost.get(id(pair), 0.0) >= most - limits.CURED
            return (0 if alike else 1, *_order(pair.cause))

        return Candidate(tuple(sorted(whole.pairs, key=place)), whole.trial)

    def _race(self, sets: Sequence[tuple[Pair, ...]], what: str) -> list[Candidate]:
        bundles = [(*self.given, *(p.remedy for p in sorted(pairs, key=_application))) for pairs in sets]
        trials = self.verify.race(bundles, what)
        return [Candidate(pairs, trial) for pairs, trial in zip(sets, trials) if trial is not None]


def _application(pair: Pair) -> int:
    return APPLIED.index(STAGE_OF[pair.cause]) if STAGE_OF[pair.cause] in APPLIED else len(APPLIED)


def _order(cause: str) -> tuple[int, int]:
    """Heavy suspicions before light ones, causes before their consequences."""
    return ("fit", "scale", "rate").index(limits.weight_of(cause)), rank(cause)


def _without(pairs: tuple[Pair, ...], left_out: Pair) -> tuple[Pair, ...]:
    return tuple(pair for pair in pairs if pair is not left_out)


def _missing(whole: Candidate, part: Candidate) -> Pair:
    return next(pair for pair in whole.pairs if all(pair is not other for other in part.pairs))
