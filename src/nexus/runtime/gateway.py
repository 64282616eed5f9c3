"""The gateway: every room built from one configuration, started and stopped in order.

``Gateway(loaded)`` builds (nothing listens yet), ``start`` listens and begins to check backends,
``drain`` and ``stop`` end it (behaviour § 10).
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
import stat
import sys
from collections.abc import Mapping
from math import inf
from pathlib import Path
from random import Random, SystemRandom
from time import monotonic

from msgspec.structs import replace

from nexus.config.diff import SettingChange
from nexus.config.loader import Loaded
from nexus.config.schema import BackendConfig, ServerConfig
from nexus.core.backend import Backend, BackendSpec, BackendStatus, BackendUrl
from nexus.core.errors import ApiError
from nexus.core.limits import Budget
from nexus.core.snapshot import Snapshot
from nexus.engines.adapter import Answer, Ask
from nexus.engines.fingerprint import fingerprint
from nexus.engines.table import adapter_for
from nexus.health.checker import HealthChecker
from nexus.health.report import CheckReport
from nexus.http1.asgi import AsgiApp
from nexus.http1.headers import Headers
from nexus.http1.message import Request
from nexus.http1.server import ClientHandler, HttpServer, ServerConnection
from nexus.http1.tls import listening_context
from nexus.http1.tunnel import Proxy, proxy_for
from nexus.proxy.exchange import Exchange
from nexus.proxy.limits import PlaneLimits
from nexus.proxy.link import Link
from nexus.proxy.pages import Pages
from nexus.proxy.plane import DataPlane
from nexus.registry.store import Store
from nexus.registry.views import backend_view
from nexus.routing.router import Router
from nexus.runtime.admin import Admin
from nexus.runtime.asking import fetch_answer
from nexus.runtime.control import ControlPlane
from nexus.runtime.discovering import Discovery
from nexus.runtime.fleet import FleetPlan
from nexus.runtime.probing import identify
from nexus.runtime.reload import Reloader
from nexus.runtime.settings import (
    health_settings,
    plane_limits,
    routing_settings,
    server_limits,
)
from nexus.telemetry.access import AccessLog
from nexus.telemetry.events import EventHub
from nexus.telemetry.history import History
from nexus.telemetry.logs import get_logger
from nexus.telemetry.metrics import Metrics
from nexus.telemetry.record import CallRecord
from nexus.telemetry.recorder import Recorder
from nexus.telemetry.stats import Stats

__all__ = ["Gateway", "raise_descriptor_limit"]

_BACKLOG = 2048
_CROWDED_GAP_S = 60.0


class Gateway:
    """A gateway in this event loop.

    Must be built inside a running uvloop. ``access_log`` is where one line per call goes, ``None``
    for nowhere. ``rng`` spreads ties and makes request ids.
    """

    def __init__(
        self, loaded: Loaded, *, access_log: AccessLog | None = None, rng: Random | None = None
    ) -> None:
        config = loaded.config
        server = config.server
        self.loaded = loaded
        self.config = config
        self.backend_configs: dict[str, BackendConfig] = {}
        """Of backends that the admin API added or changed: their settings as they run."""
        self.needs_restart: tuple[SettingChange, ...] = ()
        self.reloader: Reloader | None = None
        self.loop = loop = asyncio.get_running_loop()
        self._log = get_logger("gateway")
        self.rng = rng or Random(SystemRandom().getrandbits(128))
        self.instance_id = f"{self.rng.getrandbits(64):016x}"
        self._models_cut: set[tuple[str, str]] = set()
        self.stats = Stats(monotonic())
        self._access_log = access_log
        self.history = History(config.telemetry.history_size)
        self.events = EventHub()
        self.metrics = Metrics(self._knows_model)
        self._metrics_app: AsgiApp | None = None
        self._recorder = Recorder(
            self.stats,
            access_log,
            (self.events.record,),
            metrics=self.metrics,
            history=self.history,
        )
        self.descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.store = Store(traits_of=lambda kind: adapter_for(kind).traits, overrides=config.models)
        self.budget = Budget(server.max_buffered_bytes)
        self.router = Router(routing_settings(config.routing))
        self.plane = DataPlane(
            loop,
            hooks=self,
            router=self.router,
            snapshot=self.store.snapshot,
            limits=plane_limits(config),
            budget=self.budget,
            rng=self.rng,
            proxy_of=self._proxy_of,
            instance_id=self.instance_id,
        )
        self.server = HttpServer(
            loop,
            self.plane,
            server_limits(server, self.descriptors),
            self.budget,
        )
        self.server.on_crowded = self._crowded
        self._crowded_at_s = -inf
        self.pages = Pages(
            lambda: self.store.snapshot, lambda: self._unready, config.routing.aliases
        )
        self._unready = False
        self.control = ControlPlane(
            loop, server, loaded.admin_key, self._make_admin_app, self.unexpected
        )
        self.health_settings = health_settings(config.health_check)
        self.checker = HealthChecker(
            settings=self.health_settings,
            fetch=self._ask,
            report=self._checked,
            adapters=adapter_for,
            fingerprint=fingerprint,
            on_error=lambda name, error: self.unexpected(error, f"check of {name}"),
            rng=self.rng,
            live_of=self.store.live,
            connects_of=self.plane.connects,
            signs_of=self.plane.signs,
            on_wake=self._woke,
        )
        self._probe_links: dict[str, Link] = {}
        self._checking: asyncio.Task[None] | None = None
        self._listeners: list[asyncio.Server] = []
        self.discovery = Discovery(
            config.discovery,
            self,
            interval_s=config.health_check.interval_seconds,
            identify=identify,
            on_error=lambda error: self.unexpected(error, "discovery"),
        )
        if config.logging.content:
            self.log_content(True)
        self.store.subscribe(self._changed)
        for spec in loaded.backends:
            self.add_backend(spec)

    # --- life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listens and begins to check. Raises ``OSError`` when the address cannot be had."""
        server = self.config.server
        tls = None
        handshake_s: float | None = None
        if server.tls_cert:
            tls = _tls(server)
            # A handshake is the first part of a head, no reason to wait longer for it.
            handshake_s = server.client_head_timeout_seconds
        if server.unix:
            _remove_dead_socket(Path(server.unix))
            listener = await self.loop.create_unix_server(
                self.server.protocol,
                server.unix,
                backlog=_BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=handshake_s,
            )
        else:
            listener = await self.loop.create_server(
                self.server.protocol,
                sock=_listening_socket(server.host, server.port),
                backlog=_BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=handshake_s,
            )
        self._listeners.append(listener)
        self._checking = self.loop.create_task(self.checker.run())
        await self.discovery.start()
        if self.reloader is not None:
            self.reloader.start()

    @property
    def port(self) -> int:
        """The port it listens on (0 on a Unix socket)."""
        name = self._listeners[0].sockets[0].getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    @property
    def url(self) -> str:
        """Where clients reach it."""
        server = self.config.server
        if server.unix:
            return f"unix:{server.unix}"
        host = server.host
        if host in ("0.0.0.0", "::", ""):  # noqa: S104 - shown, not bound
            host = "127.0.0.1"
        host = f"[{host}]" if ":" in host else host
        return f"{'https' if server.tls_cert else 'http'}://{host}:{self.port}"

    async def drain(self, cut_now: asyncio.Event) -> None:
        """Stops taking calls and waits for those in flight: at most ``drain_timeout_seconds``, no
        longer once ``cut_now`` is set. The listener stays open meanwhile."""
        server = self.config.server
        self._unready = True
        self.discovery.withdraw()
        if server.drain_delay_seconds and not cut_now.is_set():
            await _wait(cut_now, server.drain_delay_seconds)
        self.plane.draining = True
        self.events.close()
        self.server.drain()
        quiet = asyncio.Event()
        self.plane.on_quiet = quiet.set
        if self.plane.in_flight == 0:
            quiet.set()
        waiting = [self.loop.create_task(event.wait()) for event in (quiet, cut_now)]
        done, pending = await asyncio.wait(
            waiting, timeout=server.drain_timeout_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for task in pending:
            task.cancel()
        if self.plane.in_flight:
            self._log.warning("drain_cut", in_flight=self.plane.in_flight)
            self.plane.cancel_all()
        del done

    async def stop(self) -> None:
        """Ends everything. Call :meth:`drain` before, to let calls finish."""
        self.plane.draining = True
        self._unready = True
        if self.reloader is not None:
            await self.reloader.aclose()
        for listener in self._listeners:
            listener.close()
        self.plane.cancel_all()
        self.events.close()
        await self.control.aclose()
        await self.discovery.aclose()
        await self.checker.aclose()
        if self._checking is not None:
            await self._checking
        self.server.refuse_unfinished(ApiError.service_unavailable("Nexus is shutting down.", 1))
        # What was written last goes out before the connections are cut.
        await _flushed(self.server)
        self.server.abort()
        self.plane.close()
        for link in self._probe_links.values():
            link.pool.close()
        self.server.close()
        for listener in self._listeners:
            await listener.wait_closed()
        if self.config.server.unix and self._listeners:
            Path(self.config.server.unix).unlink(missing_ok=True)  # noqa: ASYNC240 - one call
        if self._access_log is not None:
            self._access_log.close()

    async def __aenter__(self) -> Gateway:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # --- backends ---------------------------------------------------------------------------

    def add_backend(self, spec: BackendSpec, *, pending: bool = False) -> Backend:
        """Registers a backend and has it checked at once; a ``pending`` one waits for
        :meth:`approve_backend`. Raises ``ValueError`` (name taken, same server as another).

        One that the operator names takes the place of a found one.
        """
        self._make_way(spec)
        if pending:
            return self.store.add(spec, status=BackendStatus.PENDING)
        backend = self.store.add(spec)
        self.checker.watch(backend)
        return backend

    def change_backend(self, spec: BackendSpec) -> Backend:
        """Takes a changed spec of a known name. Raises ``KeyError``, ``ValueError`` (same server
        as another)."""
        self._make_way(spec)
        backend = self.store.replace(spec)
        if backend.status is not BackendStatus.PENDING:
            self.checker.watch(backend)
        return backend

    def approve_backend(self, name: str) -> Backend:
        """Lets a pending backend in and has it checked. Raises ``KeyError``."""
        backend = self.store.approve(name)
        self.checker.watch(backend)
        return backend

    def reform_backends(self, plan: FleetPlan) -> None:
        """Many changes at once, as a new configuration wants them."""
        for name in (*plan.removed, *(was for was, _ in plan.moves if was is not None)):
            self.backend_configs.pop(name, None)
        if not plan.removed and not plan.moves:
            return
        backends = self.store.reform(plan.removed, plan.moves)
        for name in plan.removed:
            self.checker.forget(name)
            self._drop_probe_link(name)
        names = [was for was, _ in plan.moves]
        self.checker.rewatch(list(zip(names, backends, strict=True)))

    def remove_backend(self, name: str) -> None:
        """Forgets a backend, as the operator wishes: it is not found again. Running calls finish.
        Raises ``KeyError``."""
        self.forget_backend(name)
        self.discovery.dismiss(name)

    # --- Fleet, for discovery ---------------------------------------------------------------

    def backends(self) -> Mapping[str, Backend]:
        """Every backend, by name."""
        return self.store.snapshot.backends

    def listeners(self) -> list[tuple[str, int]]:
        """The addresses and ports it listens on."""
        names = [sock.getsockname() for one in self._listeners for sock in one.sockets]
        return [(name[0], name[1]) for name in names if isinstance(name, tuple)]

    def move_backend(self, name: str, url: str) -> None:
        """Has a found backend reached at ``url``. What the operator gave for the server that it was
        (key, headers, query, the leave to forward credentials) does not go there: anyone on the
        network can announce the move. Raises ``KeyError``, ``ValueError``."""
        before = self.store.snapshot.backends[name].spec
        forwards = self.config.discovery.forward_authorization
        spec = replace(
            before,
            url=url,
            api_key="",
            headers={},
            query={},
            forward_authorization=True if forwards else None,
        )
        self.change_backend(spec)
        self.backend_configs.pop(name, None)
        if (before.api_key, before.headers, before.query) != ("", {}, {}):
            self._log.warning(
                "credentials_left_behind",
                backend=name,
                hint="its key, headers and query were for its old address: set them again, or name "
                "the backend in [[backends]]",
            )

    def forget_backend(self, name: str) -> None:
        """Takes a backend out; running calls finish. Raises ``KeyError``."""
        self.store.remove(name)
        self.backend_configs.pop(name, None)
        self.checker.forget(name)
        self._drop_probe_link(name)

    def _drop_probe_link(self, name: str) -> None:
        link = self._probe_links.pop(name, None)
        if link is not None:
            link.pool.close()

    def _make_way(self, spec: BackendSpec) -> None:
        """What the operator names wins over what was found by that name, or is that server."""
        if not spec.source.named_by_operator:
            return  # and a change of a found one is no reason to forget it
        for find in (self._named, self.store.same_server):
            found = find(spec)
            if found is not None and not found.spec.source.named_by_operator:
                self.forget_backend(found.name)

    def _named(self, spec: BackendSpec) -> Backend | None:
        return self.store.snapshot.backends.get(spec.name)

    async def _ask(self, backend: Backend, ask: Ask, timeout_s: float) -> Answer:
        name = backend.spec.name
        link = self._probe_links.get(name)
        if link is None or not link.serves(backend):
            if link is not None:
                link.pool.close_idle()
            # A link of its own: a slow probe never holds up a call's connections.
            link = Link(
                self.loop,
                backend,
                PlaneLimits(
                    connect_timeout_s=self.config.server.connect_timeout_seconds,
                    pool_idle_per_backend=0,
                ),
                self.plane.timers,
                proxy=self._proxy_of(backend.address),
            )
            self._probe_links[name] = link
        return await fetch_answer(link, ask, timeout_s)

    def _proxy_of(self, address: BackendUrl) -> Proxy | None:
        """The proxy of the environment for this address, if any (behaviour § 3)."""
        try:
            return proxy_for(address, os.environ)
        except ValueError as error:
            self._log.warning("proxy_ignored", reason=str(error))
            return None

    def _checked(self, report: CheckReport) -> None:
        before = self.store.snapshot.backends.get(report.name)
        self.store.apply(report)
        after = self.store.snapshot.backends.get(report.name)
        if after is None or before is None:
            return
        if before.status is not after.status or before.reason != after.reason:
            log = self._log.info if after.routable else self._log.warning
            log(
                "backend_state",
                backend=after.name,
                engine=after.engine.value,
                status=after.status.value,
                reason=after.reason,
                models=len(after.models),
            )

    def _crowded(self, connections: int) -> None:
        """As many clients as there may be: said once a minute."""
        now_s = monotonic()
        if now_s >= self._crowded_at_s + _CROWDED_GAP_S:
            self._crowded_at_s = now_s
            self._log.warning(
                "too_many_connections",
                connections=connections,
                descriptors=self.descriptors,
                hint="idle ones are closed, then new ones refused; raise the limit of open files "
                "(ulimit -n, LimitNOFILE)",
            )

    def _woke(self) -> None:
        """The machine slept: connections are dead, and the network may be another one."""
        self.plane.drop_connections()
        self.discovery.look_again()

    def _changed(self, before: Snapshot, after: Snapshot) -> None:
        self.plane.adopt(after)
        if self.events.listeners:
            self._tell_backends(before, after)

    def _tell_backends(self, before: Snapshot, after: Snapshot) -> None:
        """Events for whoever listens: a backend came, changed (a check is a change) or went."""
        now_s = monotonic()
        for name, backend in after.backends.items():
            known = before.backends.get(name)
            if known is not backend:
                view = backend_view(backend, after.live[name], now_s)
                change = "added" if known is None else "changed"
                self.events.publish("backend", {"change": change, **view})
        for name in before.backends.keys() - after.backends.keys():
            self.events.publish("backend", {"change": "removed", "name": name})

    # --- Hooks of the data plane ------------------------------------------------------------

    def suspect(self, backend: str) -> None:
        """Traffic saw it fail: probe it."""
        self.checker.suspect(backend)

    def forget_model(self, backend: str, model_id: str) -> None:
        """It says it does not have this model."""
        if backend in self.store.snapshot.backends:
            self.store.forget_model(backend, model_id)
            self.checker.suspect(backend)

    def record(self, record: CallRecord) -> None:
        """A call is over."""
        self._recorder(record)

    def unexpected(self, error: BaseException, request_id: str) -> None:
        """A fault of our own: logged with its traceback, counted."""
        self.metrics.internal_errors += 1
        self._log.error("internal_error", request_id=request_id, exc_info=error)

    def truncated(self, backend: str, model_id: str) -> None:
        """An engine seems to have cut a prompt: counted, and said once per model."""
        self.metrics.prompts_truncated += 1
        key = (backend, model_id)
        if key not in self._models_cut and len(self._models_cut) < 1000:
            self._models_cut.add(key)
            self._log.warning(
                "prompt_truncated",
                backend=backend,
                model=model_id,
                hint="the engine read far fewer tokens than were sent; raise its context window",
            )

    def check_origin(self, request: Request) -> tuple[ApiError | None, Headers]:
        """The rules for browsers' pages."""
        return self.control.check_origin(request)

    def page(
        self, request: Request, connection: ServerConnection
    ) -> tuple[bool, ClientHandler | None]:
        """Answers our own pages, or hands over to the control plane."""
        if self.control.handles(request.path):
            return True, self.control.handle(request, connection)
        if request.path in (b"/metrics", b"/metrics/"):
            return True, self._answer_metrics(request, connection)
        _, cors = self.control.check_origin(request)
        if request.method == b"OPTIONS" and cors:
            return False, None
        cors.append((b"x-request-id", self._page_id(request)))
        answer = self.pages.answer(request, close=connection.must_close, headers=cors)
        if answer is None:
            return False, None
        connection.write(answer)
        connection.finish()
        return True, None

    def _answer_metrics(self, request: Request, connection: ServerConnection) -> ClientHandler:
        """The metrics page, made by a task. Raises ``ApiError``: 405, or no access."""
        if request.method not in (b"GET", b"HEAD"):
            method = request.method.decode("latin-1")
            raise ApiError.method_not_allowed(method, "/metrics", ("GET", "HEAD"))
        if self.config.server.metrics_access == "admin":
            self.control.admit(request)
        if self._metrics_app is None:
            from nexus.runtime.metrics import metrics_app

            self._metrics_app = metrics_app(self)
        return self.control.run(self._metrics_app, request, connection)

    def log_content(self, on: bool) -> None:
        """Has the content of calls logged from now on, or no more."""
        if on:
            from nexus.proxy.content import LoggedExchange

            self.plane.exchange = LoggedExchange
            self._log.warning(
                "content_is_logged",
                hint="logging.content is on: what people ask and models answer is in this log",
            )
        else:
            self.plane.exchange = Exchange

    @property
    def access_log_dropped(self) -> int:
        """Lines that the access log lost."""
        return 0 if self._access_log is None else self._access_log.dropped

    def _knows_model(self, name: str) -> bool:
        """Whether a model name that a client used is anybody's: only such are labels."""
        return name in self.store.snapshot.candidates or name in self.router.settings.aliases

    def _page_id(self, request: Request) -> bytes:
        return (request.kept_id() or self.plane.next_id()).encode()

    def _make_admin_app(self) -> AsgiApp:
        from nexus.admin.app import create_admin_app

        return create_admin_app(Admin(self, self.control.gate))


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass


async def _flushed(server: HttpServer, timeout_s: float = 1.0) -> None:
    """Waits until clients have taken what was written to them, but not for those that stall."""
    deadline_s = monotonic() + timeout_s
    while server.unwritten_bytes and monotonic() < deadline_s:  # noqa: ASYNC110 - uvloop tells not
        await asyncio.sleep(0.01)


def _listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket; ``::`` takes IPv4 too where the system can (uvloop alone binds v6 only)."""
    infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = infos[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and host in ("::", ""):
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_dead_socket(path: Path) -> None:
    """Removes a Unix socket that nobody listens on; a live one is another process's (traps).

    Raises ``OSError`` when it is alive or no socket at all.
    """
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(f"{path} exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(f"{path} is in use by another process")


def _tls(server: ServerConfig) -> ssl.SSLContext:
    """The context to listen with. Raises ``OSError`` that names the files when they are no use."""
    try:
        return listening_context(cert_file=server.tls_cert, key_file=server.tls_key)
    except OSError as error:  # neither OpenSSL nor the system says which file it was
        why = error.strerror or error
        files = f"tls_cert {server.tls_cert} and tls_key {server.tls_key}"
        raise OSError(f"{files} cannot be used: {why}") from error


def raise_descriptor_limit() -> None:
    """Raises the soft limit of open files to the hard one: at exhaustion the loop accepts and
    closes without a word (traps: uvloop)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and sys.platform != "darwin":
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
