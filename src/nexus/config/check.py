"""The rules that no single value can break: what must hold between values.

Each check gets the configuration and a function to report with; none raises. A value that was
reported already is its default here (required ones: empty), so checks pass over those.
"""

from __future__ import annotations

import re
from typing import Protocol

from nexus.config.fields import KeyPath
from nexus.config.schema import BackendConfig, Config
from nexus.core.backend import parse_backend_url

__all__ = [
    "ALIAS_HOPS_MAX",
    "Report",
    "check_backend",
    "check_config",
    "check_name",
    "header_value_fault",
]

# Behaviour § 5.1: an alias may lead to another, this often at most.
ALIAS_HOPS_MAX = 3

# RFC 9110 § 5.6.2 (token) and § 5.5 (field value: no CR, LF, NUL or other controls but tab).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# Framing and connection handling are the gateway's own (RFC 9110 § 7.6.1, 9112 § 6).
_OWN_HEADERS = frozenset(
    {"connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding"}
    | {"upgrade"}
)


class Report(Protocol):
    """Notes one problem at a key path."""

    def __call__(self, path: KeyPath, message: str, nearest: str | None = None) -> None: ...


def check_config(config: Config, report: Report) -> None:
    """Reports everything that is wrong between values."""
    _check_tls(config, report)
    _check_weights(config, report)
    _check_aliases(config.routing.aliases, report)
    _check_names(config.backends, report)
    for position, backend in enumerate(config.backends):
        check_backend(backend, ("backends", position), report)


def header_value_fault(value: str) -> str | None:
    """Why a text cannot be sent as a header's value; ``None`` when it can. Never repeats it."""
    if _FIELD_VALUE.fullmatch(value):
        return None
    return "holds characters that a header cannot carry"


def _check_tls(config: Config, report: Report) -> None:
    server = config.server
    if server.tls_cert and not server.tls_key:
        report(("server", "tls_cert"), "needs tls_key as well")
    if server.tls_key and not server.tls_cert:
        report(("server", "tls_key"), "needs tls_cert as well")


def _check_weights(config: Config, report: Report) -> None:
    weights = config.routing.weights
    if weights.priority + weights.load + weights.latency <= 0:
        report(("routing", "weights"), "at least one weight must be above 0")


def _check_aliases(aliases: dict[str, str], report: Report) -> None:
    in_cycle: set[str] = set()
    inner = set(aliases.values())
    for alias in aliases:
        chain = [alias]
        while chain[-1] in aliases and aliases[chain[-1]] not in chain:
            chain.append(aliases[chain[-1]])
        at: KeyPath = ("routing", "aliases", alias)
        if chain[-1] in aliases:
            cycle = chain[chain.index(aliases[chain[-1]]) :]
            # Each cycle once, at the first of its names; what leads into it is not at fault.
            if alias in cycle and not in_cycle.intersection(cycle):
                in_cycle.update(cycle)
                report(at, f"the alias leads back to itself: {_arrows([*cycle, alias])}")
        elif len(chain) - 1 > ALIAS_HOPS_MAX and alias not in inner:
            message = f"the alias takes more than {ALIAS_HOPS_MAX} steps: {_arrows(chain)}"
            report(at, message)


def _arrows(names: list[str]) -> str:
    return " → ".join(names)


def _check_names(backends: tuple[BackendConfig, ...], report: Report) -> None:
    first: dict[str, int] = {}
    for position, backend in enumerate(backends):
        name, at = backend.name, ("backends", position, "name")
        if not name:
            continue
        check_name(name, at, report)
        if name in first:
            report(at, f'the name "{name}" is taken by backends[{first[name]}]')
        first.setdefault(name, position)


def check_name(name: str, at: KeyPath, report: Report) -> None:
    """Reports a backend's name that could not stand in a path or a log line."""
    if name != name.strip() or not name.isprintable() or "/" in name:
        report(at, "a name has no slash, no control character and no space at its ends")


def check_backend(backend: BackendConfig, at: KeyPath, report: Report) -> None:
    """Reports what is wrong with one backend by itself; ``at`` is where its table stands."""
    if backend.url:
        fault = _url_fault(backend.url)
        if fault is not None:
            report((*at, "url"), fault)
    if backend.api_key_env and backend.api_key_file:
        report((*at, "api_key_file"), "api_key_env is set too; give one of them")
    for name, value in backend.headers.items():
        header = (*at, "headers", name)
        if not _TOKEN.fullmatch(name):
            report(header, "is not a header name")
        elif name.lower() in _OWN_HEADERS:
            report(header, "this header is set by the gateway itself")
        elif (fault := header_value_fault(value)) is not None:
            report(header, fault)


def _url_fault(url: str) -> str | None:
    """What is wrong with a backend's URL, without what may be secret in it (user, query)."""
    try:
        parse_backend_url(url)
    except ValueError as error:
        if "@" in url:
            return "URL must not hold a user or password; use api_key_env or headers"
        return str(error).replace(repr(url), repr(url.partition("?")[0]))
    return None
