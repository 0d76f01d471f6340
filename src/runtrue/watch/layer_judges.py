"""What the readings of layers and parameters say. Pure: history in, findings out.

Numbers that look ill are common in networks that learn well. So nothing here is a fault or a warning while the loss falls: that
needs numbers beyond their limit in each of the last readings, and a network that has learned nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from runtrue.findings import Finding, Severity
from runtrue.watch.history import History
from runtrue.watch.progress import Progress, progress

HELD = 4  # readings in a row that must agree
PATIENCE = 150  # steps before anything is said of layers
DEAD, DEAD_LAYER = 0.5, 0.98
"""Share of dead units of a layer worth a word, and from which a layer passes nothing on."""
NO_GRADIENT = 0.9
"""Share of zeros in the gradient of a layer's weight from which it is really dead: else other examples wake its units up."""
SATURATED = 0.9
FADES = 1e-4
"""Gradient of an early weight, relative to its own size, over that of the last one: below, the early layers stand still."""
STANDS = 1e-5
"""Relative change of a weight in one step, below which it stands still: a thousand steps change it by a hundredth. Optimizers
that scale each gradient by its own size move early layers as well as late ones, however faint their gradient."""
GROWS = 1e3  # gradient norm over the median of earlier readings
LONG_STEP = 0.1
"""Median relative change of the weights in one step. Networks that learn have 1e-4 to 1e-2 (N1.2: weights keep their size)."""
NO_SIZE = 5e-3
"""Standard deviation of weights below which a large relative change is not a long step: they began at 0 or near it."""
NOT_MOVED = 1e-2
"""Share of their size that the weights can have moved by in a whole run, if all steps went the same way: too little to learn."""
THROWN = 3.0
"""Times its size at the earliest reading that is kept, from which the weights have been thrown away. In a training that goes on
well they grow by some tens of per cent in a thousand steps."""
FULL_RATE = 0.5
"""Share of the largest rate of a run below which a rate is a warmup, or the end of a schedule."""


def judge_layers(history: History) -> Iterator[Finding]:
    found = progress(history)
    if found is None or history.read < HELD or history.seen < PATIENCE or history.losses_lost:
        return
    yield from steps_too_long(history, found)
    yield from steps_too_short(history, found)
    yield from dead(history, found)
    yield from saturated(history, found)
    yield from fades(history, found)
    yield from grows(history, found)


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
    zeros = beyond(history.series("grad_zero"), NO_GRADIENT)
    closed = [name for name, share in ill.items() if share >= DEAD_LAYER and f"{name}.weight" in zeros]
    severity: Severity = "note" if not found.stuck or (found.falls and not closed) else "fault" if closed else "warning"
    yield Finding(
        "dead-units", severity, (closed or [worst])[0],
        f"{ill[worst]:.0%} of the units of {worst} were 0 for every example read (limit {DEAD:.0%}; {len(ill)} such "
        f"layers), {found.describe()}. Dead units get no gradient and stay dead: lower the rate, use He initialization, or a "
        "leaky ReLU.",
        {"layers": [{"layer": name, "dead_fraction": share} for name, share in ill.items()], "limit": DEAD},
    )  # fmt: skip


def saturated(history: History, found: Progress) -> Iterator[Finding]:
    """Of hidden layers: an output that stands at its bounds is a network that is sure."""
    series = history.series("saturated_fraction")
    outputs = list(history.series("mean"))
    ill = {name: share for name, share in beyond(series, SATURATED).items() if name != outputs[-1]}
    if not ill or not found.stuck:
        return
    worst = max(ill, key=ill.__getitem__)
    yield Finding(
        "saturating-activation", "fault", worst,
        f"{ill[worst]:.0%} of the outputs of {worst} stand at the bounds of their activation (limit {SATURATED:.0%}), where "
        f"the slope is next to 0, and nothing is learned: {found.describe()}. Make the initial weights smaller, scale the "
        "inputs, or use ReLU (N1.3).",
        {"layers": [{"layer": name, "saturated_fraction": share} for name, share in ill.items()], "limit": SATURATED},
    )  # fmt: skip


