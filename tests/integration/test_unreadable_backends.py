"""Servers that answer health checks with anything: each gets its reason, nothing raises, nobody
else waits (issue: "Bad input"). Over real sockets, through the gateway's own checker."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from nexus.core.backend import Backend, BackendSpec, EngineKind
from nexus.demo.engine import FakeEngine
from nexus.runtime.gateway import Gateway
from tests.harness import Running, chat, eventually, running, spec_of
from tests.integration.replying import Reply, Replying, endless, hanging
from tests.integration.scripted import head, plain

PATH = "/v1/chat/completions"
HEALTH = {"interval_seconds": 0.3, "timeout_seconds": 1.0}


async def dripping(writer: asyncio.StreamWriter) -> None:
    """A byte now and then, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def interim(writer: asyncio.StreamWriter) -> None:
    """Interim answers without end, and never a final one."""
    while not writer.is_closing():
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        await writer.drain()
        await asyncio.sleep(0.01)


async def all_head(writer: asyncio.StreamWriter) -> None:
    """A head without end."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"x-filler: " + b"y" * 60_000 + b"\r\n")
        await writer.drain()


def listing(entry: object) -> bytes:
    """A model list of one entry, also as Ollama would write it."""
    return plain({"object": "list", "data": [entry], "models": [entry]})


ODD: dict[str, Reply] = {
    "a page": plain(b"<!doctype html><title>Router</title>").replace(
        b"application/json", b"text/html"
    ),
    "an empty 200": plain(b""),
    "no content": head(status="204 No Content"),
    "not UTF-8": plain(b'{"object":"list","data":[{"id":"\xff\xfe\xc3("}]}'),
    "not JSON": plain(b"{'object': 'list', 'data': []}"),
    "half a JSON": plain(b'{"object":"list","data":[{"id":"m"'),
    "a number": plain(b"42"),
    "a deep nest": plain(b"[" * 500_000),
    "data of a wrong type": plain({"object": "list", "data": {"id": "m"}, "models": "m"}),
    "an error in a 200": plain({"error": "Unexpected endpoint or method. (GET /x)"}),
    "a redirect": plain(b"", "location: http://127.0.0.1:1/", status="302 Found"),
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "a length too long": head("content-length: 9999") + b'{"object":"list","data":[]}',
    "a length that is none": head("content-length: many") + b"{}",
    "a bad chunk": head("transfer-encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n",
    "a chunk beyond measure": head("transfer-encoding: chunked") + b"ffffffffffffffff\r\n{}",
    "a coded body": plain(b"\x1f\x8b\x08\x00garbage", "content-encoding: gzip"),
    "a body too large": head(f"content-length: {10**12}") + b"[" * 100_000,
    "hanging half-way": hanging,
    "without end": endless,
    "dripping": dripping,
    "interim for ever": interim,
    "a head without end": all_head,
}
FLOODS = ("without end", "a head without end", "interim for ever")
"""They cost this process, which plays both sides, more than all others together."""
KINDS = (None, EngineKind.OLLAMA, EngineKind.VLLM, EngineKind.LLAMACPP)


@contextlib.asynccontextmanager
async def odd_backends() -> AsyncIterator[list[BackendSpec]]:
    """Every odd server under every kind."""
    async with contextlib.AsyncExitStack() as stack:
        specs = []
        for what, reply in ODD.items():
            server = await stack.enter_async_context(Replying({}, default=reply))
            for kind in KINDS[:1] if what in FLOODS else KINDS:
                # The path makes four different servers of one.
                url = f"{server.url}/{kind}"
                specs.append(BackendSpec(name=f"{what} ({kind})", url=url, engine=kind))
        yield specs


def backend(run: Running, name: str) -> Backend:
    """A backend as the registry knows it now."""
    return run.gateway.store.snapshot.backends[name]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What the gateway takes for a fault of its own."""
    seen: list[BaseException] = []
    monkeypatch.setattr(Gateway, "unexpected", lambda self, error, request_id: seen.append(error))
    return seen


