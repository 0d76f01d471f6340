"""Jobs side by side, each in a forked copy of this process on one thread: several cores at once for work that one core does
no faster with more threads. A child sees the very objects that the parent holds and changes only its own copy of them, so
nothing has to be pickled but the results, and nothing has to be put back.

Forking a process in which threads run is safe as long as the child needs no lock that one of them held. PyTorch's own pools
are left alone (one thread, set before anything else), the child tries a backward pass before it takes a job, and a child
that does not get on is killed: whatever no child brought back is the caller's to do, as if there were no children.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import math
import multiprocessing
import os
import pickle
import selectors
import signal
import statistics
import struct
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch

from runtrue.keeping import undisturbed

T = TypeVar("T")

PATIENCE = 600.0  # seconds for one job: a loop without end is as busy as work is. Callers mostly know better
STILL = 5.0  # seconds asleep without any use of the CPU: it waits for a lock that nobody will open
TICK = 0.25  # seconds between two looks at the children; results are read as they come
SAMPLES, BETWEEN = 9, 2e-3  # looks at what runs on the machine, and seconds between them
MOST = 16_384  # jobs: their numbers, 4 bytes each, fill a pipe of 64 KiB
_NUMBER, _HEADER = struct.Struct("<I"), struct.Struct("<IQ")  # a job; a job and the length of its result
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h
_CGROUPS = Path("/sys/fs/cgroup")

_kept: list[Any] = []
"""In a child: what the parent's streams were. Collected, they would write what the parent has not written yet."""


@dataclass(frozen=True)
class Failure:
    """A job that raised."""

    error: Exception
    trace: str = ""
    """The traceback, in words: the error of a child comes without one."""


def forked(
    jobs: Sequence[Callable[[], T]],
    *,
    workers: int | None = None,
    deadline: float = math.inf,
    patience: float = PATIENCE,
    need: float = 0.0,
) -> dict[int, T | Failure]:
    """The results that children brought back, by the number of the job; what a job raised comes back as a `Failure`.

    Jobs without a result are still to be done: forking is not possible (see `obstacle`) or failed, or a child died or hung.
    A job must leave things as it found them, since several run in one child.
    workers: children at most; as many as there are cores by default. deadline: `time.monotonic()` at which children are
    killed. patience: seconds after which a job is given up. need: bytes that a child may use.
    After Ctrl-C, as after any other error, no child is left.
    """
    count = min(workers or cores(), len(jobs), _fitting(need))
    answers: dict[int, T | Failure] = {}
    if count < 2 or time.monotonic() > deadline or obstacle() is not None:
        return answers
    children: list[_Child] = []
    try:
        with suppress(OSError):  # no process, memory or file to be had: those that there are do it all
            _start(jobs, count, children)
        _collect(children, answers, deadline, patience)
    finally:
        undisturbed(lambda: _end(children))()
    return answers


def obstacle() -> str | None:
    """Why this process should not be forked, in words; None if it can be."""
    if sys.platform != "linux":
        return f"forked processes are not safe on {sys.platform}"
    if _kept:
        return "this is a worker process"
    if threading.current_thread() is not threading.main_thread():
        return "this is not the main thread: Ctrl-C would not reach it"
    if multiprocessing.current_process().daemon:
        return "this is a daemon process, which may have no children"
    for name in ("cuda", "xpu"):
        if hasattr(torch, name) and getattr(torch, name).is_initialized():
            return f"{name} is in use, and its state does not survive a fork"
    return None


def cores() -> int:
    """Cores that this process may use: those it is bound to, and no more than the quota of its container."""
    bound = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quotas = [int(quota) / int(period) for quota, period in map(str.split, _limits("cpu.max")) if quota != "max"]
    return max(1, int(min([bound, *quotas])))


def free_cores() -> int:
    """Cores of this process that nobody else uses just now; at least one.

    Where another process runs on a core, a second one of ours does not get it: it shares what the first one has (Linux
    divides the time between sessions before it divides it between processes: sched(7), autogroup).
    """
    running: list[int] = []
    with suppress(OSError, ValueError, IndexError):
        for _ in range(SAMPLES):
            running.append(int(Path("/proc/stat").read_text(encoding="ascii").split("procs_running")[1].split()[0]))
            time.sleep(BETWEEN)
    others = statistics.median_low(running) - 1 if running else 0
    return max(1, min(cores(), (os.cpu_count() or 1) - others))


