"""Requests to the control plane: its gate and its routes, with nothing behind them."""

from __future__ import annotations

import asyncio
import json
import re
from functools import cache
from typing import Any, cast

from nexus.admin.app import create_admin_app
from nexus.admin.control import AdminControl
from nexus.admin.gate import Gate
from nexus.http1.asgi import AnswerState, AsgiApp, AsgiRequest, run_asgi
from nexus.runtime.control import ControlPlane
from nexus.telemetry.events import EventHub, Subscription
from tests.fuzz.target import Target

__all__ = ["ROUTES"]

_KEY = "key-of-the-gate"
_OPEN = frozenset({"session", "sign_in", "sign_out"})
_TARGET = re.compile(rb"/[\x21-\x7e\x80-\xff]*")
_METHOD = re.compile(rb"[A-Z]{3,8}")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*)")
_ASYNC = frozenset({"add_backend", "change_backend", "remove_backend", "probe", "reload"})
_LISTS = frozenset({"backends", "models", "history"})


class _Control:
    """``AdminControl`` that does nothing, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        def ask(*values: object, **named: object) -> Any:
            self.asked.add(name)
            return [] if name in _LISTS else {"given": repr((values, named))[:200]}

        async def ask_later(*values: object, **named: object) -> Any:
            return ask(*values, **named)

        return ask_later if name in _ASYNC else ask

    def sign_in(self, key: str, peer: str | None) -> str:
        """Nobody gets in."""
        self.asked.add("sign_in")
        return ""

    def subscribe(self) -> Subscription:
        """A stream that is over at once."""
        self.asked.add("subscribe")
        subscription = EventHub().subscribe()
        subscription.close()
        return subscription


class _Responder:
    """Keeps the answer."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The head."""
        self.status, self.headers = status, dict(headers)

    def write(self, data: bytes) -> None:
        """Body bytes."""
        self.body += data

    def end(self) -> None:
        """Whole."""

    def gone(self) -> bool:
        """Never."""
        return False

    async def drained(self) -> None:
        """At once."""


@cache
def _stage() -> tuple[asyncio.AbstractEventLoop, _Control, AsgiApp]:
    control = _Control()
    app = cast(AsgiApp, create_admin_app(cast(AdminControl, control)))
    return asyncio.new_event_loop(), control, app


def _run(data: bytes) -> None:
    """Without the key nothing is asked but what signs in; every answer is one, and JSON where it
    must be."""
    head, _, body = data.partition(b"\n\n")
    lines = head.split(b"\n")
    method, _, target = lines[0].partition(b" ")
    path = target.partition(b"?")[0]
    handles = ControlPlane.handles(cast(ControlPlane, None), path)
    if not _METHOD.fullmatch(method) or not _TARGET.fullmatch(target) or not handles:
        return
    fields = [match.groups() for match in map(_FIELD.fullmatch, lines[1:]) if match is not None]
    headers = [(name.lower(), value.strip()) for name, value in fields]
    told: dict[str, str] = {}
    for name, value in headers:
        text = value.decode("latin-1")
        key = name.decode()
        told[key] = f"{told[key]}, {text}" if key in told else text
    gate = Gate(_KEY, (), ("box",))
    refusal = gate.check(peer="192.0.2.1", headers=told, path=path.decode("latin-1"), now_s=0.0)
    if refusal is not None:
        assert refusal.status in (401, 403)
        return
    loop, control, app = _stage()
    control.asked.clear()
    responder = _Responder()
    faults: list[BaseException] = []

    def failed(error: BaseException, _state: AnswerState) -> None:
        faults.append(error)

    request = AsgiRequest(
        method=method.decode(), target=target, headers=headers, body=body, client=("192.0.2.1", 0)
    )
    loop.run_until_complete(
        run_asgi(app, request, responder, disconnected=asyncio.Event(), on_error=failed)
    )
    if faults:
        raise faults[0]
    signed = _KEY in told.get("authorization", "")
    assert signed or control.asked <= _OPEN, control.asked
    assert 200 <= responder.status < 500
    kind = responder.headers.get(b"content-type", b"")
    if kind.startswith(b"application/json") and responder.body:
        json.loads(responder.body)
    if responder.status >= 400 and method != b"HEAD":
        assert isinstance(json.loads(responder.body)["error"]["message"], str)
    assert b"html" not in kind or path == b"/" or path.startswith(b"/dashboard")


ROUTES = Target(name="routes", run=_run, blocks=(b"a" * 300, b"[" * 2000))
