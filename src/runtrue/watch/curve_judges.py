"""What a loss curve says (N3.2) while the run goes on. Pure: history in, findings out.

A verdict waits until it holds: healthy curves spike, stand still for a while, and end on a plateau; and not every loss is one
that has to fall: two networks that play against each other, or rewards, make losses that rise while all is well. So only a loss
that is no number, or that leapt far above where it began while the weights were thrown about, is a fault; the rest is a warning,
or a note.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import fmean, median

from runtrue.findings import Finding
from runtrue.watch.history import RECENT, History
from runtrue.watch.layer_judges import thrown
from runtrue.watch.progress import BACK_AGAIN, HALF, LEARNED, NOW, SIGMAS, Progress, levels, numbers, progress, windows

LOST = 3  # losses that are no numbers, in a row at the end: one may be a batch that a scaler skips
FAR_ABOVE = 3.0
"""Times the first loss above which a loss that stays there has diverged."""
HOLDS = 100  # steps for which a loss has to stand far above its start
COMES_BACK = 0.8
"""Second half of these steps over their first half, below which the loss is on its way back."""
LEAP, NEAR = 16, 1.5
"""A loss leapt if of its means over so many steps one was below `NEAR` times its start and the next but one far above. Rewards
and penalties that grow over a training raise a loss slowly; steps that are too long do it within a few tens of them."""
PATIENCE = 150  # steps before a run that does not learn is called that
BURST = 5.0
"""Times the very first loss, in the median of three, from which the beginning of a run was a burst; unless such losses come again
later, as they do where single batches differ that much."""
SPIKE, SPIKE_SIGMAS = 2.0, 12.0
"""A spike is this many times the level and lies this many typical deviations above it."""
SPIKE_STEPS, ALONE, SIZE = 10, 1 / 3, 0.5
"""A spike is over after so many steps; no loss outside of it comes up to this share of its height (or the losses have a long
tail), and it stands above this share of the loss at the start (or it does no harm)."""
SPIKE_WINDOW = 4 * NOW
STANDSTILL = 1000  # steps without any fall after which nothing was learned: transformers wait for some hundreds
LOW = 0.5  # an accuracy of a network that has learned little
LEVEL = 0.02
"""Share of its level within which a loss stands still, if its own noise does not explain more."""
SWINGS = -0.6
"""Correlation of neighbouring losses below which a loss swings: of independent batches it is 0, of a step too long −1."""
SWING_WIDTH = 0.2  # of the level: swings smaller than this do no harm
FALLS = 0.01
"""Share of its level by which a swinging loss has to fall over half the window to be on its way: full-batch training swings at
the edge of stability and learns (Cohen et al. 2021)."""
ENDED = 1e-4
"""Share of the largest rate of a run below which a schedule has ended."""
IDLE, IDLE_TIMES, IDLE_UNKNOWN, SCHEDULED_EPOCHS = 100, 4, 9, 3
"""A schedule ended too early if it was over within so many epochs and the training went on for so many times as long (more where
no epochs are told, at least so many steps). A schedule that waits for a plateau needs eight epochs at least: four times a tenth,
each after an epoch without progress."""


def judge_curve(history: History) -> Iterator[Finding]:
    yield from lost(history)
    found = progress(history)
    if found is None or history.losses_lost:
        return
    yield from schedule_over(history)
    yield from burst(history, found)
    yield from diverging(history, found)
    yield from spiked(history, found)
    yield from stands_still(history, found)
    yield from swings(history, found)


def lost(history: History) -> Iterator[Finding]:
    """A gradient that was no number and spoiled no loss was left out by a scaler: nothing is said of it."""
    count = history.losses_lost
    if not count and not (history.origin and history.untold):
        return
    run = min(count, trailing(history.recent))
    if run >= RECENT and history.first_lost is not None:
        run = min(count, history.steps - history.first_lost)
    told = f" Where it came from: {history.origin}." if history.origin else ""
    first = history.first_lost if not history.untold else history.steps - run
    evidence = {"first": first, "lost": count, "origin": history.origin, **rate(history)}
    if run >= LOST:
        yield Finding(
            "diverging", "fault", "the numbers",
            f"the loss has been no number since step {history.steps - run} ({run} steps).{told} Nothing can be learned "
            "from here: stop, and start again from a checkpoint with a lower rate, or cure the operation named.", evidence,
        )  # fmt: skip
    elif count:
        yield Finding(
            "diverging", "warning", "the numbers",
            f"the loss was no number in {count} of {history.seen} steps.{told} Leave such batches out, or cure the "
            "operation: one step with such a gradient spoils all weights.", evidence,
        )  # fmt: skip
    else:
        yield Finding(
            "diverging", "warning", "the numbers",
            f"a gradient was no number.{told} The losses were not told: look whether they still are numbers.", evidence,
        )  # fmt: skip


def trailing(losses: Sequence[float]) -> int:
    """Losses at the end that are no numbers."""
    return next((i for i, loss in enumerate(reversed(losses)) if abs(loss) < 1e38), len(losses))


def burst(history: History, found: Progress) -> Iterator[Finding]:
    """The first steps threw the loss far up, and nothing has been learned since, wherever it went."""
    first = numbers(history.first)
    if history.seen < PATIENCE or not found.stuck or first[0] <= 0:
        return
    peak = max(median(first[i : i + 3]) for i in range(len(first) - 2))
    if peak > BURST * first[0] and peak > 2 * max(list(history.recent)[-NOW:]):
        yield Finding(
            "learning-rate-too-high", "fault", "the optimizer",
            f"the first steps threw the loss from {first[0]:.4g} to {peak:.4g} (limit {BURST:g} times), it is {found.now:.4g} "
            f"now, and nothing is learned: lower the rate ({history.top_rate:.3g}) by ten, and again, or warm it up (N3.2).",
            {"first": first[0], "peak": peak, "limit": BURST * first[0], "now": found.now, **rate(history)},
        )  # fmt: skip


def diverging(history: History, found: Progress) -> Iterator[Finding]:
    recent = numbers(history.recent)[-HOLDS:]
    if len(recent) < HOLDS or found.start <= 0 or not found.one_loss:
        return
    half = HOLDS // 2
    low, back = sorted(recent)[HOLDS // 20], median(recent[half:]) < COMES_BACK * median(recent[:half])
    far, forgot = low > FAR_ABOVE * found.start, found.forgot and low > BACK_AGAIN * found.start
    if back or not (far or forgot):
        return
    near, limit = (NEAR, FAR_ABOVE) if far else ((HALF + BACK_AGAIN) / 2, BACK_AGAIN)
    at, moved = leapt(history, near * found.start, limit * found.start), thrown(history)
    how = "rose slowly" if at is None else f"leapt up around step {at}"
    sure = far and at is not None and bool(moved)
    yield Finding(
        "diverging", "fault" if sure else "note" if moved is False else "warning", "the loss",
        f"{found.describe()}, {found.best:.4g} at best: it {how} and has "
        f"stood above {limit:g} times its start for {HOLDS} steps. "
        + ("The" if sure else "If this loss is one that should fall, and neither the data nor its terms changed, the")
        + f" steps are too long for this network: lower the rate ({history.rate:.3g}) by ten.",
        {"start": found.start, "now": found.now, "limit": limit * found.start, "leapt": at, **rate(history)},
    )  # fmt: skip


def leapt(history: History, near: float, limit: float) -> int | None:
    """The step around which the loss rose from a level for good, and above the limit, if it did so at once."""
    parts = list(levels(history, LEAP))
    last = max((i for i, (_, mean) in enumerate(parts) if mean <= near), default=-1)
    after = [mean for _, mean in parts[last + 1 : last + 3]]
    return parts[last + 1][0] if after and max(after) > limit else None


def spiked(history: History, found: Progress) -> Iterator[Finding]:
    """A few losses far above their neighbours on both sides."""
    part = list(history.recent)[-SPIKE_WINDOW:]
    level = median(part)
    spread = median([abs(x - level) for x in part]) * 1.4826
    if len(part) < SPIKE_WINDOW or level <= 0 or min(part) < 0:
        return
    limit = level + max(SPIKE * level, SPIKE_SIGMAS * spread)
    high = [i for i, x in enumerate(part) if x > limit]
    if not high or high[0] < SPIKE_WINDOW // 4 or high[-1] >= SPIKE_WINDOW - SPIKE_STEPS:
        return
    highest, others = max(part), part[: high[0]] + part[high[0] + SPIKE_STEPS :]
    alone = max(others) - level < ALONE * (highest - level)
    came_back = median(part[high[0] + SPIKE_STEPS :]) <= SPIKE * median(part[: high[0]])
    if high[-1] - high[0] < SPIKE_STEPS and alone and came_back and highest > SIZE * abs(found.start):
        step = history.steps - SPIKE_WINDOW + high[0]
        yield Finding(
            "loss-spike", "warning", "the loss",
            f"at step {step} the loss jumped from {level:.3g} to {highest:.3g} (limit {limit:.3g}), and came back. If this comes "
            "again: look at the batch of that step, clip the norm of the gradient, or lower the rate.",
            {"step": step, "loss": highest, "level": level, "limit": limit, "steps": len(high)},
        )  # fmt: skip


def stands_still(history: History, found: Progress) -> Iterator[Finding]:
    """Nothing was learned at all: a curve that fell and then went flat has converged, and is healthy. One that wanders about
    belongs to a game or to rewards, and one of both signs has no level. Where low accuracies are told, a small fall at the start
    is that to the best constant guess; else it may be all that was left to learn."""
    recent = numbers(history.recent)
    if found.steps < STANDSTILL or not found.stuck or found.fell < -SIGMAS * found.error or min(recent) < 0:
        return
    if found.falls and not (history.epochs and history.epochs[-1].get("train_accuracy", 1.0) < LOW):
        return
    means = windows(recent, NOW)
    room, half = max(SIGMAS * found.wobble / math.sqrt(NOW), LEVEL * median(means)), len(means) // 2
    still_falls = fmean(means[:half]) - fmean(means[half:]) > SIGMAS * found.wobble * math.sqrt(2 / (half * NOW))
    if max(means) - min(means) > 2 * room or still_falls:
        return
    yield Finding(
        "plateau", "warning", "the loss",
        f"{found.describe()}: it has not moved for {len(recent)} steps, and has not fallen by more than chance explains "
        f"({SIGMAS * found.error:.2g}) or {LEARNED:.0%}. Run `runtrue check` on this task: it says why a network "
        "does not start to learn.",
        {"start": found.start, "now": found.now, "steps": found.steps, "error": found.error, **rate(history)},
    )  # fmt: skip


def swings(history: History, found: Progress) -> Iterator[Finding]:
    """Up and down from step to step, on one and the same batch, or without anything learned: else it is the batches that
    differ, or two losses that are told in turn."""
    recent = numbers(history.recent)[-SPIKE_WINDOW:]
    if len(recent) < SPIKE_WINDOW or not (history.same >= SPIKE_WINDOW or found.stuck):
        return
    before, now = fmean(recent[: 2 * NOW]), fmean(recent[2 * NOW :])
    if before - now > FALLS * abs(before) or not found.one_loss:
        return
    correlation = neighbours(recent)
    width = math.sqrt(fmean([(b - a) ** 2 for a, b in pairwise(recent)]))
    if correlation < SWINGS and width > SWING_WIDTH * abs(found.now):
        yield Finding(
            "oscillating", "warning", "the loss",
            f"the loss goes up and down from step to step (correlation of neighbours {correlation:.2f}, limit {SWINGS}; by "
            f"{width:.3g} at a level of {found.now:.3g}) and does not fall: each step overshoots. Lower the rate "
            f"({history.rate:.3g}) by three, or the momentum.",
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
    """The rate fell to next to nothing in the first epochs: the schedule is stepped too often, or is too short."""
    largest = history.top_rate
    if largest <= 0 or history.rate > ENDED * largest:
        return
    since = ended(history)
    idle = history.steps - since
    if since <= history.began or idle < IDLE:
        return
    known = [one["step"] for one in history.epochs]
    early = len(known) >= SCHEDULED_EPOCHS and since <= known[SCHEDULED_EPOCHS - 1]
    times = idle / (since - history.began)
    if times >= (IDLE_TIMES if early else IDLE_UNKNOWN) and (early or not known):
        yield Finding(
            "learning-rate-too-low", "fault" if early else "warning", "the schedule",
            f"the rate fell from {largest:.3g} to {history.rate:.3g} by step {since}, and the training has gone on for {idle} "
            f"steps since, {times:.0f} times as long (limit {IDLE_TIMES if early else IDLE_UNKNOWN}): the scheduler is stepped "
            "once a batch where it counts epochs, or it is too short. Call scheduler.step() once an epoch.",
            {"largest": largest, "now": history.rate, "since": since, "steps": idle},
        )  # fmt: skip


def ended(history: History) -> int:
    """The step since which the rate has been next to nothing."""
    since = history.steps
    for step, rates in reversed(history.rates):
        if max(rates, default=0.0) > ENDED * history.top_rate:
            break
        since = step
    return since


def rate(history: History) -> dict[str, float]:
    return {"rate": history.rate}
