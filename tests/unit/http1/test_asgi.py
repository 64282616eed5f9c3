"""The ASGI bridge: a Starlette application behind a server of our own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from nexus.http1.asgi import AnswerState, AsgiApp, AsgiRequest, run_asgi


class FakeResponder:
    """Takes an answer down; ``leave`` is the client's departure."""

    def __init__(self, room: bool = True) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.writes: list[bytes] = []
        self.ended = 0
        self.disconnected = asyncio.Event()
        self.room = asyncio.Event()
        if room:
            self.room.set()
        self.wrote = asyncio.Event()

    def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        assert self.status == 0
        self.status, self.headers = status, headers

    def write(self, data: bytes) -> None:
        assert self.status
        assert not self.ended
        assert not self.disconnected.is_set()
        self.writes.append(data)
        self.wrote.set()

    def end(self) -> None:
        self.ended += 1

    def gone(self) -> bool:
        return self.disconnected.is_set()

    async def drained(self) -> None:
        await self.room.wait()

    def leave(self) -> None:
        self.disconnected.set()
        self.room.set()

    @property
    def body(self) -> bytes:
        return b"".join(self.writes)


Errors = list[tuple[Exception, AnswerState]]


async def answer(
    app: AsgiApp, target: bytes = b"/", responder: FakeResponder | None = None, **fields: Any
) -> tuple[FakeResponder, Errors]:
    """Runs ``app`` for one request to its end."""
    responder = responder or FakeResponder()
    errors: Errors = []
    request = AsgiRequest(**{"method": "GET", "target": target, "headers": [], **fields})
    await asyncio.wait_for(
        run_asgi(
            app,
            request,
            responder,
            disconnected=responder.disconnected,
            on_error=lambda error, state: errors.append((error, state)),
        ),
        timeout=10,
    )
    return responder, errors


def starlette(
    handler: Callable[[Request], Awaitable[Response]], path: str = "/", methods: Any = None
) -> AsgiApp:
    return Starlette(routes=[Route(path, handler, methods=methods)])


async def test_a_plain_answer() -> None:
    """Status, headers and body arrive, and the answer is ended once."""

    async def hello(_request: Request) -> Response:
        return PlainTextResponse("hello", status_code=201, headers={"X-Test": "yes"})

    responder, errors = await answer(starlette(hello))
    assert (responder.status, responder.body, responder.ended) == (201, b"hello", 1)
    assert (b"x-test", b"yes") in responder.headers
    assert (b"content-length", b"5") in responder.headers
    assert errors == []


async def test_the_application_sees_the_request() -> None:
    """Path (decoded), query, headers, body, peer and scheme are those of the request."""

    async def echo(request: Request) -> Response:
        return JSONResponse(
            {
                "path": request.path_params["rest"],
                "raw": request.scope["raw_path"].decode(),
                "query": request.query_params["q"],
                "header": request.headers["x-a"],
                "body": (await request.body()).decode(),
                "client": request.client.host if request.client else None,
                "url": str(request.url),
            }
        )

    responder, _ = await answer(
        starlette(echo, "/x/{rest:path}", ["POST"]),
        b"/x/a%20%C3%BC?q=1%202",
        method="POST",
        headers=[(b"x-a", b"b"), (b"host", b"h:1")],
        body=b'{"n": 1}',
        client=("127.0.0.1", 5),
        scheme="https",
    )
    assert json.loads(responder.body) == {
        "path": "a ü",
        "raw": "/x/a%20%C3%BC",
        "query": "1 2",
        "header": "b",
        "body": '{"n": 1}',
        "client": "127.0.0.1",
        "url": "https://h:1/x/a ü?q=1%202",
    }


async def test_a_path_that_is_not_utf8_is_no_crash() -> None:
    """Any bytes in a target are answered, here with 404."""
    responder, errors = await answer(Starlette(), b"/\xff%ff%zz?\xff")
    assert responder.status == 404
    assert errors == []


async def test_a_query_that_is_not_utf8_can_be_read() -> None:
    """Raw bytes in it are as good as their escapes: no application fails of them."""

    async def echo(request: Request) -> Response:
        return JSONResponse(dict(request.query_params))

    responder, errors = await answer(
        Starlette(routes=[Route("/", echo)]), b"/?a=\xe4&\xc3\xbc=1%FF"
    )
    assert errors == []
    assert json.loads(responder.body) == {"a": "\ufffd", "ü": "1\ufffd"}


async def test_head_sends_no_body() -> None:
    """HEAD gets the head that GET would, and not one body byte."""

    async def hello(_request: Request) -> Response:
        return PlainTextResponse("hello")

    responder, _ = await answer(starlette(hello), method="HEAD")
    assert (b"content-length", b"5") in responder.headers
    assert (responder.body, responder.ended) == (b"", 1)


