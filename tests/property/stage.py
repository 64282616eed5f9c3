"""A data plane without sockets: the real server connection, exchange and upstream connection on
transports, a pool and a clock that a test moves by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, cast
from unittest.mock import patch

from msgspec.structs import replace

from nexus.core.backend import Backend, BackendStatus
from nexus.core.errors import ApiError, AttemptFailure, FailureKind
from nexus.core.limits import Budget
from nexus.core.live import BreakerState
from nexus.core.snapshot import Snapshot
from nexus.http1.headers import Headers
from nexus.http1.message import Request
from nexus.http1.pool import Dial, DialHandler, Pool
from nexus.http1.server import ClientHandler, HttpServer, ServerConnection, ServerLimits
from nexus.http1.upstream import AnswerMemo, UpstreamConnection
from nexus.proxy.link import Link
from nexus.proxy.plane import DataPlane, PlaneLimits
from nexus.routing.router import Router
from nexus.telemetry.record import CallRecord
from tests.unit.routing.fleet import candidate, fleet

__all__ = ["Stage", "staged"]

LIMITS = PlaneLimits(max_held_response_bytes=400, stream_keepalive_s=15.0, request_timeout_s=60.0)


class Clock:
    """Time and the loop's timers, moved by hand; ``soon`` is what the loop would do next turn."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.soon: deque[Callable[[], object]] = deque()
        self._timers: list[tuple[float, int, Handle, Callable[[], object]]] = []
        self._count = 0
        self.faults: list[object] = []

    def monotonic(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, call: Callable[..., object], *args: object) -> Handle:
        handle = Handle()
        self._count += 1
        self._timers.append((self.now_s + delay_s, self._count, handle, lambda: call(*args)))
        return handle

    def call_exception_handler(self, context: dict[str, object]) -> None:
        self.faults.append(context)

    def turn(self) -> None:
        """What is due at once."""
        while self.soon:
            self.soon.popleft()()

    def advance(self, length_s: float) -> None:
        """Lets time pass, ringing every timer on its way."""
        end_s = self.now_s + length_s
        while True:
            due = [one for one in self._timers if one[0] <= end_s]
            if not due:
                break
            first = min(due)
            self._timers.remove(first)
            self.now_s = max(self.now_s, first[0])
            if not first[2].cancelled:
                first[3]()
            self.turn()
        self.now_s = end_s


class Handle:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: object) -> bool:
        return False


class Wire:
    """A transport that keeps what is written; as strict as uvloop about writes too late."""

    def __init__(self, clock: Clock, protocol: asyncio.Protocol) -> None:
        self.clock = clock
        self.protocol = protocol
        self.written = bytearray()
        self.closing = False
        self.aborted = False
        self.lost = False
        self.eof = False
        self.paused = False
        protocol.connection_made(cast(asyncio.Transport, self))

    def write(self, data: bytes) -> None:
        if self.lost or self.aborted:
            raise RuntimeError("the handler is closed")
        if not self.closing:
            assert not self.eof, "written after write_eof"
            self.written += data

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        self.eof = True

    def can_write_eof(self) -> bool:
        return True

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            self.clock.soon.append(self._lose)

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, **_: int) -> None:
        pass

    def get_extra_info(self, _: str) -> None:
        return None

    def end(self, error: Exception | None) -> None:
        """The peer ends it: FIN, or RST with ``error``."""
        if not self.lost:
            self.closing = True
            self._lose(error)

    def _lose(self, error: Exception | None = None) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connection_lost(error)


