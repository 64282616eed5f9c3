"""``/events``: what happens, as it happens, as server-sent events (WHATWG HTML, § 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from nexus.admin.control import AdminControl
from nexus.admin.route import AdminRoute
from nexus.core.errors import ApiError
from nexus.telemetry.events import Event, Subscription

__all__ = ["EVENT_KINDS", "event_routes", "event_stream"]

EVENT_KINDS = ("backend", "request", "config")
HEARTBEAT_S = 15.0

_FIELDS = {
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


class Listener(Protocol):
    """Where events come from."""

    lost: int

    async def get(self) -> Event | None:
        """The next event, ``None`` at the end."""
        ...


def event_routes(control: AdminControl) -> list[AdminRoute]:
    """The row of this family."""

    async def events(request: Request) -> Response:
        kinds = _kinds(request.query_params.get("kinds"))
        if request.method == "HEAD":
            return Response(headers=_FIELDS, media_type="text/event-stream")
        return _EventStream(control.subscribe(), kinds)

    return [
        AdminRoute(
            method="GET",
            path="/events",
            handler=events,
            summary="Events as they happen: changes of backends, finished calls, configuration",
            answer="text/event-stream",
            query={"kinds": f"only these, comma-separated: {', '.join(EVENT_KINDS)}"},
            errors=(400, 503),
        )
    ]


class _EventStream(StreamingResponse):
    """The answer. It closes the subscription itself: the stream of a client that is gone already
    never begins, and what never began cannot clean up."""

    def __init__(self, subscription: Subscription, kinds: Collection[str]) -> None:
        super().__init__(
            event_stream(subscription, kinds), headers=_FIELDS, media_type="text/event-stream"
        )
        self._subscription = subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._subscription:
            await super().__call__(scope, receive, send)


async def event_stream(
    listener: Listener, kinds: Collection[str], heartbeat_s: float = HEARTBEAT_S
) -> AsyncIterator[bytes]:
    """The bytes of a stream of events, until the listener is closed.

    It begins with a comment, so that the reader knows at once that it is there; another comes after
    each ``heartbeat_s`` of silence. A reader too slow for its queue is told by a ``lost`` event how
    many it missed.
    """
    yield b"retry: 2000\n: nexus\n\n"
    told_lost = 0
    while True:
        try:
            async with asyncio.timeout(heartbeat_s):
                event = await listener.get()
        except TimeoutError:
            yield b": still here\n\n"
            continue
        if event is None:
            return
        if listener.lost > told_lost:
            count, told_lost = listener.lost - told_lost, listener.lost
            yield b'event: lost\ndata: {"count":%d}\n\n' % count
        if event.kind in kinds:
            yield _encoded(event)


def _encoded(event: Event) -> bytes:
    try:
        data = msgspec.json.encode(event.data)
    except UnicodeEncodeError:  # a lone surrogate in a name that some engine made up
        data = json.dumps(event.data).encode()
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.id, event.kind.encode(), data)


def _kinds(text: str | None) -> Collection[str]:
    if text is None:
        return EVENT_KINDS
    kinds = [kind.strip() for kind in text.split(",")]
    if not set(kinds) <= set(EVENT_KINDS):
        raise ApiError.bad_request(
            f"?kinds= takes one or more of {', '.join(EVENT_KINDS)}, with commas between.",
            param="kinds",
        )
    return kinds
