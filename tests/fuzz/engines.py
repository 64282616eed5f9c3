"""Adapters and fingerprint: a backend may answer anything to anything."""

from __future__ import annotations

import msgspec

from nexus.core.backend import EngineKind
from nexus.engines.adapter import Answer, Ask, Check, ErrorMeaning, Health
from nexus.engines.fingerprint import fingerprint
from nexus.engines.table import ADAPTERS
from tests.fuzz.target import Target
from tests.unit.engines.drive import run, spec
from tests.unit.engines.test_damaged_answers import SERVERS

__all__ = ["ADAPTERS_TARGET"]

_BETWEEN = b"\x1e"
_KINDS = tuple(EngineKind)
_STATUSES = (200, 200, 200, 200, 0, 204, 301, 400, 401, 403, 404, 429, 500, 503)
_ROUNDS_MAX = 20


class _Script:
    """Answers from the input: each path has one part of it, its first byte the status."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts
        self._given: dict[str, Answer] = {}
        self.asked = 0

    def __call__(self, ask: Ask) -> Answer:
        self.asked += 1
        known = self._given.get(ask.path)
        if known is None:
            part = self._parts[len(self._given) % len(self._parts)]
            status = _STATUSES[part[0] % len(_STATUSES)] if part else 200
            kind = "text/html" if part[1:2] == b"<" else "application/json"
            headers = {
                "content-type": kind,
                "server": "llama.cpp" if part[:1] == b"l" else "uvicorn",
            }
            known = Answer(status=status, body=part[1:], headers=headers)
            self._given[ask.path] = known
        return known


def _run(data: bytes) -> None:
    """A check, a load poll and a fingerprint end, with a result that can be shown."""
    if not data:
        return
    kind = _KINDS[data[0] % len(_KINDS)]
    parts = data[1:].split(_BETWEEN)
    adapter = ADAPTERS[kind]
    backend = spec(kind.value)
    script = _Script(parts)
    checking: Check = adapter.check(backend, ())
    result = run(checking, script)
    assert isinstance(result.health, Health)
    _shown(result)
    for model in result.models or ():
        assert model.id
        assert model.context_length is None or model.context_length > 0
    again: Check = adapter.check(backend, result.models or ())
    _shown(run(again, script))
    polling = adapter.load()
    if polling is not None:
        loaded = run(polling, script)
        assert loaded.running is None or loaded.running >= 0
        assert loaded.waiting is None or loaded.waiting >= 0
        assert loaded.kv_usage is None or 0 <= loaded.kv_usage <= 1
    found = run(fingerprint(), script)
    assert found.label
    _shown(found)
    for status in (400, 404, 503):
        error = adapter.read_error(status, parts[0])
        assert isinstance(error.meaning, ErrorMeaning)
    assert script.asked < 20_000


def _shown(value: object) -> None:
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        pass  # a lone surrogate of the engine's: whoever shows it knows (see ``admin/answers.py``)


def _seed(kind: EngineKind, server: dict[str, Answer]) -> bytes:
    return bytes((_KINDS.index(kind),)) + _BETWEEN.join(
        b"\x00" + answer.body[:900] for answer in server.values()
    )


ADAPTERS_TARGET = Target(
    name="adapters",
    run=_run,
    seeds=tuple(_seed(kind, server) for kind, server in SERVERS),
    blocks=(b"[" * 300,),
)
