"""The marks in ``Via`` (RFC 9110 § 7.6.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.core.errors import ApiError
from nexus.proxy.heads import client_fields
from nexus.proxy.hops import check_loop, hop_mark, nexus_hops, via_line

OWN = hop_mark("abc123")


@pytest.mark.parametrize(
    ("via", "hops"),
    [
        (b"1.1 nexus-a1", (b"nexus-a1",)),
        (b"HTTP/1.1 NEXUS-A1 (comment)", (b"nexus-a1",)),
        (b"1.0 fred, 1.1 nexus-a1, 1.1 proxy.example:80", (b"nexus-a1",)),
        (b"1.1 nexus-a1,1.1 nexus-b2", (b"nexus-a1", b"nexus-b2")),
        (b"1.1 nginx", ()),
        (b"nexus-a1", ()),
        (b"1.1 my-nexus-a1", ()),
        (b"", ()),
        (b",,,  ,", ()),
    ],
)
def test_hops_of_a_field(via: bytes, hops: tuple[bytes, ...]) -> None:
    """Ours only, in order, whatever stands between."""
    assert nexus_hops(via) == hops


def test_a_line_tells_what_was_read() -> None:
    """What is written can be read again."""
    hops = (b"nexus-a1", b"nexus-b2")
    assert via_line(hops) == b"via: 1.1 nexus-a1, 1.1 nexus-b2\r\n"
    assert nexus_hops(via_line(hops)[5:-2]) == hops


def test_back_again() -> None:
    """Our own mark on a request that comes in is a loop, wherever it stands."""
    with pytest.raises(ApiError) as refused:
        check_loop((b"nexus-b2", OWN, b"nexus-c3"), OWN)
    assert (refused.value.status, refused.value.code) == (508, "loop_detected")
    assert ("x-should-retry", "false") in refused.value.headers


def test_too_many_gateways() -> None:
    """Four in a row are enough."""
    check_loop((b"nexus-1", b"nexus-2", b"nexus-3", b"nexus-4"), OWN)
    with pytest.raises(ApiError) as refused:
        check_loop(nexus_hops(b",".join([b"1.1 nexus-%d" % i for i in range(5)])), OWN)
    assert refused.value.status == 508


def test_several_fields_are_one_list() -> None:
    """RFC 9110 § 5.3; what goes upstream is one field without other proxies."""
    fields = client_fields([(b"via", b"1.1 nexus-a"), (b"via", b"1.1 nginx, 1.1 nexus-b")])
    assert fields.hops == (b"nexus-a", b"nexus-b")
    assert fields.lines(frozenset()) == b"via: 1.1 nexus-a, 1.1 nexus-b\r\n"


@given(st.binary(max_size=200))
def test_anything_can_be_read(via: bytes) -> None:
    """Never raises, bounded, and what comes out is fit for a header line."""
    hops = nexus_hops(via)
    assert len(hops) <= 5
    assert all(len(hop) <= 70 and not hop.split()[1:] for hop in hops)
