"""Side by side or not, the curves are those of `trials.run`; the way is chosen by what was measured."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtrue import Task, TaskError, optimizers, racing, trials, workers
from runtrue.racing import in_stack, in_turn, in_workers, paces_of, race
from runtrue.sandbox import Sandbox, sandbox
from runtrue.stacked import Stack
from runtrue.trials import Curve

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(24, 5, generator=GENERATOR)
Y = X.sum(1, keepdim=True)
PARENT = os.getpid()
torch.optim.SGD([nn.Parameter(X)], lr=1.0)  # the first one imports much: here once, not in every child
needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")


def a_task(*more: nn.Module, **parts: Any) -> Task:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), *more, nn.Linear(8, 1))
    given: dict[str, Any] = {
        "loss": nn.MSELoss(),
        "optimizer": partial(torch.optim.Adam, lr=0.01),
        "batch_size": 8,
    }
    return Task(model, (X, Y), **(given | parts))


def faster(factor: float) -> racing.Treat:
    return lambda task: task.replace(optimizer=optimizers.with_rate(task.optimizer or optimizers.adam, factor))


TREATS: list[racing.Treat | None] = [faster(10.0), None, faster(0.1), faster(3.0)]


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with sandbox(a_task()) as opened:
        yield opened


@pytest.fixture
def worthwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials in here are short; two cores wherever it runs."""
    monkeypatch.setattr(racing, "WORTHWHILE", 0.0)
    monkeypatch.setattr(racing, "free_cores", lambda: 2)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The ways that were taken, with their steps."""
    ways: list[tuple[str, int]] = []

    def noted(name: str) -> Callable[..., Any]:
        real = getattr(racing, name)

        def way(*args: Any, **given: Any) -> Any:
            ways.append((name, given["steps"]))
            return real(*args, **given)

        return way

    def trained(stack: Stack, **given: Any) -> Any:
        ways.append(("stacked", given["steps"]))
        return real_train(stack, **given)

    real_train = Stack.train
    monkeypatch.setattr(Stack, "train", trained)
    for name in ("in_turn", "in_workers"):
        monkeypatch.setattr(racing, name, noted(name))
    return ways


def assert_alike(found: list[Curve] | None, wanted: list[Curve]) -> None:
    assert found is not None and [c.steps for c in found] == [c.steps for c in wanted]
    for one, other in zip(found, wanted):
        assert one.losses == pytest.approx(other.losses, rel=1e-4, nan_ok=True) and one.error == other.error
        assert told(one) == pytest.approx(told(other), rel=1e-4, nan_ok=True)


def told(curve: Curve) -> list[float]:
    """What an evaluation told; NaN where it could not."""
    return [curve.evaluated, *(math.nan if s is None else s for s in (curve.skill, curve.skill_in_training))]


# -- three ways


@pytest.mark.parametrize("way", [in_turn, partial(in_workers, workers=2), in_stack, race])
def test_every_way_gives_the_curves_of_single_runs(box: Sandbox, way: racing.Way) -> None:
    wanted = [trials.run(box, treat, steps=30) for treat in TREATS]
    assert_alike(way(box, TREATS, steps=30), wanted)
    assert len({curve.end for curve in wanted}) == len(TREATS)


@pytest.mark.parametrize("way", [partial(in_workers, workers=2), in_stack])
@pytest.mark.parametrize("more", [(), (nn.BatchNorm1d(8),)], ids=["plain", "normalized"])
def test_what_trials_are_given_is_passed_on(way: racing.Way, more: tuple[nn.Module, ...]) -> None:
    with sandbox(a_task(*more)) as box:
        small = trials.small_set(box, 4)
        given: dict[str, Any] = {"steps": 60, "batch": lambda _: small, "until": 1.0, "evaluate": True}
        wanted = in_turn(box, TREATS, **given)
        assert len({curve.steps for curve in wanted}) > 1 and all(curve.skill is not None for curve in wanted)
        assert all((curve.skill_in_training is not None) == bool(more) for curve in wanted)
        assert_alike(way(box, TREATS, **given), wanted)
        assert_alike(
            way(box, TREATS, steps=12, evaluate=True, seed=3), in_turn(box, TREATS, steps=12, evaluate=True, seed=3)
        )
        assert in_turn(box, TREATS, steps=12, seed=3)[0].losses != in_turn(box, TREATS, steps=12)[0].losses


def test_stacked_runs_take_and_tell_all_that_single_runs_do(box: Sandbox) -> None:
    """A new argument or field of a trial has to be known to `Stack.train`, or refused there."""
    taken = set(inspect.signature(trials.run).parameters) - {"box", "treat"}
    apart = {"seed", "enough", "hopeless"}
    assert taken == {*racing._STACKED, *apart} == ({*inspect.signature(Stack.train).parameters} | apart) - {"self"}
    told = {field.name for field in dataclasses.fields(Curve)}
    assert told == {"losses", "seconds", "error", "evaluated", "skill", "skill_in_training"}
    assert in_stack(box, TREATS, steps=12, something=True) is None


@needs_fork
def test_where_memory_is_short_nothing_is_forked(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for one more process like this one, not for two."""
    monkeypatch.setattr(os, "fork", pytest.fail)
    monkeypatch.setattr(workers, "free_memory", lambda: 1.5 * workers.own_memory())
    assert workers.own_memory() > 1e7
    assert in_workers(box, TREATS, steps=3, workers=2) is None


