"""The scripts of faults: what goes over the wire when an engine fails in a given way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice

from nexus.demo.faults import Fault, FaultOrder
from nexus.demo.profile import Speed
from nexus.demo.reply import Plain, Reply, Step, Stop, Stream, Wire
from nexus.demo.script import play, play_stream

__all__ = ["Errors", "play_fault"]

# A reset drops what the peer has not been sent yet: let the loop flush, and the peer read.
_FLUSH_S = 0.005
_SURPLUS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"
_SURPLUS += b'{"not":"yours"}'
_HUGE_VALUE = "x" * 400_000


class Errors:
    """What a script of failure needs to know of its dialect: how it words errors in an answer
    (``plain``) and inside a stream (``event``, for the given content type), and its vanishing."""

    __slots__ = ("event", "plain", "vanishing")

    def __init__(
        self,
        plain: Callable[[int, str], Plain],
        event: Callable[[str, str], bytes],
        vanishing: bytes,
    ) -> None:
        self.plain = plain
        self.event = event
        self.vanishing = vanishing


def play_fault(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, errors: Errors
) -> Iterator[Step]:
    """The script of ``reply`` under the fault ``order``."""
    make = _SCRIPTS.get(order.mode)
    if make is None:
        return play(reply, wire, speed)
    return make(order, reply, wire, speed, errors)


def _reset(*_: object) -> Iterator[Step]:
    yield Stop.RESET


def _close(*_: object) -> Iterator[Step]:
    yield Stop.CLOSE


def _stall(order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, _: Errors) -> Iterator[Step]:
    yield from _sleep(order)
    yield from play(reply, wire, speed)


def _sleep(order: FaultOrder) -> Iterator[Step]:
    """For ``delay_s``, or for ever."""
    if not order.delay_s:
        yield Stop.STALL
    yield order.delay_s


def _head(reply: Reply, wire: Wire) -> bytes:
    if isinstance(reply, Stream):
        return wire.head(200, reply.content_type, None, reply.headers)
    return wire.head(reply.status, reply.content_type, len(reply.body), reply.headers)


def _after_head(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, _: Errors
) -> Iterator[Step]:
    head = _head(reply, wire)
    yield head
    if order.mode is Fault.RESET_AFTER_HEAD:
        yield _FLUSH_S
        yield Stop.RESET
    yield from _sleep(order)
    rest = b"".join(step for step in play(reply, wire, speed) if isinstance(step, bytes))
    yield rest[rest.index(b"\r\n\r\n") + 4 :]
    yield wire.stop


def _first_part(order: FaultOrder, reply: Reply, wire: Wire, speed: Speed) -> Iterator[Step]:
    """The first ``after_events`` events, or half the body of a plain answer."""
    if isinstance(reply, Stream):
        yield from play_stream(_cut(reply, order.after_events), wire, speed)
    else:
        yield _head(reply, wire) + reply.body[: len(reply.body) // 2]


def _cut(reply: Stream, events: int) -> Stream:
    kept = islice(chain(reply.events, reply.tail), events)
    return Stream(
        events=kept,
        content_type=reply.content_type,
        headers=reply.headers,
        head_first=reply.head_first,
    )


def _after_events(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, errors: Errors
) -> Iterator[Step]:
    yield from _first_part(order, reply, wire, speed)
    match order.mode:
        case Fault.RESET_AFTER_EVENTS:
            yield _FLUSH_S
            yield Stop.RESET
        case Fault.STALL_AFTER_EVENTS:
            yield from _sleep(order)
            yield Stop.CLOSE
        case Fault.TRUNCATED_CHUNK if isinstance(reply, Stream):
            yield b'100\r\ndata: {"choices":[{"index":0,"del'
            yield Stop.CLOSE
        case Fault.END_AFTER_EVENTS if isinstance(reply, Stream):
            yield wire.end
            yield wire.stop
        case Fault.VANISH_AFTER_EVENTS if isinstance(reply, Stream):
            lost = b"" if reply.content_type == "application/x-ndjson" else errors.vanishing
            yield (wire.frame(lost) if lost else b"") + wire.end
            yield wire.stop
        case _:
            yield Stop.CLOSE


def _error_event(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, errors: Errors
) -> Iterator[Step]:
    message = (order.body or b"EngineCore encountered an issue.").decode("utf-8", "replace")
    if not isinstance(reply, Stream):
        yield from play(errors.plain(500, message), wire, speed)
        return
    if order.mode is Fault.ERROR_EVENT_AFTER:
        yield from _first_part(order, reply, wire, speed)
    else:
        yield wire.head(200, reply.content_type, None, reply.headers)
    yield wire.frame(errors.event(message, reply.content_type))
    yield (wire.frame(reply.done) if reply.done else b"") + wire.end
    yield wire.stop


def _slow_drip(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, _: Errors
) -> Iterator[Step]:
    whole = b"".join(step for step in play(reply, wire, speed) if isinstance(step, bytes))
    for at in range(len(whole)):
        yield whole[at : at + 1]
        yield order.delay_s
    yield wire.stop


def _status(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, errors: Errors
) -> Iterator[Step]:
    if order.delay_s:
        yield order.delay_s
    answer = errors.plain(order.status, f"demo fault {order.status}")
    answer.tokens = 0
    if order.body is not None:
        answer.body = order.body
    if order.content_type is not None:
        answer.content_type = order.content_type
    if order.retry_after_s is not None:
        answer.headers = (*answer.headers, ("Retry-After", f"{order.retry_after_s:g}"))
    yield from play(answer, wire, speed)


def _loading(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, errors: Errors
) -> Iterator[Step]:
    return play(errors.plain(503, "Loading model"), wire, speed)


def _error_body_200(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, errors: Errors
) -> Iterator[Step]:
    answer = errors.plain(500, "Unexpected endpoint or method.")
    body = order.body if order.body is not None else answer.body
    return play(Plain(body=body), wire, speed)


def _garbage(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, _: Errors
) -> Iterator[Step]:
    body = b"not json" if order.body is None else order.body
    if isinstance(reply, Stream):
        wrong: Reply = Stream(events=(body,), content_type=reply.content_type)
    else:
        wrong = Plain(body=body, content_type=reply.content_type)
    return play(wrong, wire, speed)


def _wrong_content_type(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, _: Errors
) -> Iterator[Step]:
    reply.content_type = order.content_type or "text/html"
    if order.body is not None:
        reply = Plain(body=order.body, content_type=reply.content_type)
    return play(reply, wire, speed)


def _terminal(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, _: Errors
) -> Iterator[Step]:
    if isinstance(reply, Stream):
        if order.mode is Fault.NO_DONE:
            reply.done = b""
        else:
            reply.events, reply.tail, reply.done = (), (), reply.done or b"data: [DONE]\n\n"
    return play(reply, wire, speed)


def _raw(order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, _: Errors) -> Iterator[Step]:
    if order.delay_s:
        yield order.delay_s
    nonsense = b"SSH-2.0-OpenSSH_9.6\r\n" if order.mode is Fault.NOT_HTTP else b""
    yield nonsense if order.body is None else order.body
    yield Stop.STALL if order.keep_open else Stop.CLOSE


def _huge_head(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, _: Errors
) -> Iterator[Step]:
    reply.headers = (*reply.headers, ("X-Huge", _HUGE_VALUE))
    return play(reply, wire, speed)


def _surplus(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, _: Errors
) -> Iterator[Step]:
    whole = b"".join(step for step in play(reply, wire, speed) if isinstance(step, bytes))
    yield whole + (_SURPLUS if order.body is None else order.body)
    yield wire.stop


def _informational(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, _: Errors
) -> Iterator[Step]:
    yield b"HTTP/1.1 102 Processing\r\n\r\n" * order.amount
    yield from play(reply, wire, speed)


def _unframed(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, _: Errors
) -> Iterator[Step]:
    bare = Wire(style=wire.style, keep=False, framed=False, version=wire.version)
    if isinstance(reply, Stream):
        yield from play_stream(reply, bare, speed)
    else:
        yield bare.head(reply.status, reply.content_type, None, reply.headers) + reply.body
    yield Stop.DONE_CLOSE


def _comments(
    order: FaultOrder, reply: Reply, wire: Wire, speed: Speed, _: Errors
) -> Iterator[Step]:
    if not isinstance(reply, Stream):
        if order.delay_s:
            yield order.delay_s
        yield from play(reply, wire, speed)
        return
    yield wire.head(200, reply.content_type, None, reply.headers)
    for _turn in range(5):
        yield wire.frame(b": keep-alive\n\n")
        yield order.delay_s / 5
    rest = play(reply, wire, speed)
    yield _without_head(rest)
    yield from rest


def _without_head(steps: Iterator[Step]) -> bytes:
    """Takes the first write out of a script and cuts the head off it."""
    first = next(step for step in steps if isinstance(step, bytes))
    return first[first.index(b"\r\n\r\n") + 4 :]


_Script = Callable[[FaultOrder, Reply, Wire, Speed, Errors], Iterator[Step]]

_SCRIPTS: dict[Fault, _Script] = {
    Fault.CLOSE_ON_ACCEPT: _close,
    Fault.RESET_BEFORE_HEAD: _reset,
    Fault.CLOSE_BEFORE_HEAD: _close,
    Fault.RESET_AFTER_HEAD: _after_head,
    Fault.RESET_AFTER_EVENTS: _after_events,
    Fault.CLOSE_AFTER_EVENTS: _after_events,
    Fault.END_AFTER_EVENTS: _after_events,
    Fault.STALL: _stall,
    Fault.STALL_AFTER_HEAD: _after_head,
    Fault.STALL_AFTER_EVENTS: _after_events,
    Fault.SLOW_DRIP: _slow_drip,
    Fault.STATUS: _status,
    Fault.GARBAGE: _garbage,
    Fault.WRONG_CONTENT_TYPE: _wrong_content_type,
    Fault.TRUNCATED_CHUNK: _after_events,
    Fault.NO_DONE: _terminal,
    Fault.DONE_ONLY: _terminal,
    Fault.ERROR_EVENT_FIRST: _error_event,
    Fault.ERROR_EVENT_AFTER: _error_event,
    Fault.VANISH_AFTER_EVENTS: _after_events,
    Fault.NOT_HTTP: _raw,
    Fault.HUGE_HEAD: _huge_head,
    Fault.SURPLUS_BYTES: _surplus,
    Fault.INFORMATIONAL: _informational,
    Fault.NO_CONTENT_LENGTH: _unframed,
    Fault.ERROR_BODY_200: _error_body_200,
    Fault.LOADING: _loading,
    Fault.KEEPALIVE_COMMENTS: _comments,
    Fault.RAW: _raw,
}
