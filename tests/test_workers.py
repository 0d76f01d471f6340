"""Jobs in forked children: the same results in the same order, and a parent that is as it was, whatever happens to a child."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from runtrue import workers
from runtrue.workers import Failure, forked

PARENT = os.getpid()
needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")


def side_by_side(jobs: Sequence[Callable[[], Any]], **given: Any) -> list[Any]:
    """As a race does it: what no child brought back is done here."""
    found = forked(jobs, **given)
    return [found[number] if number in found else workers._attempt(job) for number, job in enumerate(jobs)]


def in_parent() -> bool:
    return os.getpid() == PARENT


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """After every test: no child, no zombie, no open file, the same number of threads."""
    before, threads = descriptors(), torch.get_num_threads()
    yield
    assert descriptors() <= before and torch.get_num_threads() == threads
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def in_a_copy(run: Callable[[], Any]) -> int:
    """Run this in a forked copy of the test; its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def squares(count: int) -> list[Callable[[], int]]:
    return [partial(pow, number, 2) for number in range(count)]


# -- results


@needs_fork
def test_results_come_in_the_order_of_the_jobs_from_other_processes() -> None:
    done: dict[int, Any] = forked([partial(lambda n: (n * n, os.getpid()), n) for n in range(7)], workers=3)
    assert [done[n][0] for n in range(7)] == [0, 1, 4, 9, 16, 25, 36]
    assert PARENT not in {pid for _, pid in done.values()}


@pytest.mark.parametrize("count", [0, 1, 2, 9])
@pytest.mark.parametrize("workers", [1, 2, 20])
def test_any_number_of_jobs_and_workers(count: int, workers: int) -> None:
    assert side_by_side(squares(count), workers=workers) == [n * n for n in range(count)]


@needs_fork
def test_a_child_takes_the_next_job_when_it_is_free() -> None:
    """The first job waits for a file that the last one writes: with a fixed half each, it would never come."""
    ready, written = os.pipe()
    try:
        jobs: list[Callable[[], Any]] = [lambda: os.read(ready, 1), *squares(5)[1:], lambda: os.write(written, b"x")]
        assert list(forked(jobs, workers=2).values()).count(b"x") == 1
    finally:
        os.close(ready)
        os.close(written)


@needs_fork
def test_a_result_larger_than_a_pipe_comes_whole() -> None:
    done: dict[int, Any] = forked([partial(torch.full, (300_000,), float(n)) for n in range(4)], workers=2)
    assert all(torch.equal(done[n], torch.full((300_000,), float(n))) for n in range(4))


