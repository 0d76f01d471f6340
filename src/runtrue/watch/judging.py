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
GRAVITY = {"note": 0, "warning": 1, "fault": 2}


def judge(history: History) -> Iterator[Finding]:
    """What can be said now, causes before their symptoms. The same is said again as long as it holds; it is told once."""
    found = [*judge_loop(history), *judge_curve(history), *judge_epochs(history), *judge_layers(history)]
    whys = [explained(one, found) for one in found]
    yield from (one for one, why in zip(found, whys) if why is None)
    yield from (one.having(severity="note", explained_by=why) for one, why in zip(found, whys) if why is not None)


def explained(symptom: Finding, found: list[Finding]) -> str | None:
    """The cause that brought it about: the gravest, and no less grave than the symptom itself. A note explains nothing."""
    known = [
        (cause, max(GRAVITY[one.severity] for one in found if one.cause == cause))
        for cause, symptoms in SYMPTOMS.items()
        if symptom.cause in symptoms and any(one.cause == cause for one in found)
    ]
    believed = [(cause, gravity) for cause, gravity in known if gravity >= max(1, GRAVITY[symptom.severity])]
    return max(believed, key=lambda pair: pair[1])[0] if believed else None