@pytest.mark.parametrize("way", [in_turn, partial(in_workers, workers=2), in_stack])
def test_every_step_is_counted_wherever_it_was_taken(box: Sandbox, way: racing.Way) -> None:
    before = box.steps
    trials.run(box, faster(2.0), steps=7, evaluate=True)
    one, before = box.steps - before, box.steps
    way(box, [faster(2.0)] * 4, steps=7, evaluate=True)
    assert box.steps == before + 4 * one + (2 * racing.VERIFIED if way is in_stack else 0)


@needs_fork
def test_workers_are_other_processes(box: Sandbox) -> None:
    def told(task: Task) -> Task:
        raise ValueError(f"process {os.getpid()}")

    errors = [str(curve.error) for curve in in_workers(box, [told] * 4, workers=2, steps=2) or ()]
    assert len(errors) == 4 and not any(str(PARENT) in error for error in errors)


@needs_fork
def test_jobs_of_dead_workers_are_done_here_and_none_are_tried_again(
    box: Sandbox, worthwhile: None, taken: list[tuple[str, int]]
) -> None:
    def dies(task: Task) -> Task:
        if os.getpid() != PARENT:
            os._exit(1)
        return task

    treats = [faster(2.0), dies, faster(3.0), dies]
    wanted = [trials.run(box, treat, steps=20) for treat in treats]
    assert_alike(in_workers(box, treats, steps=20, workers=2), wanted)
    assert paces_of(box).in_workers == math.inf
    race(box, treats, steps=20)
    assert "in_workers" not in dict(taken)


