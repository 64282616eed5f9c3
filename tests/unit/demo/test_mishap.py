"""Every fault, seen by a raw socket."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from nexus.demo.engine import FakeEngine
from nexus.demo.faults import Fault
from tests.unit.demo.wire import CHAT, STREAM, RawClient, chunks, events, exchange, fetch

CHAT_PATH = "/v1/chat/completions"


def body_of(data: bytes) -> bytes:
    return data.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("body", [CHAT, STREAM])
@pytest.mark.parametrize(
    ("mode", "reset"),
    [
        (Fault.RESET_BEFORE_HEAD, True),
        (Fault.CLOSE_BEFORE_HEAD, False),
        (Fault.CLOSE_ON_ACCEPT, None),
    ],
)
async def test_no_byte_comes(mode: Fault, reset: bool | None, body: object) -> None:
    """Faults before the head end the connection without a byte, by reset or by close."""
    async with FakeEngine() as engine:
        engine.faults.set(mode)
        data, was_reset = await exchange(engine, body)
        assert data == b""
        if reset is not None:
            assert was_reset is reset
            assert engine.broken == 1
            assert engine.cancelled == 0


async def test_close_on_accept_closes_a_kept_connection_at_the_next_request() -> None:
    """A connection kept from better times closes without an answer."""
    async with FakeEngine() as engine:
        client = await RawClient.to(engine)
        client.send(CHAT_PATH, CHAT)
        assert (await client.answer())[0] == 200
        engine.faults.set(Fault.CLOSE_ON_ACCEPT)
        client.send(CHAT_PATH, CHAT)
        assert await client.rest() == (b"", False)
        await client.close()


async def test_reset_after_head_sends_the_head_only() -> None:
    """The head arrives, then a reset."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.RESET_AFTER_HEAD)
        data, reset = await exchange(engine, STREAM)
        assert data.startswith(b"HTTP/1.1 200")
        assert data.endswith(b"\r\n\r\n")
        assert reset


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize(
    ("mode", "reset", "ended"),
    [
        (Fault.RESET_AFTER_EVENTS, True, False),
        (Fault.CLOSE_AFTER_EVENTS, False, False),
        (Fault.END_AFTER_EVENTS, False, True),
    ],
)
async def test_a_stream_ends_after_n_events(
    mode: Fault, reset: bool, ended: bool, count: int
) -> None:
    """Exactly N whole events come, then the end that was ordered."""
    async with FakeEngine() as engine:
        engine.faults.set(mode, after_events=count)
        data, was_reset = await exchange(engine, STREAM)
        assert was_reset is reset
        body = body_of(data)
        assert len(chunks(body)) == count
        assert body.endswith(b"0\r\n\r\n") is ended
        assert b"[DONE]" not in body
        assert all(event["choices"][0]["finish_reason"] is None for event in events(body))


async def test_a_plain_answer_is_cut_in_half() -> None:
    """On a plain request "after events" leaves the body short of its length."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.CLOSE_AFTER_EVENTS)
        data, _ = await exchange(engine, CHAT)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
        assert 0 < len(body) < length


async def test_a_truncated_chunk_ends_inside_an_event() -> None:
    """The last chunk is shorter than it says, and its event has no end."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.TRUNCATED_CHUNK, after_events=1)
        data, _ = await exchange(engine, STREAM)
        assert len(chunks(body_of(data))) == 1
        assert data.endswith(b'"del')


@pytest.mark.parametrize(
    ("mode", "mark"),
    [
        (Fault.STALL, b""),
        (Fault.STALL_AFTER_HEAD, b"\r\n\r\n"),
        (Fault.STALL_AFTER_EVENTS, b'" the"'),
    ],
)
async def test_a_stall_is_silence_until_the_client_leaves(mode: Fault, mark: bytes) -> None:
    """What is due before the stall comes, then nothing; leaving is counted as a cancel."""
    async with FakeEngine() as engine:
        engine.faults.set(mode)
        client = await RawClient.to(engine)
        client.send(CHAT_PATH, STREAM)
        if mark:
            await client.until(mark)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(drain(client), 0.05)
        assert engine.in_flight == 1
        await client.close()
        await settle(lambda: engine.in_flight == 0)
        assert engine.cancelled == 1


@pytest.mark.parametrize("mode", [Fault.STALL, Fault.STALL_AFTER_HEAD])
@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_a_stall_with_a_delay_wakes_up(mode: Fault, body: object) -> None:
    """With ``delay_s`` the answer comes whole after all."""
    async with FakeEngine() as engine:
        engine.faults.set(mode, delay_s=0.02)
        status, _, answer = await fetch(engine, CHAT_PATH, body)
        assert status == 200
        assert b"question" in answer
        assert engine.completed == 1


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_a_slow_drip_is_the_same_answer(body: object) -> None:
    """Byte by byte, nothing is missing."""
    async with FakeEngine() as engine:
        whole = await fetch(engine, CHAT_PATH, body)
        engine.faults.set(Fault.SLOW_DRIP)
        assert len((await fetch(engine, CHAT_PATH, body))[2]) == len(whole[2])


