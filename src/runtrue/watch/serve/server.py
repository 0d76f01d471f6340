"""`runtrue serve`: the socket, the token, and a quiet end."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from runtrue.watch.serve.guard import Guard, is_loopback, known_here
from runtrue.watch.serve.runs import Runs

MISSING = "serve needs starlette and uvicorn: pip install 'runtrue[serve]'"


def serve(folder: Path, host: str = "127.0.0.1", port: int = 8765, *, say: Callable[[str], None]) -> None:
    """Serve the runs below `folder` until Ctrl-C. say: is given the address once it answers. port: 0 for any that is free.

    Raises ImportError without the extra, NotADirectoryError, and OSError if the address cannot be had.
    """
    try:
        import uvicorn

        from runtrue.watch.serve.app import Site, warm
    except ImportError as error:
        raise ImportError(MISSING) from error
    runs = Runs.below(folder)
    token = None if is_loopback(host) else secrets.token_urlsafe(24)
    listening = listen(host, port)
    site = Site(runs)
    config = uvicorn.Config(
        Guard(site.app(), known_here(host), token), log_level="critical", access_log=False, lifespan="off",
        server_header=False, timeout_graceful_shutdown=2, ws="none",
    )  # fmt: skip
    server = uvicorn.Server(config)
    site.stopping = lambda: server.should_exit
    threading.Thread(target=warm, daemon=True).start()
    say(f"{runs.root}: {url(host, listening.getsockname()[1], token)} (Ctrl-C ends it)")
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()


def listen(host: str, port: int) -> socket.socket:
    """Raises OSError that names the address."""
    made: socket.socket | None = None
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.socket(kind, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen()
    except OSError as error:
        if made is not None:
            made.close()
        raise OSError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; --port takes another"
        ) from error
    return made


def url(host: str, port: int, token: str | None) -> str:
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    place = f"[{host}]" if ":" in host else host
    return f"http://{place}:{port}/" + (f"{token}/" if token else "")
