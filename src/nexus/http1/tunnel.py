"""The proxies of the environment (``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY``), for backends
beyond the private network: a gateway in an office reaches its cloud account through them, its own
machines never.

CONNECT tunnels: RFC 9110 § 9.3.6. A proxy that speaks TLS itself is not supported.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from ipaddress import IPv4Network, ip_address
from typing import cast
from urllib.parse import unquote, urlsplit

import msgspec

from nexus.core.backend import BackendUrl
from nexus.core.errors import AttemptFailure, FailureKind

__all__ = ["Proxy", "open_tunnel", "proxy_for"]

_PRIVATE_SUFFIXES = (".local", ".localhost", ".lan", ".internal", ".home.arpa")
_SHARED = IPv4Network("100.64.0.0/10")
"""RFC 6598: overlay networks (Tailscale) number their machines with it."""
_HEAD_BYTES_MAX = 16 * 1024


class Proxy(msgspec.Struct, frozen=True):
    """A forward proxy; ``authorization`` is the value of ``Proxy-Authorization``, or empty."""

    host: str
    port: int
    authorization: bytes = b""


def proxy_for(address: BackendUrl, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy that the environment names for ``address``; ``None`` for a direct connection, as
    for every host of the machine or the private network, and what ``NO_PROXY`` lists.

    Lower-case variables win, as everywhere. Raises ``ValueError`` for a proxy URL that is none.
    """
    names = ("https_proxy",) if address.tls else ("http_proxy",)
    value = next(
        (
            environ[name]
            for base in (*names, "all_proxy")
            for name in (base, base.upper())
            if environ.get(name)
        ),
        "",
    )
    if not value or _is_private(address.host) or _is_excepted(address, environ):
        return None
    parts = urlsplit(value if "://" in value else f"http://{value}")
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(
            f"proxy of the environment must be http://host:port, not {parts.scheme}://"
        )
    authorization = b""
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = b"Basic " + base64.b64encode(pair.encode())
    return Proxy(parts.hostname, parts.port or 80, authorization)


def _is_private(host: str) -> bool:
    try:
        parsed = ip_address(host.partition("%")[0])
    except ValueError:
        name = host.lower().rstrip(".")
        return "." not in name or name.endswith(_PRIVATE_SUFFIXES)
    if parsed.version == 4 and parsed in _SHARED:
        return True
    return parsed.is_private or parsed.is_loopback or parsed.is_link_local


def _is_excepted(address: BackendUrl, environ: Mapping[str, str]) -> bool:
    listed = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    host = address.host.lower().rstrip(".")
    for entry in listed.split(","):
        name = entry.strip().lower()
        if name == "*":
            return True
        name, _, port = name.partition(":") if name.count(":") == 1 else (name, "", "")
        name = name.removeprefix("*").lstrip(".")
        if port and port != str(address.port):
            continue
        if name and (host == name or host.endswith("." + name)):
            return True
    return False


async def open_tunnel(
    loop: asyncio.AbstractEventLoop, proxy: Proxy, address: BackendUrl
) -> asyncio.Transport:
    """A connection through ``proxy`` to ``address``, as if it were direct.

    Raises ``OSError`` when the proxy cannot be reached and ``AttemptFailure`` when it refuses.
    """
    _, handshake = await loop.create_connection(lambda: _Handshake(loop), proxy.host, proxy.port)
    try:
        return await handshake.connect(proxy, address)
    except BaseException:
        handshake.abort()
        raise


class _Handshake(asyncio.Protocol):
    """One CONNECT: writes it, reads the head of its answer, hands the transport over."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._done: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self._done.done():
            return
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            if len(self._head) > _HEAD_BYTES_MAX:
                self._refuse("its answer to CONNECT is no HTTP head")
            return
        words = self._head.split(b"\r\n", 1)[0].split(b" ")
        if not self._head.startswith(b"HTTP/1.") or len(words) < 2:
            self._refuse("its answer to CONNECT is no HTTP head")
        elif not words[1].startswith(b"2"):
            self._refuse(f"it answered CONNECT with {words[1][:3].decode('latin-1')}")
        elif len(self._head) > end + 4:
            self._refuse("it sent bytes of its own through the tunnel")
        else:
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._refuse("it closed the connection")

    async def connect(self, proxy: Proxy, address: BackendUrl) -> asyncio.Transport:
        transport = self._transport
        assert transport is not None
        host = f"[{address.host}]" if ":" in address.host else address.host
        target = f"{host}:{address.port}".encode()
        head = b"CONNECT " + target + b" HTTP/1.1\r\nHost: " + target + b"\r\n"
        if proxy.authorization:
            head += b"Proxy-Authorization: " + proxy.authorization + b"\r\n"
        transport.write(head + b"\r\n")
        await self._done
        return transport

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        if self._done.done() and not self._done.cancelled():
            self._done.exception()  # looked at: it is told by who called

    def _refuse(self, why: str) -> None:
        self._done.set_exception(
            AttemptFailure(FailureKind.CONNECT, f"the proxy of the environment refused: {why}")
        )
