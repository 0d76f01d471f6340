"""All judges, one after the other; what is only a symptom of another finding says so."""

from __future__ import annotations

from collections.abc import Iterator

from runtrue.findings import Finding
from runtrue.watch.curve_judges import judge_curve
from runtrue.watch.epoch_judges import judge_epochs
from runtrue.watch.history import History
from runtrue.watch.layer_judges import judge_layers
from runtrue.watch.loop_judges import judge_loop

NOT_LEARNED = ("plateau", "underfitting", "learning-rate-too-low")
TOO_LONG = (
    "diverging",
    "exploding-gradient",
    "oscillating",
    "loss-spike",
    "saturating-activation",
    "dead-units",
    *NOT_LEARNED,
)
SYMPTOMS: dict[str, tuple[str, ...]] = {
    "gradients-not-cleared": ("learning-rate-too-high", *TOO_LONG),
    "parameters-not-optimized": ("vanishing-gradient", *NOT_LEARNED),
    "step-before-backward": ("vanishing-gradient", *NOT_LEARNED),
    "learning-rate-too-high": ("vanishing-gradient", *TOO_LONG),
    "learning-rate-too-low": ("plateau", "underfitting"),
    "dead-units": ("vanishing-gradient", *NOT_LEARNED),
    "saturating-activation": ("vanishing-gradient", *NOT_LEARNED),
    "vanishing-gradient": NOT_LEARNED,
    "exploding-gradient": ("diverging", "plateau", "underfitting"),
    "repeated-examples": ("overfitting",),
    "diverging": ("loss-spike", "oscillating", "plateau", "underfitting"),
}
"""What a cause brings about, in the order in which causes are believed: a symptom is a note that names its cause."""


def judge(history: History) -> Iterator[Finding]:
    """What can be said now. The same is said again as long as it holds: who tells it tells it once."""
    found = [*judge_loop(history), *judge_curve(history), *judge_epochs(history), *judge_layers(history)]
    causes = [cause for cause in SYMPTOMS if any(one.cause == cause and one.severity != "note" for one in found)]
    for one in found:
        why = next((cause for cause in causes if one.cause in SYMPTOMS[cause] and cause != one.cause), None)
        yield one if why is None else one.having(severity="note", explained_by=why)