class HandPool:
    """A pool whose dials a test answers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.answers = AnswerMemo()
        self.dials: list[Dial] = []
        self.idle_ones: list[UpstreamConnection] = []
        self.wires: dict[UpstreamConnection, Wire] = {}

    def take(self) -> UpstreamConnection | None:
        while self.idle_ones:
            connection = self.idle_ones.pop()
            if connection.usable:
                return connection
        return None

    def dial(self, handler: DialHandler) -> Dial:
        dial = Dial(handler)
        self.dials.append(dial)
        return dial

    def answer(self, *, well: bool, ours: bool = False) -> None:
        """Ends the oldest dial."""
        dial = self.dials.pop(0)
        handler = dial.handler
        dial.handler = None
        if not well:
            kind = FailureKind.OURS if ours else FailureKind.CONNECT
            if handler is not None:
                handler.on_connect_failed(AttemptFailure(kind, "no", against_backend=not ours))
            return
        connection = UpstreamConnection(self)
        self.wires[connection] = Wire(self._clock, connection)
        if handler is None:
            self.released(connection)
        else:
            handler.on_connected(connection)

    def released(self, connection: UpstreamConnection) -> None:
        assert connection not in self.idle_ones, "released twice"
        self.idle_ones.append(connection)

    def lost(self, connection: UpstreamConnection) -> None:
        if connection in self.idle_ones:
            self.idle_ones.remove(connection)

    def close_idle(self) -> None:
        for connection in list(self.idle_ones):
            connection.close()

    def close(self) -> None:
        self.close_idle()


class HandPlane(DataPlane):
    """A data plane whose links have pools moved by hand."""

    __slots__ = ("pools",)

    pools: dict[str, HandPool]

    def link(self, backend: Backend) -> Link:
        """See ``DataPlane``."""
        link = super().link(backend)
        name = backend.spec.name
        if name not in self.pools:
            self.pools[name] = HandPool(cast(Clock, self.loop))
        link.pool = cast(Pool, self.pools[name])
        return link


class Stage:
    """A client connection, a data plane and ``backends`` of one model."""

    def __init__(self, clock: Clock, backends: int) -> None:
        self.clock = clock
        self.records: list[CallRecord] = []
        self.faults: list[BaseException] = []
        self.suspected: list[str] = []
        self.budget = Budget(10_000_000)
        self.snapshot = fleet(*(candidate(f"b{number}") for number in range(backends)))
        loop = cast(asyncio.AbstractEventLoop, clock)
        self.plane = HandPlane(
            loop,
            hooks=self,
            router=Router(),
            snapshot=self.snapshot,
            limits=LIMITS,
            budget=self.budget,
            rng=Random(1),
        )
        self.plane.pools = {}
        self.server = HttpServer(loop, self.plane, ServerLimits(), self.budget)
        self.connection = ServerConnection(self.server)
        self.client = Wire(clock, self.connection)

    # --- Hooks ------------------------------------------------------------------------------

    def suspect(self, backend: str) -> None:
        self.suspected.append(backend)

    def forget_model(self, backend: str, model_id: str) -> None:
        pass

    def record(self, record: CallRecord) -> None:
        self.records.append(record)

    def unexpected(self, error: BaseException, request_id: str) -> None:
        self.faults.append(error)

    def truncated(self, backend: str, model_id: str) -> None:
        pass

    def check_origin(self, request: Request) -> tuple[ApiError | None, Headers]:
        return None, []

    def page(self, *_: Any) -> tuple[bool, ClientHandler | None]:
        return False, None

    # --- what a test does and sees ------------------------------------------------------------

    @property
    def dialling(self) -> list[HandPool]:
        """Pools with a dial under way."""
        return [pool for pool in self.plane.pools.values() if pool.dials]

    @property
    def asked(self) -> list[tuple[UpstreamConnection, Wire]]:
        """Upstream connections that wait for an answer or its rest."""
        return [
            (connection, wire)
            for pool in self.plane.pools.values()
            for connection, wire in pool.wires.items()
            if connection.handler is not None and not wire.lost
        ]

    @property
    def idle(self) -> list[Wire]:
        """Transports of idle upstream connections."""
        pools = self.plane.pools.values()
        return [pool.wires[one] for pool in pools for one in pool.idle_ones]

    def mark(self, status: BackendStatus, number: int) -> None:
        """The registry says this of a backend."""
        name = f"b{number % len(self.snapshot.backends)}"
        now = self.plane.snapshot
        changed = _with_status(now, name, status)
        self.plane.adopt(changed)

    def at_rest(self) -> list[str]:
        """What is not back at zero."""
        plane = self.plane
        lives = self.snapshot.live.values()
        stuck = {
            "calls in flight": plane.in_flight,
            "active calls": plane.active,
            "timers": plane.timers_waiting,
            "budget": self.budget.used_bytes,
            "in flight at backends": sum(live.in_flight for live in lives),
            "trials": sum(live.trial_in_flight for live in lives),
            "connections at work": len(self.asked),
            "chunk takers of nobody": sum(
                one.chunk_taker is not None
                for pool in plane.pools.values()
                for one in pool.idle_ones
            ),
            "dials waited for": sum(
                dial.handler is not None for pool in self.dialling for dial in pool.dials
            ),
        }
        return [f"{what}: {count}" for what, count in stuck.items() if count]


def _with_status(snapshot: Snapshot, name: str, status: BackendStatus) -> Snapshot:
    backends = dict(snapshot.backends)
    backends[name] = replace(backends[name], status=status)
    candidates = {
        model: tuple(replace(one, backend=backends[one.backend.name]) for one in served)
        for model, served in snapshot.candidates.items()
    }
    return replace(snapshot, version=snapshot.version + 1, backends=backends, candidates=candidates)


@contextlib.contextmanager
def staged(backends: int, *, tripped: bool = False) -> Iterator[Stage]:
    """A stage, its clock in place of the real one; ``tripped``: every breaker waits for a trial."""
    clock = Clock()
    with contextlib.ExitStack() as stack:
        for room in ("proxy.exchange", "proxy.relay", "http1.timers"):
            stack.enter_context(patch(f"nexus.{room}.monotonic", clock.monotonic))
        stage = Stage(clock, backends)
        if tripped:
            for live in stage.snapshot.live.values():
                live.breaker = BreakerState.OPEN
                live.open_until_s = clock.now_s
        yield stage
