"""What the runs say about N3.3: the judging half of `gap`. Pure: rows in, judgements out.

Whether a run overfits is said by the judge of curves (`runtrue.curves_judge`), where its limits stand.
"""

from __future__ import annotations

from runtrue.lab.experiment import Judgement, Row, Series


def judge(series: Series) -> tuple[Judgement, ...]:
    """The parts of the claim: one a run, and whether the good one is the best."""
    rows = {row["run"]: row for row in series["runs"]}
    return (
        called("N3.3a", "Both high and close: a good run.", rows["good"], "good"),
        called("N3.3b", "A small gap: a little overfitting.", rows["slight"], "slight overfitting"),
        called(
            "N3.3c",
            "A high training accuracy with a low validation accuracy: severe overfitting.",
            rows["severe"],
            "severe overfitting",
        ),
        called("N3.3d", "Neither of them high: underfitting.", rows["underfitting"], "underfitting"),
        best(rows["good"], [rows["slight"], rows["severe"]]),
    )


def called(code: str, claim: str, row: Row, verdict: str) -> Judgement:
    return Judgement(
        code,
        claim,
        all(found == verdict for found in row["verdict_by_seed"]),
        f"judged {row['verdict']} from the curves alone; {percent(row['train_accuracy'])} of the training images right and "
        f"{percent(row['val_accuracy'])} of the others, a gap of {points(row['gap'])} ± {points(row['gap_spread'])} points.",
    )


def best(good: Row, others: list[Row]) -> Judgement:
    """Held if it is ahead of both, by accuracy and by loss."""
    behind = [
        *(["accuracy"] if good["val_accuracy"] <= max(row["val_accuracy"] for row in others) else []),
        *(["loss"] if good["val_loss"] >= min(row["val_loss"] for row in others) else []),
    ]
    said = [
        f"{percent(row['val_accuracy'])} ± {points(row['val_accuracy_spread'])} and {row['val_loss']:.2f} ({row['run']})"
        for row in (good, *others)
    ]
    words = f"validation accuracy and loss: {', '.join(said)}"
    if behind:
        words += f"; by {' and '.join(behind)} the good run is not ahead"
    return Judgement(
        "N3.3e",
        "High and close is best: that run does best on what was not seen.",
        not behind,
        words + ".",
    )


def percent(value: float) -> str:
    return f"{value:.1%}"


def points(value: float) -> str:
    return f"{100 * value:.1f}"
