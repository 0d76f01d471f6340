"""What is measured of the two splits and of the labels: plain numbers, for the judges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Labels:
    """How often each class occurs, most frequent first. Empty where a row has no one class."""

    names: tuple[int | float, ...] = ()
    counts: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        return sum(self.counts)

    def share(self, name: int | float) -> float:
        return dict(zip(self.names, self.counts)).get(name, 0) / max(1, self.rows)

    @property
    def largest_share(self) -> float:
        return self.counts[0] / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Split:
    """One of the splits, as far as it was read. bits: what a row could carry at most (see `views.bits`).

    whole: all of it was read. fair: what was read is all of it, or rows drawn at random.
    """

    rows: int
    whole: bool
    fair: bool
    kind: Literal["classes", "values", "unknown"]
    labels: Labels = Labels()
    bits: float = 0.0


@dataclass(frozen=True)
class Relation:
    """Whether simple probes can predict labels of rows that were left out, against the same labels in random order.

    p_value: of the strongest probe, for having tried them all. strength: its distance from chance, in standard deviations.
    skill: of that probe: the share right beyond the most frequent label's, or R². minority: rows that do not have the most
    frequent label. shift, shift_strength: how many rows down the labels must move for a relation to show, and its strength.
    """

    rows: int
    classes: int
    minority: int
    p_value: float
    probe: str
    strength: float
    skill: float
    shift: int = 0
    shift_strength: float = 0.0


@dataclass(frozen=True)
class Order:
    """How alike the labels of one batch are. between: share of the labels' spread that lies between the batches, less what
    chance gives (0: as if shuffled, 1: each batch has one label). group: rows that count as one batch here: small batches
    are taken together.
    """

    groups: int
    group: int
    between: float
    p_value: float


@dataclass(frozen=True)
class Repeats:
    """Rows whose inputs are bit for bit those of an earlier row. blank rows (all numbers equal) are left out.

    contradicted: rows whose inputs occur with another label as well. ceiling: share of the labels' entropy (or variance) that
    a function of the inputs can remove from these rows at best; 1 if no inputs have two labels.
    """

    rows: int
    distinct: int
    twins: int
    """Rows whose inputs occur more than once."""
    contradicted: int
    ceiling: float

    @property
    def share(self) -> float:
        return 1 - self.distinct / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Overlap:
    """Rows of val whose inputs are bit for bit those of a row of train."""

    rows: int
    found: int
    same_source: bool
    """val is the very object that train is, or shares its tensors."""

    @property
    def share(self) -> float:
        return self.found / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Shift:
    """How val lies beside train. spread: its standard deviation over that of train (root mean square over the features).
    offset: distance of the means in pooled standard deviations (root mean square). p_value: of the larger of the two, for
    rows that were put into the splits at random.
    """

    features: int
    spread: float
    offset: float
    p_value: float
    train_mean: float
    train_std: float
    val_mean: float
    val_std: float


@dataclass(frozen=True)
class Recall:
    """Of one class: how many of its rows were scored, and the share of them that the network got right."""

    name: int | float
    rows: int
    share: float


@dataclass(frozen=True)
class Trained:
    """The task trained on four fifths of the rows that were drawn, then scored in evaluation mode.

    A skill is the share right beyond the best constant answer's (0: no better, 1: all right), or R². p_value: of a relation
    between outputs and labels on the held-out rows. recalls: over the rows trained on, the most frequent class first.
    """

    steps: int
    rows: int
    held_out: int
    skill: float
    held_out_skill: float
    p_value: float
    val_skill: float | None = None
    recalls: tuple[Recall, ...] = ()

    @property
    def balanced_accuracy(self) -> float | None:
        """The mean recall; None where rows have no classes."""
        return sum(recall.share for recall in self.recalls) / len(self.recalls) if self.recalls else None


@dataclass(frozen=True)
class SplitFacts:
    """None: could not be measured, or does not apply."""

    train: Split | None = None
    val: Split | None = None
    val_error: str | None = None
    relation: Relation | None = None
    order: Order | None = None
    repeats: Repeats | None = None
    overlap: Overlap | None = None
    inputs: Shift | None = None
    targets: Shift | None = None
    trained: Trained | None = None
    """Filled by the engine where a judge would want it (see `wants_training`)."""
