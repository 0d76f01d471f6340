"""From suspects to a cure: each alone, then rates, then together; and of what is together, only what is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from runtrue.checks import rank
from runtrue.diagnosis import limits
from runtrue.diagnosis.examination import Examination
from runtrue.diagnosis.verification import Bundle, Trial, Verification
from runtrue.findings import STAGE_OF, Finding, Remedy
from runtrue.rates import RateCurve
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
    _plan_suffices: bool | None = None

    def best(self) -> Candidate | None:
        """The smallest set of remedies that cures as well as any; None if nothing does.

        First every suspect of weight alone; then the rates, alone and on top of all that is suspected, since real failures often
        have several causes; then what other remedies there are. One cause is preferred to several.
        """
        weighty = [f for f in self.suspects if f.cause not in limits.LAST]
        singles = self._wave([Pair(f, r) for f in weighty for r in self.remedies(f)[:1]])
        together: list[Candidate] = []
        best = self._top(singles)
        for first, last in ((0, 2), (2, 4), (4, 6)):
            if best >= limits.SOUND:
                break
            rates = self._rates(first, last, singles)
            bundle = self._bundle(weighty, singles)
            alone = rates if best < self._untreated + limits.MUCH or self._led_by_a_rate(singles, best) else []
            singles, together = self._both(singles, together, alone, [bundle] if first == 0 and len(bundle) > 1 else [])
            if bundle and max(self._top(singles), self._top(together)) < limits.SOUND:
                together += self._race([(*bundle, rate) for rate in rates], "the remedies together")
            if max(self._top(singles), self._top(together)) < limits.SOUND:
                others = [f for f in self.suspects if f.cause not in limits.RATES]
                singles += self._wave(
                    [Pair(f, r) for f in others for r in self.remedies(f)[first // 2 + 1 : first // 2 + 2]]
                )
            before, best = best, max(self._top(singles), self._top(together))
            if best >= self._untreated + limits.MUCH and best < before + limits.MORE:
                break  # a good deal was gained, and this round added nothing
        return self._decided(self._preferred(singles), self._fewest(together))

    @staticmethod
    def _led_by_a_rate(singles: Sequence[Candidate], best: float) -> bool:
        """Further in its direction may be better still. What else cures much leaves little for a rate alone."""
        return any(c.quality >= best and c.causes[0] in limits.RATES for c in singles)

    @property
    def _untreated(self) -> float:
        return max(0.0, self.exam.measured.quality)

    def _top(self, candidates: Sequence[Candidate]) -> float:
        return max((c.quality for c in candidates), default=-1.0)

    def _decided(self, alone: Candidate | None, together: Candidate | None) -> Candidate | None:
        if together is None or (alone is not None and alone.quality > together.quality - limits.MORE):
            return alone
        return self._pruned(together)

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

    def _wave(self, pairs: Sequence[Pair]) -> list[Candidate]:
        """Each of these remedies alone."""
        return self._both([], [], pairs, [])[0]

    def _both(
        self,
        singles: list[Candidate],
        together: list[Candidate],
        pairs: Sequence[Pair],
        bundles: list[tuple[Pair, ...]],
    ) -> tuple[list[Candidate], list[Candidate]]:
        """Remedies alone and bundles of them, in one race; what there was already goes before."""
        sets = [*((pair,) for pair in pairs), *bundles]
        found = self._race(sets, ", ".join(dict.fromkeys(pair.cause for pair in pairs)) or "the remedies together")
        alone = [c for c in found if len(c.pairs) == 1]
        for candidate in alone:
            cause, rate = candidate.causes[0], candidate.pairs[0].remedy.rate
            if cause not in self.tried or self.tried[cause].quality < candidate.quality:
                self.tried[cause] = candidate.trial
            if rate is not None and not self.given:
                self.exam.rates.append(RateCurve(rate, candidate.trial.curve.losses))
        return [*singles, *alone], [*together, *(c for c in found if len(c.pairs) > 1)]

    def _rates(self, first: int, last: int, singles: Sequence[Candidate]) -> list[Pair]:
        """The remedies from `first` to `last` of each suspicion of the rate, but for the direction that does worse."""
        suspected = [f for f in self.suspects if f.cause in limits.RATES]
        if not self.exam.saw_the_whole_plan and any(f.cause == "learning-rate-too-low" for f in suspected):
            if self._plan_suffices is None:
                self._plan_suffices = self.verify.plan_suffices()
            if self._plan_suffices:
                suspected = [f for f in suspected if f.cause != "learning-rate-too-low"]
        tried = {
            c.causes[0]: c.quality for c in sorted(singles, key=lambda c: c.quality) if c.causes[0] in limits.RATES
        }
        leading = max(tried.values(), default=-1.0)
        found: dict[str, Pair] = {}
        for finding in suspected:
            behind = tried.get(finding.cause, leading) < leading - limits.MORE  # the other direction does better
            for remedy in self._rates_of(finding)[first:last]:
                if remedy.rate is None or not behind:
                    found.setdefault(remedy.name, Pair(finding, remedy))
        return list(found.values())

    def _rates_of(self, finding: Finding) -> list[Remedy]:
        remedies = self.remedies(finding)
        if finding.cause == "learning-rate-too-low" and not self.exam.saw_the_whole_plan:
            return [r for r in remedies if self.verify.beyond_plan(r)]
        return remedies

    def _preferred(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """Of those that cure, the best; of those about as good, the one whose cause weighs most and lies furthest upstream."""
        cures = [c for c in candidates if self.verify.cures(c.trial, c.causes)]
        if not cures:
            return None
        top = max(c.quality for c in cures)
        near = max(limits.NEAR, top - limits.SOUND)
        alike = [c for c in cures if c.quality >= top - near]
        first = min(alike, key=lambda c: _order(c.causes[0]))
        return max((c for c in alike if c.causes == first.causes), key=lambda c: c.quality)

    # -- together

    def _bundle(self, suspects: Sequence[Finding], singles: Sequence[Candidate]) -> tuple[Pair, ...]:
        """One remedy a suspect: the one that did best alone; where several suspects share one, it stands with the first."""
        pairs: dict[str, Pair] = {}
        for suspect in suspects:
            own = [c for c in singles if c.causes == (suspect.cause,)]
            if own:
                best = max(own, key=lambda c: c.quality).pairs[0]
                pairs.setdefault(best.remedy.name, best)
        return tuple(pairs.values())

    def _fewest(self, together: Sequence[Candidate]) -> Candidate | None:
        """The best of those that cure; of those about as good, the one with the fewest remedies."""
        cures = [c for c in together if self.verify.cures(c.trial, c.causes)]
        top = max((c.quality for c in cures), default=0.0)
        return min((c for c in cures if c.quality >= top - limits.NEAR), key=lambda c: len(c.pairs), default=None)

    def _pruned(self, whole: Candidate) -> Candidate:
        """Without the remedies that it does as well without: all of them at once, or where that fails the least needed."""
        while len(whole.pairs) > 1:
            without = self._race([_without(whole.pairs, pair) for pair in whole.pairs], "what of it is needed")
            enough = whole.quality - max(limits.NEAR, limits.MORE * self._gain(whole))
            spare = sorted(
                (c for c in without if c.quality >= enough), key=lambda c: -_order(_missing(whole, c).cause)[0]
            )
            if not spare:
                return self._ordered(whole, without)
            idle = [_missing(whole, c) for c in spare]
            needed = tuple(pair for pair in whole.pairs if all(pair is not other for other in idle))
            if len(needed) == len(whole.pairs) - 1:
                return self._ordered(spare[0], without)
            found = self._race([needed], "what is needed of it") if needed else []
            if found and found[0].quality >= enough:
                return self._ordered(found[0], without)
            whole = max(spare, key=lambda c: (round(c.quality / limits.NEAR), -_order(_missing(whole, c).cause)[0]))
        return whole

    def _gain(self, candidate: Candidate) -> float:
        return candidate.quality - self._untreated

    def _ordered(self, found: Candidate, without: Sequence[Candidate]) -> Candidate:
        """The pairs by how much is lost without them; those that cost about the same by weight and stage.

        without: trials of one whole, each without one of its pairs. Where nothing is cured without a pair, it does not matter
        how far from it the trial stayed.
        """
        every = {id(pair): pair for c in without for pair in (*c.pairs, *found.pairs)}
        lost = {
            key: -max(c.quality, limits.CURED) for c in without for key in every if all(key != id(p) for p in c.pairs)
        }
        most = max((lost.get(id(pair), -1.0) for pair in found.pairs), default=0.0)

        def place(pair: Pair) -> tuple[int, int, int]:
            alike = lost.get(id(pair), -1.0) >= most - limits.CURED
            return (0 if alike else 1, *_order(pair.cause))

        return Candidate(tuple(sorted(found.pairs, key=place)), found.trial)

    def _race(self, sets: Sequence[tuple[Pair, ...]], what: str) -> list[Candidate]:
        bundles = [(*self.given, *(p.remedy for p in sorted(pairs, key=lambda p: applied(p.cause)))) for pairs in sets]
        trials = self.verify.race(bundles, what)
        return [Candidate(pairs, trial) for pairs, trial in zip(sets, trials) if trial is not None]


def applied(cause: str) -> int:
    """The place of a cause's remedy in the order in which remedies are applied."""
    return APPLIED.index(STAGE_OF[cause]) if STAGE_OF[cause] in APPLIED else len(APPLIED)


def _order(cause: str) -> tuple[int, int]:
    """Heavy suspicions before light ones, causes before their consequences."""
    return ("fit", "scale", "rate").index(limits.weight_of(cause)), rank(cause)


def _without(pairs: tuple[Pair, ...], left_out: Pair) -> tuple[Pair, ...]:
    return tuple(pair for pair in pairs if pair is not left_out)


def _missing(whole: Candidate, part: Candidate) -> Pair:
    return next(pair for pair in whole.pairs if all(pair is not other for other in part.pairs))