async def test_status_carries_what_was_ordered() -> None:
    """Status, body, type and Retry-After are the order's."""
    async with FakeEngine() as engine:
        engine.faults.set(
            Fault.STATUS, status=429, retry_after_s=7, body=b"slow down", content_type="text/plain"
        )
        status, headers, body = await fetch(engine, CHAT_PATH, STREAM)
        assert (status, headers["retry-after"], body) == (429, "7", b"slow down")
        assert headers["content-type"] == "text/plain"


async def test_an_early_status_comes_before_the_body() -> None:
    """With ``early`` the answer is there while the client still has its body to send."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.STATUS, status=413, early=True, count=1)
        client = await RawClient.to(engine)
        client.writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
        )
        status, headers, _ = await client.answer()
        assert status == 413
        assert headers["connection"] == "close"
        client.writer.write(b"0123456789")
        assert await client.rest() == (b"", False)
        await client.close()
        assert (engine.in_flight, engine.completed) == (0, 1)


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_garbage_is_a_200_that_is_nothing(body: object) -> None:
    """The content type promises, the body does not keep it."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.GARBAGE)
        status, _, answer = await fetch(engine, CHAT_PATH, body)
        assert (status, answer) == (200, b"not json")


async def test_wrong_content_type() -> None:
    """The right answer under the wrong name."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.WRONG_CONTENT_TYPE)
        _, headers, body = await fetch(engine, CHAT_PATH, CHAT)
        assert headers["content-type"] == "text/html"
        assert json.loads(body)["object"] == "chat.completion"


async def test_no_done_and_done_only() -> None:
    """One lacks the ``[DONE]``, the other has nothing else."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.NO_DONE)
        found = events((await fetch(engine, CHAT_PATH, STREAM))[2])
        assert found[-1]["choices"][0]["finish_reason"] == "stop"
        engine.faults.set(Fault.DONE_ONLY)
        assert events((await fetch(engine, CHAT_PATH, STREAM))[2]) == ["[DONE]"]


@pytest.mark.parametrize(
    ("mode", "before"), [(Fault.ERROR_EVENT_FIRST, 0), (Fault.ERROR_EVENT_AFTER, 2)]
)
async def test_an_error_event_and_then_done(mode: Fault, before: int) -> None:
    """A 200 whose stream says error at its place, then ``[DONE]``."""
    async with FakeEngine(dialect="vllm") as engine:
        engine.faults.set(mode, after_events=2)
        status, _, body = await fetch(engine, CHAT_PATH, STREAM)
        found = events(body)
        assert status == 200
        assert len(found) == before + 2
        assert found[-2]["error"]["type"] == "InternalServerError"
        assert found[-1] == "[DONE]"
        assert (await fetch(engine, CHAT_PATH, CHAT))[0] == 500


async def test_an_error_line_in_ndjson() -> None:
    """In Ollama's own stream the error is a line, and the last one."""
    async with FakeEngine(dialect="ollama") as engine:
        engine.faults.set(Fault.ERROR_EVENT_AFTER, after_events=1)
        body = (await fetch(engine, "/api/chat", CHAT))[2]
        first, last = [json.loads(line) for line in body.splitlines()]
        assert first["done"] is False
        assert list(last) == ["error"]


async def test_vanishing_is_an_empty_chunk_and_a_clean_end() -> None:
    """As Ollama's ``/v1`` does when its runner is killed."""
    async with FakeEngine(dialect="ollama") as engine:
        engine.faults.set(Fault.VANISH_AFTER_EVENTS, after_events=2)
        found = events((await fetch(engine, CHAT_PATH, STREAM))[2])
        assert len(found) == 3
        assert found[-1]["model"] == ""
        assert found[-1]["choices"][0]["finish_reason"] is None


async def test_not_http_and_raw() -> None:
    """Bytes that are no answer, or exactly those that were ordered."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.NOT_HTTP)
        assert (await exchange(engine, CHAT))[0].startswith(b"SSH-2.0")
        engine.faults.set(Fault.RAW, body=b"HTTP/1.1 299 Hm\r\n\r\nodd")
        assert await exchange(engine, CHAT) == (b"HTTP/1.1 299 Hm\r\n\r\nodd", False)


async def test_raw_may_keep_the_connection_open() -> None:
    """With ``keep_open`` the bytes come and the end does not."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.RAW, body=b"HTTP/1.1 200 OK\r\n", keep_open=True)
        client = await RawClient.to(engine)
        client.send(CHAT_PATH, CHAT)
        await client.until(b"OK\r\n")
        assert engine.connections_open == 1
        await client.close()