def fades(history: History, found: Progress) -> Iterator[Finding]:
    relative = relative_gradients(history)
    if not found.stuck or len(relative) < 3:
        return
    names, last = list(relative), relative[list(relative)[-1]]
    ratios = {name: [a / b if b else math.inf for a, b in zip(relative[name], last)] for name in names[:-1]}
    moves = history.series("update_ratio", HELD)
    ill = {
        name: max(one)
        for name, one in ratios.items()
        if max(one) < FADES and max(moves.get(name, (math.inf,))) < STANDS
    }
    if names[0] in ill:
        yield Finding(
            "vanishing-gradient", "fault", names[0],
            f"the gradient of {names[0]} is {ill[names[0]]:.1e} of that of {names[-1]}, each relative to its weights (limit "
            f"{FADES:g}), a step changes it by less than {STANDS:g} of its size, and nothing is learned: {found.describe()}. He "
            "initialization, ReLU, batch normalization or shortcuts carry it through (N1.2, N1.6, N5).",
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
    if not found.stuck:
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
    if usual > 0 and min(last) > GROWS * usual and thrown(history) is not False:
        yield Finding(
            "exploding-gradient", "fault", "the gradients",
            f"the norm of all gradients grew from {usual:.3g} to {last[-1]:.3g} (limit {GROWS:g} times): clip it "
            "(torch.nn.utils.clip_grad_norm_), lower the rate, or normalize the layers.",
            {"start": usual, "now": last[-1], "limit": GROWS * usual},
        )  # fmt: skip


def medians(history: History, last: int = HELD) -> list[float]:
    """Over the weights of more than one dimension, the median relative change in each of the last readings, the oldest first."""
    matrices = history.series("grad_mean")
    ratios = [one[-last:] for name, one in history.series("update_ratio").items() if name in matrices]
    longest = max(map(len, ratios), default=0)
    columns = [one for one in ratios if len(one) == longest]
    return [median(column) for column in zip(*columns)] if longest >= HELD else []


def thrown(history: History) -> bool | None:
    """Steps of the last readings were too long, or the weights are far larger than they were. If not, a loss or a gradient that
    rose has another reason: harder data, rewards that are found at last, another term. None: too few readings to tell."""
    changes, sizes = medians(history, last=len(history.reads)), list(history.series("weight_norm").values())
    if not changes:
        return None
    first, last = (math.sqrt(sum(one[place] ** 2 for one in sizes)) for place in (0, -1))
    return max(changes) > LONG_STEP or not last < THROWN * first


def steps_too_long(history: History, found: Progress) -> Iterator[Finding]:
    changes = medians(history)
    if not changes or not found.stuck or min(changes) <= LONG_STEP or spreads(history) < NO_SIZE:
        return
    yield Finding(
        "learning-rate-too-high", "fault", "the optimizer",
        f"a step changes the weights by {median(changes):.0%} of their size (usual are 0.01 % to 1 %, limit "
        f"{LONG_STEP:.0%}), and nothing is learned: {found.describe()}. Lower the rate ({history.rate:.3g}) by ten, and again "
        "(N3.2).",
        {"update_ratio": median(changes), "limit": LONG_STEP, "rate": history.rate},
    )  # fmt: skip


def spreads(history: History) -> float:
    """Standard deviation of the weights of a layer, the median over the layers, at the last reading."""
    last = [one[-1] for one in history.series("weight_std", 1).values()]
    return median(last) if last else math.inf


def steps_too_short(history: History, found: Progress) -> Iterator[Finding]:
    """The largest change that was read, times all steps, is the most that the weights can have moved."""
    changes = medians(history, last=len(history.reads))
    if not changes or not found.stuck or found.falls or not 0 < history.rate >= FULL_RATE * history.top_rate:
        return
    moved = max(changes) * history.seen
    asked = any(any(one) for one in history.series("grad_norm", HELD).values())
    if moved >= NOT_MOVED or not asked:
        return
    yield Finding(
        "learning-rate-too-low", "warning", "the optimizer",
        f"a step changes the weights by {max(changes):.1e} of their size at most: all {history.seen} steps together by "
        f"{moved:.2%} (limit {NOT_MOVED:.0%}), and nothing is learned: {found.describe()}. Raise the rate ({history.rate:.3g}) "
        "by ten, and again (N3.2).",
        {"update_ratio": max(changes), "moved": moved, "limit": NOT_MOVED, "rate": history.rate},
    )  # fmt: skip
