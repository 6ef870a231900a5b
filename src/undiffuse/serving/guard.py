"""The guard at the door: who may come in, from which page, with how much."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from undiffuse.serving.problems import problem

OPEN = ("/health",)
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Guard:
    """Lets a request through, or answers it.

    Keys come as "Authorization: Bearer KEY", as the password of HTTP Basic under any name, or as "X-API-Key".
    Pages of other sites may not use the server through a visitor's browser, not even without a key: a request that
    tells another origin than the server itself is refused unless that origin is allowed.

    Args:
        app: what is guarded.
        keys: any of them opens; with none the door is open.
        hosts: names that the server may be called by, for one that listens on loopback alone: no name of somebody
            else's that points here gets in (DNS rebinding). None for any.
        origins: pages that may use the server.
        body: bytes of a request, at most.
    """

    def __init__(
        self, app: ASGIApp, keys: Iterable[str], hosts: frozenset[str] | None, origins: Iterable[str], body: int
    ) -> None:
        self.app = app
        self.keys = [_digest(key) for key in keys]
        self.hosts = hosts
        self.origins = frozenset(origins)
        self.body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, headers = scope["path"], Headers(scope=scope)
        refusal = self._refusal(path, headers)
        if refusal is not None:
            status, message = refusal
            kind = "Basic" if "text/html" in headers.get("accept", "") else "Bearer"  # browsers ask their users for the key
            challenge = {"WWW-Authenticate": f'{kind} realm="undiffuse"'} if status == 401 else None
            await problem(path, status, message, challenge)(scope, receive, send)
            return
        await self._counted(scope, receive, send)

    def _refusal(self, path: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self.hosts is not None and urlsplit(f"//{host}").hostname not in self.hosts:
            return 403, f"this server is not called {host!r}."
        origin = headers.get("origin")
        if origin is not None and origin not in self.origins and urlsplit(origin).netloc != host:
            return 403, f"pages of {origin} may not use this server; allow it with --cors."
        if self.keys and path not in OPEN and not self._opens(headers):
            return 401, "a key is needed; send it as 'Authorization: Bearer KEY'."
        if not headers.get("content-length", "0").isdecimal():
            return 400, "the content length is no number."
        if int(headers.get("content-length", "0")) > self.body:
            return 413, f"up to {self.body} bytes are taken."
        return None

    def _opens(self, headers: Headers) -> bool:
        given = _digest(_key(headers))
        return any([hmac.compare_digest(given, key) for key in self.keys])  # every key is looked at: time tells nothing

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and stop when more comes than is allowed, whatever was announced."""
        came = 0

        async def counting() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self.body:
                raise HTTPException(413, f"up to {self.body} bytes are taken.")
            return message

        await self.app(scope, counting, send)


def _key(headers: Headers) -> str:
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return headers.get("x-api-key", "")


def _digest(key: str) -> bytes:
    """Of one length, so that comparing tells nothing of that of a key."""
    return hashlib.sha256(key.encode()).digest()
