"""What an experiment of the laboratory returns: a claim, the numbers measured for it, and whether it held."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtrue.findings import plain

if TYPE_CHECKING:
    from altair import TopLevelMixin

    from runtrue.report.blocks import Block

Row = dict[str, Any]
"""One line of a series: what it is about ("layer", where 0 is the input; "rate"), and its numbers."""
Series = Mapping[str, Sequence[Row]]


def within(settings: Mapping[str, Any], limits: Mapping[str, tuple[int, int]]) -> None:
    """Raises ValueError for a setting that is no whole number, or one beyond its limits; says which, and what they are."""
    for name, (low, high) in limits.items():
        value = settings.get(name, low)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")


@dataclass(frozen=True)
class Judgement:
    """One part of the claim: `code` as in the training notes ("N1.2"), whether it held, and the numbers that say so."""

    code: str
    claim: str
    held: bool
    words: str

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Experiment:
    """The result of one experiment. Numbers and words only: a series holds a row a layer or a setting, never a tensor."""

    experiment: str
    title: str
    claim: str
    judgements: tuple[Judgement, ...]
    settings: Mapping[str, Any]
    series: Series
    histograms: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    """For each series a row a layer: "layer", "counts" (n numbers), "edges" (n + 1 numbers)."""
    curves: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    """Loss curves by name, for each seed one: numbers by step, too many for a table."""
    draw: Callable[[Experiment], Sequence[Block]] = field(default=lambda _: (), compare=False, repr=False)
    """Makes the blocks of the page, the figure that says most first."""

    @property
    def notes_code(self) -> str:
        """The claims' codes in the training notes: "N1.2, N1.3"."""
        return ", ".join(judgement.code for judgement in self.judgements)

    @property
    def held(self) -> bool:
        """True if every part of the claim held in these measurements."""
        return bool(self.judgements) and all(judgement.held for judgement in self.judgements)

    @property
    def verdict(self) -> str:
        """In a sentence, how many parts of the claim held; then each part with its numbers, a line each."""
        failed = [judgement.code for judgement in self.judgements if not judgement.held]
        kept = "The claim holds" if len(self.judgements) == 1 else f"All {len(self.judgements)} parts of the claim hold"
        outcome = f"Does not hold: {', '.join(failed)}" if failed else kept
        return "\n".join([outcome + ".", *(f"{part.code}: {part.words}" for part in self.judgements)])

    @property
    def table(self) -> str:
        """All series as text, 100 columns wide."""
        from runtrue.lab.text import tables

        return tables(self)

    @property
    def chart(self) -> TopLevelMixin:
        """The figure that says most, as an Altair chart.

        Raises ValueError if the experiment has no figure.
        """
        import altair

        from runtrue.report.blocks import Chart
        from runtrue.report.theme import ready

        figure = next((block for block in self.draw(self) if isinstance(block, Chart)), None)
        if figure is None:
            raise ValueError(f"the experiment {self.experiment!r} has no figure")
        chart: TopLevelMixin = altair.Chart.from_dict(plain(ready(figure.spec, figure.alt)))
        return chart

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready: "experiment", "claim", "held", "verdict", "parts", "settings", "series", and "curves" if there are any."""
        return {
            "experiment": self.experiment,
            "claim": self.claim,
            "held": self.held,
            "verdict": self.verdict,
            "parts": [judgement.to_dict() for judgement in self.judgements],
            "settings": plain(self.settings),
            "series": plain(self.series),
            **({"curves": plain(self.curves)} if self.curves else {}),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def to_html(self, path: str | Path) -> Path:
        """Write one self-contained page (offline, light and dark) and return where it lies."""
        from runtrue.lab.page import write_page

        return write_page(self, Path(path))

    def _repr_html_(self) -> str:
        from runtrue.lab.page import notebook_fragment

        return notebook_fragment(self)

    def __str__(self) -> str:
        from runtrue.lab.text import render

        return render(self)
