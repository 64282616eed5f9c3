"""How heads are written, and what may stand in them."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from time import time
from urllib.parse import unquote

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.http1 import headers
from nexus.http1.headers import (
    connection_names,
    encode_value,
    http_date,
    is_field_value,
    serialise_response,
    status_line,
)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (404, b"HTTP/1.1 404 Not Found\r\n"),
        (503, b"HTTP/1.1 503 Service Unavailable\r\n"),
        (599, b"HTTP/1.1 599 \r\n"),
    ],
)
def test_status_line(status: int, line: bytes) -> None:
    """A known status has its phrase, another an empty one."""
    assert status_line(status) == line


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (b"close", {b"close"}),
        (b"Keep-Alive, X-Secret", {b"keep-alive", b"x-secret"}),
        (b" a ,,\tB, ", {b"a", b"b"}),
        (b"", set()),
    ],
)
def test_connection_names(value: bytes, names: set[bytes]) -> None:
    """The options are read without case, space and empty items."""
    assert connection_names(value) == names


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("llama3:70b", b"llama3:70b"),
        ("org/model-1.5_Q4", b"org/model-1.5_Q4"),
        ("my model", b"my%20model"),
        ("café", b"caf%C3%A9"),
        ("a\r\nSet-Cookie: b", b"a%0D%0ASet-Cookie:%20b"),
        ("", b""),
        ("\x7f\x00", b"%7F%00"),
        ("a\ud800b", b"a?b"),
    ],
)
def test_encode_value(text: str, value: bytes) -> None:
    """Visible ASCII stays, all else is percent-encoded."""
    assert encode_value(text) == value


@settings(deadline=None, max_examples=100)
@given(st.text(st.characters()))
def test_an_encoded_value_splits_nothing(text: str) -> None:
    """Whatever a name holds, its header value is visible ASCII, and can be decoded unless it held
    what no encoding can say (a lone surrogate)."""
    value = encode_value(text)
    assert all(0x21 <= byte <= 0x7E for byte in value)
    if "%" not in text and not any("\ud800" <= ch <= "\udfff" for ch in text):
        assert unquote(value.decode()) == text


@pytest.mark.parametrize("text", ["", "abc", "a b", "a\tb", "caf\u00e9", "!~"])
def test_field_values(text: str) -> None:
    """What may stand in a configured header."""
    assert is_field_value(text)


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "\x00", "a\x7f", "\x1b[0m", "\u0100", "日本"])
def test_no_field_values(text: str) -> None:
    """What may not: control bytes, and what Latin-1 cannot say."""
    assert not is_field_value(text)


def test_http_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """The date is now, in the fixed form, and follows the clock."""
    assert abs(parsedate_to_datetime(http_date().decode()).timestamp() - time()) < 2
    monkeypatch.setattr(headers, "time", lambda: 784_111_777.9)
    assert http_date() == b"Sun, 06 Nov 1994 08:49:37 GMT"
    monkeypatch.setattr(headers, "time", lambda: 784_111_778.1)
    assert http_date() == b"Sun, 06 Nov 1994 08:49:38 GMT"


def read(data: bytes, method: bytes = b"GET") -> tuple[h11.Response, bytes, bool]:
    """A response as h11 reads it: head, body, and whether the connection goes on."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    head = client.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data[0] == b""
    return head, body, client.their_state is h11.DONE


@pytest.mark.parametrize("close", [True, False])
@pytest.mark.parametrize("status", [200, 204, 404, 503])
def test_a_response_is_framed(status: int, close: bool) -> None:
    """Another parser finds the body's end, and whether the connection goes on."""
    body = b"" if status == 204 else b'{"a":1}'
    data = serialise_response(status, [(b"x-a", b"1")], body, close=close)
    head, seen, goes_on = read(data)
    assert (head.status_code, seen, goes_on) == (status, body, not close)
    fields = dict(head.headers)
    assert fields[b"x-a"] == b"1"
    assert fields[b"x-content-type-options"] == b"nosniff"
    assert (b"content-length" in fields) == (status != 204)


def test_an_answer_to_head() -> None:
    """It has the length of the body that GET would get, and no body."""
    data = serialise_response(200, [], b"12345", close=False, head_only=True)
    head, seen, goes_on = read(data, b"HEAD")
    assert dict(head.headers)[b"content-length"] == b"5"
    assert (seen, goes_on) == (b"", True)
