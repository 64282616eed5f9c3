"""Simulated inference servers: a process that can die, stop, load, lose its network and come back,
and what it says on each connection."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.answers import Question, Reply, make_reply
from tests.simulation.end import End
from tests.simulation.mishaps import MISHAPS, Act
from tests.simulation.network import Network

if TYPE_CHECKING:
    from tests.simulation.judge import Truth

__all__ = ["Engine"]

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")
_KINDS = list(MISHAPS)
_WEIGHTS = list(MISHAPS.values())


class Engine:
    """One inference server. ``mood`` is how often an answer goes wrong, ``only`` of what it then
    suffers (``None``: of anything)."""

    def __init__(self, name: str, network: Network, truth: Truth, rng: Random) -> None:
        self.name = name
        self.network = network
        self.truth = truth
        self.rng = rng
        self.models = ["m"]
        self.mood = 0.0
        self.only: str | None = None
        self.slow = 0.15
        """How often it takes seconds for what takes others none."""
        self.idle_s = 20.0
        self.refuses = False
        self.cut_off = False
        self.loading = False
        self.resets_at_accept = 0.0
        self.healed = False
        """Nothing goes wrong with its process any more."""
        self._stopped = False
        self._life = 0
        self._held: list[Callable[[], None]] = []
        self._connections: dict[_Connection, None] = {}
        self._answers = 0
        network.hosts[name] = self

    # --- its process --------------------------------------------------------------------------

    def die(self) -> None:
        """kill -9."""
        self._life += 1
        self._stopped = False
        self._held.clear()
        self.refuses = True
        for connection in list(self._connections):
            connection.end.reset()

    def start(self, *, loading: bool = False) -> None:
        """It is started again."""
        self.refuses = False
        self.loading = loading

    def stop(self) -> None:
        """SIGSTOP: the kernel still takes connections and bytes."""
        self._stopped = True

    def go_on(self) -> None:
        """SIGCONT."""
        self._stopped = False
        held, self._held = self._held, []
        for work in held:
            work()

    def heal(self) -> None:
        """All that is wrong with it is over."""
        self.healed = True
        self.network.mend(self)
        self.go_on()
        self.start()
        self.mood = self.resets_at_accept = self.slow = 0.0
        self.models = ["m"] if "m" not in self.models else self.models

    def when_running(self, life: int, work: Callable[[], None]) -> None:
        """Does ``work`` unless the process has died, once it runs."""
        if life != self._life:
            return
        if self._stopped:
            self._held.append(lambda: self.when_running(life, work))
        else:
            work()

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        """The same in a while."""
        loop = self.network.loop
        loop.happen_at(loop.now_s + delay_s, self.when_running, self._life, work)

    def soon(self, work: Callable[[], None]) -> None:
        """The same at once."""
        self.when_running(self._life, work)

    # --- its connections ----------------------------------------------------------------------

    def accept(self, end: End) -> asyncio.BaseProtocol:
        """Somebody dialled."""
        connection = _Connection(self, end)
        self._connections[connection] = None
        if self.resets_at_accept and self.rng.random() < self.resets_at_accept:
            self.network.loop.call_soon(end.reset)
        return connection

    def left(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._connections.pop(connection, None)

    def answer(self, question: Question) -> Reply:
        """What it will say."""
        self._answers += 1
        rng = self.rng
        kind = "well"
        if rng.random() < self.mood:
            kind = self.only or rng.choices(_KINDS, _WEIGHTS)[0]
        if self.loading:
            kind = "loading"
        elif question.model not in self.models:
            kind = "no such model"
        slow = rng.random() < self.slow
        reply = make_reply(kind, question, f"{self.name}-{self._answers}", rng, slow=slow)
        self.truth.replied(self.name, question, reply)
        return reply

    def page(self, path: bytes) -> tuple[int, object]:
        """An answer to a health check."""
        if self.loading:
            return 503, {"error": {"message": "Loading model"}}
        if path == b"/v1/models":
            entries = [{"id": one, "object": "model", "owned_by": "sim"} for one in self.models]
            return 200, {"object": "list", "data": entries}
        if path in (b"/health", b"/version"):
            return 200, {"version": "1"}
        return 404, {"detail": "Not Found"}


class _Connection(asyncio.Protocol):
    """One connection to an engine: a request, its answer, the next."""

    def __init__(self, engine: Engine, end: End) -> None:
        self.engine = engine
        self.end = end
        self._data = b""
        self._steps: deque[tuple[float, bytes | Act]] = deque()
        self._reply: Reply | None = None
        self._desynced = False
        self._busy = False
        self._closes = False
        self._served = 0

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        self.engine.soon(lambda: self._take(data))

    def eof_received(self) -> bool:
        """The gateway hung up: an engine stops then."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._steps.clear()
        self.engine.left(self)

    def _take(self, data: bytes) -> None:
        if self.end.closing:
            return
        self._data += data
        if self._busy:
            # Only after an answer that was whole before its engine was through with it.
            if self._reply is not None and self._reply.good and not self._desynced:
                self.engine.truth.complain("the gateway pipelined to a backend")
            self._busy = False
            self._served += 1
            self._steps.clear()
        head, found, rest = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        length = _LENGTH.search(head + b"\r\n")
        size = int(length[1]) if length else 0
        if len(rest) < size:
            return
        if len(rest) > size:
            self.engine.truth.complain("the gateway sent more than it said")
        self._data = b""
        self._busy = True
        self._closes = b"\r\nconnection: close" in head
        line = head.split(b"\r\n", 1)[0].split(b" ")
        if line[0] == b"GET":
            status, document = self.engine.page(line[1].partition(b"?")[0])
            body = json.dumps(document).encode()
            self._write(b"HTTP/1.1 %d -\r\ncontent-length: %d\r\n\r\n" % (status, len(body)) + body)
            self._whole()
            return
        question = self._question(line[1].decode(), rest)
        self.end.peer.speaks_of = question.nonce
        self._reply = self.engine.answer(question)
        self._steps.extend(self._reply.steps)
        self._desynced = self._desynced or self._reply.says_more
        self._next()

    def _question(self, path: str, body: bytes) -> Question:
        asked = json.loads(body)
        nonce = asked["user"]
        if self._desynced:
            # What it said too much may be taken for the answer to this: HTTP cannot tell.
            self.engine.truth.excused.add(nonce)
        self.engine.truth.asked(nonce, path, body)
        return Question(nonce, path, asked["model"], bool(asked.get("stream")))

    def _next(self) -> None:
        if not self._steps:
            self._whole()
            return
        delay_s, what = self._steps.popleft()
        served = self._served
        self.engine.later(delay_s, lambda: self._do(what, served))

    def _do(self, what: bytes | Act, served: int) -> None:
        if self.end.closing or served != self._served:
            return
        if what is Act.DIE and not self.engine.healed:
            self.engine.die()
        elif what in (Act.RESET, Act.DIE):
            self.end.reset()
        elif what is Act.FIN:
            self.end.close()
        elif isinstance(what, bytes):
            self._write(what)
            self._next()

    def _write(self, data: bytes) -> None:
        if not self.end.closing:
            self.end.write(data)

    def _whole(self) -> None:
        """An answer is over: kept alive for a while."""
        self._busy = False
        self._served += 1
        if self._closes:
            self.end.close()
            return
        served = self._served
        self.engine.later(self.engine.idle_s, lambda: self._close_if_idle(served))

    def _close_if_idle(self, served: int) -> None:
        if not self._busy and self._served == served and not self.end.closing:
            self.end.close()
