"""The steps of a call that ``python -m benchmarks.micro`` times, without sockets.

Each step is a function that does the work once. What dominates a real call is missing on purpose:
it is system calls, which ``benchmarks/macro`` measures.
"""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterator
from itertools import cycle
from random import Random
from typing import Any, cast

import msgspec
from benchmarks.micro.routing import PLAIN, fleet

from nexus.core.backend import parse_backend_url
from nexus.core.errors import ApiError, AttemptFailure
from nexus.core.limits import Budget
from nexus.core.live import BackendLive
from nexus.dialects.views import read_chunk
from nexus.http1.headers import Headers, serialise_response
from nexus.http1.message import Request
from nexus.http1.pool import Pool
from nexus.http1.server import ClientHandler, HttpServer, ServerConnection, ServerLimits
from nexus.http1.upstream import UpstreamConnection
from nexus.proxy.heads import answer_fields, client_fields
from nexus.routing.profile import read_profile
from nexus.routing.router import Router, RoutingSettings
from nexus.streams.sse import EventBuffer
from nexus.streams.tap import Tap, Terminal

__all__ = ["Step", "reference", "steps"]

Step = Callable[[], object]

_BACKENDS = (1, 10, 100, 1000)
_MODELS = (1, 100)
_BODIES = {"1 kB": 1_000, "10 kB": 10_000, "100 kB": 100_000, "1 MB": 1_000_000, "10 MB": 9_999_000}
_UNDER_WAY = 8

_HEADERS = [
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"OpenAI/Python 1.60.0"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"connection", b"keep-alive"),
    (b"authorization", b"Bearer sk-bench"),
    (b"content-type", b"application/json"),
    (b"content-length", b"300"),
    (b"x-stainless-lang", b"python"),
    (b"x-stainless-retry-count", b"0"),
]
_ANSWER_HEADERS = [
    (b"server", b"uvicorn"),
    (b"date", b"Mon, 23 Nov 2026 12:00:00 GMT"),
    (b"content-type", b"application/json"),
]
_EVENT = (
    b'data: {"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk",'
    b'"created":1700000000,"model":"llama3:70b","system_fingerprint":"fp_bench",'
    b'"choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}'
    b"\n\n"
)


def reference() -> int:
    """Work of the kind that the steps do, and that never changes: calls, bytes, dictionaries, a
    little JSON. How long it takes is the unit of all figures."""
    found = 0
    for number in range(4):
        fields = dict(_HEADERS)
        line = b"\r\n".join([name + b": " + value for name, value in fields.items()])
        found += line.find(b"stainless") + number
        found += len(cast(dict[str, Any], msgspec.json.decode(_REFERENCE))["messages"])
        found += sum(_weigh(name) for name in fields)
    return found


def _weigh(name: bytes) -> int:
    return len(name) if name.startswith(b"x-") else 1


