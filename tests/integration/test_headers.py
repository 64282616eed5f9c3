"""Headers in both directions (behaviour § 2.3)."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nexus.core.backend import EngineKind, Source
from nexus.demo.engine import FakeEngine
from tests.harness import Running, chat, raw, running, spec_of
from tests.integration.scripted import Scripted, Talk, head, plain, playing
from tests.integration.test_failover import PATH

OK = plain({"id": "x", "choices": [{"finish_reason": "stop"}]})
SECRETS = {"authorization": "Bearer c1", "x-api-key": "c2", "api-key": "c3"}


class Pair:
    def __init__(self, upstream: Scripted, gateway: Running) -> None:
        self.upstream = upstream
        self.gateway = gateway

    async def ask(self, *fields: str, model: str = "demo-model") -> tuple[int, list[str]]:
        """Status and header lines of the answer to a request with further header ``fields``."""
        body = json.dumps(chat(model=model)).encode()
        lines = (f"POST {PATH} HTTP/1.1", "host: nexus", *fields, f"content-length: {len(body)}")
        async with raw(self.gateway.port) as client:
            client.send("\r\n".join((*lines, "", "")).encode("latin-1") + body)
            got = (await client.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            return int(got[0].split(" ")[1]), [line for line in got[1:] if line]

    @property
    def seen(self) -> Talk:
        return self.upstream.talks[-1]


@contextlib.asynccontextmanager
async def paired(answer: bytes = OK, **spec: Any) -> AsyncIterator[Pair]:
    models = spec.pop("served", ("demo-model",))
    async with (
        Scripted(playing(answer), models=models) as upstream,
        running(upstream.spec(**spec)) as gateway,
    ):
        yield Pair(upstream, gateway)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with paired() as pair:
        yield pair


def named(lines: list[str]) -> dict[str, str]:
    """Header lines as names and values; no name may come twice."""
    pairs = [line.partition(": ") for line in lines]
    assert len({name for name, _, _ in pairs}) == len(pairs), lines
    return {name: value for name, _, value in pairs}


# --- in -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [Source.STATIC, Source.MANUAL])
async def test_credentials_reach_backends_the_operator_named(source: Source) -> None:
    """A static or manual backend without a key of its own gets the client's."""
    async with paired(source=source) as pair:
        await pair.ask(*(f"{name}: {value}" for name, value in SECRETS.items()))
        for name, value in SECRETS.items():
            assert pair.seen.field(name) == [value]


@pytest.mark.parametrize("source", [Source.SCAN, Source.MDNS])
async def test_credentials_stay_away_from_found_backends(source: Source) -> None:
    """Nobody vouches for a discovered backend."""
    async with paired(source=source) as pair:
        await pair.ask(*(f"{name}: {value}" for name, value in SECRETS.items()))
        for name in SECRETS:
            assert pair.seen.field(name) == []


async def test_found_backends_may_be_trusted() -> None:
    """``forward_authorization`` lifts that."""
    async with paired(source=Source.MDNS, forward_authorization=True) as pair:
        await pair.ask("Authorization: Bearer c1")
        assert pair.seen.field("authorization") == ["Bearer c1"]


async def test_a_backend_with_a_key_gets_its_own() -> None:
    """Its key and none of the client's credentials."""
    async with paired(api_key="own-key") as pair:
        await pair.ask(*(f"{name}: {value}" for name, value in SECRETS.items()))
        assert pair.seen.field("authorization") == ["Bearer own-key"]
        assert pair.seen.field("x-api-key") == pair.seen.field("api-key") == []


async def test_a_configured_header_stands_above_the_clients() -> None:
    """What the operator set for a backend is sent once, with the operator's value."""
    async with paired(headers={"Api-Key": "operators", "X-Team": "a"}) as pair:
        await pair.ask("api-key: clients", "Authorization: c", "x-team: b", "x-other: c")
        assert pair.seen.field("authorization") == []
        assert pair.seen.field("api-key") == ["operators"]
        assert pair.seen.field("x-team") == ["a"]
        assert pair.seen.field("x-other") == ["c"]


HOP = [
    "Connection: X-Mine, keep-alive",
    "Connection: x-also",
    "X-Mine: 1",
    "X-Also: 2",
    "Keep-Alive: timeout=5",
    "Proxy-Connection: keep-alive",
    "Proxy-Authorization: Basic x",
    "Proxy-Authenticate: Basic",
    "TE: trailers",
    "Trailer: X-T",
    "Cookie: session=1",
    "x-nexus-pin: scripted",
    "x-nexus-anything: 1",
    "Accept-Encoding: gzip, deflate",
]


