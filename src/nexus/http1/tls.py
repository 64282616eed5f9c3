"""TLS contexts: towards backends (verified, custom CA, SNI) and for listening."""

from __future__ import annotations

import ssl

__all__ = ["listening_context", "upstream_context"]


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


def listening_context(*, cert_file: str, key_file: str) -> ssl.SSLContext:
    """A server context for the given PEM files. Raises ``OSError`` when they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(cert_file, key_file)
    return context
