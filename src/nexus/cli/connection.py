"""Connections to the gateway: TCP, TLS or a Unix socket.

The proxies of the environment are not asked: gateways are near.
"""

from __future__ import annotations

import hmac
import http.client
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from nexus.cli.address import Address
from nexus.cli.failure import Failure

__all__ = ["open_connection"]


def open_connection(address: Address, timeout_s: float) -> http.client.HTTPConnection:
    """A connection, not yet made. ``timeout_s`` bounds connecting and each read. Raises
    :class:`Failure` when a certificate file cannot be read."""
    if address.unix:
        return _UnixConnection(address.unix, timeout_s)
    parts = urlsplit(address.url)
    assert parts.hostname is not None
    if parts.scheme != "https":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    pinned = address.certificate if not (address.ca or address.insecure) else ""
    try:
        return _TlsConnection(
            parts.hostname,
            parts.port,
            timeout=timeout_s,
            context=_context(address.ca, trusting=address.insecure or bool(pinned)),
            certificate=_first_certificate(pinned) if pinned else None,
        )
    except (OSError, ValueError) as error:
        file = address.ca or pinned
        raise Failure(f"{file} is no certificate that can be read: {error}") from None


def _context(ca: str, *, trusting: bool) -> ssl.SSLContext:
    """The system's authorities (or those that SSL_CERT_FILE names) and ``ca``."""
    context = ssl.create_default_context()
    if ca:
        context.load_verify_locations(ca)
    if trusting:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _first_certificate(file: str) -> bytes:
    """The server's own certificate out of a PEM chain, which begins with it (RFC 8446 § 4.4.2)."""
    text = Path(file).read_text("ascii", "replace")
    end = "-----END CERTIFICATE-----"
    begin = text.find("-----BEGIN CERTIFICATE-----")
    stop = text.find(end, begin)
    if begin < 0 or stop < 0:
        raise ValueError("it holds no PEM certificate")
    return ssl.PEM_cert_to_DER_cert(text[begin : stop + len(end)])


class _TlsConnection(http.client.HTTPSConnection):
    """With ``certificate`` (DER) only a server that has that very one is spoken to: the gateway of
    this machine's configuration, whatever name its certificate is for."""

    def __init__(
        self,
        host: str,
        port: int | None,
        *,
        timeout: float,
        context: ssl.SSLContext,
        certificate: bytes | None,
    ) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._certificate = certificate

    def connect(self) -> None:
        """Connects and looks at who is there before a byte of the request goes out."""
        super().connect()
        if self._certificate is None:
            return
        shown = self.sock.getpeercert(binary_form=True)
        if shown is None or not hmac.compare_digest(shown, self._certificate):
            self.close()
            raise ssl.SSLCertVerificationError(
                "its certificate is not the one that the configuration names (server.tls_cert)"
            )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connects to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
