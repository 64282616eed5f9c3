"""An ASGI answer on a client connection."""

from __future__ import annotations

from typing import cast

from nexus.http1.server import ServerConnection
from nexus.runtime.control import Answering


class Client:
    """A connection that keeps what is written."""

    must_close = False
    http10 = False

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        """Keeps it."""
        self.written += data


async def test_a_head_goes_out_before_the_first_byte_of_its_body() -> None:
    """An event stream with nothing to say yet has its head sent when it waits for room."""
    client = Client()
    answering = Answering(cast(ServerConnection, client), request_id="r", head_only=False)
    answering.start(200, [(b"content-type", b"text/event-stream")])
    assert client.written == b""
    await answering.drained()
    assert client.written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert client.written.endswith(b"\r\n\r\n")
    answering.write(b"x")
    assert client.written.endswith(b"\r\n\r\n1\r\nx\r\n")