def test_weights_in_shared_memory_are_not_trained_in_children(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", pytest.fail)
    task = a_task()
    assert isinstance(task.model, nn.Module)
    task.model.share_memory()
    with sandbox(task) as shared:
        assert in_workers(shared, TREATS, steps=3, workers=2) is None


class FailsAt(nn.Module):
    def __init__(self, call: int) -> None:
        super().__init__()
        self.call, self.calls = call, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.call:
            raise RuntimeError("this far")
        return x


@pytest.mark.parametrize("way", [in_turn, partial(in_workers, workers=2), race])
def test_a_run_that_fails_ends_its_own_curve(worthwhile: None, way: racing.Way) -> None:
    def deeper(task: Task) -> Task:
        assert isinstance(task.model, nn.Sequential)
        task.model.append(FailsAt(4))
        return task

    with sandbox(a_task()) as box:
        curves = way(box, [deeper, None, deeper], steps=12)
        assert_alike(curves, [trials.run(box, treat, steps=12) for treat in (deeper, None, deeper)])
    assert ["this far" in str(curve.error) for curve in curves or ()] == [True, False, True]


@pytest.mark.parametrize("way", [in_turn, partial(in_workers, workers=2), race])
def test_a_task_that_cannot_start_is_an_error(worthwhile: None, way: racing.Way) -> None:
    with sandbox(a_task().replace(model=nn.Linear(7, 1))) as box:
        with pytest.raises(TaskError, match="cannot take this batch"):
            way(box, [faster(2.0), None], steps=5)
        assert all(curve.error for curve in race(box, [faster(2.0), faster(3.0)], steps=5))


@pytest.mark.parametrize("way", [partial(in_workers, workers=2), in_stack, race])
def test_the_task_is_bit_identical_afterwards(worthwhile: None, way: racing.Way) -> None:
    task = a_task(nn.BatchNorm1d(8))
    assert isinstance(task.model, nn.Module)
    held = {name: value.clone() for name, value in task.model.state_dict().items()}
    random, threads = torch.get_rng_state(), torch.get_num_threads()
    with sandbox(task) as box:
        way(box, TREATS, steps=12)
    assert all(torch.equal(value, held[name]) for name, value in task.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random) and torch.get_num_threads() == threads
    assert all(parameter.grad is None for parameter in task.model.parameters())


def test_the_deadline_is_kept(box: Sandbox, worthwhile: None) -> None:
    curves = race(box, TREATS, steps=1_000_000, deadline=time.monotonic() + 0.2)
    assert len(curves) == 4 and all(0 < curve.steps < 1_000_000 for curve in curves)


# -- stacked only where it gives the same


def test_a_loss_that_holds_a_parameter_is_found_out(worthwhile: None) -> None:
    """It sees the weights in the model, not those of the variant, and nothing fails."""
    task = a_task()
    assert isinstance(task.model, nn.Module)
    weight = task.model.get_parameter("0.weight")
    with sandbox(task.replace(loss=lambda o, t: F.mse_loss(o, t) + weight.square().sum())) as box:
        assert in_stack(box, TREATS, steps=10) is None and paces_of(box).in_stack == {4: math.inf}
        assert_alike(race(box, TREATS, steps=10), [trials.run(box, treat, steps=10) for treat in TREATS])


def test_random_numbers_in_the_forward_pass_are_not_stacked(worthwhile: None) -> None:
    with sandbox(a_task(nn.Dropout(0.5))) as box:
        assert in_stack(box, TREATS, steps=10) is None
        assert_alike(race(box, TREATS, steps=10), [trials.run(box, treat, steps=10) for treat in TREATS])


def test_a_lost_run_is_verified_like_any_other(box: Sandbox) -> None:
    with sandbox(a_task(optimizer=partial(torch.optim.SGD, lr=1e30))) as lost:
        assert_alike(in_stack(lost, [None, faster(2.0)], steps=10), in_turn(lost, [None, faster(2.0)], steps=10))


# -- the choice


def paces(in_turn: float, alone: float, in_workers: float, in_stack: float) -> racing.Paces:
    return racing.Paces(
        in_turn, alone, 1e-4, in_workers, 0 if math.isnan(in_workers) else 2, {3: in_stack, 4: in_stack}
    )


@pytest.mark.parametrize(
    ("known", "first"),
    [
        (paces(1.0, 1.0, math.nan, 0.3), "stacked"),
        (paces(1.0, 1.0, math.nan, 0.7), "in_workers"),
        (paces(1.0, 1.0, 0.9, 0.7), "stacked"),
        (paces(1.0, 1.9, math.nan, 1.1), "in_workers"),  # as good as the second thread
        (paces(1.0, 2.1, math.nan, 1.1), "in_turn"),
        (paces(1.0, 1.0, 1.2, math.inf), "in_turn"),
        (paces(1.0, 1.0, math.inf, 0.5), "stacked"),
        (paces(1e-4, 1e-4, 5e-5, 5e-5), "in_turn"),  # too little work for any other way
    ],
)
@needs_fork
def test_the_way_that_promises_to_be_quickest_is_taken(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, taken: list[tuple[str, int]], known: racing.Paces, first: str
) -> None:
    monkeypatch.setattr(racing, "free_cores", lambda: 2)
    monkeypatch.setitem(racing._paces, box, known)
    race(box, TREATS, steps=15)
    assert taken == [(first, 15)]
    assert known.way == {"in_workers": "workers", "in_turn": "one after the other"}.get(first, first)


@needs_fork
def test_three_variants_on_two_cores_take_two_rounds(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, taken: list[tuple[str, int]]
) -> None:
    monkeypatch.setattr(racing, "free_cores", lambda: 2)
    monkeypatch.setitem(racing._paces, box, paces(1.0, 1.0, math.nan, 0.65))
    race(box, TREATS[:3], steps=15)
    race(box, TREATS, steps=15)
    assert [name for name, _ in taken] == ["stacked", "in_workers"]


def test_a_few_steps_are_measured_once(
    box: Sandbox, worthwhile: None, taken: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(racing, "CALLS", 10.0)  # so that stacking is tried, however busy the machine is
    race(box, TREATS, steps=40)
    assert taken[:2] == [("stacked", 1), ("stacked", racing.VERIFIED)] and [steps for _, steps in taken[2:]] == [40]
    known = paces_of(box)
    assert 0 < known.in_turn < math.inf and known.alone == known.in_turn and 0 < known.in_stack[4] < math.inf
    race(box, TREATS, steps=40)
    assert [steps for _, steps in taken[3:]] == [40], "the second race is not measured again"


@needs_fork
@pytest.mark.parametrize(("free", "ways"), [(1, ["in_turn"]), (2, ["in_workers"]), (3, ["in_workers"])])
def test_workers_are_for_cores_that_nobody_uses(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, taken: list[tuple[str, int]], free: int, ways: list[str]
) -> None:
    """What was measured with as many holds; with another number it is forgotten."""
    monkeypatch.setattr(racing, "free_cores", lambda: free)
    known = paces(1.0, 1.0, 0.9, math.inf)
    monkeypatch.setitem(racing._paces, box, known)
    race(box, TREATS, steps=15)
    assert [name for name, _ in taken] == ways
    assert known.children == max(2, free) and (free == 1) == (known.in_workers == 0.9)


@pytest.mark.parametrize(("work", "tried"), [(1e-3, True), (0.1, False)])
def test_wide_networks_are_not_stacked_on_a_cpu(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch, taken: list[tuple[str, int]], work: float, tried: bool
) -> None:
    """There, arithmetic is what takes the time, and stacking saves calls."""
    monkeypatch.setattr(racing, "free_cores", lambda: 1)
    monkeypatch.setitem(racing._paces, box, racing.Paces(1.0, 1.0, work))
    race(box, TREATS, steps=60)
    assert (("stacked", racing.VERIFIED) in taken) == tried


def test_short_work_is_done_here_without_ado(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", pytest.fail)
    monkeypatch.setattr(Stack, "train", pytest.fail)
    monkeypatch.setattr(racing, "WORTHWHILE", 1e9)
    assert [curve.steps for curve in race(box, TREATS, steps=5)] == [5] * 4
    assert [curve.steps for curve in race(box, [None], steps=5)] == [5] and race(box, [], steps=5) == []


def test_where_forking_is_not_possible_nothing_is_forked(
    box: Sandbox, worthwhile: None, taken: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    race(box, TREATS, steps=12)
    assert "in_workers" not in dict(taken) and workers.obstacle() is not None


def test_threads_are_put_back_after_measuring(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, seen = torch.get_num_threads(), set()
    real = trials.run

    def run(*args: Any, **given: Any) -> Curve:
        seen.add(torch.get_num_threads())
        return real(*args, **given)

    monkeypatch.setattr(trials, "run", run)
    monkeypatch.setattr(racing, "WORTHWHILE", 1e9)
    try:
        torch.set_num_threads(3)
        race(box, TREATS, steps=3)
        assert torch.get_num_threads() == 3 and seen == {1, 3}
    finally:
        torch.set_num_threads(threads)
