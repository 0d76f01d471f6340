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
from runtrue.workers import Failure, cores, forked, free_cores, obstacle, own_memory

Treat = Callable[[Task], Task]
Way = Callable[..., "list[Curve] | None"]
"""(box, treatments, what `trials.run` takes) -> curves, or None if this way does not work for these."""

FORKING = 0.03  # seconds for a child: the fork, first writes to pages that it shares, its end (bench/side_by_side.py)
WORTHWHILE = 0.2  # seconds one after the other: below, the half that two children save is hardly more than they cost
FEW, MEASURING = 10, 0.05  # steps that tell a pace; fewer if they take more than these seconds, but two
CALLS = 1.5e-3  # CPU seconds of a step that are calls, not arithmetic: on a CPU, stacking saves no more than these
PROMISE = 0.9  # of the time of the next best way: what stacking must be able to save before it is tried
MEASURED = 0.05  # of the steps to be taken: what trying it may cost
PREPARING = 5e-3  # seconds to get a variant ready for stacking
VERIFIED = 3  # steps: by then the forward pass, the gradient and what the optimizer remembers have all been used
TOLERANCE = 1e-3  # relative difference of the losses until then; seen in float32: 1e-7 to 1e-5
PATIENCE, GRACE = 20.0, 10.0  # times the expected seconds of a job, and seconds, before a child is given up
_STACKED = ("steps", "batch", "until", "deadline", "evaluate")  # what stacked runs are given of what a run is
_PASSED_OVER = ("seed", "enough", "hopeless")  # the seed is the stack's; a variant that has learned enough stays in it


@dataclass
class Paces:
    """Seconds for one step of one variant, as measured in one box. NaN: not known. Infinite: does not work."""

    in_turn: float = math.nan
    alone: float = math.nan
    """One after the other on one thread."""
    work: float = math.nan
    """The same in CPU time, which other work on the machine does not lengthen."""
    in_workers: float = math.nan
    children: int = 0
    """Of the last race in workers: with another number its pace says nothing."""
    in_stack: dict[int, float] = field(default_factory=dict)
    """By the number of variants."""
    way: str = ""
    """That the last race took: "one after the other", "workers" or "stacked"."""

    def of(self, children: int, count: int) -> float:
        """In workers, for so many variants: as it was, or as it would be if children were all that counts."""
        return self.in_workers if children == self.children else self.alone * math.ceil(count / children) / count


_paces: WeakKeyDictionary[Sandbox, Paces] = WeakKeyDictionary()


def paces_of(box: Sandbox) -> Paces:
    """What is known of this box so far."""
    return _paces.setdefault(box, Paces())


def race(
    box: Sandbox, treats: Sequence[Treat | None], *, steps: int, workers: int | None = None, **given: Any
) -> list[Curve]:
    """The curve of every treatment (None: untreated), in their order, by the way that promises to be quickest.

    steps and what else is given are those of `trials.run`, and so are the losses, within float tolerance. `box.steps` counts
    every step, wherever it was taken. workers: processes; as many as there are cores that nobody else uses by default.
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
    paces_of(box).way = "one after the other"
    return [trials.run(box, treat, **given) for treat in treats]


def in_workers(
    box: Sandbox, treats: Sequence[Treat | None], *, workers: int | None = None, **given: Any
) -> list[Curve] | None:
    """In forked children; what none of them brought back, in this process. None if not one of them worked.

    Not for weights on another device, nor for those that lie in shared memory: a child would train the parent's.
    """
    if box.device.type != "cpu" or any(t.is_shared() for t in (*box.model.parameters(), *box.model.buffers())):
        return None

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
    paces.way = "workers"
    if paces.in_workers != math.inf:
        paces.children = min(workers or cores(), len(treats))
        paces.in_workers = _pace(time.monotonic() - begin - paces.children * FORKING, curves)
    return curves


def in_stack(box: Sandbox, treats: Sequence[Treat | None], **given: Any) -> list[Curve] | None:
    """All in one pass. None if they cannot be stacked, or if that does not give the losses that single runs give."""
    if not given.keys() <= {*_STACKED, *_PASSED_OVER}:
        return None
    stack = stacked.stack(box, treats, given.get("seed", 0))
    if stack is None:
        return None
    curves = stack.train(**{name: given[name] for name in _STACKED if name in given})
    paces = paces_of(box)
    if curves is None or not all(_verified(box, treats[i], curves[i], given) for i in (0, -1)):
        paces.in_stack[len(treats)] = math.inf
        return None
    paces.way, paces.in_stack[len(treats)] = "stacked", _pace(sum(curve.seconds for curve in curves), curves)
    return curves


def _verified(box: Sandbox, treat: Treat | None, curve: Curve, given: dict[str, Any]) -> bool:
    """True if the treatment by itself gives the same losses at first."""
    steps = min(VERIFIED, curve.steps)
    single = trials.run(box, treat, **(given | {"steps": steps, "deadline": math.inf, "evaluate": False}))
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
    on_cpu = box.device.type == "cpu"
    children = min(workers or free_cores(), count) if on_cpu and obstacle() is None else 1
    if children > 1 and paces.in_workers != math.inf:
        seconds[partial(in_workers, workers=children)] = children * FORKING + count * steps * paces.of(children, count)
    promise = count * steps * max(0.0, paces.work - CALLS) * (paces.alone / paces.work)
    if not on_cpu or promise < PROMISE * min([in_turn, *seconds.values()]):
        if count not in paces.in_stack:
            _measure_stack(box, treats, given)
        seconds[in_stack] = count * (PREPARING + steps * paces.in_stack.get(count, math.inf))
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
        many = run(treat, steps)
        torch.set_num_threads(1)
        begin = time.process_time()
        one = run(treat, steps)
        paces.work = _pace(time.process_time() - begin, [one])
    finally:
        torch.set_num_threads(threads)
    paces.in_turn, paces.alone = _pace(many.seconds, [many]), _pace(one.seconds, [one])
    if threads == 1:  # the same, measured twice
        paces.in_turn = paces.alone = min(paces.in_turn, paces.alone)
    return True


def _measure_stack(box: Sandbox, treats: Sequence[Treat | None], given: dict[str, Any]) -> None:
    """Take a few steps with all variants stacked, after one to get warm, if they can be."""
    stack = stacked.stack(box, treats, given.get("seed", 0))
    if stack is not None:
        steps = max(VERIFIED, min(FEW, int(MEASURED * given["steps"])))
        plain = {name: given[name] for name in ("batch", "deadline") if name in given}
        stack.train(steps=1, **plain)
        curves = stack.train(steps=steps, **plain)
        seconds = math.inf if curves is None else sum(curve.seconds for curve in curves)
        paces_of(box).in_stack[len(treats)] = _pace(seconds, curves or ())


def _pace(seconds: float, curves: Sequence[Curve]) -> float:
    """Seconds a step."""
    return max(seconds, 1e-9) / max(1, sum(curve.steps for curve in curves))
