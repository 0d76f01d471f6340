"""Does every row come once, and does validation ask what training teaches?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from runtrue.checks.labels import A_CLASS, LITTLE, NEVER_BY_CHANCE, SOME, unrelated
from runtrue.checks.registry import check
from runtrue.demos import basic
from runtrue.demos import splits as specimens
from runtrue.findings import Finding, Severity
from runtrue.measure import Measurements
from runtrue.splits import Shift, Split, SplitFacts, Trained
from runtrue.splits.chance import all_on_one_side_p, homogeneity_p

SURE = 0.005  # the smallest p-value of a permutation test with 199 orders
BITS = 64.0  # rows that could carry this much are not the same by accident …
ROOM = 10.0  # … nor are rows where each could be one of 2¹⁰ times as many as there are
MANY_TWINS, MOSTLY_TWINS, ALL_TWINS = 0.2, 0.9, 0.98  # share of rows that repeat earlier ones
OVERLAP, ALL = 0.05, 0.95  # share of val that stands in train
OTHER_SCALE = 1.75  # times the spread: 0 … 1 beside -1 … 1 has 2, 0 … 1 beside mean 0 and std 1 about 3
OTHER_UNITS = 10.0  # the same, from where on nobody would call both the same data
HALF, LESS = 0.5, 0.9  # of the skill on held-out rows of train; less is left on val: the other scale harms
OTHER_PLACE = 1.0  # standard deviations between the means
SHARE = 0.1  # of the rows of val: classes that train lacks
OTHER_SHARES = 0.2  # of the rows would have to change class for both splits to have the same shares


@check("repeated-examples", sick=specimens.repeated_images, healthy=specimens.every_image_once)
def repeated_examples(m: Measurements) -> Iterator[Finding]:
    """The same inputs come again and again: an index that is ignored or wrapped, rows that were copied.

    Inputs are compared bit for bit. Rows that could be one of few (truth tables, a handful of categories) are alike by nature
    and left out. A fault where the same inputs have so many different labels that no network could remove a tenth of their
    entropy (or variance), or where each comes fifty times; a warning where nine rows in ten are repeats, or a fifth contradict
    each other; else a note.
    """
    facts, train = m.splits, m.splits.train if m.splits else None
    if facts is None or facts.repeats is None or train is None or all(t.alike for t in m.data.inputs):
        return
    found = facts.repeats
    if train.bits < max(BITS, math.log2(max(2, train.rows)) + ROOM) or found.rows < A_CLASS:
        return
    contradicted = found.contradicted / found.rows
    hopeless = found.ceiling < LITTLE and contradicted >= MANY_TWINS
    if not hopeless and found.share < MANY_TWINS and contradicted < MANY_TWINS:
        return
    severe = found.share >= MOSTLY_TWINS or contradicted >= MANY_TWINS
    labels = (
        f", and {found.contradicted} of them have inputs that also occur with another label"
        if found.contradicted
        else ""
    )
    bound = f": at best {found.ceiling:.1%} of what there is to learn can be learned" if hopeless else ""
    yield Finding(
        "repeated-examples",
        "fault" if hopeless or found.share >= ALL_TWINS else "warning" if severe else "note",
        "train inputs",
        f"of {found.rows} rows only {found.distinct} have inputs of their own{labels}{bound}. Look at how the index is used "
        "where an example is fetched",
        {
            "rows": found.rows, "distinct": found.distinct, "repeated_share": found.share, "limit": MANY_TWINS,
            "contradicted": found.contradicted, "ceiling": found.ceiling, "bits": train.bits,
        },
    )  # fmt: skip


@check("train-val-overlap", sick=specimens.val_is_train, healthy=basic.healthy_mlp)
def train_val_overlap(m: Measurements) -> Iterator[Finding]:
    """Rows of val stand in train as well: validation then measures memory.

    Inputs are compared bit for bit, and held against how many rows of train have a twin in train: what is alike by nature is
    no leak. Training is not harmed, so it is a warning and never a fault.
    """
    facts = m.splits
    if facts is None or facts.overlap is None or facts.train is None:
        return
    found, train = facts.overlap, facts.train
    natural = facts.repeats.twins / facts.repeats.rows if facts.repeats and facts.repeats.rows else 0.0
    roomy = train.bits >= math.log2(max(2, train.rows)) + ROOM
    if found.rows < A_CLASS or not roomy or found.share < OVERLAP:
        return
    if found.share < 3 * natural and found.share < ALL:
        return
    whole = found.same_source or (found.share >= ALL and train.whole)
    at_least = "" if train.whole else "at least "
    yield Finding(
        "train-val-overlap",
        "warning",
        "val",
        ("val is the training set" if whole else f"{at_least}{found.found} of {found.rows} rows of val stand in train as well")
        + (f" ({natural:.1%} of the rows of train have a twin there)" if natural else "")
        + ": validation measures what was memorised. Hold out rows that are not trained on",
        {
            "rows": found.rows, "found": found.found, "share": found.share, "limit": OVERLAP, "twins_in_train": natural,
            "same_source": found.same_source,
        },
    )  # fmt: skip


# -- mismatch


@check("train-val-mismatch", sick=specimens.sorted_split, healthy=basic.healthy_mlp)
def train_val_mismatch(m: Measurements) -> Iterator[Finding]:
    """Validation asks what training does not teach: classes that train lacks, inputs or targets on another scale.

    A class counts as missing where rows put into the splits at random would leave it out less than once in 10⁴ (exact,
    hypergeometric). A fault where a tenth of val or more has such classes, or where another scale (1.75 times the spread, or one
    standard deviation between the means; permutation test) costs at least half of the skill that the network has on held-out
    rows of train; other units (ten times the spread, or ten deviations) are one if they cost a tenth. Other shares of
    the same classes are a note, and so are outputs that no label names.
    """
    facts = m.splits
    if facts is None or facts.train is None:
        return
    missing = next(_classes(m, facts.train, facts.val), None) if facts.val else None
    if missing:
        yield missing
    else:
        yield from _outputs_without_labels(m, facts.train)
        yield from _shares(facts.train, facts.val)
    yield from _scales(facts)
    if facts.val_error:
        yield Finding("train-val-mismatch", "note", "val", f"val could not be read: {facts.val_error}")


def _classes(m: Measurements, train: Split, val: Split) -> Iterator[Finding]:
    """Classes that one split lacks, the graver first."""
    if train.kind != "classes" or val.kind != "classes":
        return
    if train.fair:
        lacking = _only_in(val, train)
        share = sum(val.labels.share(name) for name in lacking)
        if lacking:
            certain = share >= SHARE and _names_outputs(m, lacking)
            yield _missing("fault" if certain else "warning", "train", "val", lacking, share, val)
    if val.fair:
        lacking = _only_in(train, val)
        share = sum(train.labels.share(name) for name in lacking)
        if lacking and share >= SHARE / 2:
            yield _missing("warning", "val", "train", lacking, share, train)


def _only_in(one: Split, other: Split) -> list[int | float]:
    """Classes of one split that the other lacks by more than chance."""
    counts = dict(zip(one.labels.names, one.labels.counts))
    limit = NEVER_BY_CHANCE / max(1, len(counts))
    missing = set(counts) - set(other.labels.names)
    return sorted(n for n in missing if all_on_one_side_p(counts[n], one.labels.rows, other.labels.rows) <= limit)


def _names_outputs(m: Measurements, names: list[int | float]) -> bool:
    """The loss is one over classes, and the network has an output for each of these."""
    facts = m.start.loss_facts
    return (
        facts is not None
        and facts.name in ("cross_entropy", "nll_loss")
        and min(names) >= 0
        and max(names) < facts.classes
    )


def _missing(severity: Severity, lacks: str, has: str, names: list[int | float], share: float, split: Split) -> Finding:
    told = ", ".join(str(n) for n in names[:8]) + (", …" if len(names) > 8 else "")
    why = "no training can get them right" if lacks == "train" else "validation says nothing of them"
    return Finding(
        "train-val-mismatch",
        severity,
        lacks,
        f"{lacks} has no row of class {told}, which {'has' if len(names) == 1 else 'have'} {share:.0%} of the "
        f"{split.labels.rows} rows of {has}: {why}. Shuffle before the data are split",
        {"missing": list(names), "share": share, "rows": split.labels.rows, "limit": SHARE},
    )


def _scales(facts: SplitFacts) -> Iterator[Finding]:
    for what, shift in (("inputs", facts.inputs), ("targets", facts.targets)):
        if shift is None or not _differs(shift) or min(s.rows if s else 0 for s in (facts.train, facts.val)) < A_CLASS:
            continue
        severity, skills = _harm(facts.trained, shift)
        yield Finding(
            "train-val-mismatch",
            severity,
            f"val {what}",
            f"{what} of val have mean {shift.val_mean:.4g} and std {shift.val_std:.4g}, those of train mean "
            f"{shift.train_mean:.4g} and std {shift.train_std:.4g} ({shift.spread:.3g} times the spread a feature, limit "
            f"{OTHER_SCALE:g}; means {shift.offset:.3g} stds apart, limit {OTHER_PLACE:g}){skills}. Give both the same "
            "transform, and shuffle before the split",
            {
                "spread": shift.spread, "offset": shift.offset, "p_value": shift.p_value, "features": shift.features,
                "train_mean": shift.train_mean, "train_std": shift.train_std, "val_mean": shift.val_mean,
                "val_std": shift.val_std, "limit_spread": OTHER_SCALE, "limit_offset": OTHER_PLACE,
            },
        )  # fmt: skip


def _differs(shift: Shift) -> bool:
    far = not 1 / OTHER_SCALE <= shift.spread <= OTHER_SCALE or shift.offset > OTHER_PLACE
    return far and shift.p_value <= SURE


def _harm(trained: Trained | None, shift: Shift) -> tuple[Severity, str]:
    """Whether the network pays for it (some scale their inputs themselves), and what it scores."""
    if trained is None or trained.val_skill is None or not trained.held_out_skill >= SOME:
        return "warning", ""
    own, other = trained.held_out_skill, trained.val_skill
    said = f"; after {trained.steps} steps the network has skill {own:.2g} on held-out rows of train and {other:.2g} on val"
    gross = not 1 / OTHER_UNITS <= shift.spread <= OTHER_UNITS or shift.offset > OTHER_UNITS
    return ("fault" if other < own * (LESS if gross else HALF) else "note"), said


def _shares(train: Split, val: Split | None) -> Iterator[Finding]:
    """The same classes with other shares: often meant so, worth knowing."""
    if val is None or not (train.fair and val.fair and train.labels.rows and val.labels.rows):
        return
    names = sorted({*train.labels.names, *val.labels.names})
    moved = sum(abs(train.labels.share(name) - val.labels.share(name)) for name in names) / 2
    table = [[dict(zip(s.labels.names, s.labels.counts)).get(name, 0) for name in names] for s in (train, val)]
    p_value = homogeneity_p(torch.tensor(table))
    if moved >= OTHER_SHARES and p_value <= NEVER_BY_CHANCE:
        yield Finding(
            "train-val-mismatch",
            "note",
            "val targets",
            f"classes have other shares in val than in train: {moved:.0%} of the rows would have to change class (limit "
            f"{OTHER_SHARES:.0%}); accuracies on the two do not compare",
            {"moved": moved, "limit": OTHER_SHARES, "p_value": p_value},
        )


def _outputs_without_labels(m: Measurements, train: Split) -> Iterator[Finding]:
    """More outputs than classes: a set that was cut off after sorting, or a network made for more."""
    facts, labels = m.start.loss_facts, train.labels
    if facts is None or facts.name not in ("cross_entropy", "nll_loss") or train.kind != "classes" or not train.fair:
        return
    unnamed = facts.classes - len(labels.names)
    if len(labels.names) < 2 or unnamed < 1 or labels.rows < A_CLASS * facts.classes:
        return
    yield Finding(
        "train-val-mismatch",
        "note",
        "train targets",
        f"the network has {facts.classes} outputs, but the labels of {labels.rows} rows name only {len(labels.names)} classes: "
        "were classes lost when the data were split?",
        {"outputs": facts.classes, "classes": len(labels.names), "rows": labels.rows},
    )


# -- what the engine should find out


def wants_training(m: Measurements) -> bool:
    """Whether a judge here would make something of `SplitFacts.trained` (see `splits.train_and_score`): it costs a trial."""
    if m.splits is None or m.splits.trained is not None:
        return False
    labels, shifts = (m.splits.train or NONE).labels, (m.splits.inputs, m.splits.targets)
    uneven = len(labels.names) > 1 and labels.largest_share >= (1 + 1 / len(labels.names)) / 2
    return uneven or unrelated(m) is not None or any(s is not None and _differs(s) for s in shifts)


NONE = Split(0, False, False, "unknown")
