"""What two curves say, the accuracy on the training and on the validation examples by epoch (N3.3): good, or not, and why.

Pure: lists of accuracies in, a verdict with its reason out. It reads the end of the curves, the mean of their last fifth, so
that one noisy epoch decides nothing, and leaves room for what the validation examples can tell at all.

>>> judge([0.5, 0.7, 0.8, 0.85, 0.86, 0.87], [0.5, 0.68, 0.78, 0.81, 0.82, 0.82], chance=0.1).verdict
'good'
>>> judge([0.6, 0.9, 0.97, 1.0, 1.0, 1.0], [0.5, 0.6, 0.62, 0.6, 0.61, 0.6], chance=0.1).verdict
'severe overfitting'
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from runtrue.curves import end, noise, still_falls

Verdict = Literal["good", "slight overfitting", "severe overfitting", "underfitting", "unclear"]

SLIGHT, SEVERE = 0.1, 0.2
"""Gaps above which a run overfits slightly and severely, as shares of what there is to learn, 1 − chance. Measured by
`runtrue lab gap` on Fashion-MNIST images, seeds 0 to 2: 0.06 for the good run, 0.18 for the slight one, 0.29 for the severe
one. A ResNet-20 on CIFAR-10, with 8.75 % of the test images wrong (He et al. 2015), has less than 0.1."""
HIGH = 0.5
"""Share of what there is to learn that a run has to get right on its own training examples, or it underfits. Measured 0.86 for
the good run, and 0.07 for a network with hidden layers of one unit."""
SIGMAS = 2.0
"""Standard errors by which a limit has to be passed: so a run at the limit is called the milder word, 39 times of 40."""
LEAST_EPOCHS = 3
"""Fewer than these have no end to take a mean of."""


@dataclass(frozen=True)
class JudgedGap:
    """Accuracies at the end, from 0 to 1, their gap and its standard error, and what that comes to."""

    train: float
    val: float
    error: float
    verdict: Verdict
    reason: str

    @property
    def gap(self) -> float:
        return self.train - self.val


def judge(train: Sequence[float], val: Sequence[float], *, chance: float, examples: int | None = None) -> JudgedGap:
    """The verdict on a run, from its accuracies after each epoch.

    chance: the accuracy of the best constant guess, such as 1/C for C classes of one size. examples: how many validation
    examples there are, if it is known: the fewer, the larger a gap has to be. Training accuracies taken while dropout or
    augmentation were on lie too low, and the gap with them: they never make a run look worse than it is.
    Raises ValueError if the curves differ in length, or chance is not in 0 ≤ chance < 1.
    """
    if len(train) != len(val) or not 0.0 <= chance < 1.0:
        raise ValueError(
            f"need an accuracy on both sets after every epoch and 0 <= chance < 1, got {len(train)} on the training set, "
            f"{len(val)} on the validation set, chance={chance!r}"
        )
    if len(train) < LEAST_EPOCHS or not all(map(math.isfinite, (*train, *val))):
        known = (
            f"{len(train)} epochs, not all with a finite accuracy"
            if len(train) >= LEAST_EPOCHS
            else f"{len(train)} epochs"
        )
        return JudgedGap(
            math.nan, math.nan, math.nan, "unclear", f"{known}: need {LEAST_EPOCHS} with an accuracy at least"
        )
    error = math.hypot(noise([a - b for a, b in zip(train, val)]), sampling_error(end(val), examples))
    verdict, reason = verdict_on(train, end(train), end(val), error, 1.0 - chance)
    return JudgedGap(end(train), end(val), error, verdict, reason)


def sampling_error(accuracy: float, examples: int | None) -> float:
    """Standard error of an accuracy on so many examples: √(a (1 − a) / n)."""
    return math.sqrt(max(0.0, accuracy * (1.0 - accuracy)) / examples) if examples else 0.0


def verdict_on(curve: Sequence[float], train: float, val: float, error: float, learnable: float) -> tuple[Verdict, str]:
    learned = (train - (1.0 - learnable)) / learnable
    both = f"training accuracy {train:.1%}, validation {val:.1%}"
    if learned + SIGMAS * error / learnable < HIGH:
        rises = still_falls([1.0 - accuracy for accuracy in curve], SIGMAS)
        return "underfitting", (
            f"{both}: neither is high; of what there is to learn, {max(0.0, learned):.0%} is right on the training examples "
            f"(below {HIGH:.0%}: underfitting){'; it still rises: train longer' if rises else ''}"
        )
    share, room = (train - val) / learnable, SIGMAS * error / learnable
    said = f"{both}: a gap of {100 * (train - val):.1f} points, {max(0.0, share):.0%} of what there is to learn"
    limits = f"(above {SLIGHT:.0%}: slight overfitting, above {SEVERE:.0%}: severe; uncertain by {room:.1%})"
    if share - room > SEVERE:
        return "severe overfitting", f"{said} {limits}"
    return ("slight overfitting" if share - room > SLIGHT else "good"), f"{said} {limits}"
