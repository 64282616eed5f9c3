"""Request ids on every answer, the admin API, preflights of pages (behaviour §§ 2.3, 11)."""

from __future__ import annotations

import pytest

from nexus.demo.engine import FakeEngine
from tests.harness import Running, raw
from tests.integration.http.wire import CHAT, CHAT_BODY, check_error, get, post, request

ADMIN = ["/admin/v1/backends", "/admin/v1/stats", "/v1/stats"]


@pytest.mark.parametrize("slash", ["", "/"], ids=["plain", "slash"])
@pytest.mark.parametrize("path", ADMIN)
async def test_head_of_the_admin_api(gateway: Running, path: str, slash: str) -> None:
    """HEAD answers as GET does, without the body; a trailing slash is forgiven."""
    target = f"{path}{slash}".encode()
    local = b"Host: localhost"
    async with raw(gateway.port) as client:
        client.send(request(b"GET " + target + b" HTTP/1.1", local, host=False))
        status, headers, body = await client.response()
        assert status == 200
        assert headers["content-length"] == str(len(body))
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-request-id"]
        client.send(request(b"HEAD " + target + b" HTTP/1.1", local, host=False))
        head = (await client.until(b"\r\n\r\n")).decode().lower()
        assert head.startswith("http/1.1 200 ")
        assert "content-length: " in head
        client.send(request(b"GET /livez HTTP/1.1"))
        assert (await client.response())[2] == b'{"status":"alive"}'


@pytest.mark.parametrize("path", ADMIN)
async def test_a_wrong_method_for_the_admin_api(gateway: Running, path: str) -> None:
    """The admin API's 405 looks like every other."""
    async with raw(gateway.port) as client:
        line = f"DELETE {path} HTTP/1.1".encode()
        client.send(request(line, b"Host: localhost", host=False))
        answer = await client.response()
        check_error(answer, 405, "method_not_allowed")
        assert "GET" in answer[1]["allow"]


@pytest.mark.parametrize("path", [b"/v1/models", b"/v1/models/demo-model", b"/health"])
async def test_a_preflight_of_a_page(gateway: Running, path: bytes) -> None:
    """The preflight of a GET with a credential is granted, too: else no page lists the models."""
    async with raw(gateway.port) as client:
        client.send(
            request(
                b"OPTIONS " + path + b" HTTP/1.1",
                b"Origin: http://localhost:3000",
                b"Access-Control-Request-Method: GET",
                b"Access-Control-Request-Headers: authorization",
            )
        )
        status, headers, _ = await client.response()
        assert status == 204
        assert headers["access-control-allow-origin"] == "http://localhost:3000"
        assert headers["access-control-allow-headers"] == "authorization"


async def test_no_preflight_into_the_admin_api(gateway: Running) -> None:
    """Pages of other origins are never let into the admin API, not even local ones."""
    async with raw(gateway.port) as client:
        client.send(
            request(
                b"OPTIONS /admin/v1/backends HTTP/1.1",
                b"Host: localhost",
                b"Origin: http://localhost:3000",
                b"Access-Control-Request-Method: GET",
                host=False,
            )
        )
        check_error(await client.response(), 403, "forbidden")


# --- request ids --------------------------------------------------------------------------------

GOOD_IDS = [b"abc", b"7d8f3c1e-0000-4000-8000-000000000001", b"a" * 200, b"!#$%&'*+-.^_`|~"]
HOSTILE_IDS = [b"", b"a" * 201, b"a b", b"a\tb", b"caf\xc3\xa9", b"\xff", b"a" * 10_000]

ANSWERS = {
    "call": post(),
    "call-refused": post(b"not json"),
    "page": get(b"/v1/models"),
    "unknown-path": get(b"/nowhere"),
    "wrong-method": request(b"PUT " + CHAT + b" HTTP/1.1"),
    "wrong-method-of-a-page": request(b"PUT /health HTTP/1.1"),
    "admin": request(b"GET /admin/v1/stats HTTP/1.1", b"Host: localhost", host=False),
    "admin-refused": get(b"/admin/v1/stats"),
}


def with_id(data: bytes, value: bytes) -> bytes:
    """The request with this ``X-Request-Id``."""
    line, _, rest = data.partition(b"\r\n")
    return line + b"\r\nX-Request-Id: " + value + b"\r\n" + rest


@pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS)
async def test_a_good_request_id_is_kept(gateway: Running, data: bytes) -> None:
    """The client's request id comes back with every answer."""
    async with raw(gateway.port) as client:
        for value in GOOD_IDS:
            client.send(with_id(data, value))
            _, headers, _ = await client.response()
            assert headers["x-request-id"] == value.decode()


@pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS)
async def test_a_hostile_request_id_is_replaced(gateway: Running, data: bytes) -> None:
    """What cannot stand in a header or a log line is replaced by an id of ours, a new one each
    time."""
    made = set()
    async with raw(gateway.port) as client:
        for value in HOSTILE_IDS:
            client.send(with_id(data, value))
            _, headers, _ = await client.response()
            assert 0 < len(headers["x-request-id"]) <= 200
            assert headers["x-request-id"].encode("latin-1") != value
            made.add(headers["x-request-id"])
    assert len(made) == len(HOSTILE_IDS)


async def test_the_id_goes_upstream(gateway: Running, engine: FakeEngine) -> None:
    """The backend gets the id that the client is told."""
    async with raw(gateway.port) as client:
        client.send(with_id(post(), b"kept-1") + post(CHAT_BODY))
        await client.response()
        _, headers, _ = await client.response()
    assert [call.header(b"x-request-id") for call in engine.calls] == [
        b"kept-1",
        headers["x-request-id"].encode(),
    ]


async def test_a_doubled_origin_does_not_pass_for_its_last(gateway: Running) -> None:
    """Repeated fields count as one list: a foreign origin cannot hide before our own."""
    async with raw(gateway.port) as client:
        own = f"http://127.0.0.1:{gateway.port}"
        client.send(
            b"GET /admin/v1/stats HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
            b"Origin: http://evil.example\r\nOrigin: %b\r\n\r\n" % (gateway.port, own.encode())
        )
        assert (await client.response())[0] == 403
