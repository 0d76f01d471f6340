"""What a loss curve and the accuracies of the epochs say (N3.2, N3.3), while the run goes on. Pure: history in, findings out.

A verdict waits until it holds: healthy curves spike, stand still for a while, and end on a plateau. Only a loss that is no number
or far above where it began is a fault; the rest is a warning, or a note.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean, median

from runtrue import curves_judge
from runtrue.findings import Finding
from runtrue.watch.history import History
from runtrue.watch.progress import NOW, SIGMAS, Progress, numbers, progress

LOST = 3  # losses that are no numbers, in a row at the end: one may be a batch that a scaler skips
FAR_ABOVE = 3.0
"""Times the first loss above which a loss that stays there has diverged."""
HOLDS = 100  # steps for which a loss has to stand far above its start
SPIKE, SPIKE_SIGMAS = 2.0, 12.0
"""A spike is this many times the level and lies this many typical deviations above it."""
STANDSTILL = 1000  # steps without any fall after which nothing was learned: transformers wait for some hundreds
SWINGS = -0.6
"""Correlation of neighbouring losses below which a loss swings: of independent batches it is 0, of a step too long −1."""
SWING_WIDTH = 0.2  # of the level: swings smaller than this do no harm
ENDED = 1e-4
"""Share of the largest rate of a run below which a schedule has ended."""


def judge_curve(history: History) -> Iterator[Finding]:
    yield from lost(history)
    found = progress(history)
    if found is None or history.lost:
        return
    yield from diverging(history, found)
    yield from spiked(history)
    yield from stands_still(history, found)
    yield from swings(history, found)
    yield from schedule_over(history)


def lost(history: History) -> Iterator[Finding]:
    if not history.lost:
        return
    run = 0
    for loss in reversed(history.recent):
        if abs(loss) < 1e38:
            break
        run += 1
    where = f"step {history.first_lost}"
    evidence = {"first": history.first_lost, "lost": history.lost, "origin": history.origin, **rate(history)}
    told = f" Where it came from: {history.origin}." if history.origin else ""
    if run >= LOST:
        yield Finding(
            "diverging", "fault", where,
            f"the loss has been no number since step {history.steps - run} ({run} steps).{told} Nothing can be "
            "learned from here: "
            "stop, and start again from a checkpoint with a lower rate, or cure the operation named.", evidence,
        )  # fmt: skip
    elif history.origin or history.lost > run:
        yield Finding(
            "diverging", "warning", where,
            f"the loss was no number in {history.lost} of {history.steps} steps.{told}", evidence,
        )  # fmt: skip


def diverging(history: History, found: Progress) -> Iterator[Finding]:
    recent = numbers(list(history.recent))[-HOLDS:]
    if len(recent) < HOLDS or found.start <= 0:
        return
    low = sorted(recent)[len(recent) // 20]
    if low > FAR_ABOVE * found.start and median(recent[-20:]) > FAR_ABOVE * found.start:
        yield Finding(
            "diverging", "fault", "the loss",
            f"{found.describe()}: it has stood more than {FAR_ABOVE:g} times above its start for {HOLDS} steps. The "
            "steps are too "
            f"long for this network: lower the rate ({history.rate:.3g}) by ten.",
            {"start": found.start, "now": found.now, "limit": FAR_ABOVE * found.start, **rate(history)},
        )  # fmt: skip


def spiked(history: History) -> Iterator[Finding]:
    """Single losses far above their neighbours, with a return."""
    recent = list(history.recent)
    if len(recent) < 4 * NOW:
        return
    part = recent[-4 * NOW : -10]
    level = median(part)
    spread = median([abs(x - level) for x in part]) * 1.4826
    if level <= 0:
        return
    limit = level + max(SPIKE * level, SPIKE_SIGMAS * spread)
    steps = [history.steps - len(recent) + len(recent) - 4 * NOW + i for i, x in enumerate(part) if x > limit]
    back = fmean(recent[-10:]) < limit
    if steps and back and len(steps) <= 10:
        highest = max(x for x in part if x > limit)
        yield Finding(
            "loss-spike", "warning", "the loss",
            f"at step {steps[0]} the loss jumped to {highest:.3g} from {level:.3g}, and came back (limit "
            f"{limit:.3g}). If this comes "
            "again: clip the gradient's norm, warm the rate up, or look at the batch of that step.",
            {"step": steps[0], "loss": highest, "level": level, "limit": limit, "steps": steps[:10]},
        )  # fmt: skip


def stands_still(history: History, found: Progress) -> Iterator[Finding]:
    """Nothing was learned at all: a curve that fell and then went flat has converged, and is healthy."""
    if found.steps < STANDSTILL or found.learned:
        return
    trend = found.fell
    if trend > SIGMAS * found.error:
        return
    yield Finding(
        "plateau", "warning", "the loss",
        f"{found.describe()}: in {found.steps} steps it has not fallen by more than chance explains "
        f"({SIGMAS * found.error:.2g}). Run `runtrue check` on this task: it says why a network does not start to "
        "learn.",
        {"start": found.start, "now": found.now, "steps": found.steps, "error": found.error, **rate(history)},
    )  # fmt: skip


def swings(history: History, found: Progress) -> Iterator[Finding]:
    recent = numbers(list(history.recent))[-4 * NOW :]
    if len(recent) < 4 * NOW:
        return
    correlation = neighbours(recent)
    width = math.sqrt(fmean([(b - a) ** 2 for a, b in pairwise(recent)]))
    if correlation < SWINGS and width > SWING_WIDTH * abs(found.now):
        yield Finding(
            "oscillating", "warning", "the loss",
            f"the loss goes up and down from step to step (correlation of neighbours {correlation:.2f}, below "
            f"{SWINGS}; by "
            f"{width:.3g} at a level of {found.now:.3g}): each step overshoots. Lower the rate ({history.rate:.3g}) "
            "by three, or the momentum.",
            {"correlation": correlation, "limit": SWINGS, "width": width, "level": found.now, **rate(history)},
        )  # fmt: skip


def neighbours(losses: list[float]) -> float:
    """Correlation of each loss with the next, a trend taken out."""
    slope = (fmean(losses[len(losses) // 2 :]) - fmean(losses[: len(losses) // 2])) / (len(losses) / 2)
    flat = [x - slope * i for i, x in enumerate(losses)]
    mean = fmean(flat)
    square = sum((x - mean) ** 2 for x in flat)
    return sum((a - mean) * (b - mean) for a, b in pairwise(flat)) / square if square > 0 else 0.0


def schedule_over(history: History) -> Iterator[Finding]:
    """The rate has been next to nothing for most of the run: the schedule was stepped too often, or is too short."""
    if history.steps < 200 or not history.rates:
        return
    largest = max(rates[0] for _, rates in history.rates)
    if largest <= 0 or history.rate > ENDED * largest:
        return
    since = history.steps
    for step, rates in reversed(history.rates):
        if rates[0] > ENDED * largest:
            break
        since = step
    idle = history.steps - since
    if since > 0 and idle >= max(100, since):
        yield Finding(
            "learning-rate-too-low", "fault", "the schedule",
            f"the rate fell from {largest:.3g} to {history.rate:.3g} by step {since} and the training has gone on "
            f"for {idle} steps with it, "
            "longer than before: the scheduler is stepped once a batch where it counts epochs, or its length is too "
            "short.",
            {"largest": largest, "now": history.rate, "since": since, "steps": idle},
        )  # fmt: skip


def judge_epochs(history: History) -> Iterator[Finding]:
    rows = [e for e in history.epochs if "train_accuracy" in e and "val_accuracy" in e]
    if len(rows) >= curves_judge.LEAST_EPOCHS:
        train, val = [e["train_accuracy"] for e in rows], [e["val_accuracy"] for e in rows]
        if all(0 <= x <= 1 for x in (*train, *val)):
            yield from gap(train, val)
    yield from losses_part(history)


def gap(train: list[float], val: list[float]) -> Iterator[Finding]:
    found = curves_judge.judge(train, val, chance=0.0)
    evidence = {"train_accuracy": found.train, "val_accuracy": found.val, "error": found.error, "epochs": len(train)}
    if found.verdict == "severe overfitting":
        yield Finding(
            "overfitting", "warning", "the accuracies",
            f"{found.reason}. More data, augmentation, weight decay, dropout, or stopping earlier close the gap "
            "(N3.3).", evidence,
        )  # fmt: skip
    elif found.verdict == "slight overfitting":
        yield Finding("overfitting", "note", "the accuracies", f"{found.reason}.", evidence)


def losses_part(history: History) -> Iterator[Finding]:
    """The validation loss rises while the training loss falls: three epochs behind its best and well above."""
    rows = [e for e in history.epochs if "val_loss" in e and "train_loss" in e]
    if len(rows) < 5:
        return
    val, train = [e["val_loss"] for e in rows], [e["train_loss"] for e in rows]
    best = min(range(len(val)), key=val.__getitem__)
    last = val[best + 1 :]
    if (
        best
        and len(last) >= 3
        and min(last[-3:]) > 1.1 * val[best]
        and fmean(train[-3:]) < train[best]
        and val[best] > 0
    ):
        yield Finding(
            "overfitting", "warning", "the losses",
            f"the validation loss was best in epoch {best + 1} ({val[best]:.4g}) and is {val[-1]:.4g} now, while the "
            "training loss fell from "
            f"{train[best]:.4g} to {train[-1]:.4g}: what is learned since then does not carry over. Take the weights "
            f"of epoch {best + 1}, "
            "or regularize (N3.3).",
            {"best_epoch": best + 1, "best": val[best], "now": val[-1], "train": train[-1]},
        )  # fmt: skip


def rate(history: History) -> dict[str, float]:
    return {"rate": history.rate}
