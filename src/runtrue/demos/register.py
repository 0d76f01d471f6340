"""Tasks by the name that `runtrue check demo:NAME` takes."""

from __future__ import annotations

from collections.abc import Callable

from runtrue.task import Task, TaskError

DEMOS: dict[str, Callable[[], Task]] = {}


def demo(build: Callable[[], Task]) -> Callable[[], Task]:
    """Register a function that builds a task: `rate_too_high` becomes `demo:rate-too-high`."""
    DEMOS[build.__name__.replace("_", "-")] = build
    return build


def load(name: str) -> Task:
    """The demo with this name. Raises TaskError that lists the names."""
    if name not in DEMOS:
        raise TaskError(f"there is no demo called {name!r}; there are: {', '.join(sorted(DEMOS))}")
    return DEMOS[name]()
