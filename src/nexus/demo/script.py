"""An answer as a script of steps: what to write, when to wait, how to end."""

from __future__ import annotations

from collections.abc import Iterator

from nexus.demo.profile import Speed
from nexus.demo.reply import Plain, Reply, Step, Stop, Stream, Wire

__all__ = ["play", "play_stream"]


def play(reply: Reply, wire: Wire, speed: Speed) -> Iterator[Step]:
    """The script of an answer without fault."""
    if isinstance(reply, Stream):
        yield from play_stream(reply, wire, speed)
        yield wire.end
        yield wire.stop
        return
    yield from _wait(speed, reply)
    yield wire.plain(reply)
    yield Stop.DONE_CLOSE if reply.close or not wire.framed else wire.stop


def play_stream(reply: Stream, wire: Wire, speed: Speed) -> Iterator[Step]:
    """Head and events, without the end of the body; the head comes even if there are none."""
    pending = [wire.head(200, reply.content_type, None, reply.headers)]
    if reply.opening:
        pending.append(wire.frame(reply.opening))
    if (reply.head_first or reply.opening) and speed.ttft_s:
        yield b"".join(pending)
        pending.clear()
    if speed.ttft_s:
        yield speed.ttft_s
    group = speed.events_per_write
    gap_s = group / speed.tokens_per_s if speed.tokens_per_s else 0.0
    held = 0
    for event in reply.events:
        pending.append(wire.frame(event))
        held += 1
        if held == group:
            yield b"".join(pending)
            yield gap_s
            held = 0
            pending.clear()
    for event in (*reply.tail, reply.done):
        if not event:
            continue
        pending.append(wire.frame(event))
        if group:
            yield b"".join(pending)
            yield 0.0
            pending.clear()
    if pending:
        yield b"".join(pending)


def _wait(speed: Speed, reply: Plain) -> Iterator[Step]:
    delay_s = speed.plain_s(reply.tokens) if reply.tokens else 0.0
    if delay_s:
        yield delay_s
