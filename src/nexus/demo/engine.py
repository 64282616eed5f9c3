"""A fake inference engine: any dialect, any speed, any fault, switchable while it runs."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from nexus.demo.connection import Connection, Ending
from nexus.demo.control import PREFIX, answer_control
from nexus.demo.faults import Fault, FaultOrder, Faults
from nexus.demo.mishap import play_fault
from nexus.demo.ollama import OllamaDialect
from nexus.demo.ollama_lines import in_sse
from nexus.demo.profile import Profile, SeenRequest, Speed
from nexus.demo.reply import Plain, Reply, Step, Stop, Wire
from nexus.demo.script import play
from nexus.demo.table import DIALECTS, DialectName

__all__ = ["DialectName", "FakeEngine"]

_REQUESTS_KEPT = 2000
_BYTES_KEPT = 64 * 1024 * 1024
_ACCEPTS_PER_TURN = 128


class FakeEngine:
    """An engine that listens on ``host``:``port`` (0: the kernel chooses; see ``port``).

    ``faults`` says how it fails, ``settings`` how fast it is; both may change at any time.
    ``requests`` are the last ones seen (all but control requests), ``calls`` those of inference.
    ``in_flight``, ``completed``, ``cancelled`` (the client left before the answer was whole) and
    ``broken`` (a fault ended it) count inference only. With ``queueing`` no more than ``slots``
    answers are made at a time and the others wait without a byte. ``http10`` answers as HTTP/1.0.
    """

    def __init__(
        self,
        *,
        dialect: DialectName = "openai",
        models: Sequence[str] = ("demo-model",),
        host: str = "127.0.0.1",
        port: int = 0,
        name: str = "demo",
        settings: Speed | None = None,
        context_length: int = 8192,
        vision: bool = False,
        tools: bool = True,
        embeddings: bool = True,
        api_key: str = "",
        slots: int = 4,
        answer: str | None = None,
        usage: tuple[int, int] | None = None,
        enforces_context: bool = False,
        queueing: bool = False,
        http10: bool = False,
    ) -> None:
        self.dialect = dialect
        self.host = host
        self.port = port
        self.name = name
        self.queueing = queueing
        self.http10 = http10
        self.profile = Profile(
            models=models,
            name=name,
            speed=settings,
            context_length=context_length,
            vision=vision,
            tools=tools,
            embeddings=embeddings,
            api_key=api_key,
            slots=slots,
            answer=answer,
            usage=usage,
            enforces_context=enforces_context,
        )
        self.faults = Faults(self._fault_changed)
        self.requests: deque[SeenRequest] = deque(maxlen=_REQUESTS_KEPT)
        self.requests_seen = 0
        self.connections_opened = 0
        self.in_flight = 0
        self.completed = 0
        self.cancelled = 0
        self.broken = 0
        self._dialect = DIALECTS[dialect](self.profile)
        self._ollama = OllamaDialect(self.profile)
        self._kept_bytes = 0
        self._connections: set[Connection] = set()
        self._accepting: set[asyncio.Task[None]] = set()
        self._queue: deque[tuple[SeenRequest, Callable[[], None]]] = deque()
        self._busy = 0
        self._socket: socket.socket | None = None
        self._listening = False
        self._reopen: asyncio.TimerHandle | None = None
        self._all_gone: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins to listen. Raises ``OSError`` when the address is taken."""
        self._loop = asyncio.get_running_loop()
        self._bind()
        self._listen()

    async def stop(self) -> None:
        """Ends everything at once: the listener, open connections, running answers."""
        self._unlisten()
        if self._reopen is not None:
            self._reopen.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._accepting:
            await asyncio.gather(*self._accepting, return_exceptions=True)
        self.drop_connections()
        if self._connections:
            self._all_gone = asyncio.Event()
            await self._all_gone.wait()
            self._all_gone = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """``http://host:port``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def settings(self) -> Speed:
        """How fast answers come."""
        return self.profile.speed

    @settings.setter
    def settings(self, speed: Speed) -> None:
        self.profile.speed = speed

    @property
    def models(self) -> list[str]:
        """The models served; may be changed in place."""
        return self.profile.models

    @property
    def calls(self) -> list[SeenRequest]:
        """The inference requests among ``requests``."""
        return [seen for seen in self.requests if self._dialect.is_inference(seen)]

    @property
    def connections_open(self) -> int:
        """Connections open now."""
        return len(self._connections)

    def stats(self) -> dict[str, int]:
        """The counters, as ``GET /_demo/stats`` tells them."""
        return {
            "requests": self.requests_seen,
            "connections_opened": self.connections_opened,
            "connections_open": self.connections_open,
            "in_flight": self.in_flight,
            "cancelled": self.cancelled,
            "completed": self.completed,
            "broken": self.broken,
        }

    def drop_connections(self, *, reset: bool = False) -> None:
        """Ends all open connections, with a TCP reset if ``reset``."""
        for connection in list(self._connections):
            if reset:
                connection.reset()
            else:
                connection.abort()

    # -- listening -----------------------------------------------------------------------------
    # The listener is a plain socket read by the loop, so that refusing connections and taking them
    # again happen within one call. While it refuses, a bound socket that does not listen keeps the
    # port ours.

    def _bind(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind((self.host, self.port))
        except OSError:
            listener.close()
            raise
        self.port = listener.getsockname()[1]
        self._socket = listener

    def _listen(self) -> None:
        if self._socket is None or self._loop is None or self._listening:
            return
        if self.faults.mode is Fault.REFUSE:
            return
        self._socket.listen(1024)
        self._loop.add_reader(self._socket.fileno(), self._accept)
        self._listening = True

    def _unlisten(self) -> None:
        if self._socket is None or self._loop is None or not self._listening:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._listening = False

    def _accept(self) -> None:
        if self._socket is None or self._loop is None:
            return
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                accepted, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    # No descriptor left: the listener stays readable, so look again a bit later.
                    self._unlisten()
                    self._loop.call_later(0.1, self._listen)
                return
            self.connections_opened += 1
            if self.faults.take_connection():
                accepted.close()
                continue
            accepted.setblocking(False)
            task = self._loop.create_task(self._adopt(accepted, self.connections_opened))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    async def _adopt(self, accepted: socket.socket, number: int) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Connection(self, number), accepted
            )
        except OSError:
            accepted.close()

    def _fault_changed(self, mode: Fault) -> None:
        if self._reopen is not None:
            self._reopen.cancel()
            self._reopen = None
        if self._socket is None or self._loop is None:
            return
        if mode is not Fault.REFUSE:
            self._listen()
            return
        if self._listening:
            self._unlisten()
            self._socket.close()
            self._bind()
        self.drop_connections(reset=True)
        if self.faults.delay_s:
            self._reopen = self._loop.call_later(self.faults.delay_s, self.faults.clear)

    # -- Owner, for connections ----------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """See ``connection.Owner``."""
        self._connections.add(connection)
        if self._socket is None or self.faults.mode is Fault.REFUSE:
            connection.reset()

    def closed(self, connection: Connection) -> None:
        """See ``connection.Owner``."""
        self._connections.discard(connection)
        if self._all_gone is not None and not self._connections:
            self._all_gone.set()

    def new_wire(self) -> Wire:
        """See ``connection.Owner``."""
        if self.http10:
            return Wire(self._dialect.style, keep=False, framed=False, version="HTTP/1.0")
        return Wire(self._dialect.style, keep=not self._dialect.closes)

    def early(self, request: SeenRequest, wire: Wire) -> Iterator[Step] | None:
        """See ``connection.Owner``."""
        faults = self.faults
        if not faults.early or faults.mode is not Fault.STATUS or request.path.startswith(PREFIX):
            return None
        inference = self._dialect.is_inference(request)
        order = faults.take(inference=inference)
        if order is None:
            return None
        wire.keep = False
        self._remember(request)
        if inference:
            self.in_flight += 1
            self._busy += 1
            self._tell_load()
        return play_fault(order, Plain(), wire, self.profile.speed, self._dialect.errors)

    def arrived(
        self, request: SeenRequest, wire: Wire, start: Callable[[Iterator[Step]], None]
    ) -> None:
        """See ``connection.Owner``."""
        if request.path.startswith(PREFIX):
            start(play(self._control(request), wire, self.profile.speed))
            return
        self._remember(request)
        if not self._dialect.is_inference(request):
            start(self._script(request, wire, inference=False))
            return
        self.in_flight += 1
        if self.queueing and self._busy >= self.profile.slots:
            self._queue.append(
                (request, lambda: start(self._script(request, wire, inference=True)))
            )
            self._tell_load()
            return
        self._busy += 1
        self._tell_load()
        start(self._script(request, wire, inference=True))

    def ended(self, request: SeenRequest, ending: Ending) -> None:
        """See ``connection.Owner``."""
        if not self._dialect.is_inference(request):
            return
        self.in_flight -= 1
        if ending is None:
            self.cancelled += 1
        elif ending in (Stop.DONE, Stop.DONE_CLOSE):
            self.completed += 1
        else:
            self.broken += 1
        waiting = next((item for item in self._queue if item[0] is request), None)
        if waiting is not None:
            self._queue.remove(waiting)
        elif self._queue:
            self._queue.popleft()[1]()
        else:
            self._busy -= 1
        self._tell_load()

    # -- answers -------------------------------------------------------------------------------

    def _script(self, request: SeenRequest, wire: Wire, *, inference: bool) -> Iterator[Step]:
        order = self.faults.take(inference=inference)
        reply = self._dialect.answer(request)
        if order is None:
            return play(reply, wire, self.profile.speed)
        if order.mode in (Fault.OLLAMA_FORMAT, Fault.OLLAMA_SSE):
            reply = self._as_ollama(order, request)
        return play_fault(order, reply, wire, self.profile.speed, self._dialect.errors)

    def _as_ollama(self, order: FaultOrder, request: SeenRequest) -> Reply:
        reply = self._ollama.foreign_chat(request)
        return in_sse(reply) if order.mode is Fault.OLLAMA_SSE else reply

    def _control(self, request: SeenRequest) -> Plain:
        asking = next((one for one in self._connections if one.current is request), None)
        if asking is None or not asking.peer_is_local:
            return Plain(status=403, body=b'{"error":"control paths are for this machine only"}')
        return answer_control(request, self.faults, self.profile, self.stats)

    def _tell_load(self) -> None:
        profile = self.profile
        profile.running = min(self.in_flight, profile.slots)
        profile.waiting = self.in_flight - profile.running

    def _remember(self, request: SeenRequest) -> None:
        kept = self.requests
        self.requests_seen += 1
        if len(kept) == _REQUESTS_KEPT:
            self._kept_bytes -= len(kept.popleft().body)
        kept.append(request)
        self._kept_bytes += len(request.body)
        while self._kept_bytes > _BYTES_KEPT and len(kept) > 1:
            self._kept_bytes -= len(kept.popleft().body)
