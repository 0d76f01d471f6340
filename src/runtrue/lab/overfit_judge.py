"""What the runs say about N3.1: the judging half of `overfit`. Pure: rows in, judgements out.

There is no limit to choose: an error of 0 is every image right.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtrue.lab.experiment import Judgement, Row, Series
from runtrue.lab.overfit_bugs import HINDERING, PASSING, SOUND


def judge(series: Series) -> tuple[Judgement, ...]:
    """The three parts of the claim."""
    rows = {row["bug"]: row for row in series["bugs"]}
    return (
        memorises(rows[SOUND]),
        hindered([rows[key] for key in HINDERING]),
        no_proof([rows[key] for key in PASSING]),
    )


def memorises(row: Row) -> Judgement:
    ends = ", ".join(f"{error:.1%}" for error in row["error_by_seed"])
    after = f"; all are right after {row['all_right_after']} epochs" if row["all_right_after"] else ""
    return Judgement(
        "N3.1a",
        "A network big enough, without regularization, memorises a few hundred images: training error 0.",
        all(error == 0 for error in row["error_by_seed"]),
        f"training error at the end, by seed: {ends}{after}. Of images that it has not seen "
        f"it gets {row['val_accuracy']:.0%} right.",
    )


def hindered(rows: Sequence[Row]) -> Judgement:
    """A bug was found if no seed ever came to 0."""
    missed = [row for row in rows if row["lowest_error"] == 0]
    nearest = min(rows, key=lambda row: row["lowest_error"])
    words = (
        f"the error stays above 0 with {len(rows) - len(missed)} of {len(rows)} planted bugs; nearest to it comes "
        f"{nearest['bug']}, with {nearest['lowest_error']:.1%}"
    )
    if missed:
        words += f". Memorised all the same: {', '.join(row['bug'] for row in missed)}"
    return Judgement(
        "N3.1b",
        "With a bug that stands in the way of learning it does not, so that an error above 0 says: something is wrong.",
        not missed,
        words + ".",
    )


def no_proof(rows: Sequence[Row]) -> Judgement:
    said = [f"{row['error']:.1%} with {row['bug']} (validation {row['val_accuracy']:.0%} right)" for row in rows]
    return Judgement(
        "N3.1c",
        "The converse is not true: an implementation may be wrong and still leave enough to memorise with.",
        all(error == 0 for row in rows for error in row["error_by_seed"]),
        f"the error at the end is {' and '.join(said)}.",
    )
