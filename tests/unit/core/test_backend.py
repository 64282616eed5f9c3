"""Backend addresses."""

from __future__ import annotations

import pytest

from nexus.core.backend import BackendUrl, parse_backend_url


@pytest.mark.parametrize(
    ("url", "parts", "authority"),
    [
        ("http://gpu:8000", ("http", "gpu", 8000, "", ""), "gpu:8000"),
        ("http://gpu:8000/v1", ("http", "gpu", 8000, "", ""), "gpu:8000"),
        ("http://gpu:8000/v1/", ("http", "gpu", 8000, "", ""), "gpu:8000"),
        ("https://api.test/openai/v1", ("https", "api.test", 443, "/openai", ""), "api.test"),
        ("https://api.test?api-version=1", ("https", "api.test", 443, "", "api-version=1"), None),
        ("http://GPU", ("http", "gpu", 80, "", ""), "gpu"),
        ("http://[::1]:11434/", ("http", "::1", 11434, "", ""), "[::1]:11434"),
        ("http://[fe80::1%25eth0]:1", ("http", "fe80::1%eth0", 1, "", ""), "[fe80::1]:1"),
        ("http://[fe80::1%eth0]:1", ("http", "fe80::1%eth0", 1, "", ""), "[fe80::1]:1"),
        ("http://[fe80::1%25]:1", ("http", "fe80::1%25", 1, "", ""), "[fe80::1]:1"),
        ("http://gpu/apiv1x", ("http", "gpu", 80, "/apiv1x", ""), "gpu"),
    ],
)
def test_a_url_is_taken_apart(
    url: str, parts: tuple[str, str, int, str, str] | None, authority: str | None
) -> None:
    """With or without ``/v1``, base path, query, slash, IPv6; Host leaves default ports out."""
    address = parse_backend_url(url)
    if parts is not None:
        assert address == BackendUrl(*parts)
    if authority is not None:
        assert address.authority == authority


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("gpu:8000", "must begin with"),
        ("ftp://gpu", "must begin with"),
        ("http://", "no host"),
        ("http://gpu:0", "port 0"),
        ("http://gpu:99999", "out of range"),
        ("http://gpu:x", "Port"),
        ("http://[::1", "IPv6"),
        ("http://gpu/#part", "fragment"),
        ("http://gpu/a b", "white space"),
        ("http://gpu\r\nX: 1", "white space"),
        ("http://user:secret@gpu", "user or password"),
    ],
)
def test_a_bad_url_says_what_is_wrong(url: str, says: str) -> None:
    """A sentence about the mistake, never a password."""
    with pytest.raises(ValueError, match=says) as caught:
        parse_backend_url(url)
    assert "secret" not in str(caught.value)
