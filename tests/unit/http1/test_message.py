"""A request as the server hands it over, and the head that its client repeats."""

from __future__ import annotations

import pytest

from nexus.http1.message import Request
from tests.unit.http1.served import serve


def request(*headers: tuple[bytes, bytes]) -> Request:
    """A GET with these fields."""
    return Request(b"GET", b"/", b"", list(headers))


def test_the_first_field_of_a_name_counts() -> None:
    """``header`` gives the first value, ``None`` when there is none."""
    one = request((b"a", b"1"), (b"b", b"2"), (b"a", b"3"))
    assert one.header(b"a") == b"1"
    assert one.header(b"c") is None


@pytest.mark.parametrize("value", [b"abc", b"a" * 200, b"!~"])
def test_a_request_id_is_kept(value: bytes) -> None:
    """Visible ASCII up to 200 characters is an id."""
    assert request((b"x-request-id", value)).kept_id() == value.decode()


@pytest.mark.parametrize("value", [b"", b"a b", b"a\t", b"\xff", b"a" * 201, b"a\n", b"a\x7f"])
def test_a_hostile_request_id_is_not(value: bytes) -> None:
    """Nothing else is."""
    assert request((b"x-request-id", value)).kept_id() is None
    assert request().kept_id() is None


def post(body: bytes, *fields: bytes, path: bytes = b"/v1/x") -> bytes:
    """A POST with its length between other fields."""
    lines = (b"POST " + path + b" HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(body))
    return b"\r\n".join((*lines, *fields, b"", body))


def test_a_repeated_head_has_its_own_body() -> None:
    """The same head with another length is another request, read by its own length."""
    bodies = [b"a", b"bcd", b"", b"e" * 1000, b"a"]
    recorder, _, _ = serve([post(body, b"X-A: 1") for body in bodies])
    assert [one.body for one in recorder.requests] == bodies
    assert {one.memo for one in recorder.requests[1:]} == {recorder.requests[0].memo}


@pytest.mark.parametrize(
    "changed",
    [
        post(b"a", b"X-A: 2"),
        post(b"a", b"X-B: 1"),
        post(b"a", b"X-A: 1", b"X-A: 1"),
        post(b"a"),
        post(b"a", b"X-A: 1", path=b"/v1/y"),
        post(b"a", b"X-A: 1").replace(b"POST", b"PUT"),
        post(b"a", b"X-A: 1").replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(b"a", b"X-A: 1", b"Connection: close"),
    ],
)
def test_a_head_that_differs_is_read_anew(changed: bytes) -> None:
    """A head that differs in anything else is checked as the first one was."""
    recorder, _, _ = serve([post(b"a", b"X-A: 1"), changed])
    alone, _, _ = serve([changed])
    first, second = recorder.requests
    assert second.memo is not first.memo
    for name in ("method", "path", "query", "headers", "body", "http10", "keep_alive"):
        assert getattr(second, name) == getattr(alone.requests[0], name)


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (post(b"a", b"X-A: 1").replace(b"Length: 1", b"Length: 99999999"), 413),
        (post(b"a", b"X-A: 1").replace(b"Length: 1", b"Length: +1"), 400),
        (post(b"a", b"X-A: 1").replace(b"Host: a", b"Host: b/c"), 400),
        (post(b"a", b"X-A: 1", b"Host: a"), 400),
        (post(b"a", b"X-A: 1", b"Transfer-Encoding: chunked"), 400),
    ],
)
def test_a_repeated_head_is_not_trusted_further(bad: bytes, status: int) -> None:
    """What is refused alone is refused behind a good head, too."""
    recorder, transport, budget = serve([post(b"a", b"X-A: 1"), bad])
    assert len(recorder.requests) == 1
    assert recorder.refusal is not None
    assert recorder.refusal.status == status
    assert transport.ended
    assert budget.used_bytes == 0


def test_a_body_in_tiny_chunks_is_not_kept_in_tiny_objects() -> None:
    """A body of thousands of chunks arrives whole, and the budget is whole afterwards."""
    body = bytes(range(256)) * 40
    chunks = b"".join(b"2\r\n%b\r\n" % body[at : at + 2] for at in range(0, len(body), 2))
    head = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    recorder, _, budget = serve([head + chunks + b"0\r\n\r\n"] * 2)
    assert [one.body for one in recorder.requests] == [body, body]
    assert budget.used_bytes == 0
