"""Many variants of one task, trained side by side: the curves of `trials.run`, in less time.

Three ways: one after the other; in worker processes of one thread each; stacked, all in one pass. Which is quickest depends on
the network, the machine and what else runs on it, so a few steps are measured and remembered with the box. What a way cannot
do is left to the next; one after the other always works.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch

from runtrue import stacked, trials
from runtrue.sandbox import Sandbox
from runtrue.task import Task
from runtrue.trials import Curve
from runtrue.workers import Failure, cores, forked, obstacle, own_memory

Treat = Callable[[Task], Task]
Way = Callable[..., "list[Curve] | None"]
"""(box, treatments, what `trials.run` takes) -> curves, or None if this way does not work for these."""

FORKING = 0.03  # seconds for a child: the fork, first writes to pages that it shares, its end (bench/side_by_side.py)
WORTHWHILE = (
    0.2  # seconds one after the other: below, what two children save (half) is not clearly more than what they cost
)
FEW, MEASURING = 10, 0.05  # steps that tell a pace; fewer if they take more than these seconds, but two
STACKABLE = (
    5e-3  # seconds a step, on a CPU: stacking saves calls, about 1 ms a step, and adds to the work of wide layers
)
PREPARING = 5e-3  # seconds to get a variant ready for stacking
VERIFIED = 3  # steps: by then the forward pass, the gradient and what the optimizer remembers have all been used
TOLERANCE = 1e-3  # relative difference of the losses until then; seen in float32: 1e-7 to 1e-5
PATIENCE, GRACE = 20.0, 10.0  # times the expected seconds of a job, and seconds, before a child is given up
_STACKED = ("steps", "batch", "until", "deadline")  # what stacked runs can be given


@dataclass
class Paces:
    """Seconds for one step of one variant, as measured in one box. NaN: not known. Infinite: does not work."""

    in_turn: float = math.nan
    alone: float = math.nan
    """One after the other on one thread."""
    in_workers: float = math.nan
    in_stack: dict[int, float] = field(default_factory=dict)
    """By the number of variants."""


_paces: WeakKeyDictionary[Sandbox, Paces] = WeakKeyDictionary()


def paces_of(box: Sandbox) -> Paces:
    """What is known of this box so far."""
    return _paces.setdefault(box, Paces())


def race(
    box: Sandbox, treats: Sequence[Treat | None], *, steps: int, workers: int | None = None, **given: Any
) -> list[Curve]:
    """The curve of every treatment (None: untreated), in their order, by the way that promises to be quickest.

    steps and what else is given are those of `trials.run`, and so are the losses, within float tolerance. `box.steps` counts
    every step, wherever it was taken. workers: processes at most, as many as there are cores by default.
    Raises what `trials.run` raises.
    """
    given["steps"] = steps
    for way in _quicker(box, treats, workers, given):
        curves = way(box, treats, **given)
        if curves is not None:
            return curves
    return in_turn(box, treats, **given)


# -- three ways


def in_turn(box: Sandbox, treats: Sequence[Treat | None], **given: Any) -> list[Curve]:
    """One after the other, in this process."""
    return [trials.run(box, treat, **given) for treat in treats]


def in_workers(
    box: Sandbox, treats: Sequence[Treat | None], *, workers: int | None = None, **given: Any
) -> list[Curve] | None:
    """In forked children; what none of them brought back, in this process. None if not one of them worked."""

    def job(treat: Treat | None) -> tuple[Curve, int]:
        before = box.steps
        return trials.run(box, treat, **given), box.steps - before

    paces, begin = paces_of(box), time.monotonic()
    expected = given["steps"] * (paces.alone if paces.alone < math.inf else 1.0)
    found = forked(
        [partial(job, treat) for treat in treats],
        workers=workers,
        deadline=given.get("deadline", math.inf) + GRACE + expected,
        patience=GRACE + PATIENCE * expected,
        need=own_memory(),
    )
    if len(found) < len(treats):  # a child died or hung: none is tried again in this box
        paces.in_workers = math.inf
        if not found:
            return None
    curves = []
    for number, treat in enumerate(treats):
        result = found.get(number)
        if isinstance(result, Failure):
            raise result.error
        curve, taken = (trials.run(box, treat, **given), 0) if result is None else result
        curves.append(curve)
        box.steps += taken
    if paces.in_workers != math.inf:
        children = min(workers or cores(), len(treats))
        paces.in_workers = _pace(time.monotonic() - begin - children * FORKING, curves)
    return curves


def in_stack(box: Sandbox, treats: Sequence[Treat | None], **given: Any) -> list[Curve] | None:
    """All in one pass. None if they cannot be stacked, or if that does not give the losses that single runs give."""
    if any(value for name, value in given.items() if name not in _STACKED):
        return None
    stack = stacked.stack(box, treats)
    if stack is None:
        return None
    curves = stack.train(**{name: given[name] for name in _STACKED if name in given})
    works = curves is not None and all(_verified(box, treats[i], curves[i], given) for i in (0, -1))
    paces_of(box).in_stack[len(treats)] = (
        _pace(sum(c.seconds for c in curves), curves) if works and curves else math.inf
    )
    return curves if works else None


def _verified(box: Sandbox, treat: Treat | None, curve: Curve, given: dict[str, Any]) -> bool:
    """True if the treatment by itself gives the same losses at first."""
    steps = min(VERIFIED, curve.steps)
    single = trials.run(box, treat, **(given | {"steps": steps, "deadline": math.inf}))
    return single.steps == steps and all(map(_close, single.losses, curve.losses))


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-12) or not (math.isfinite(a) or math.isfinite(b))


# -- the choice


def _quicker(box: Sandbox, treats: Sequence[Treat | None], workers: int | None, given: dict[str, Any]) -> list[Way]:
    """The ways that promise to be quicker than one after the other, the quickest first."""
    paces, count, steps = paces_of(box), len(treats), given["steps"]
    if count < 2 or not _measured(box, treats, given):
        return []
    in_turn = count * steps * paces.in_turn
    if in_turn < WORTHWHILE:
        return []
    seconds: dict[Way, float] = {}
    on_cpu, children = box.device.type == "cpu", min(workers or cores(), count)
    if on_cpu and children > 1 and paces.in_workers != math.inf and obstacle() is None:
        pace = paces.alone * math.ceil(count / children) / count if math.isnan(paces.in_workers) else paces.in_workers
        seconds[partial(in_workers, workers=workers)] = children * FORKING + count * steps * pace
    if not on_cpu or paces.in_turn <= STACKABLE:
        few = given | {"steps": min(FEW, steps)}
        if count in paces.in_stack or in_stack(box, treats, **few) is not None:
            seconds[in_stack] = count * (PREPARING + steps * paces.in_stack[count])
    return sorted((way for way in seconds if seconds[way] < in_turn), key=lambda way: seconds[way])


def _measured(box: Sandbox, treats: Sequence[Treat | None], given: dict[str, Any]) -> bool:
    """Take a few steps, if that was not done before in this box. False if no treatment takes even one."""
    paces = paces_of(box)
    if not math.isnan(paces.in_turn):
        return True
    plain = {name: given[name] for name in ("batch", "deadline") if name in given}

    def run(treat: Treat | None, steps: int) -> Curve:
        return trials.run(box, treat, steps=steps, **plain)

    for treat in treats:
        first = run(treat, 1)
        if first.error is None:
            break
    else:
        return False
    steps = max(2, min(FEW, int(MEASURING / max(first.seconds, 1e-9))))
    threads = torch.get_num_threads()
    try:
        curve = run(treat, steps)
        paces.in_turn = paces.alone = _pace(curve.seconds, [curve])
        if threads > 1:
            torch.set_num_threads(1)
            curve = run(treat, steps)
            paces.alone = _pace(curve.seconds, [curve])
    finally:
        torch.set_num_threads(threads)
    return True


def _pace(seconds: float, curves: Sequence[Curve]) -> float:
    """Seconds a step."""
    return max(seconds, 1e-9) / max(1, sum(curve.steps for curve in curves))
