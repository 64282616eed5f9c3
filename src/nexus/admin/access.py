"""Who may use the admin API, and which web pages may call ``/v1`` (behaviour § 11).

Rules only: values in, an error or ``None`` out. They stand between any web page that the operator
opens and the machine's models, so each rule says what it keeps out.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

from nexus.core.errors import ApiError

__all__ = [
    "check_access",
    "check_origin",
    "cors_headers",
    "host_allowed",
    "is_loopback",
    "key_matches",
    "preflight_headers",
]

# A proxy in front answers for everyone behind it: its own address says nothing of theirs.
_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_AUTHORITY = re.compile(r"(\[[0-9A-Za-z:.%_~-]+\]|[^\s:/?#@\[\],\\]+)(?::([0-9]{1,5}))?")
# RFC 3986 § 3.2.2. A zone is written %25eth0 (RFC 6874) or, by programs, %eth0; browsers send none.
_IPV6_LITERAL = re.compile(r"\[([0-9a-f:.]+)(?:%[0-9a-z._~-]+)?\]")
_TOKENS = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:\s*,\s*[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def check_access(
    *,
    peer: str | None,
    headers: Mapping[str, str],
    admin_key: str,
    allowed_hosts: Collection[str],
    own_names: Collection[str],
    signed_in: bool = False,
) -> ApiError | None:
    """Whether a request may use the admin API or dashboard: ``None``, or the answer that refuses.

    ``peer`` is the client's address, ``None`` on a Unix socket (whose file permissions are its
    access control). Header names are lower case. Without ``admin_key`` only peers on this machine
    come in; with one, only those who present it, from wherever. ``allowed_hosts`` is
    ``server.allowed_hosts``; ``own_names`` are the machine's own names. ``signed_in``: no key is
    wanted (a session, or the page to sign in at); all other rules hold.
    """
    host = headers.get("host", "")
    if not host_allowed(host, allowed_hosts, own_names):
        return ApiError.forbidden(
            f"Host '{_shown(host)}' is not one of this gateway's names. If it is meant to be, add "
            f"it to server.allowed_hosts."
        )
    origin = headers.get("origin")
    if origin is not None and not _same_origin(origin, host):
        return ApiError.forbidden(
            f"Pages of another origin ('{_shown(origin)}') may not use the admin API."
        )
    if admin_key and signed_in:
        return None
    if admin_key:
        return _check_key(headers.get("authorization"), admin_key)
    proxied = next((name for name in _PROXY_HEADERS if name in headers), None)
    if proxied is not None:
        return ApiError.forbidden(
            f"The admin API answers this machine only, and the request came through a proxy "
            f"(header {proxied}). {_HOW_TO_OPEN}"
        )
    if peer is not None and not is_loopback(peer):
        return ApiError.forbidden(
            f"The admin API answers this machine only, and the request came from {_shown(peer)}. "
            f"{_HOW_TO_OPEN}"
        )
    return None


_HOW_TO_OPEN = (
    "To use it from elsewhere (a container's host counts as elsewhere), name an environment "
    "variable that holds a key in server.admin_key_env and send 'Authorization: Bearer KEY'."
)


def _check_key(authorization: str | None, admin_key: str) -> ApiError | None:
    if authorization is None:
        return ApiError.unauthorized(
            "The admin API wants its key: send 'Authorization: Bearer KEY' (the command line reads "
            "it from NEXUS_ADMIN_KEY)."
        )
    scheme, _, key = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not key_matches(key.strip(), admin_key):
        return ApiError.unauthorized("The admin key is wrong.")
    return None


def key_matches(told: str, admin_key: str) -> bool:
    """Whether somebody knows the key; takes as long whether or not, and however much fits."""
    # Bytes, since compare_digest takes text in ASCII only.
    sides = [text.encode("utf-8", "surrogateescape") for text in (told, admin_key)]
    return hmac.compare_digest(*sides)


def is_loopback(address: str) -> bool:
    """Whether a peer's address is this machine's own loopback, IPv4 in IPv6 included."""
    parsed = _ip(address.partition("%")[0])
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed is not None and parsed.is_loopback


def host_allowed(host: str, allowed_hosts: Collection[str], own_names: Collection[str]) -> bool:
    """Whether a Host header names this gateway, and not a domain that was made to lead here.

    A page of ``evil.example`` whose name resolves to 127.0.0.1 (DNS rebinding) is of one origin
    with us in the browser's eyes, but its requests carry that name. Names that nobody else can own
    are safe: IP literals, ``localhost`` and below, the machine's own, and what the operator lists
    (with a port: that port only).
    """
    split = _split_authority(host)
    if split is None:
        return False
    name, port = split
    if name.startswith("["):
        literal = _IPV6_LITERAL.fullmatch(name)
        return literal is not None and isinstance(_ip(literal[1]), IPv6Address)
    if name == "localhost" or name.endswith(".localhost") or _ip(name) is not None:
        return True
    if any(name == _bare(own) for own in own_names):
        return True
    for allowed in allowed_hosts:
        known = _split_authority(allowed)
        if known is not None and known[0] == name and known[1] in ("", port):
            return True
    return False


def check_origin(
    *,
    origin: str | None,
    host: str,
    cors_origins: Collection[str],
    allowed_hosts: Collection[str] = (),
    own_names: Collection[str] = (),
) -> ApiError | None:
    """Whether the page of ``origin`` (the header, ``None`` without) may call ``/v1``.

    Without this any web page could spend the operator's keys unasked: a "simple" POST needs no
    preflight. Allowed are programs (no origin, or one of another scheme than http and https, such
    as an application's own), pages of this gateway itself under a name that is surely its own, and
    those that ``cors_origins`` names: ``scheme://host[:port]``, where ``*`` stands for any port,
    ``*.`` for any subdomain, and a sole ``*`` for any page.
    """
    if origin is None or _is_program(origin) or _listed(origin, cors_origins):
        return None
    if _same_origin(origin, host) and host_allowed(host, allowed_hosts, own_names):
        return None
    return ApiError.forbidden(
        f"Pages of origin '{_shown(origin)}' may not call this gateway. To allow them, add the "
        f"origin to server.cors_origins."
    )


def cors_headers(origin: str) -> tuple[tuple[str, str], ...]:
    """What lets the page of an allowed ``origin`` read an answer (Fetch standard, CORS protocol).

    No credentials: cookies are never a way into ``/v1``.
    """
    return (
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", "*"),
        ("Vary", "Origin"),
    )


def preflight_headers(
    origin: str, *, requested_headers: str | None, methods: Collection[str]
) -> tuple[tuple[str, str], ...]:
    """The headers of a 204 to the preflight of an allowed ``origin``.

    ``requested_headers`` is ``Access-Control-Request-Headers``, granted as asked when well-formed
    (``*`` would not cover ``Authorization``); ``methods`` are those of the path.
    """
    asked = requested_headers or ""
    granted = asked if _TOKENS.fullmatch(asked) else "authorization, content-type"
    return (
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Allow-Methods", ", ".join(methods)),
        ("Access-Control-Allow-Headers", granted),
        ("Access-Control-Max-Age", "600"),
        ("Vary", "Origin, Access-Control-Request-Headers"),
    )


def _split_authority(authority: str) -> tuple[str, str] | None:
    """``host[:port]`` as lower-case name without a root dot, and port or ``""``; ``None`` when it
    is neither."""
    found = _AUTHORITY.fullmatch(authority)
    return None if found is None else (_bare(found[1]), found[2] or "")


def _bare(name: str) -> str:
    return name.lower().removesuffix(".")


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _split_origin(origin: str) -> tuple[str, str, str] | None:
    """Scheme, host and port (the scheme's default where none is given) of an http(s) origin."""
    scheme, separator, authority = origin.partition("://")
    scheme = scheme.lower()
    split = _split_authority(authority)
    if not separator or scheme not in _DEFAULT_PORTS or split is None:
        return None
    return scheme, split[0], split[1] or _DEFAULT_PORTS[scheme]


def _same_origin(origin: str, host: str) -> bool:
    """The scheme is not compared: behind a TLS terminator we do not know our own."""
    page, ours = _split_origin(origin), _split_authority(host)
    if page is None or ours is None:
        return False
    scheme, name, port = page
    return name == ours[0] and port == (ours[1] or _DEFAULT_PORTS[scheme])


def _is_program(origin: str) -> bool:
    scheme, separator, _ = origin.partition("://")
    return bool(separator) and scheme.lower() not in _DEFAULT_PORTS and scheme.lower() != "null"


def _listed(origin: str, cors_origins: Collection[str]) -> bool:
    if "*" in cors_origins or origin in cors_origins:
        return True
    page = _split_origin(origin)
    return page is not None and any(_matches(page, _pattern(entry)) for entry in cors_origins)


@lru_cache(maxsize=256)
def _pattern(entry: str) -> tuple[str, str, str] | None:
    if entry.endswith(":*"):
        split = _split_origin(entry[:-2])
        return None if split is None else (split[0], split[1], "*")
    return _split_origin(entry.rstrip("/"))


def _matches(page: tuple[str, str, str], pattern: tuple[str, str, str] | None) -> bool:
    if pattern is None or page[0] != pattern[0] or pattern[2] not in ("*", page[2]):
        return False
    name = pattern[1]
    return page[1] == name or (name.startswith("*.") and page[1].endswith(name[1:]))


def _shown(text: str) -> str:
    """What a stranger sent, cut and harmless, for an error message."""
    return "".join(ch if ch.isprintable() else "?" for ch in text[:100])