async def test_hop_by_hop_fields_stay_here(pair: Pair) -> None:
    """Those of RFC 9110 § 7.6.1, those that Connection names, cookies and our own."""
    status, _ = await pair.ask(*HOP)
    assert status == 200
    for line in HOP:
        name = line.partition(":")[0].lower()
        if name != "accept-encoding":
            assert pair.seen.field(name) == [], name


async def test_the_rest_goes_on(pair: Pair) -> None:
    """End-to-end fields arrive as they were; Host and Accept-Encoding are the backend's own."""
    kept = [
        "User-Agent: test/1",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "OpenAI-Organization: o",
        "X-Odd: caf\xe9",
        "x-twice: 1",
        "x-twice: 2",
        "Content-Type: application/json; charset=utf-8",
    ]
    await pair.ask(*kept, "Accept-Encoding: gzip")
    for line in kept:
        name, _, value = line.partition(": ")
        assert value in pair.seen.field(name.lower())
    assert pair.seen.field("x-twice") == ["1", "2"]
    assert pair.seen.field("host") == [f"127.0.0.1:{pair.upstream.port}"]
    assert pair.seen.field("accept-encoding") == ["identity"]


async def test_the_request_id_is_kept_or_made(pair: Pair) -> None:
    """The client's id goes upstream and back; an odd one is replaced in both."""
    _, lines = await pair.ask("X-Request-Id: mine-1")
    assert named(lines)["x-request-id"] == "mine-1"
    assert pair.seen.field("x-request-id") == ["mine-1"]
    for odd in ("x" * 300, "two words", "caf\xe9"):
        _, lines = await pair.ask(f"X-Request-Id: {odd}")
        made = named(lines)["x-request-id"]
        assert made != odd
        assert pair.seen.field("x-request-id") == [made]


async def test_engines_that_misread_a_field_do_not_get_it() -> None:
    """An unknown server may refuse ids that are no UUID: it gets one of ours; the client keeps
    its own."""
    async with paired(engine=EngineKind.GENERIC) as pair:
        _, lines = await pair.ask("X-Request-Id: mine-1")
        assert named(lines)["x-request-id"] == "mine-1"
        assert pair.seen.field("x-request-id") not in ([], ["mine-1"])


async def test_a_query_goes_along() -> None:
    """The client's query and the operator's, neither encoded anew."""
    async with paired(query={"api-version": "1"}) as pair:
        body = json.dumps(chat()).encode()
        async with raw(pair.gateway.port) as client:
            lines = f"POST {PATH}?a=%2F&b HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}"
            client.send(lines.encode() + b"\r\n\r\n" + body)
            assert (await client.response())[0] == 200
        assert pair.seen.target == f"{PATH}?api-version=1&a=%2F&b"


# --- out ----------------------------------------------------------------------------------------

ORIGIN = [
    "Set-Cookie: a=1",
    "Access-Control-Allow-Origin: *",
    "Access-Control-Whatever: x",
    "Clear-Site-Data: *",
    "Strict-Transport-Security: max-age=1",
    "Alt-Svc: h3",
    "X-Nexus-Backend: fake",
    "X-Nexus-New: fake",
    "X-Request-Id: theirs",
    "X-Hop: 1",
    "Connection: x-hop",
    "Connection: X-Late",
    "X-Late: 1",
    "Keep-Alive: timeout=9",
    "X-Content-Type-Options: theirs",
]


def _answers() -> list[Any]:
    body = b'{"id":"x","choices":[]}'
    event = b'data: {"choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    error = b'{"error":{"message":"no"}}'
    return [
        pytest.param(plain(body, *ORIGIN), False, id="plain"),
        pytest.param(plain(error, *ORIGIN, status="422 No"), False, id="error"),
        pytest.param(
            head("content-type: text/event-stream", f"content-length: {len(event)}", *ORIGIN)
            + event,
            True,
            id="stream",
        ),
    ]


