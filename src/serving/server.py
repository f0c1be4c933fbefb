# SPDX-License-Identifier: Apache-2.0
"""The server: a socket, connections that end in time, a clean end."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..base.errors import UserError
from .limits import Limits

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_KEEP_ALIVE, _GOODBYE = 5, 10  # seconds: between two requests, and for the last ones at the end
_LONGEST_HEAD = 16_384  # bytes of a request before its body


class TimedProtocol(H11Protocol):
    """HTTP/1.1 whose requests must begin in time: one that never does holds no connection.

    A request that has begun is the application's, which has limits of its own.

    Attributes:
        limits: uses read_timeout and connections.
    """

    limits = Limits()
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        super().connection_lost(exc)
        self._stop_timer()

    def _watch(self) -> None:
        """Let the time run as long as no request is being answered."""
        if self._is_answering():
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.limits.read_timeout, self._end)

    def _end(self) -> None:
        self._timer = None
        if not self._is_answering() and not self.transport.is_closing():
            self.transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, so that a port that is taken is known before all else.

    Args:
        host: a name or an address.
        port: 0 for one that is free.

    Raises:
        UserError: it cannot be bound.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except (OSError, UnicodeError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host {host} --port {port}: {reason}; choose another --host or --port"
        ) from None
    return bound


def is_loopback(bound: socket.socket) -> bool:
    """Say whether only this machine reaches a socket.

    Args:
        bound: of `bound_socket`.
    """
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def address_of(bound: socket.socket) -> str:
    """Return the address to open in a browser.

    Args:
        bound: of `bound_socket`.
    """
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class Server(uvicorn.Server):
    """Serves an application until a signal comes, or `should_exit` is set.

    Args:
        app: answers requests.
        limits: of connections.
        ready: called when requests are answered.
    """

    def __init__(
        self, app: ASGIApp, limits: Limits, ready: Callable[[], object] = lambda: None
    ) -> None:
        protocol = type("Protocol", (TimedProtocol,), {"limits": limits})
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=_GOODBYE,
                h11_max_incomplete_event_size=_LONGEST_HEAD,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets=sockets)
        self._ready()

    def serve_on(self, bound: socket.socket) -> None:
        """Serve; returns after Ctrl-C, which is how a server ends.

        Args:
            bound: of `bound_socket`.
        """
        with contextlib.suppress(KeyboardInterrupt):
            self.run(sockets=[bound])
        print("the server has ended")