def _body(size: int) -> bytes:
    """A conversation of about that many bytes."""
    text = "Why can an answer that was held back be asked for again without the client noticing? "
    turns = max(1, min(50, size // 400))
    content = text * max(1, size // turns // len(text))
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": content} for number in range(turns)
    ]
    body = {"model": "llama3:70b", "messages": messages, "max_tokens": 100}
    return json.dumps(body).encode()


def _picture_body(size: int) -> bytes:
    """A question about a picture of about that many bytes."""
    text = {"type": "text", "text": "What does this picture show?"}
    data = b64encode(Random(1).randbytes(size * 3 // 4)).decode()
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    messages = [{"role": "user", "content": [text, picture]}]
    return json.dumps({"model": "llava:13b", "messages": messages, "stream": True}).encode()


_REFERENCE = _body(300)


def steps() -> Iterator[tuple[str, Step]]:
    """Each step with its name, made when its turn comes."""
    for models in _MODELS:
        for backends in _BACKENDS:
            yield f"route, {backends} backends, {models} models", _route(backends, models)
    for backends in _BACKENDS[2:]:
        yield f"route, {backends} backends, a new snapshot", _route_anew(backends)
    for name, size in _BODIES.items():
        yield f"read_profile, {name}", _profile(_body(size))
    yield "read_profile, 1 MB with a picture", _profile(_picture_body(1_000_000))
    yield "read a request: a new head", _request(known=False)
    yield "read a request: the head of the last one", _request(known=True)
    yield "read an answer: a new head", _answer(known=False)
    yield "read an answer: the head of the last one", _answer(known=True)
    yield "client_fields and their lines", lambda: client_fields(_HEADERS).lines(frozenset())
    yield "answer_fields", lambda: answer_fields(_ANSWER_HEADERS, [])
    yield "serialise_response", lambda: serialise_response(200, _ANSWER_HEADERS, b"{}", close=False)
    yield "SSE event: buffer and tap", _event()
    yield "pool: take and release", _pool()


def _route(backends: int, models: int) -> Step:
    """A decision; as in a gateway, the chosen backend begins a call and an earlier one ends."""
    router = Router(RoutingSettings())
    snapshot = fleet(backends, models)
    profiles = cycle([msgspec.structs.replace(PLAIN, model=model) for model in snapshot.listed])
    rng = Random(1)
    running: deque[BackendLive] = deque()

    def route() -> None:
        plan = router.route(snapshot, next(profiles), now_s=1.0, rng=rng)
        live = plan.candidates[0].candidate.live
        live.begin()
        running.append(live)
        if len(running) > _UNDER_WAY:
            running.popleft().end()

    for _ in snapshot.listed:
        route()
    return route


def _route_anew(backends: int) -> Step:
    """The first decision for a model after something changed: nothing is known of it yet."""
    snapshot = fleet(backends)
    settings = RoutingSettings()
    rng = Random(1)
    return lambda: Router(settings).route(snapshot, PLAIN, now_s=1.0, rng=rng)


def _profile(body: bytes) -> Step:
    return lambda: read_profile(body, "/v1/chat/completions", requires_messages=True, pin=None)


def _event() -> Step:
    tap = Tap(Terminal.FINISH_REASON, read_chunk, repairs_tool_finish=True)
    buffer = EventBuffer()
    return lambda: tap.watch(buffer.feed(_EVENT))


class _Transport:
    """As much of a transport as connections use; it takes everything and keeps nothing."""

    def get_extra_info(self, name: str) -> Any:
        return None

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        raise RuntimeError("the connection was refused: the figure is of something else")

    close = abort
    write_eof = abort


class _Service:
    """Answers everything at once."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.served = 0

    def handle(self, request: Request, connection: ServerConnection) -> ClientHandler | None:
        self._budget.give(request.held_bytes)
        self.served += 1
        connection.finish()
        return None

    def refuse(self, error: ApiError, target: bytes) -> bytes:
        raise RuntimeError(f"refused: {error}")

    def unexpected(self, error: BaseException) -> None:
        raise error


def _request(*, known: bool) -> Step:
    """A request in one read. Not ``known``: its head is another one each time."""
    budget = Budget(1 << 30)
    service = _Service(budget)
    server = HttpServer(asyncio.get_running_loop(), service, ServerLimits(), budget)
    connection = ServerConnection(server)
    connection.connection_made(cast(asyncio.Transport, _Transport()))
    body = _body(300)
    heads = [(b"x-stainless-retry-count", b"%d" % number) for number in range(1 if known else 4)]
    start = b"POST /v1/chat/completions HTTP/1.1"
    requests = cycle([_message(start, [last], body) for last in heads])

    def request() -> None:
        before = service.served
        connection.data_received(next(requests))
        if service.served == before:
            raise RuntimeError("no request was read")

    return request


def _message(start: bytes, more: Headers, body: bytes) -> bytes:
    headers = [one for one in _HEADERS if one[0] not in (b"content-length", *dict(more))] + more
    lines = [name + b": " + value for name, value in headers]
    lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join([start, *lines, b"", body])


class _Asker:
    """Who waits for an answer."""

    def __init__(self) -> None:
        self.ended = 0

    def on_head(self, status: int, headers: Headers) -> None:
        pass

    def on_body(self, data: bytes) -> None:
        pass

    def on_end(self) -> None:
        self.ended += 1

    def on_failure(self, failure: AttemptFailure, *, stale: bool) -> None:
        raise RuntimeError(f"no answer: {failure}")

    def on_crash(self, error: BaseException) -> None:
        raise error

    def on_connected(self, connection: UpstreamConnection) -> None:
        pass

    def on_connect_failed(self, failure: AttemptFailure) -> None:
        raise RuntimeError(f"no connection: {failure}")


def _pooled() -> tuple[Pool, UpstreamConnection]:
    """A pool that has one connection, free."""
    pool = Pool(asyncio.get_running_loop(), parse_backend_url("http://127.0.0.1:9"), idle_s=3600.0)
    connection = UpstreamConnection(pool)
    connection.connection_made(cast(asyncio.Transport, _Transport()))
    pool._connections.add(connection)  # noqa: SLF001 - as a dial does
    return pool, connection


def _answer(*, known: bool) -> Step:
    """A request's head sent, its answer in one read. Not ``known``: its head is always another."""
    asker = _Asker()
    _, connection = _pooled()
    body = _body(400)
    heads: list[Headers] = [
        [*_ANSWER_HEADERS, (b"x-request-id", b"%032d" % number)]
        for number in range(1 if known else 4)
    ]
    answers = cycle(
        [
            b"\r\n".join(
                [
                    b"HTTP/1.1 200 OK",
                    *(name + b": " + value for name, value in head),
                    b"content-length: %d" % len(body),
                    b"",
                    body,
                ]
            )
            for head in heads
        ]
    )

    def answer() -> None:
        before = asker.ended
        connection.start(asker, b"", b"")
        connection.data_received(next(answers))
        if asker.ended == before:
            raise RuntimeError("no answer was read")

    return answer


def _pool() -> Step:
    pool, connection = _pooled()
    pool.released(connection)

    def take() -> None:
        taken = pool.take()
        assert taken is not None
        pool.released(taken)

    return take
