"""Who may ask: only for reading, only under a name of this machine, and from elsewhere only with the token.

A page of another site can make a browser ask 127.0.0.1 under a name of its own (DNS rebinding) and read the answer: so the
`Host` header must hold an address, or a name that this machine is known by, and never any other name.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'unsafe-inline'", "img-src data:", "connect-src 'self'",
    "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
))  # fmt: skip
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """The name in a Host header without its port and without the brackets of IPv6."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if ":" in header else header


def known_here(host: str) -> Callable[[str], bool]:
    """Whether a name in a Host header is one under which a server that listens on `host` may be asked."""
    if is_loopback(host):
        return lambda name: name == "localhost" or is_loopback(name)
    names = {host.lower(), "localhost", socket.gethostname().lower(), socket.getfqdn().lower()}

    def known(name: str) -> bool:
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in names
        return True

    return known


class Guard:
    """Around an application. token: the first part of every path; None to ask for none."""

    def __init__(self, app: App, knows: Callable[[str], bool], token: str | None = None) -> None:
        self.app, self.knows, self.token = app, knows, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            refused = self.refused(scope)
            if refused is not None:
                await answer(send, *refused)
            elif self.token is not None and scope["path"] == f"/{self.token}":
                await answer(send, 307, "", (b"location", f"/{self.token}/".encode()))
            else:
                await self.app(self.within(scope), receive, with_headers(send))

    def refused(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason; None if the request may pass."""
        hosts = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
        if len(hosts) != 1 or not self.knows(host_of(hosts[0])):
            return 421, "This server is not known by that name: ask by the address that `runtrue serve` printed."
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "Runs can be read, and nothing else."
        if self.token is not None and not secrets.compare_digest(
            first_part(scope["path"]).encode(), self.token.encode()
        ):
            return 403, "The token is missing or wrong: open the address that `runtrue serve` printed."
        return None

    def within(self, scope: Scope) -> Scope:
        """The request without the token in its path."""
        if self.token is None:
            return scope
        rest = scope["path"][len(self.token) + 1 :]
        return {**scope, "path": rest, "raw_path": rest.encode()}


def first_part(path: str) -> str:
    return path.removeprefix("/").partition("/")[0]


def with_headers(send: Send) -> Send:
    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = {key for key, _ in message["headers"]}
            more = {"cache-control": "no-store", **HEADERS}
            added = [(k.encode(), v.encode()) for k, v in more.items() if k.encode() not in own]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return sent


async def answer(send: Send, status: int, text: str, *more: tuple[bytes, bytes]) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *more]
    await with_headers(send)({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
