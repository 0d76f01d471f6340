"""What the readings of layers and parameters say. Pure: history in, findings out.

Numbers that look ill are common in networks that learn well. So nothing here is a fault while the loss falls: a verdict needs
numbers beyond their limit in each of the last readings, and a network that has not learned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from runtrue.findings import Finding
from runtrue.watch.history import History
from runtrue.watch.progress import Progress, progress

HELD = 4  # readings in a row that must agree
PATIENCE = 150  # steps before anything is said of layers
DEAD, DEAD_LAYER = 0.5, 0.98
"""Share of dead units of a layer worth a warning, and from which a layer passes nothing on."""
SATURATED = 0.9
FADES = 1e-4
"""Gradient of an early weight, relative to its own size, over that of the last one: below, the early layers stand still."""
GROWS = 1e3  # gradient norm over the median of the run's beginning
LONG_STEP = 0.1
"""Median relative change of the weights in one step. Networks that learn have 1e-4 to 1e-2 (N1.2: weights keep their size)."""
ROUNDED_AWAY = 1e-7
"""Relative change below which float32 keeps the old weight: half a unit in the last place is 6e-8."""


def judge_layers(history: History) -> Iterator[Finding]:
    found = progress(history)
    if found is None or history.read < HELD or history.steps < PATIENCE or history.lost:
        return
    yield from dead(history, found)
    yield from saturated(history, found)
    yield from fades(history, found)
    yield from grows(history, found)
    yield from steps_too_long(history, found)
    yield from steps_too_short(history, found)


def held(series: Sequence[float]) -> list[float] | None:
    """The last numbers of a series that is long enough."""
    last = list(series[-HELD:])
    return last if len(last) == HELD and all(map(math.isfinite, last)) else None


def beyond(series: Mapping[str, Sequence[float]], limit: float) -> dict[str, float]:
    """Layers whose last readings all lie above the limit, with the smallest of them."""
    return {name: min(last) for name, one in series.items() if (last := held(one)) and min(last) > limit}


def dead(history: History, found: Progress) -> Iterator[Finding]:
    ill = beyond(history.series("dead_fraction"), DEAD)
    if not ill:
        return
    worst = max(ill, key=ill.__getitem__)
    fatal = ill[worst] >= DEAD_LAYER and not found.learned
    yield Finding(
        "dead-units", "fault" if fatal else "warning", worst,
        f"{ill[worst]:.0%} of the units of {worst} were 0 for every example read (limit {DEAD:.0%}; {len(ill)} such "
        "layers), "
        f"{found.describe()}. Dead units get no gradient and stay dead: lower the rate, use He initialization, or a "
        "leaky ReLU.",
        {"layers": [{"layer": name, "dead_fraction": share} for name, share in ill.items()], "limit": DEAD},
    )  # fmt: skip


def saturated(history: History, found: Progress) -> Iterator[Finding]:
    ill = beyond(history.series("saturated_fraction"), SATURATED)
    if not ill or found.learned:
        return
    worst = max(ill, key=ill.__getitem__)
    yield Finding(
        "saturating-activation", "fault", worst,
        f"{ill[worst]:.0%} of the outputs of {worst} stand at the bounds of their activation (limit "
        f"{SATURATED:.0%}), where the slope is next "
        f"to 0, and nothing is learned: {found.describe()}. Make the initial weights smaller, scale the inputs, or "
        "use ReLU (N1.3).",
        {"layers": [{"layer": name, "saturated_fraction": share} for name, share in ill.items()], "limit": SATURATED},
    )  # fmt: skip


def fades(history: History, found: Progress) -> Iterator[Finding]:
    if found.learned:
        return
    relative = relative_gradients(history)
    if len(relative) < 3:
        return
    names, last = list(relative), relative[list(relative)[-1]]
    ratios = {name: [a / b if b else math.inf for a, b in zip(relative[name], last)] for name in names[:-1]}
    ill = {name: max(one) for name, one in ratios.items() if max(one) < FADES}
    if ill and names[0] in ill:
        yield Finding(
            "vanishing-gradient", "fault", names[0],
            f"the gradient of {names[0]} is {ill[names[0]]:.1e} of that of {names[-1]}, each relative to its weights "
            f"(limit {FADES:g}), and nothing "
            f"is learned: {found.describe()}. He initialization, ReLU, batch normalization or shortcuts carry it "
            "through (N1.2, N1.6, N5).",
            {"layers": [{"layer": n, "grad_norm": max(one)} for n, one in relative.items()], "limit": FADES},
        )  # fmt: skip


def relative_gradients(history: History) -> dict[str, list[float]]:
    """‖gradient‖ / ‖weight‖ of weights in the order of the model, in the last readings."""
    gradients, weights = history.series("grad_norm", HELD), history.series("weight_norm", HELD)
    matrices = history.series("grad_mean", HELD)  # of weights alone, not of biases
    return {
        name: [g / w if w else math.inf for g, w in zip(gradients[name], weights[name])]
        for name in matrices
        if len(gradients.get(name, ())) == HELD == len(weights.get(name, ()))
    }


def grows(history: History, found: Progress) -> Iterator[Finding]:
    if found.learned:
        return
    series = history.series("grad_norm")
    totals = [
        math.sqrt(sum(x * x for x in column))
        for column in zip(*[s for s in series.values() if len(s) == len(history.reads)])
    ]
    last = held(totals)
    if last is None or len(totals) < 2 * HELD:
        return
    usual = median(totals[:HELD])
    if usual > 0 and min(last) > GROWS * usual:
        yield Finding(
            "exploding-gradient", "fault", "the gradients",
            f"the norm of all gradients grew from {usual:.3g} to {last[-1]:.3g} (limit {GROWS:g} times): clip it "
            "(torch.nn.utils.clip_grad_norm_), lower the rate, or normalize the layers.",
            {"start": usual, "now": last[-1], "limit": GROWS * usual},
        )  # fmt: skip


def medians(history: History) -> list[float] | None:
    """Over the weights with more than one dimension, the median relative change of each of the last readings."""
    matrices = history.series("grad_mean")
    ratios = {name: one for name, one in history.series("update_ratio").items() if name in matrices}
    columns = [last for one in ratios.values() if (last := held(one))]
    return [median(column) for column in zip(*columns)] if columns else None


def steps_too_long(history: History, found: Progress) -> Iterator[Finding]:
    found_medians = medians(history)
    if found_medians is None or found.learned or min(found_medians) <= LONG_STEP:
        return
    yield Finding(
        "learning-rate-too-high", "fault", "the optimizer",
        f"a step changes the weights by {median(found_medians):.0%} of their size (usual are 0.01 % to 1 %, limit "
        f"{LONG_STEP:.0%}), and nothing is "
        f"learned: {found.describe()}. Lower the rate ({history.rate:.3g}) by ten, and again (N3.2).",
        {"update_ratio": median(found_medians), "limit": LONG_STEP, "rate": history.rate},
    )  # fmt: skip


def steps_too_short(history: History, found: Progress) -> Iterator[Finding]:
    found_medians = medians(history)
    if found_medians is None or max(found_medians) >= ROUNDED_AWAY or found.learned:
        return
    largest = max((rates[0] for _, rates in history.rates), default=0.0)
    if history.rate <= 0 or history.rate < 0.5 * largest:
        return
    yield Finding(
        "learning-rate-too-low", "fault", "the optimizer",
        f"a step changes the weights by {median(found_medians):.1e} of their size, which float32 rounds away (limit "
        f"{ROUNDED_AWAY:g}): "
        f"{found.describe()}. Raise the rate ({history.rate:.3g}) by ten, and again (N3.2).",
        {"update_ratio": median(found_medians), "limit": ROUNDED_AWAY, "rate": history.rate},
    )  # fmt: skip