async def test_a_huge_head() -> None:
    """The head is hundreds of kilobytes."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.HUGE_HEAD)
        data, _ = await exchange(engine, CHAT)
        assert len(data.partition(b"\r\n\r\n")[0]) > 400_000


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_surplus_bytes_follow_a_whole_answer(body: object) -> None:
    """A second response comes right behind the first, on a connection that stays."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.SURPLUS_BYTES)
        client = await RawClient.to(engine)
        client.send(CHAT_PATH, body)
        assert (await client.answer())[0] == 200
        assert (await client.answer())[2] == b'{"not":"yours"}'
        await client.close()


async def test_informational_answers_come_first() -> None:
    """A number of 102s, then the 200."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.INFORMATIONAL, amount=3)
        data, _ = await exchange(engine, CHAT)
        assert data.count(b"HTTP/1.1 102 Processing\r\n\r\n") == 3
        assert data.count(b"HTTP/1.1 200 OK\r\n") == 1


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_without_content_length_the_body_ends_with_the_connection(body: object) -> None:
    """Neither length nor chunks, and the connection closes."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.NO_CONTENT_LENGTH)
        client = await RawClient.to(engine)
        client.send(CHAT_PATH, body)
        data, _ = await client.rest()
        head = data.partition(b"\r\n\r\n")[0].lower()
        assert b"content-length" not in head
        assert b"transfer-encoding" not in head
        assert body_of(data).rstrip().endswith((b"}", b"[DONE]"))
        assert engine.completed == 1
        await client.close()


@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_an_error_body_under_200(body: object) -> None:
    """The status says success, the body does not."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.ERROR_BODY_200)
        status, _, answer = await fetch(engine, CHAT_PATH, body)
        assert status == 200
        assert "message" in json.loads(answer)["error"]


async def test_loading_answers_503_on_every_path() -> None:
    """As llama-server does while it reads its model, /health and listing included."""
    async with FakeEngine(dialect="llamacpp") as engine:
        engine.faults.set(Fault.LOADING)
        for path, body in (("/health", None), ("/v1/models", None), (CHAT_PATH, STREAM)):
            status, _, answer = await fetch(engine, path, body)
            assert status == 503
            assert json.loads(answer)["error"] == {
                "message": "Loading model",
                "type": "unavailable_error",
                "code": 503,
            }


async def test_keepalive_comments_precede_the_events() -> None:
    """Comments first, then the whole stream."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.KEEPALIVE_COMMENTS, delay_s=0.01)
        body = (await fetch(engine, CHAT_PATH, STREAM))[2]
        assert body.startswith(b": keep-alive\n\n" * 5 + b"data: {")
        assert events(body)[-1] == "[DONE]"


@pytest.mark.parametrize("dialect", ["openai", "ollama"])
async def test_ollama_formats_on_the_openai_path(dialect: str) -> None:
    """Native lines, or the same objects inside SSE, where OpenAI chunks were asked for."""
    async with FakeEngine(dialect=dialect) as engine:  # type: ignore[arg-type]
        engine.faults.set(Fault.OLLAMA_FORMAT)
        _, headers, body = await fetch(engine, CHAT_PATH, STREAM)
        assert headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in body.splitlines()]
        assert [line["done"] for line in lines] == [False] * 5 + [True]
        engine.faults.set(Fault.OLLAMA_SSE)
        _, headers, body = await fetch(engine, CHAT_PATH, STREAM)
        assert headers["content-type"] == "text/event-stream"
        assert "".join(event["message"]["content"] for event in events(body)) == (
            " the fleet answers every question"
        )


async def test_refuse_resets_what_is_open_and_refuses_what_comes() -> None:
    """The process is gone until cleared, then listens on the same port again."""
    async with FakeEngine() as engine:
        port = engine.port
        client = await RawClient.to(engine)
        client.send(CHAT_PATH, CHAT)
        await client.answer()
        engine.faults.set(Fault.REFUSE)
        assert (await client.rest())[0] == b""
        await client.close()
        with pytest.raises(ConnectionRefusedError):
            await RawClient.to(engine)
        engine.faults.clear()
        assert engine.port == port
        assert (await fetch(engine, CHAT_PATH, CHAT))[0] == 200


async def test_refuse_with_a_delay_ends_by_itself() -> None:
    """After ``delay_s`` the engine is back."""
    async with FakeEngine() as engine:
        engine.faults.set(Fault.REFUSE, delay_s=0.02)
        await settle(lambda: engine.faults.mode is Fault.NONE)
        assert (await fetch(engine, CHAT_PATH, CHAT))[0] == 200


async def test_every_fault_is_known_to_this_file() -> None:
    """A fault that nobody observes is a fault that nobody knows."""
    source = Path(__file__).read_text()
    assert [fault.name for fault in Fault if f"Fault.{fault.name}" not in source] == []


async def drain(client: RawClient) -> None:
    """Reads to the end."""
    while await client.reader.read(65536):
        pass


async def settle(condition: object) -> None:
    """Waits for what other tasks bring about, five seconds at most."""
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)
