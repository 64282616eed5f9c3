"""A client's calls with the same head begin upstream as the last one did, while they go there."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from tests.property.stage import Stage, staged

HEAD = b"POST /v1/%b HTTP/1.1\r\nhost: a\r\nauthorization: Bearer own\r\nx-a: b\r\nx-c: d\r\n"
BODY = b'{"model":"m","messages":[]}'


def asked(stage: Stage, path: bytes = b"chat/completions?api_key=own") -> bytes:
    """What the backend got of one call of the client, which then is answered."""
    stage.connection.data_received(
        HEAD % path + b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
    )
    for pool in stage.dialling:
        pool.answer(well=True)
    ((connection, wire),) = stage.asked
    got = bytes(wire.written)
    wire.written.clear()
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    return got


def reload(stage: Stage, **fields: Any) -> None:
    """The configuration says this of the backend from now on."""
    now = stage.plane.snapshot
    backend = replace(now.backends["b0"], spec=replace(now.backends["b0"].spec, **fields))
    candidates = tuple(replace(one, backend=backend) for one in now.candidates["m"])
    stage.plane.adopt(replace(now, backends={"b0": backend}, candidates={"m": candidates}))


def test_credentials_stay_here_as_soon_as_the_backend_has_its_own() -> None:
    """A reload between two calls of one connection: neither header nor query goes there any more,
    and what the operator configured takes the place of what the client says."""
    with staged(1) as stage:
        for _ in range(2):
            got = asked(stage)
            assert b"authorization: Bearer own\r\n" in got
            assert b"?api_key=own " in got
        reload(stage, api_key="key", headers={"x-a": "configured"})
        for _ in range(2):
            got = asked(stage)
            assert b"authorization: Bearer key\r\n" in got
            assert b"x-a: configured\r\n" in got
            assert b"x-c: d\r\n" in got
            assert b"own" not in got
            assert b"x-a: b" not in got
        reload(stage, api_key="", headers={})
        assert b"authorization: Bearer own\r\n" in asked(stage)


def test_each_call_has_its_own_id_and_length() -> None:
    """Only what the last call had in common with it comes again; another path, another start."""
    with staged(1) as stage:
        first, second = asked(stage), asked(stage)
        other = asked(stage, b"completions")
    ids = {got.partition(b"x-request-id: ")[2].partition(b"\r\n")[0] for got in (first, second)}
    assert len(ids) == 2
    assert first.partition(b"x-request-id")[0] == second.partition(b"x-request-id")[0]
    assert other.startswith(b"POST /v1/completions HTTP/1.1\r\n")
