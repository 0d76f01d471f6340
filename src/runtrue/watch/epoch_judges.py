"""What the accuracies and losses of the epochs say (N3.3): overfitting, underfitting, and knowledge that a fine-tuning tears up
(N1.1). Pure: history in, findings out."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from runtrue import curves_judge
from runtrue.curves import noise, still_falls
from runtrue.findings import Finding
from runtrue.watch.history import History

EPOCHS = 5
"""Epochs before a gap is judged: running statistics of a batch normalization follow late, and the first validations suffer."""
HELD = 3  # epochs at the end in which it has to hold
RISES = 1.1  # times its best, above which a validation loss has risen
FLAT_EPOCHS = 10  # without progress, before a low accuracy is called the end of it
SIGMAS = 2.0
KNEW = 0.5  # share of right answers before the first step, from which on there is something to lose
TORN, WORSE, IN_A_ROW = 0.5, 3.0, 2
"""What a network knew is torn up if in so many epochs in a row it gives less than this share of the right answers that it gave
before its first step, at more than so many times the loss."""
EPOCHS_TOLD = "the epochs"


def judge_epochs(history: History) -> Iterator[Finding]:
    if history.losses_lost:
        return
    rows = [e for e in history.epochs if "train_accuracy" in e and "val_accuracy" in e]
    train, val = [e["train_accuracy"] for e in rows], [e["val_accuracy"] for e in rows]
    found = list(gap(train, val)) if len(rows) >= EPOCHS and all(0 <= x <= 1 for x in (*train, *val)) else []
    found += [*torn(history), *losses_part(history)]
    yield from sorted(found, key=lambda one: one.severity == "note")


def torn(history: History) -> Iterator[Finding]:
    knew, last = history.known, history.epochs[-IN_A_ROW:]
    right, loss = knew.get("train_accuracy", 0.0), knew.get("train_loss", 0.0)
    if right < KNEW or loss <= 0 or len(last) < IN_A_ROW:
        return
    now, losses = [e.get("train_accuracy", 1.0) for e in last], [e.get("train_loss", 0.0) for e in last]
    if max(now) >= TORN * right or min(losses) <= WORSE * loss:
        return
    yield Finding(
        "diverging", "fault", EPOCHS_TOLD,
        f"of the training set {right:.1%} were right before the first step, and {max(now):.1%} at most in the last {IN_A_ROW} "
        f"epochs (limit {TORN * right:.1%}), at a loss of {losses[-1]:.3g} instead of {loss:.3g} (limit {WORSE:g} times): the "
        f"steps tear up what the network knew. Lower the rate ({history.top_rate:.3g}) by ten; where normalizations keep stored "
        "statistics, nothing brings back activations that a step made too large: let them follow the batches.",
        {"before": right, "now": max(now), "limit": TORN * right, "loss before": loss, "loss": losses[-1],
         "rate": history.top_rate},
    )  # fmt: skip


def gap(train: list[float], val: list[float]) -> Iterator[Finding]:
    found = curves_judge.judge(train, val, chance=0.0)
    evidence = {"train_accuracy": found.train, "val_accuracy": found.val, "error": found.error, "epochs": len(train)}
    held = min(a - b for a, b in zip(train[-HELD:], val[-HELD:]))
    if found.verdict == "severe overfitting" and held > curves_judge.SEVERE and not rises(val):
        yield Finding(
            "overfitting", "warning", "the accuracies",
            f"{found.reason}. More data, augmentation, weight decay, dropout, or stopping earlier close the gap (N3.3).",
            evidence,
        )  # fmt: skip
    elif (
        found.verdict in ("slight overfitting", "severe overfitting") and held > curves_judge.SLIGHT and not rises(val)
    ):
        yield Finding("overfitting", "note", "the accuracies", f"{found.reason}.", evidence)
    elif found.verdict == "underfitting" and len(train) >= 2 * FLAT_EPOCHS and not improves(train):
        yield Finding(
            "underfitting", "note", "the accuracies",
            f"training accuracy {found.train:.1%}, validation {found.val:.1%}, and no progress for {FLAT_EPOCHS} epochs (below "
            f"{curves_judge.HIGH:.0%}). If the task can be done better: a larger network, a higher rate, or less regularization.",
            evidence,
        )  # fmt: skip


def rises(accuracies: list[float]) -> bool:
    """They are still getting better at the end."""
    return still_falls([1 - a for a in accuracies], SIGMAS)


def improves(accuracies: list[float]) -> bool:
    """The last epochs are better than the ones before by more than chance explains, or were better before: a run that falls
    back has another illness."""
    before, last = accuracies[-2 * FLAT_EPOCHS : -FLAT_EPOCHS], accuracies[-FLAT_EPOCHS:]
    return abs(fmean(last) - fmean(before)) > SIGMAS * (noise(before) + noise(last))


def losses_part(history: History) -> Iterator[Finding]:
    """The validation loss rises while that of the training falls: three epochs behind its best, in means of three, and above."""
    rows = [e for e in history.epochs if "val_loss" in e and "train_loss" in e]
    if len(rows) < EPOCHS + HELD:
        return
    val, train = smooth([e["val_loss"] for e in rows]), smooth([e["train_loss"] for e in rows])
    best = min(range(len(val)), key=val.__getitem__)
    if (
        len(val) - 1 - best < HELD
        or val[best] <= 0
        or min(val[-HELD:]) <= RISES * val[best]
        or train[-1] >= train[best]
    ):
        return
    accuracies = [e["val_accuracy"] for e in rows if "val_accuracy" in e]
    better = len(accuracies) == len(rows) and fmean(accuracies[-HELD:]) >= smooth(accuracies)[best]
    yield Finding(
        "overfitting", "note" if better else "warning", "the losses",
        f"the validation loss was best around epoch {best + 2} ({val[best]:.4g}) and is {val[-1]:.4g} now (limit {RISES:g} "
        f"times), while the training loss fell from {train[best]:.4g} to {train[-1]:.4g}: "
        + ("its accuracy still holds, but the network grows too sure of itself." if better else
           f"what is learned since then does not carry over. Take the weights of epoch {best + 2}, or regularize (N3.3)."),
        {"best_epoch": best + 2, "best": val[best], "now": val[-1], "train": train[-1]},
    )  # fmt: skip


def smooth(numbers: list[float]) -> list[float]:
    """Means of three neighbours: of epochs 1 to 3, 2 to 4, and so on."""
    return [fmean(numbers[i : i + 3]) for i in range(len(numbers) - 2)]
