"""The ``model`` field of multipart forms."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.core.errors import ApiError
from nexus.dialects.multipart import read_multipart_model

_TYPE = "multipart/form-data; boundary=XX"


def _form(*parts: tuple[str, bytes], boundary: bytes = b"XX") -> bytes:
    body = b""
    for disposition, value in parts:
        head = f"Content-Disposition: form-data; {disposition}\r\n".encode()
        body += b"--" + boundary + b"\r\n" + head + b"\r\n" + value + b"\r\n"
    return body + b"--" + boundary + b"--\r\n"


@pytest.mark.parametrize("disposition", ['name="model"', "name=model", 'NAME = "model"'])
def test_the_model_field_is_found(disposition: str) -> None:
    """Wherever it stands, between files of any bytes."""
    audio = ('name="file"; filename="a.wav"', b"\x00\r\n--X\r\n\r\nname=model\xff")
    body = _form(audio, (disposition, b"whisper-1"), audio)
    assert read_multipart_model(body, _TYPE) == "whisper-1"


def test_preamble_quoted_boundary_and_upper_case_are_understood() -> None:
    """RFC 2046: text before the first delimiter is ignored; the type is case-insensitive."""
    body = b"hello\r\n" + _form(('name="model"', b"m"), boundary=b"a b")
    assert read_multipart_model(body, 'Multipart/Form-Data; charset=x; Boundary="a b"') == "m"


def test_a_file_name_that_looks_like_a_field_is_none() -> None:
    """``filename="x; name=model"`` names no field."""
    with pytest.raises(ApiError, match="missing"):
        read_multipart_model(_form(('filename="x; name=model"; name="file"', b"m")), _TYPE)


@pytest.mark.parametrize(
    ("body", "content_type", "says"),
    [
        (_form(('name="file"', b"x")), _TYPE, "missing"),
        (_form(('name="Model"', b"x")), _TYPE, "missing"),
        (_form(('name="model"', b"a"), ('name="model"', b"a")), _TYPE, "2 times"),
        (_form(('name="model"', b"a"), ('name="MODEL"', b"b")), _TYPE, "2 times"),
        (_form(('name="model"', b"")), _TYPE, "empty"),
        (_form(('name="model"', b"x" * 5000)), _TYPE, "too long"),
        (_form(('name="model"', b"\xff")), _TYPE, "UTF-8"),
        (_form(('name="model"', b"a")), "multipart/form-data", "boundary"),
        (_form(('name="model"', b"a")), "application/json", "boundary"),
        (_form(('name="model"', b"a"))[:-6], _TYPE, "boundary"),
        (b"--XX junk\r\n\r\n--XX--", _TYPE, "malformed"),
        (b"--XX\r\nno end of head\r\n--XX--", _TYPE, "end of head"),
        (b"", _TYPE, "boundary"),
        (_form(*[('name="x"', b"")] * 1001), _TYPE, "more than"),
    ],
)
def test_a_form_without_one_clear_model_is_refused(
    body: bytes, content_type: str, says: str
) -> None:
    """None, two, an unreadable one: 400 that says which."""
    with pytest.raises(ApiError, match=says) as caught:
        read_multipart_model(body, content_type)
    assert caught.value.status == 400


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from([b"--XX", b"--", b"\r\n", b'name="model"', b"x", b": "])))
def test_no_body_raises_anything_but_a_refusal(pieces: list[bytes]) -> None:
    """Whatever the bytes, a name or a 400."""
    model, status = "", 200
    try:
        model = read_multipart_model(b"".join(pieces), _TYPE)
    except ApiError as error:
        status = error.status
    assert status == (200 if model else 400)