class Awkward(Exception):  # noqa: N818
    """Cannot be unpickled: its arguments are not those of Exception."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")


def test_what_a_job_raises_is_its_result() -> None:
    def fails() -> int:
        raise ZeroDivisionError("third")

    def fails_awkwardly() -> int:
        raise Awkward("here", "this")

    one, two, three, four = side_by_side([lambda: 1, fails, fails_awkwardly, lambda: 4], workers=2)
    assert (one, four) == (1, 4)
    assert isinstance(two, Failure) and isinstance(two.error, ZeroDivisionError) and "in fails" in two.trace
    assert isinstance(three, Failure) and isinstance(three.error, Awkward) and str(three.error) == "here: this"


def test_what_cannot_be_pickled_is_made_here() -> None:
    made: list[Any] = side_by_side([lambda: lambda: 1, lambda: lambda: 2], workers=2)
    assert [function() for function in made] == [1, 2]


def test_a_job_that_ends_the_process_ends_this_one() -> None:
    with pytest.raises(SystemExit):
        side_by_side([lambda: sys.exit(3), lambda: sys.exit(3)], workers=2)


# -- the parent is as it was


@needs_fork
def test_the_state_of_the_parent_is_untouched() -> None:
    model, generator = nn.Linear(3, 1), torch.Generator().manual_seed(5)
    held = [model.weight.detach().clone(), torch.get_rng_state(), generator.get_state()]
    numpy, python = np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]

    def train() -> float:
        torch.manual_seed(0), random.seed(1), np.random.seed(2)
        loss = model(torch.randn(4, 3, generator=generator)).square().mean()
        loss.backward()
        with torch.no_grad():
            model.weight.zero_()
        return float(loss.detach())

    assert forked([train, train], workers=2).keys() == {0, 1}
    after = [model.weight.detach(), torch.get_rng_state(), generator.get_state()]
    assert all(torch.equal(a, b) for a, b in zip(held, after)) and model.weight.grad is None
    assert np.array_equal(numpy, np.random.get_state()[1]) and python == random.getstate()  # type: ignore[index]


@needs_fork
def test_prints_of_a_job_are_not_seen_and_those_of_the_parent_are_not_repeated(tmp_path: Path) -> None:
    def job() -> int:
        sys.stdout.write("from a job")
        sys.stderr.write("from a job")
        os.write(1, b"from a job")
        os.write(2, b"from a job")
        kept.write("from a job" * 10_000)
        return len(sys.stdin.read())

    out = os.open(tmp_path / "out", os.O_CREAT | os.O_WRONLY)
    kept = os.fdopen(1, "w", closefd=False)

    def parent() -> None:
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = kept, os.fdopen(2, "w", closefd=False)
        kept.write("once ")  # not yet in the file when the children start
        kept.write(str(forked([job] * 4, workers=2)))
        kept.flush()

    in_a_copy(parent)
    os.close(out)
    assert (tmp_path / "out").read_text() == "once {0: 0, 1: 0, 2: 0, 3: 0}"


@needs_fork
def test_nothing_of_the_parent_is_finalised_in_a_child(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("")

    class Held:
        def __del__(self) -> None:
            kept.unlink(missing_ok=True)  # in the parent it ends later than the folder of the test

    cycle: list[Any] = [Held()]
    cycle.append(cycle)
    del cycle  # garbage that a collection in a child would finalise
    gc.disable()
    try:
        assert forked([gc.collect, gc.collect], workers=2).keys() == {0, 1} and kept.exists()
    finally:
        gc.enable()


# -- after the parent has used its threads


@needs_fork
def test_a_parent_that_ran_on_many_threads_can_fork_and_train() -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 26 * 26, 400))
    x = torch.randn(16, 1, 28, 28)

    def loss() -> float:
        model.zero_grad()
        value = (model(x) @ torch.ones(400, 400)).tanh().sort(dim=0).values.square().mean()
        value.backward()
        return float(value.detach() + sum(p.grad.norm() for p in model.parameters() if p.grad is not None))

    try:
        torch.set_num_threads(4)
        loss()
        found = forked([loss] * 4, workers=2)
    finally:
        torch.set_num_threads(threads)
    assert list(found.values()) == pytest.approx([loss()] * 4, rel=1e-4)


@needs_fork
def test_children_have_one_thread() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert forked([torch.get_num_threads] * 2, workers=2) == {0: 1, 1: 1}
    finally:
        torch.set_num_threads(threads)


@needs_fork
@pytest.mark.filterwarnings("error")
def test_forking_beside_a_thread_does_not_warn() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert len(forked(squares(2), workers=2)) == 2
    finally:
        done.set()
        thread.join()


# -- children that do not get on


@needs_fork
def test_what_hangs_in_a_child_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a job that waits for a lock which a thread of the parent held when it was forked."""
    monkeypatch.setattr(workers, "STILL", 0.3)
    monkeypatch.setattr(workers, "TICK", 0.05)
    lock = threading.Lock()

    def needs_lock() -> bool:
        with lock:
            return in_parent()

    held, give_back = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            give_back.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert forked([needs_lock] * 3, workers=2) == {}
    finally:
        give_back.set()
        thread.join()
    assert side_by_side([needs_lock] * 3, workers=2) == [False] * 3, "with the lock open, children do it"


@needs_fork
def test_what_spins_in_a_child_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TICK", 0.05)

    def spins() -> int:
        while not in_parent():
            pass
        return 1

    assert side_by_side([spins, lambda: 2, lambda: 3], workers=2, patience=0.3) == [1, 2, 3]


@needs_fork
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_what_kills_a_child_is_done_here(number: int) -> None:
    def dies() -> int:
        if not in_parent():
            os.kill(os.getpid(), number)
        return 1

    assert side_by_side([*squares(3), dies, *squares(3)], workers=2) == [0, 1, 4, 1, 0, 1, 4]


@needs_fork
def test_at_the_deadline_children_are_killed() -> None:
    def sleeps() -> None:
        time.sleep(1000)

    results = forked([lambda: 1, sleeps, sleeps, lambda: 4], workers=2, deadline=time.monotonic() + 3)
    assert results == {0: 1}


def test_nothing_is_begun_after_the_deadline() -> None:
    assert forked([pytest.fail] * 3, workers=2, deadline=time.monotonic() - 1) == {}


@needs_fork
@pytest.mark.parametrize("handler", [signal.default_int_handler, None])
def test_ctrl_c_ends_the_children(handler: Any) -> None:
    """Pressed while the children work; also if the user has a handler that raises something else."""

    class Pressed(Exception):  # noqa: N818
        pass

    def raises(*_: object) -> None:
        raise Pressed

    ready, written = os.pipe()
    before = signal.signal(signal.SIGINT, handler or raises)

    def told_to() -> None:
        os.write(written, b"x")
        time.sleep(1000)

    def press() -> None:
        os.read(ready, 1)
        os.kill(PARENT, signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt if handler else Pressed):
            side_by_side([told_to] * 3, workers=2)
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(ready)
        os.close(written)