@pytest.mark.parametrize(("answer", "stream"), _answers())
async def test_what_would_act_on_our_origin_is_stripped(answer: bytes, stream: bool) -> None:
    """Cookies, CORS, hop-by-hop fields and stolen names stay here in every kind of answer."""
    async with paired(answer) as pair:
        got = await pair.gateway.client.post(
            PATH, json=chat(stream=stream), headers={"x-request-id": "mine"}
        )
        names = [name for name, _ in got.headers.multi_items()]
        for line in ORIGIN:
            name, _, value = line.partition(": ")
            assert value not in got.headers.get_list(name), name
        assert names.count("x-request-id") == 1
        assert got.headers["x-request-id"] == "mine"
        assert names.count("x-content-type-options") == 1
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["x-nexus-backend"] == "scripted"


async def test_end_to_end_fields_come_back() -> None:
    """What the engine says about limits and itself passes, several values too."""
    fields = ("X-RateLimit-Remaining: 5", "openai-version: 1", "vary: a", "vary: b")
    async with paired(plain({"choices": []}, *fields)) as pair:
        got = await pair.gateway.client.post(PATH, json=chat())
        assert got.headers["x-ratelimit-remaining"] == "5"
        assert got.headers["openai-version"] == "1"
        assert got.headers.get_list("vary") == ["a", "b"]


async def test_what_was_checked_as_json_leaves_as_json() -> None:
    """An engine that calls its JSON a page cannot make browsers show it as one."""
    body = b'{"choices":[],"x":"<script>"}'
    answer = head("content-type: text/html", f"content-length: {len(body)}") + body
    async with paired(answer) as pair:
        got = await pair.gateway.client.post(PATH, json=chat())
        assert got.headers["content-type"] == "application/json"


async def test_every_answer_says_who_and_why(pair: Pair) -> None:
    """The route of an answer stands in its head."""
    got = (await pair.gateway.client.post(PATH, json=chat())).headers
    assert got["x-nexus-backend"] == "scripted"
    assert got["x-nexus-engine"] == "openai"
    assert got["x-nexus-backend-type"] == "cloud"
    assert got["x-nexus-model"] == "demo-model"
    assert got["x-nexus-route-reason"] == "capability-match"
    assert got["x-nexus-attempts"] == "1"


HOSTILE = [
    "a\r\nSet-Cookie: x=1",
    "a\nb",
    "caf\u00e9 \u6a21",
    "sp ace",
    "nul\x00",
    "del\x7f",
    "\x85",
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_name_splits_a_response(name: str) -> None:
    """A model or backend may be called anything: in headers it is percent-encoded."""
    async with paired(served=(name,), name=f"b{name}") as pair:
        status, lines = await pair.ask(model=name)
        assert status == 200
        fields = named(lines)
        assert "set-cookie" not in fields
        for field in ("x-nexus-model", "x-nexus-backend"):
            assert fields[field].isascii()
            assert fields[field].isprintable()
            assert "%" in fields[field]
        assert json.loads(pair.seen.body)["model"] == name


async def test_ignored_fields_are_told() -> None:
    """Fields of the request that the engine drops are told by name."""
    async with FakeEngine(dialect="ollama") as engine, running(engine) as gateway:
        got = await gateway.client.post(PATH, json=chat(n=2, logit_bias={"1": 1}))
        assert sorted(got.headers["x-nexus-ignored"].split(", ")) == ["logit_bias", "n"]
        got = await gateway.client.post(PATH, json=chat(n=1))
        assert "x-nexus-ignored" not in got.headers


async def test_an_error_put_into_our_shape_is_not_called_coded() -> None:
    """A backend that compresses its error unasked: the new body does not carry its coding."""
    coded = plain(gzip.compress(b"nope"), "content-encoding: gzip", status="400 Bad Request")
    async with Scripted(playing(coded)) as backend, running(backend.spec()) as gateway:
        answer = await gateway.client.post(PATH, json=chat())
        assert answer.status_code == 400
        assert "content-encoding" not in answer.headers
        assert answer.json()["error"]["message"]


@pytest.mark.parametrize("own_key", [False, True])
async def test_a_key_in_the_query_goes_where_credentials_go(own_key: bool) -> None:
    """Parameters in which services take a key stay here where the client's credentials do."""
    async with FakeEngine() as engine:
        spec = spec_of(engine, api_key="sk-own" if own_key else "")
        async with running(spec) as run:
            path = "/v1/chat/completions?v=1&api%5Fkey=secret&Key=secret&w=2"
            assert (await run.client.post(path, json=chat())).status_code == 200
        query = engine.calls[-1].query
        assert query == ("v=1&w=2" if own_key else "v=1&api%5Fkey=secret&Key=secret&w=2")
