"""The addresses: / the list, /run one run, /compare several, /events what has changed, and two files of script."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from runtrue.report.page import vega_bundle
from runtrue.watch.serve import pages
from runtrue.watch.serve.runs import Runs

LOOK = 0.5  # seconds from one look at the files to the next
SHARE = 0.05
"""Of the time that one core has, how much a page that follows a run may take: the training may need the core."""
MOST_LATE = 20.0  # seconds that a page lags behind its run, at most
STILL = 15.0  # seconds of silence after which a word goes out: a reader that has gone is noticed by it
MOST_COMPARED = 12
SCRIPTS = ("page.js", "live.js", "vega.js")


@dataclass(eq=False)
class Site:
    """stopping: says when the server is asked to end, so that open streams end as well."""

    runs: Runs
    stopping: Callable[[], bool] = lambda: False
    spent: float = 0.0
    """Seconds of one core that the last page took."""
    _names: tuple[str, ...] = ()
    _look_again: float = 0.0
    _rows: dict[str, tuple[str, pages.Row]] = field(default_factory=dict)
    _last: dict[tuple[str, ...], tuple[str, str]] = field(default_factory=dict)
    """By the names on it, the mark of a page and the page: several readers of a run cost one."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def app(self) -> Starlette:
        made = Starlette(
            routes=[
                Route("/", self.list),
                Route("/run", self.run),
                Route("/compare", self.compare),
                Route("/events", self.events),
                *(Route(f"/{name}", self.script) for name in SCRIPTS),
            ]
        )
        made.router.redirect_slashes = False
        return made

    def list(self, request: Request) -> Response:
        names = self.names(fresh=True)
        with self._lock:
            return HTMLResponse(pages.list_page(self.runs, names, self._rows, self.mark(())))

    def run(self, request: Request) -> Response:
        names = request.query_params.getlist("run")
        if len(names) != 1:
            return PlainTextResponse("Name one run: run?run=NAME", 404)
        return self.page(tuple(names), lambda mark: pages.run_page(self.runs, names[0], mark))

    def compare(self, request: Request) -> Response:
        names = list(dict.fromkeys(request.query_params.getlist("run")))
        if not 2 <= len(names) <= MOST_COMPARED:
            return PlainTextResponse(f"Choose two to {MOST_COMPARED} runs to compare; {len(names)} were named.", 400)
        return self.page(tuple(names), lambda mark: pages.comparison(self.runs, names, mark))

    def page(self, names: tuple[str, ...], make: Callable[[str], str]) -> Response:
        with self._lock:
            mark = self.mark(names)
            if self._last.get(names, ("",))[0] != mark:
                start = time.thread_time()
                try:
                    text = make(mark)
                except FileNotFoundError as error:
                    return PlainTextResponse(f"There is no such run below {self.runs.root}: {error}", 404)
                self.spent = time.thread_time() - start
                self._last = {**dict([*self._last.items()][-8:]), names: (mark, text)}
            return HTMLResponse(self._last[names][1])

    def mark(self, names: tuple[str, ...]) -> str:
        return self.runs.mark(list(names or self.names()))

    def names(self, fresh: bool = False) -> tuple[str, ...]:
        """All runs. Looked for anew as often as `SHARE` allows: there may be very many folders."""
        if fresh or time.monotonic() >= self._look_again:
            start = time.perf_counter()
            self._names = tuple(self.runs.names())
            self._look_again = time.monotonic() + max(2.0, (time.perf_counter() - start) / SHARE)
        return self._names

    async def events(self, request: Request) -> Response:
        """A line whenever one of the runs has changed (all, if none is named), no more often than `SHARE` allows."""
        names = tuple(request.query_params.getlist("run")[:MOST_COMPARED])
        stream = self.changes(request, names, request.query_params.get("seen", ""))
        return StreamingResponse(stream, media_type="text/event-stream")

    async def changes(self, request: Request, names: tuple[str, ...], seen: str) -> AsyncIterator[str]:
        yield "retry: 2000\n\n"
        told = time.monotonic()
        while not self.stopping() and not await request.is_disconnected():
            mark = await run_in_threadpool(self.mark, names)
            now = time.monotonic()
            if mark != seen and now - told >= min(MOST_LATE, max(1.0, self.spent / SHARE)):
                seen, told = mark, now
                yield "event: changed\ndata: \n\n"
            elif now - told > STILL:
                told = now
                yield ": nothing new\n\n"
            await asyncio.sleep(LOOK)

    def script(self, request: Request) -> Response:
        """Vega is large and never changes while a version is installed; the others are small."""
        name = request.url.path.rpartition("/")[2]
        age = "private, max-age=86400" if name == "vega.js" else "no-cache"
        return Response(script(name), media_type="text/javascript", headers={"cache-control": age})


def script(name: str) -> str:
    if name == "vega.js":
        return bundle()
    place: Any = (
        resources.files("runtrue.report") if name == "page.js" else resources.files("runtrue.watch.serve") / "templates"
    )
    return str((place / name).read_text(encoding="utf-8"))


_bundling = threading.Lock()


def bundle() -> str:
    """Vega in one script. Whoever asks while it is made waits for it, and nobody makes it twice."""
    with _bundling:
        return bundled()


@cache
def bundled() -> str:
    """Made in a process of its own: it takes seconds, in which nothing else could run in this one."""
    code = "import sys; from runtrue.report.page import vega_bundle as v; sys.stdout.buffer.write(str(v()).encode())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, start_new_session=True)
    return done.stdout.decode() if done.returncode == 0 else str(vega_bundle())


def warm() -> None:
    """What takes long the first time, before the first reader asks for it."""
    for name in ("live.html.j2", "runs.html.j2"):
        pages.templates().get_template(name)
    bundle()
