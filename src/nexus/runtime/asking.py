"""How health checks talk to backends: adapters ask in values, this makes the requests."""

from __future__ import annotations

import asyncio

from nexus.core.errors import AttemptFailure, FailureKind
from nexus.engines.adapter import Answer, Ask
from nexus.http1.fetch import fetch
from nexus.http1.headers import HOP_BY_HOP
from nexus.proxy.link import Link

__all__ = ["fetch_answer"]


async def fetch_answer(link: Link, ask: Ask, timeout_s: float) -> Answer:
    """One request of a check. Never raises: what goes wrong is an answer of status 0."""
    method = b"GET" if ask.body is None else b"POST"
    path, _, query = ask.path.encode().partition(b"?")
    body = ask.body or b""
    head = link.prefix(method, path, query) + b"accept: application/json\r\nconnection: close\r\n"
    if body:
        head += b"content-type: application/json\r\n"
    if method == b"POST":
        head += b"content-length: %d\r\n" % len(body)
    opened = link.pool.opened_total
    try:
        fetched = await fetch(
            link.pool,
            head + b"\r\n",
            body,
            timeout_s=timeout_s,
            body_bytes_max=ask.body_bytes_max,
        )
    except AttemptFailure as failure:
        return Answer(
            status=0,
            error=failure.message,
            refused=failure.kind is FailureKind.CONNECT and "refused" in failure.message,
            # Of several requests at once one that connects counts for all: that errs on the side of
            # a backend that takes connections and is silent.
            unreached=failure.kind is FailureKind.CONNECT
            or (failure.kind is FailureKind.TIMEOUT and link.pool.opened_total == opened),
            ours=failure.kind is FailureKind.OURS,
        )
    except asyncio.CancelledError:
        raise
    except Exception as error:
        return Answer(status=0, error=f"{type(error).__name__}: {error}")
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in fetched.headers
        if name not in HOP_BY_HOP
    }
    return Answer(status=fetched.status, body=fetched.body, headers=headers)