@needs_fork
def test_children_do_not_answer_to_signals_of_the_parent() -> None:
    """Ctrl-C reaches the whole group of processes; a handler of the user's would run once in every child."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        jobs = [partial(signal.getsignal, number) for number in (signal.SIGINT, signal.SIGUSR1)]
        assert forked(jobs, workers=2) == {0: signal.SIG_IGN, 1: signal.SIG_DFL}
    finally:
        signal.signal(signal.SIGUSR1, before)


@needs_fork
def test_children_die_with_their_parent(tmp_path: Path) -> None:
    """A parent that is killed can end nothing: the kernel does."""

    def job() -> None:
        (tmp_path / str(os.getpid())).touch()
        while len(list(tmp_path.iterdir())) < 2:
            pass
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1000)

    assert in_a_copy(lambda: forked([job] * 2, workers=2)) == -signal.SIGKILL
    children = [int(path.name) for path in tmp_path.iterdir()]
    assert len(children) == 2
    while any(workers._activity(pid)[0] not in "?Z" for pid in children):
        pass


# -- where forking is not possible


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (sys, "platform", "darwin"),
        (torch.cuda, "is_initialized", lambda: True),
        (workers, "_kept", [None]),
        (multiprocessing.current_process(), "_config", {"daemon": True}),
        (os, "sched_getaffinity", lambda _: {0}),
        (workers, "free_memory", lambda: 1.5e9),
    ],
)
def test_where_forking_is_not_possible_the_jobs_run_here(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, value: Any
) -> None:
    monkeypatch.setattr(where, name, value)
    monkeypatch.setattr(os, "fork", pytest.fail)
    assert side_by_side(squares(3), need=1e9) == [0, 1, 4]


@needs_fork
@pytest.mark.parametrize("allowed", [0, 1])
@pytest.mark.parametrize("name", ["fork", "pipe"])
def test_where_forking_fails_the_jobs_run_all_the_same(
    monkeypatch: pytest.MonkeyPatch, name: str, allowed: int
) -> None:
    """RLIMIT_NPROC, no memory for another process, no file left."""
    made, real = [], getattr(os, name)

    def fails() -> Any:
        made.append(1)
        if len(made) > allowed:
            raise BlockingIOError("Resource temporarily unavailable")
        return real()

    monkeypatch.setattr(os, name, fails)
    assert side_by_side(squares(5), workers=3) == [0, 1, 4, 9, 16] and len(made) == allowed + 1


@needs_fork
def test_a_child_in_which_autograd_does_not_work_takes_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with a GPU, once the parent has made a backward pass."""

    def refuses(*_: Any, **__: Any) -> None:
        raise RuntimeError("Unable to handle autograd's threading in combination with fork-based multiprocessing")

    monkeypatch.setattr(torch.Tensor, "backward", refuses)
    assert forked(squares(4), workers=2) == {}


def test_another_thread_does_not_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", pytest.fail)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(side_by_side, squares(3), workers=2).result() == [0, 1, 4]
        assert "main thread" in str(pool.submit(workers.obstacle).result())


@needs_fork
def test_a_job_may_have_jobs_of_its_own() -> None:
    assert set(forked([workers.obstacle] * 2, workers=2).values()) == {"this is a worker process"}
    assert side_by_side([partial(side_by_side, squares(n), workers=2) for n in (2, 3)], workers=2) == [
        [0, 1],
        [0, 1, 4],
    ]


# -- the machine


def test_the_cores_are_those_that_the_container_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_limits", lambda name: iter(["max 100000", "350000 100000"]))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    assert workers.cores() == 3
    monkeypatch.setattr(workers, "_limits", lambda name: iter(["50000 100000"]))
    assert workers.cores() == 1


@pytest.mark.parametrize(
    ("running", "free"), [((1,) * 9, 4), ((1, 1, 9) * 3, 4), ((3,) * 9, 2), ((5, 2, 5) * 3, 1), ((99,) * 9, 1), ((), 3)]
)
def test_free_cores_are_those_on_which_nothing_else_runs(
    monkeypatch: pytest.MonkeyPatch, running: tuple[int, ...], free: int
) -> None:
    """Of four, three of which this process may use if nothing is told."""
    told = iter(running)

    def read(path: Path, **_: Any) -> str:
        assert path == Path("/proc/stat")
        return f"cpu 1 2 3\nprocs_running {next(told)}\nprocs_blocked 7\n" if running else "cpu 1 2 3\n"

    monkeypatch.setattr(workers, "cores", lambda: 4 if running else 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(Path, "read_text", read)
    assert workers.free_cores() == free


def test_the_free_memory_is_what_the_container_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    says = {
        "memory.max": ["max", "300000\n"],
        "memory.current": ["5", "250000\n"],
        "memory.stat": ["inactive_file 9\n", "anon 1\ninactive_file 20000\n"],
    }
    monkeypatch.setattr(workers, "_limits", lambda name: iter(says[name]))
    assert workers.free_memory() == 70_000
    monkeypatch.setattr(workers, "_limits", lambda name: iter([]))
    assert 0 < workers.free_memory() < math.inf