async def test_each_gets_its_reason_and_nobody_waits(faults: list[BaseException]) -> None:
    """A hundred backends that are past all reading: all unhealthy for a reason that can be printed,
    no fault of our own, and meanwhile the one good backend is checked in time and serves."""
    async with (
        odd_backends() as odd,
        FakeEngine(name="good") as engine,
        running(spec_of(engine), *odd, wait=False, health=HEALTH) as run,
    ):
        await run.healthy("good")
        gaps, last_s, seen_at = [], monotonic(), backend(run, "good").last_check_at_s
        checked = {spec.name: 0 for spec in odd}

        def all_judged() -> bool:
            nonlocal last_s, seen_at
            now_at = backend(run, "good").last_check_at_s
            if now_at != seen_at:
                gaps.append(monotonic() - last_s)
                last_s, seen_at = monotonic(), now_at
            for name in checked:
                checked[name] |= backend(run, name).last_check_at_s is not None
            return all(checked.values()) and len(gaps) >= 5

        await eventually(all_judged, "every backend judged, the good one several times", 30.0)
        await run.healthy("good")
        answer = await run.client.post(PATH, json=chat())
        assert answer.status_code == 200
        # Its own interval and timeout, and a busy machine; the hundred's timeouts would be 200 s.
        assert max(gaps) < 5.0, gaps
        for spec in odd:
            one = backend(run, spec.name)
            assert one.status == "unhealthy", (spec.name, one.reason)
            assert one.reason
            assert one.reason.isprintable(), one.reason
            assert "<" not in one.reason
            assert len(one.reason) < 500
    assert faults == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_hundred_thousand_models_hold_up_nobody(kind: EngineKind | None) -> None:
    """The first of them are taken, the reason says so, and the good backend answers meanwhile."""
    many = [{"id": f"m{n}", "name": f"m{n}"} for n in range(100_000)]
    body = json.dumps({"data": many}, separators=(",", ":")).encode()
    if kind is EngineKind.OLLAMA:
        body = json.dumps({"models": [{"name": f"m{n}"} for n in range(100_000)]}).encode()
    async with (
        Replying({"/v1/models": plain(body), "/api/tags": plain(body)}) as server,
        FakeEngine(name="good") as engine,
        running(
            spec_of(engine),
            BackendSpec(name="huge", url=server.url, engine=kind),
            wait=False,
            health=HEALTH | {"timeout_seconds": 5},
        ) as run,
    ):
        await run.healthy("good", "huge")
        huge = backend(run, "huge")
        assert len(huge.models) == 4096
        assert "the first 4096 are taken" in huge.reason
        assert (await run.client.post(PATH, json=chat())).status_code == 200


async def test_a_list_larger_than_the_bound_is_refused_with_the_bound() -> None:
    """Five megabytes of models: unhealthy, and the reason is the size."""
    body = json.dumps({"data": [{"id": "m" * 1000} for _ in range(5000)]}).encode()
    async with (
        Replying({}, default=plain(body)) as server,
        running(
            BackendSpec(name="huge", url=server.url, engine=EngineKind.GENERIC),
            wait=False,
            health=HEALTH,
        ) as run,
    ):
        await eventually(lambda: backend(run, "huge").status == "unhealthy", "it was judged")
        assert "larger than 4194304 bytes" in backend(run, "huge").reason


@pytest.mark.parametrize("window", [-1, 0, "4096", 1e300, [1], None])
async def test_a_window_that_is_none_is_unknown(window: object) -> None:
    """The backend serves; nothing is refused for a window that nobody believes."""
    entry = {"id": "demo-model", "max_model_len": window, "created": -5, "owned_by": 7}
    async with (
        Replying({"/v1/models": listing(entry), "/health": plain(b"")}) as server,
        running(
            BackendSpec(name="odd", url=server.url, engine=EngineKind.VLLM), health=HEALTH
        ) as run,
    ):
        (model,) = backend(run, "odd").models
        assert (model.id, model.context_length, model.created) == ("demo-model", None, 0)
        shown = (await run.client.get("/v1/models")).json()["data"]
        assert [(one["id"], one["context_length"]) for one in shown] == [("demo-model", None)]
