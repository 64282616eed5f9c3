"""Simulated clients: they ask one thing after the other or all at once, read slowly, and leave."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.end import End
from tests.simulation.network import Network
from tests.simulation.reader import AnswerReader, Malformed

if TYPE_CHECKING:
    from tests.simulation.judge import Truth

__all__ = ["Client", "Habits", "Sent"]

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
PATHS = (CHAT, CHAT, CHAT, CHAT, COMPLETIONS, "/v1/responses", "/v1/audio/speech", "/v1/embeddings")


@dataclass(frozen=True)
class Habits:
    """How a client behaves. Times are seconds from its first byte; 0 is never."""

    requests: int = 1
    pipelines: bool = False
    pause_s: float = 0.0
    """Between an answer and the next request."""
    stops_reading_s: float = 0.0
    reads_again_s: float = 0.0
    leaves_s: float = 0.0
    leaves_after_bytes: int = 0
    rudely: bool = False
    in_pieces: bool = False


@dataclass
class Sent:
    """One request as it was sent."""

    nonce: str
    path: str
    body: bytes
    stream: bool
    model: str
    http10: bool = False
    closes: bool = False
    pin: str = ""
    malformed: bool = False
    sent_at_s: float = -1.0

    def wire(self) -> bytes:
        """Its bytes."""
        fields = ["host: gateway", f"x-request-id: {self.nonce}"]
        if self.pin:
            fields.append(f"x-nexus-pin: {self.pin}")
        if self.closes:
            fields.append("connection: close")
        if self.malformed:
            fields.append("content-length: x")
        fields.append(f"content-length: {len(self.body)}")
        version = "1.0" if self.http10 else "1.1"
        head = "\r\n".join((f"POST {self.path} HTTP/{version}", *fields, "", ""))
        return head.encode() + self.body


def make_request(nonce: str, rng: Random, models: tuple[str, ...], pins: tuple[str, ...]) -> Sent:
    """A request, most often for chat."""
    path = rng.choice(PATHS)
    stream = path != "/v1/embeddings" and rng.random() < 0.6
    model = rng.choice(models)
    document: dict[str, object] = {"model": model, "user": nonce}
    if path == CHAT:
        document["messages"] = [{"role": "user", "content": "a" * rng.choice((1, 50, 3000))}]
    else:
        document["input"] = "a"
    if stream:
        document["stream"] = True
    body = json.dumps(document).encode()
    sent = Sent(nonce, path, body, stream, model)
    chance = rng.random()
    if chance < 0.06:
        sent.http10 = True
    elif chance < 0.1:
        sent.closes = True
    elif chance < 0.12:
        sent.malformed = True
    elif chance < 0.16 and pins:
        sent.pin = rng.choice(pins)
    elif chance < 0.17:
        sent.body = b"[1, 2"
    return sent


class Client(asyncio.Protocol):
    """One connection of a client to the gateway."""

    def __init__(
        self,
        name: str,
        network: Network,
        truth: Truth,
        habits: Habits,
        requests: list[Sent],
    ) -> None:
        self.name = name
        self.network = network
        self.truth = truth
        self.habits = habits
        self.requests = requests
        self.sent: list[Sent] = []
        self.reader = AnswerReader()
        self.end: End
        self.over = False
        self.left = False
        """Whether it left by itself."""
        self.last_read_s = 0.0
        self._reading = True
        self._bytes = 0

    def begin(self, end: End) -> None:
        """Connected."""
        self.end = end
        loop, habits = self.network.loop, self.habits
        if habits.leaves_s:
            loop.call_later(habits.leaves_s, self.leave)
        if habits.stops_reading_s:
            loop.call_later(habits.stops_reading_s, self._stop_reading)
            if habits.reads_again_s:
                loop.call_later(habits.stops_reading_s + habits.reads_again_s, self.read_on)
        if habits.pipelines:
            self._send(b"".join(self._taken() for _ in range(len(self.requests))))
        else:
            self._ask()

    def leave(self) -> None:
        """It has had enough."""
        if self.over or self.end.closing:
            return
        self.left = True
        if self.habits.rudely:
            self.end.reset()
        else:
            self.end.close()

    def read_on(self) -> None:
        """It reads again."""
        self.last_read_s = self.network.loop.now_s
        if not self._reading and not self.end.closing:
            self._reading = True
            self.end.resume_reading()

    def _stop_reading(self) -> None:
        if self._reading and not self.end.closing:
            self._reading = False
            self.end.pause_reading()

    @property
    def idle(self) -> bool:
        """Whether it has nothing to ask, and waits for nothing."""
        answered = sum(answer.whole for answer in self.reader.answers)
        return self.over or not (self.requests or self.sent[answered:])

    # --- sending ------------------------------------------------------------------------------

    def _ask(self) -> None:
        if self.requests and not self.end.closing:
            self._send(self._taken())

    def _taken(self) -> bytes:
        request = self.requests.pop(0)
        request.sent_at_s = self.network.loop.now_s
        self.sent.append(request)
        self.truth.sent(self, request)
        return request.wire()

    def _send(self, data: bytes) -> None:
        if self.habits.in_pieces:
            size = max(1, len(data) // 4)
            for number, at in enumerate(range(0, len(data), size)):
                piece = data[at : at + size]
                self.network.loop.call_later(0.05 * number, self._write, piece)
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if not self.end.closing:
            self.end.write(data)

    # --- asyncio.Protocol ---------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes of answers."""
        self.last_read_s = self.network.loop.now_s
        self._bytes += len(data)
        before = sum(answer.whole for answer in self.reader.answers)
        try:
            self.reader.feed(data)
        except Malformed as error:
            self.truth.complain(f"{self.name} was sent what is no answer: {error}")
            self.leave()
            return
        if 0 < self.habits.leaves_after_bytes <= self._bytes:
            self.leave()
            return
        after = sum(answer.whole for answer in self.reader.answers)
        if after > before and not self.habits.pipelines and self.requests:
            self.network.loop.call_later(self.habits.pause_s, self._ask)

    def eof_received(self) -> bool:
        """The gateway closes."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self.over = True
        # Who stopped reading may have been given up, in the middle of anything.
        if exc is None and not self.left and not self.habits.stops_reading_s:
            try:
                self.reader.end()
            except Malformed as error:
                self.truth.complain(f"{self.name} was sent what is no answer: {error}")