async def test_a_stream_waits_for_a_slow_client() -> None:
    """While the client's buffer is full, the application is not asked for more."""
    made = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(5):
            made += 1
            yield b"x"

    async def stream(_request: Request) -> Response:
        return StreamingResponse(chunks())

    responder = FakeResponder(room=False)
    task = asyncio.create_task(answer(starlette(stream), responder=responder))
    await responder.wrote.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert made == 1
    responder.room.set()
    await task
    assert (responder.body, responder.ended) == (b"xxxxx", 1)


async def test_an_application_that_raises() -> None:
    """An exception before the head is reported with nothing sent: the server can say 500."""

    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        raise ValueError("broken")

    responder, ((error, state),) = await answer(broken)
    assert isinstance(error, ValueError)
    assert state is AnswerState.NONE
    assert responder.status == 0


async def test_an_application_that_answers_its_own_failure() -> None:
    """Starlette sends a 500 and raises on: the client has it, the log gets the exception."""

    async def broken(_request: Request) -> Response:
        raise ValueError("broken")

    responder, ((error, state),) = await answer(starlette(broken))
    assert (responder.status, responder.ended) == (500, 1)
    assert isinstance(error, ValueError)
    assert state is AnswerState.WHOLE


async def test_a_stream_that_breaks() -> None:
    """An exception in the middle of an answer is reported as such: the connection must close."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"
        raise ValueError("broken")

    async def stream(_request: Request) -> Response:
        return StreamingResponse(chunks())

    responder, ((error, state),) = await answer(starlette(stream))
    assert "broken" in repr(error)
    assert state is AnswerState.PARTIAL
    assert (responder.body, responder.ended) == (b"x", 0)


Script = list[dict[str, Any]]
START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
BODY: dict[str, Any] = {"type": "http.response.body", "body": b"x"}


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ([], AnswerState.NONE),
        ([BODY], AnswerState.NONE),
        ([START], AnswerState.PARTIAL),
        ([START, START], AnswerState.PARTIAL),
        ([START, BODY, BODY], AnswerState.WHOLE),
        ([{**START, "headers": [(b"x", b"a\r\nset-cookie: b")]}], AnswerState.NONE),
        ([{"type": "websocket.accept"}], AnswerState.NONE),
    ],
)
async def test_a_wrong_conversation_is_a_failure(script: Script, state: AnswerState) -> None:
    """Messages missing, doubled, out of order, unknown or with split headers are never relayed."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        for message in script:
            await send(dict(message))

    responder, ((error, seen),) = await answer(app)
    assert isinstance(error, RuntimeError)
    assert seen is state
    assert b"set-cookie" not in repr(responder.headers).encode()


async def test_a_client_that_leaves_ends_an_idle_stream() -> None:
    """A stream that has nothing to say is ended when its client leaves, and cleans up."""
    cleaned = asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    async def stream(_request: Request) -> Response:
        return StreamingResponse(silent())

    responder = FakeResponder()
    task = asyncio.create_task(answer(starlette(stream), responder=responder))
    await responder.wrote.wait()
    responder.leave()
    _, errors = await task
    assert cleaned.is_set()
    assert errors == []
    assert (responder.body, responder.ended) == (b"first", 0)


async def test_a_client_that_leaves_ends_a_busy_stream() -> None:
    """A stream that never pauses is ended too; nothing is written after the departure."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"

    async def stream(_request: Request) -> Response:
        return StreamingResponse(endless())

    responder = FakeResponder(room=False)
    task = asyncio.create_task(answer(starlette(stream), responder=responder))
    await responder.wrote.wait()
    responder.leave()
    _, errors = await task
    assert errors == []
    assert responder.body == b"x"


async def test_receive_blocks_until_the_client_leaves() -> None:
    """After the body, ``receive`` waits; the departure is what it then tells."""
    messages: list[Any] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        messages.append(await receive())
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        assert not waiting.done()
        responder.leave()
        messages.append(await waiting)

    responder = FakeResponder()
    _, errors = await answer(app, body=b"b", responder=responder)
    assert messages == [
        {"type": "http.request", "body": b"b", "more_body": False},
        {"type": "http.disconnect"},
    ]
    assert errors == []


async def test_receive_after_the_answer_tells_the_end() -> None:
    """A background task that listens on is not held once the answer is whole."""
    told: list[Any] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(dict(START))
        await send(dict(BODY))
        told.append(await receive())

    _, errors = await answer(app)
    assert told == [{"type": "http.disconnect"}]
    assert errors == []


async def test_cancellation_passes_through() -> None:
    """The drain cancels the task: the application is cancelled, and no failure is reported."""
    reached, cleaned = asyncio.Event(), asyncio.Event()

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        try:
            reached.set()
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    responder, errors = FakeResponder(), Errors()
    request = AsgiRequest(method="GET", target=b"/", headers=[])
    task = asyncio.create_task(
        run_asgi(
            app,
            request,
            responder,
            disconnected=responder.disconnected,
            on_error=lambda error, state: errors.append((error, state)),
        )
    )
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned.is_set()
    assert errors == []
