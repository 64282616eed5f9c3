"""The connections to one backend: kept alive, reused last-in first-out, dialled when none is free.

Dialling is the only thing here that takes a task, once per connection, never per request.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from time import monotonic
from typing import Protocol, cast

from nexus.core.backend import BackendUrl
from nexus.core.errors import AttemptFailure, FailureKind
from nexus.http1.timers import Sweep
from nexus.http1.tls import Trust
from nexus.http1.tunnel import Proxy, open_tunnel
from nexus.http1.upstream import AnswerMemo, UpstreamConnection
from nexus.telemetry.histogram import Histogram
from nexus.telemetry.names import METRICS

__all__ = ["Connects", "Dial", "DialHandler", "Pool", "connect_failure"]

_OUR_SHORTAGE = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}
)


class DialHandler(Protocol):
    """Who waits for a new connection."""

    def on_connected(self, connection: UpstreamConnection) -> None:
        """The connection is there."""

    def on_connect_failed(self, failure: AttemptFailure) -> None:
        """It could not be made."""

    def on_crash(self, error: BaseException) -> None:
        """A method above raised: a fault of our own."""


class Dial:
    """A connection being made. ``cancel`` when nobody waits any more: it then joins the idle."""

    __slots__ = ("handler",)

    def __init__(self, handler: DialHandler) -> None:
        self.handler: DialHandler | None = handler

    def cancel(self) -> None:
        """Nobody waits any more."""
        self.handler = None


class Connects:
    """How dialling a backend went so far: seconds of each connection made, and failures."""

    __slots__ = ("failed", "seconds")

    def __init__(self) -> None:
        self.failed = 0
        self.seconds = Histogram(METRICS["nexus_upstream_connect_seconds"].buckets)


class Pool:
    """Connections to one backend.

    ``idle_max`` caps the idle ones; ``idle_s`` is how long one may idle (shorter where the backend
    says so with ``Keep-Alive: timeout``). ``connect_timeout_s`` bounds name resolution, TCP and
    TLS together.
    """

    __slots__ = (
        "_address",
        "_connections",
        "_dials",
        "_idle",
        "_idle_sweep",
        "_loop",
        "_proxy",
        "_trust",
        "answers",
        "connect_timeout_s",
        "connects",
        "idle_max",
        "idle_s",
        "opened_total",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: BackendUrl,
        *,
        idle_max: int = 64,
        idle_s: float = 4.0,
        connect_timeout_s: float = 5.0,
        tls_ca: str = "",
        tls_verify: bool = True,
        proxy: Proxy | None = None,
    ) -> None:
        self._loop = loop
        self._address = address
        self._proxy = proxy
        self.idle_max = idle_max
        self.idle_s = idle_s
        self.connect_timeout_s = connect_timeout_s
        self.opened_total = 0
        self.connects = Connects()
        self._idle: dict[UpstreamConnection, float] = {}
        """Until when each may idle, monotonic seconds."""
        self._connections: set[UpstreamConnection] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._idle_sweep = Sweep(loop, min(0.5, max(0.01, idle_s / 10)), self._close_stale)
        self.answers = AnswerMemo()
        self._trust = Trust(tls_ca, tls_verify) if address.tls else None

    @property
    def idle(self) -> int:
        """How many connections are free."""
        return len(self._idle)

    @property
    def open(self) -> int:
        """How many connections there are, free or not."""
        return len(self._connections)

    def take(self) -> UpstreamConnection | None:
        """A free connection, the one used last, or ``None``."""
        idle = self._idle
        while idle:
            connection, _ = idle.popitem()
            if connection.usable:
                return connection
        return None

    def dial(self, handler: DialHandler) -> Dial:
        """Makes a new connection; its maker is told when it is there or cannot be had."""
        dial = Dial(handler)
        task = self._loop.create_task(self._connect(dial))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)
        return dial

    def close_idle(self) -> None:
        """Closes the free connections (the network changed, the machine slept)."""
        while self._idle:
            connection, _ = self._idle.popitem()
            connection.close()

    def close(self) -> None:
        """Ends everything: dials, idle connections and those at work."""
        for task in list(self._dials):
            task.cancel()
        self.close_idle()
        for connection in list(self._connections):
            connection.discard()
        self._idle_sweep.stop()

    # --- UpstreamOwner --------------------------------------------------------------------

    def released(self, connection: UpstreamConnection) -> None:
        """A connection is free again."""
        if len(self._idle) >= self.idle_max or connection not in self._connections:
            connection.close()
            return
        limit_s = connection.idle_limit_s
        # A second less than the backend allows: it must not close while we reuse.
        idle_s = self.idle_s if limit_s is None else max(0.5, min(self.idle_s, limit_s - 1.0))
        if not self._idle:
            self._idle_sweep.wake()
        self._idle[connection] = monotonic() + idle_s

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self._idle.pop(connection, None)

    def _close_stale(self) -> bool:
        """Closes who has idled for its time; whether others are idle."""
        now_s = monotonic()
        for connection in [one for one, until_s in self._idle.items() if until_s <= now_s]:
            del self._idle[connection]
            connection.close()
        return bool(self._idle)

    # --- dialling -------------------------------------------------------------------------

    async def _connect(self, dial: Dial) -> None:
        began_s = monotonic()
        try:
            async with asyncio.timeout(self.connect_timeout_s or None):
                connection = await self._open()
        except Exception as error:
            self.connects.failed += 1
            handler = dial.handler
            dial.handler = None
            if handler is not None:
                try:
                    handler.on_connect_failed(connect_failure(error, self.connect_timeout_s))
                except Exception as fault:
                    handler.on_crash(fault)
            return
        self.opened_total += 1
        self.connects.seconds.observe(monotonic() - began_s)
        self._connections.add(connection)
        handler = dial.handler
        dial.handler = None
        if handler is None:
            if connection.usable:
                self.released(connection)
            else:
                self._connections.discard(connection)
            return
        try:
            if connection.usable:
                handler.on_connected(connection)
            else:
                self._connections.discard(connection)
                handler.on_connect_failed(
                    AttemptFailure(FailureKind.CONNECT, "connection closed at once")
                )
        except Exception as error:
            handler.on_crash(error)

    async def _open(self) -> UpstreamConnection:
        address = self._address
        tls = self._trust.context() if self._trust is not None else None
        name = address.host.partition("%")[0] if tls is not None else None
        if self._proxy is None:
            _, connection = await self._loop.create_connection(
                lambda: UpstreamConnection(self),
                address.host,
                address.port,
                ssl=tls,
                server_hostname=name,
            )
            return connection
        connection = UpstreamConnection(self)
        transport: asyncio.BaseTransport | None = await open_tunnel(
            self._loop, self._proxy, address
        )
        if tls is not None:
            transport = await self._loop.start_tls(
                cast(asyncio.Transport, transport), connection, tls, server_hostname=name
            )
        else:
            cast(asyncio.Transport, transport).set_protocol(connection)
        connection.connection_made(cast(asyncio.Transport, transport))
        return connection


def connect_failure(error: BaseException, timeout_s: float) -> AttemptFailure:
    """What a failed dial says, in words for people, and whose fault it is."""
    if isinstance(error, AttemptFailure):
        return error
    if isinstance(error, TimeoutError) and not getattr(error, "errno", None):
        return AttemptFailure(FailureKind.CONNECT, f"no connection within {timeout_s:g} s")
    if isinstance(error, ConnectionRefusedError):
        return AttemptFailure(FailureKind.CONNECT, "connection refused")
    if isinstance(error, (socket.gaierror, UnicodeError)):  # a label longer than names allow
        return AttemptFailure(FailureKind.CONNECT, "host name cannot be resolved")
    if isinstance(error, ssl.SSLCertVerificationError):
        return AttemptFailure(
            FailureKind.CONNECT, f"TLS certificate not trusted: {error.verify_message}"
        )
    if isinstance(error, ssl.SSLError):
        # Only errors of a real handshake have a reason.
        reason = getattr(error, "reason", None) or error
        return AttemptFailure(FailureKind.CONNECT, f"TLS failed: {reason}")
    if isinstance(error, OSError):
        if error.errno in _OUR_SHORTAGE:
            return AttemptFailure(
                FailureKind.OURS,
                f"the gateway ran out of a resource ({errno.errorcode[error.errno]})",
                against_backend=False,
            )
        return AttemptFailure(
            FailureKind.CONNECT, f"cannot connect ({error.strerror or type(error).__name__})"
        )
    return AttemptFailure(FailureKind.CONNECT, f"cannot connect ({type(error).__name__})")
