"""The server process: uvicorn around the application, stopped with care."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from undiffuse.core.errors import UsageError, explain
from undiffuse.serving.app import Door, build_app
from undiffuse.serving.desk import Desk
from undiffuse.serving.guard import LOOPBACK

GRACE = 10  # seconds that requests under way get when the server stops


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def door_of(host: str, keys: tuple[str, ...] = (), origins: tuple[str, ...] = (), insecure: bool = False) -> Door:
    """Who may come in to a server that listens on this host.

    Raises:
        UsageError: for a host that others can reach without a key, unless `insecure` says so; for an empty key.
    """
    if any(len(key) < 8 for key in keys):
        raise UsageError(explain("a key of fewer than 8 letters", "8 or more are needed", "take a long random one"))
    if not (is_loopback(host) or keys or insecure):
        given, allowed = f"--host {host} without a key", "others than this machine may come in with a key alone"
        raise UsageError(explain(given, allowed, "set UNDIFFUSE_API_KEY or --api-key, or say --insecure"))
    return Door(keys=keys, hosts=LOOPBACK if is_loopback(host) else None, origins=origins)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one.

    Raises:
        UsageError: when somebody listens there already, or this machine has no such address.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, reuse_port=False)
    except OSError as error:
        given = f"cannot listen on {host}:{port} ({error.strerror})"
        raise UsageError(explain(given, "a free port of an address of this machine is needed", "try --port 0")) from None


class Server(uvicorn.Server):
    """uvicorn's server, which sends everybody away who waits as soon as it is asked to stop.

    `more` adds to the application what else it shall have.
    """

    def __init__(
        self, desk: Desk, door: Door, socket: socket.socket, more: Callable[[FastAPI], FastAPI] = lambda app: app
    ) -> None:
        app = more(build_app(desk, door))
        super().__init__(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE, server_header=False, ws="none")
        )
        self._desk = desk
        self._socket = socket

    def serve_until_stopped(self) -> None:
        """Serve; returns when a signal, or `should_exit`, ended it."""
        self.run([self._socket])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop: unfinished jobs are run when the server is back."""
        self._desk.close_door()
        super().handle_exit(sig, frame)
