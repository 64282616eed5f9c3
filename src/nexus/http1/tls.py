"""TLS contexts: towards backends (verified, custom CA, SNI) and for listening."""

from __future__ import annotations

import contextlib
import ssl
import stat
from errno import ENOENT
from pathlib import Path

__all__ = ["Trust", "listening_context", "upstream_context"]


def upstream_context(*, ca_file: str = "", verify: bool = True) -> ssl.SSLContext:
    """A client context; ``ca_file`` replaces the system's authorities.

    Raises ``OSError`` (``ssl.SSLError`` included) when the file cannot be read or parsed.
    """
    context = ssl.create_default_context(cafile=ca_file or None)
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Trust:
    """Whom a backend's connections trust. ``tls_ca`` is read again when the file has changed: what
    cannot be read then (it is just being written) leaves the last one in force."""

    __slots__ = ("_ca_file", "_context", "_mark", "_verify")

    def __init__(self, ca_file: str, verify: bool) -> None:
        self._ca_file = ca_file
        self._verify = verify
        self._context: ssl.SSLContext | None = None
        self._mark: tuple[int, ...] | None = None
        with contextlib.suppress(ssl.SSLError):  # told to who connects
            self.context()

    def context(self) -> ssl.SSLContext:
        """For the next connection. Raises ``ssl.SSLError`` while the file could never be used."""
        context, mark = self._context, _mark(self._ca_file)
        if context is not None and mark == self._mark:
            return context
        try:
            if self._ca_file and mark is None:
                raise FileNotFoundError(ENOENT, "there is no such file")
            fresh = upstream_context(ca_file=self._ca_file, verify=self._verify)
        except OSError as error:
            if context is None:
                raise ssl.SSLError(1, f"tls_ca {self._ca_file} cannot be used: {error}") from None
            return context
        self._context, self._mark = fresh, mark
        return fresh


def _mark(path: str) -> tuple[int, ...] | None:
    """What tells that a file has changed; ``None`` for what is no ordinary file."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):  # ValueError: a path that holds NUL
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def listening_context(*, cert_file: str, key_file: str) -> ssl.SSLContext:
    """A server context for the given PEM files. Raises ``OSError`` when they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(cert_file, key_file)
    return context
