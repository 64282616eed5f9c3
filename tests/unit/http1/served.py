"""A client's connection without a socket: bytes in, what the service was handed and told out."""

from __future__ import annotations

import asyncio
from typing import Any

from nexus.core.errors import ApiError
from nexus.core.limits import Budget
from nexus.http1.message import Request
from nexus.http1.server import ClientHandler, HttpServer, ServerConnection, ServerLimits

__all__ = ["FakeTransport", "Recorder", "serve"]


class FakeTransport:
    """As much of a transport as a server connection uses."""

    def __init__(self) -> None:
        self.written = b""
        self.ended = False
        self.closed = False

    def get_extra_info(self, name: str) -> Any:
        """Neither TLS nor a peer."""
        return None

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        """Everything is taken at once."""

    def get_write_buffer_size(self) -> int:
        """Everything was taken at once."""
        return 0

    def is_closing(self) -> bool:
        """Whether the connection ends."""
        return self.closed

    def write(self, data: bytes) -> None:
        """Bytes to the client."""
        assert not self.closed
        assert not self.ended
        self.written += data

    def can_write_eof(self) -> bool:
        """Half-closing is possible."""
        return True

    def write_eof(self) -> None:
        """The server's side ends."""
        self.ended = True

    def close(self) -> None:
        """The connection ends."""
        self.closed = True

    def abort(self) -> None:
        """The connection ends now."""
        self.closed = True


class Recorder:
    """A service that answers everything at once and keeps what it was handed."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.requests: list[Request] = []
        self.refusal: ApiError | None = None
        self.faults: list[BaseException] = []

    def handle(self, request: Request, connection: ServerConnection) -> ClientHandler | None:
        """Keeps the request, gives its body back, answers."""
        self.budget.give(request.held_bytes)
        self.requests.append(request)
        connection.write(b"answer\n")
        connection.finish()
        return None

    def refuse(self, error: ApiError, target: bytes) -> bytes:
        """Keeps the refusal."""
        assert self.refusal is None
        self.refusal = error
        return b"refusal\n"

    def unexpected(self, error: BaseException) -> None:
        """A fault of the server."""
        self.faults.append(error)


def serve(
    pieces: list[bytes], limits: ServerLimits | None = None
) -> tuple[Recorder, FakeTransport, Budget]:
    """Feeds ``pieces`` to a new connection, then loses it."""
    loop = asyncio.new_event_loop()
    try:
        budget = Budget(1 << 30)
        recorder = Recorder(budget)
        server = HttpServer(loop, recorder, limits or ServerLimits(), budget)
        connection = ServerConnection(server)
        transport = FakeTransport()
        connection.connection_made(transport)  # type: ignore[arg-type]
        for piece in pieces:
            connection.data_received(piece)
        connection.connection_lost(None)
        assert not server.connections
        server.close()
    finally:
        loop.close()
    return recorder, transport, budget
