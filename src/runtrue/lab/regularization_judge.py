"""What the runs say about N2.1: the judging half of `regularization`. Pure: rows in, judgements out.

The first row of the series of a penalty is the run without any; the others go up in strength. A strength does harm if accuracy
on the examples to choose by falls below that without a penalty by more than the seeds differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtrue.lab.experiment import Judgement, Row, Series

KINDS = ("l1", "l2", "elastic-net", "max-norm")
NAMES = {"none": "no penalty", "l1": "L1", "l2": "L2", "elastic-net": "the elastic net", "max-norm": "max-norm"}
CUT = 0.3
"""Share of the weights that is exactly 0, at least, where weights are cut off. Measured for L1 0.01 at the strongest that does no
harm, 0.70 half a decade above; for L2 0 throughout."""
SILENT = 0.9
"""Share of the weights on inputs of pure noise that is exactly 0, at least, for noise to get no weight. Measured 0.01 and 0.68 at
these strengths: they are cut no more than the others, since by them examples can be learned by heart."""
SHRUNK = 0.9
"""Mean size of the weights over that without a penalty, at most, where they shrink. Measured 0.36."""
EXACT = 1e-5
"""Relative difference by which float32 may miss a limit that a projection keeps."""
FREE = 0.01
"""Share of a step's time below which it cannot be told from nothing. Measured 0.02 for L2, 0.10 for L1 and max-norm, 0.14 for the
elastic net, in steps of 1.4 ms."""


def judge(series: Series) -> tuple[Judgement, ...]:
    """The six parts of the claim."""
    return (
        truncation(series),
        shrinkage(series),
        bounded(series),
        narrower(series),
        choose(series),
        cost(series["time"]),
    )


def truncation(series: Series) -> Judgement:
    row, other, without = harmless(series["l1"]), harmless(series["l2"]), series["l1"][0]
    held = (
        row["zero_fraction"] >= CUT
        and row["noise_zero_fraction"] >= SILENT
        and other["zero_fraction"] == without["zero_fraction"] == 0
    )
    cut = next((one for one in series["l1"][1:] if one["zero_fraction"] >= CUT), None)
    later = (
        f"At {shown(cut)} {cut['zero_fraction']:.1%} and {cut['noise_zero_fraction']:.1%} are, at an accuracy of "
        f"{cut['val_fraction']:.1%}"
        if cut
        else f"At no strength tried {CUT:.0%} are"
    )
    return Judgement(
        "N2.1a",
        "L1 gives what is noise no weight at all (truncation).",
        held,
        f"at λ {shown(row)}, the strongest L1 that does no harm, {row['zero_fraction']:.1%} of all weights are exactly 0, and "
        f"{row['noise_zero_fraction']:.1%} of those on inputs of pure noise (all with L2: {other['zero_fraction']:.1%}). {later} "
        f"({without['val_fraction']:.1%} without a penalty).",
    )


def shrinkage(series: Series) -> Judgement:
    row, without = harmless(series["l2"]), series["l2"][0]
    ratio = row["mean_weight"] / without["mean_weight"]
    return Judgement(
        "N2.1b",
        "L2 shrinks all weights (shrinkage).",
        ratio <= SHRUNK and row["zero_fraction"] == 0,
        f"at λ {shown(row)}, the strongest L2 that does no harm, the mean size of a weight is {ratio:.2f} of that without, and "
        f"{row['zero_fraction']:.1%} are 0.",
    )


def bounded(series: Series) -> Judgement:
    rows, without = series["max-norm"][1:], series["max-norm"][0]["largest_norm"]
    within = all(row["largest_norm"] <= row["strength"] * (1 + EXACT) for row in rows)
    bound = [row for row in rows if row["strength"] < without]
    tightest = harmless(series["max-norm"])
    return Judgement(
        "N2.1d",
        "Max-norm: the norm of each unit's incoming weights is bounded.",
        within and bool(bound),
        f"the largest norm of a unit is {without:.2f} without, and {'at' if within else 'NOT at'} most the limit at all of "
        f"{', '.join(shown(row) for row in rows)}. The tightest limit that does no harm is {shown(tightest)}.",
    )


def narrower(series: Series) -> Judgement:
    chosen = {kind: worth_taking(series[kind]) for kind in KINDS}
    without = series["l1"][0]
    narrow = [kind for kind, row in chosen.items() if helps(row, without)]
    better = [NAMES[kind] for kind, row in chosen.items() if more(row, without, "test")]
    told = [
        f"{NAMES[kind]} at {shown(row)} {row['gap_fraction']:.1%} (accuracy {row['test_fraction']:.1%})"
        for kind, row in chosen.items()
    ]
    outcome = f"Narrower without harm: {', '.join(NAMES[kind] for kind in narrow) or 'with none'}"
    return Judgement(
        "N2.1e",
        "It narrows the gap between training and validation.",
        bool(narrow),
        f"without a penalty the gap is {without['gap_fraction']:.1%} (accuracy {without['test_fraction']:.1%}); at the "
        f"strongest that validates no worse {', '.join(told)}, on examples that no strength was chosen by. {outcome}; more "
        f"accurate than without, by more than the seeds differ: {', '.join(better) or 'none'}.",
    )


def choose(series: Series) -> Judgement:
    told = [f"{NAMES[kind]} {span(series[kind])}" for kind in KINDS]
    return Judgement(
        "N2.1c",
        "λ is one more thing to choose: too strong, and less is learned.",
        all(hurts(series[kind][-1], series[kind][0]) for kind in KINDS),
        f"accuracy by strength, at the best and at the strongest: {'; '.join(told)}.",
    )


def span(rows: Sequence[Row]) -> str:
    top, last = best(rows), rows[-1]
    return f"{top['val_fraction']:.1%} at {shown(top)}, {last['val_fraction']:.1%} at {shown(last)}"


def cost(rows: Sequence[Row]) -> Judgement:
    told = [f"{row['ratio'] - 1:+.0%} with {NAMES[row['penalty']]}" for row in rows[1:]]
    return Judgement(
        "N2.1f",
        "With many weights the penalty costs computation.",
        all(row["ratio"] - 1 > FREE for row in rows[1:]),
        f"a step without a penalty takes {rows[0]['step_ms']:.2g} ms, and {', '.join(told)}.",
    )


# -- what a strength does


def best(rows: Sequence[Row]) -> Row:
    """The strength that validates best."""
    return max(rows[1:], key=lambda row: row["val_fraction"])


def worth_taking(rows: Sequence[Row]) -> Row:
    """The strongest penalty that validates no worse than none, whatever the spread; if all do, the one that validates best."""
    fit = [row for row in rows[1:] if row["val_fraction"] >= rows[0]["val_fraction"]]
    return fit[-1] if fit else best(rows)


def harmless(rows: Sequence[Row]) -> Row:
    """The strongest penalty up to which none does harm; the weakest if all do."""
    kept = rows[1]
    for row in rows[1:]:
        if hurts(row, rows[0]):
            break
        kept = row
    return kept


def hurts(row: Row, without: Row) -> bool:
    return more(without, row, "val")


def helps(row: Row, without: Row) -> bool:
    """True if the gap is narrower than without, and the accuracy no lower, each by more than the seeds differ."""
    return more(without, row, "gap") and not more(without, row, "test")


def more(one: Row, other: Row, key: str) -> bool:
    """True if the mean of the one is above that of the other by more than both spread over the seeds."""
    spread = one[f"{key}_spread"] + other[f"{key}_spread"]
    return bool(one[f"{key}_fraction"] - other[f"{key}_fraction"] > spread)


def shown(row: Row) -> str:
    """A strength: 0.0032, 0.7."""
    return f"{row['strength']:.2g}"