def free_memory() -> float:
    """Bytes that can be had without swapping, of the machine or of the container; infinite where nothing tells."""
    free = [math.inf]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free.append(1024 * float(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    for limit, used, parts in zip(_limits("memory.max"), _limits("memory.current"), _limits("memory.stat")):
        if limit.strip() != "max":
            cached = dict(map(str.split, parts.splitlines())).get("inactive_file", "0")  # given back when it is needed
            free.append(float(limit) - float(used) + float(cached))
    return max(0.0, min(free))


def own_memory() -> float:
    """The most bytes that this process has held: what a child that does as it did needs at most. 0 where nothing tells."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * float(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return 0.0


def _fitting(need: float) -> int:
    """Children for which there is memory."""
    return int(min(free_memory() / need, MOST)) if need > 0 else MOST


def _limits(name: str) -> Iterator[str]:
    """What this file says in the control group of this process and in those around it (version 2)."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        group = _CGROUPS / next(line for line in lines if line.startswith("0::"))[3:].lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(_CGROUPS) and (folder / name).exists():
                yield (folder / name).read_text(encoding="ascii")


def _attempt(job: Callable[[], T]) -> T | Failure:
    try:
        return job()
    except Exception as error:  # noqa: BLE001  whatever a job raises is its result
        return Failure(error, traceback.format_exc())


# -- the parent


@dataclass
class _Child:
    """A child as its parent sees it."""

    pid: int
    results: int
    """The end of the pipe from which its results are read."""
    received: bytearray = field(default_factory=bytearray)
    waited: float = 0.0
    """Seconds since its last result."""
    still: float = 0.0
    """Seconds since it last used the CPU."""
    used: int = -1

    def read(self) -> bool:
        """False at the end: it has done what there was to do, or is dead."""
        self.waited = 0.0
        piece = os.read(self.results, 1 << 20)
        self.received += piece
        return bool(piece)

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """Results that have come in whole."""
        while len(self.received) >= _HEADER.size:
            number, length = _HEADER.unpack_from(self.received)
            end = _HEADER.size + length
            if len(self.received) < end:
                return
            yield number, bytes(self.received[_HEADER.size : end])
            del self.received[:end]

    def gets_on(self, passed: float, patience: float) -> bool:
        """False if it sleeps without end, or has been at one job for too long. To wait for a core is no sleep."""
        state, used = _activity(self.pid)
        self.still = 0.0 if used != self.used or state in "RD" else self.still + passed
        self.waited, self.used = self.waited + passed, used
        return self.still < STILL and self.waited < patience


def _start(jobs: Sequence[Callable[[], Any]], count: int, children: list[_Child]) -> None:
    """Fork `count` children, which take the numbers of their jobs from one pipe, as they get free."""
    die_with_parent = ctypes.CDLL(None).prctl  # loaded here: a child takes no lock that it can do without
    numbers, written = os.pipe()
    try:
        os.write(written, b"".join(_NUMBER.pack(number) for number in range(min(len(jobs), MOST))))
        os.close(written)  # what is in the pipe stays there; behind it is the end
        for _ in range(count):
            undisturbed(lambda: children.append(_fork(jobs, numbers, die_with_parent)))()
    finally:
        os.close(numbers)


def _fork(jobs: Sequence[Callable[[], Any]], numbers: int, die_with_parent: Any) -> _Child:
    parent = os.getpid()
    results, written = os.pipe()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # "multi-threaded, use of fork() may lead to deadlocks"
            pid = os.fork()
        if pid == 0:
            _work(jobs, numbers, written, lambda: bool(die_with_parent(_SET_DEATH_SIGNAL, signal.SIGKILL)), parent)
    except OSError:
        os.close(results)
        raise
    finally:
        os.close(written)  # the child alone holds this end: when it dies, the pipe is at its end
    return _Child(pid, results)


def _collect(children: list[_Child], answers: dict[int, Any], deadline: float, patience: float) -> None:
    """Read results until every child is done, dead, stuck, or out of time."""
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child.results, selectors.EVENT_READ, child)
        seen = time.monotonic()
        while selector.get_map() and seen <= deadline:
            ready = [key.data for key, _ in selector.select(min(TICK, max(0.0, deadline - seen)))]
            # a laptop that was shut, or a process that was stopped, did not wait
            passed, seen = min(time.monotonic() - seen, 2 * TICK), time.monotonic()
            for child in [key.data for key in selector.get_map().values()]:
                goes_on = child.read() if child in ready else child.gets_on(passed, patience)
                for number, result in child.messages():
                    with suppress(Exception):  # many an exception cannot be unpickled: its job is done again
                        answers[number] = pickle.loads(result)
                if not goes_on:
                    selector.unregister(child.results)


def _end(children: list[_Child]) -> None:
    """No process, no zombie and no open file is left."""
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
    for child in children:
        with suppress(ChildProcessError):  # somebody waits for all children of this process
            os.waitpid(child.pid, 0)
        os.close(child.results)


def _activity(pid: int) -> tuple[str, int]:
    """State of a process (R runs, S sleeps, D waits for a disk) and the ticks of CPU time that it has used (proc(5))."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return fields[0], int(fields[11]) + int(fields[12])
    except (OSError, ValueError, IndexError):
        return "?", 0


# -- the child


def _work(
    jobs: Sequence[Callable[[], Any]], numbers: int, results: int, die_with_parent: Callable[[], bool], parent: int
) -> NoReturn:
    """Take jobs until there are none. Never comes back: nothing of the parent's is flushed, closed or finalised here."""
    try:
        die_with_parent()
        if os.getppid() == parent:
            _settle()
            while taken := os.read(numbers, _NUMBER.size):
                (number,) = _NUMBER.unpack(taken)
                result = _packed(jobs[number])
                _write(results, _HEADER.pack(number, len(result)) + result)
    finally:
        os._exit(0)


def _settle() -> None:
    """One thread, nothing of the parent's to be written or collected, no handler of its signals; then a trial pass."""
    torch.set_num_threads(1)
    gc.freeze()
    faulthandler.disable()
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all: it is the parent that decides
    _kept.extend([sys.stdin, sys.stdout, sys.stderr])
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115  until the process ends
    with torch.enable_grad():
        # raises if autograd had threads for devices before the fork; so no job meets that error and takes it for its own
        torch.ones(1, requires_grad=True).square().backward()


def _packed(job: Callable[[], Any]) -> bytes:
    """The pickled result; nothing if it cannot be pickled, or if the job asked to end the process: the parent does it then."""
    try:
        return pickle.dumps(_attempt(job))
    except BaseException:  # noqa: BLE001
        return b""


def _write(to: int, what: bytes) -> None:
    while what:
        what = what[os.write(to, what) :]
