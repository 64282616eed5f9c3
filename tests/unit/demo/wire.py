"""A raw client for the tests: what bytes come, and how the connection ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from nexus.demo.engine import FakeEngine

DEADLINE_S = 5.0


class RawClient:
    """One socket: sends requests, reads bytes until something."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, engine: FakeEngine) -> RawClient:
        """Connects."""
        return cls(*await asyncio.open_connection(engine.host, engine.port))

    def send(self, path: str, body: Any = None, *, method: str = "", close: bool = False) -> None:
        """Sends a request; a dict goes as JSON."""
        data = b"" if body is None else body if isinstance(body, bytes) else encode(body)
        method = method or ("GET" if body is None else "POST")
        lines = [f"{method} {path} HTTP/1.1", "Host: engine", f"Content-Length: {len(data)}"]
        if close:
            lines.append("Connection: close")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + data)

    async def until(self, mark: bytes) -> bytes:
        """Bytes up to ``mark`` (inclusive)."""
        return await asyncio.wait_for(self.reader.readuntil(mark), DEADLINE_S)

    async def rest(self) -> tuple[bytes, bool]:
        """All bytes until the end, and whether that was a reset."""
        data = bytearray()
        try:
            while part := await asyncio.wait_for(self.reader.read(65536), DEADLINE_S):
                data += part
        except ConnectionResetError:
            return bytes(data), True
        return bytes(data), False

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """One whole answer with length or chunks: status, headers, body."""
        head = (await self.until(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if "content-length" in headers:
            body = await asyncio.wait_for(
                self.reader.readexactly(int(headers["content-length"])), DEADLINE_S
            )
        else:
            body = dechunk(await self.until(b"0\r\n\r\n"))
        return int(first.split()[1]), headers, body

    async def close(self) -> None:
        """Hangs up."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


def encode(document: Any) -> bytes:
    """JSON."""
    return json.dumps(document).encode()


def chunks(data: bytes) -> list[bytes]:
    """The whole chunks of a chunked body, without the terminal one."""
    found = []
    at = 0
    while at < len(data):
        begin = data.index(b"\r\n", at) + 2
        length = int(data[at : begin - 2], 16)
        if length == 0 or len(data) < begin + length:
            break
        found.append(data[begin : begin + length])
        at = begin + length + 2
    return found


def dechunk(data: bytes) -> bytes:
    """The chunked body's content."""
    return b"".join(chunks(data))


def events(body: bytes) -> list[Any]:
    """The JSON documents of an SSE body; ``[DONE]`` as a string."""
    found: list[Any] = []
    for line in body.decode().splitlines():
        if line.startswith("data: "):
            data = line[6:]
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


CHAT: dict[str, Any] = {
    "model": "demo-model",
    "messages": [{"role": "user", "content": "hello"}],
}
STREAM: dict[str, Any] = {**CHAT, "stream": True}


async def fetch(
    engine: FakeEngine, path: str, body: Any = None, *, method: str = ""
) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own."""
    client = await RawClient.to(engine)
    client.send(path, body, method=method)
    try:
        return await client.answer()
    finally:
        await client.close()


async def exchange(
    engine: FakeEngine, body: Any, path: str = "/v1/chat/completions"
) -> tuple[bytes, bool]:
    """All bytes of one answer that the engine ends by itself, and whether by a reset."""
    client = await RawClient.to(engine)
    client.send(path, body, close=True)
    try:
        return await client.rest()
    finally:
        await client.close()
