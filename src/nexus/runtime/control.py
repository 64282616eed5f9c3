"""The control plane's place behind our own server: access rules, then the ASGI application."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

from nexus.admin.access import (
    check_origin,
    cors_headers,
    preflight_headers,
)
from nexus.admin.gate import Gate
from nexus.core.errors import ApiError
from nexus.dialects.errors import error_body
from nexus.http1.asgi import AnswerState, AsgiApp, AsgiRequest, run_asgi
from nexus.http1.headers import Headers, serialise_response, status_line
from nexus.http1.message import Request
from nexus.http1.server import ServerConnection

if TYPE_CHECKING:
    from nexus.config.schema import ServerConfig

__all__ = ["ControlPlane"]

_PREFIXES = (b"/admin/v1/", b"/dashboard/")
_PATHS = frozenset(
    {b"/", b"/dashboard", b"/admin/v1"}
    | {path + slash for path in (b"/v1/stats", b"/v1/history") for slash in (b"", b"/")}
)


class ControlPlane:
    """Answers the admin paths, one task per request. The application is made when first asked."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        server: ServerConfig,
        admin_key: str,
        make_app: Callable[[], AsgiApp],
        on_error: Callable[[BaseException, str], None],
    ) -> None:
        self._loop = loop
        self._server = server
        self._make_app = make_app
        self._on_error = on_error
        self._app: AsgiApp | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._own_names = {socket.gethostname(), f"{socket.gethostname()}.local"}
        self.gate = Gate(admin_key, server.allowed_hosts, self._own_names)

    def configure(self, server: ServerConfig, admin_key: str) -> bool:
        """Takes the rules of a new configuration; whether the key is another one."""
        self._server = server
        self.gate.allowed_hosts = server.allowed_hosts
        return self.gate.change_key(admin_key)

    def handles(self, path: bytes) -> bool:
        """Whether the path belongs to the control plane."""
        return path in _PATHS or path.startswith(_PREFIXES)

    def admit(self, request: Request) -> None:
        """Raises ``ApiError`` when who asks may not use the control plane."""
        headers: dict[str, str] = {}
        for field, value in request.headers:
            # Repeated fields are one list (RFC 9110 § 5.2): a doubled Origin or key fits nothing.
            name, text = field.decode("latin-1"), value.decode("latin-1")
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
        path = request.path.decode("latin-1")
        refusal = self.gate.check(peer=request.peer, headers=headers, path=path, now_s=monotonic())
        if refusal is not None:
            raise refusal

    def handle(self, request: Request, connection: ServerConnection) -> Answering:
        """Has the application answer. Raises ``ApiError`` when access to the API is refused; a
        refusal to see the dashboard is a page."""
        try:
            self.admit(request)
        except ApiError as refusal:
            if request.path != b"/":
                raise
            app = _refused(refusal)
        else:
            app = self._app = self._app or self._make_app()
        return self.run(app, request, connection)

    def run(self, app: AsgiApp, request: Request, connection: ServerConnection) -> Answering:
        """Has ``app`` answer, in a task of its own."""
        target = request.path + (b"?" + request.query if request.query else b"")
        asked = AsgiRequest(
            method=request.method.decode("latin-1"),
            target=target,
            headers=request.headers,
            body=request.body,
            client=(request.peer, 0) if request.peer is not None else None,
            scheme="https" if self._server.tls_cert else "http",
        )
        request_id = request.kept_id() or str(uuid4())
        answering = Answering(
            connection, head_only=request.method == b"HEAD", request_id=request_id
        )
        task = self._loop.create_task(
            run_asgi(
                app,
                asked,
                answering,
                disconnected=answering.disconnected,
                on_error=lambda error, state: self._failed(answering, error, state, request_id),
            )
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return answering

    def check_origin(self, request: Request) -> tuple[ApiError | None, Headers]:
        """Whether a browser's page may call ``/v1``, and the CORS fields of the answer."""
        origin_field = request.header(b"origin")
        if origin_field is None:
            return None, []
        origin = origin_field.decode("latin-1")
        refusal = check_origin(
            origin=origin,
            host=(request.header(b"host") or b"").decode("latin-1"),
            cors_origins=self._server.cors_origins,
            allowed_hosts=self._server.allowed_hosts,
            own_names=self._own_names,
        )
        if refusal is not None:
            return refusal, []
        if request.method == b"OPTIONS":
            asked = request.header(b"access-control-request-headers")
            fields = preflight_headers(
                origin,
                requested_headers=asked.decode("latin-1") if asked else None,
                methods=("GET", "HEAD", "POST", "OPTIONS"),
            )
        else:
            fields = cors_headers(origin)
        return None, [(name.lower().encode(), value.encode("latin-1")) for name, value in fields]

    async def aclose(self) -> None:
        """Ends what is still being answered."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _failed(
        self, answering: Answering, error: Exception, state: AnswerState, request_id: str
    ) -> None:
        self._on_error(error, request_id)
        answering.fail(whole=state is AnswerState.WHOLE, untouched=state is AnswerState.NONE)


def _refused(error: ApiError) -> AsgiApp:
    from nexus.admin.dashboard import refusal_page  # brings Starlette

    return refusal_page(error)


class Answering:
    """One ASGI answer on a client connection: ``AsgiResponder`` and ``ClientHandler`` in one."""

    __slots__ = (
        "_chunked",
        "_client",
        "_head",
        "_head_only",
        "_request_id",
        "_room",
        "disconnected",
    )

    def __init__(self, client: ServerConnection, *, head_only: bool, request_id: str) -> None:
        self._request_id = request_id
        self._client: ServerConnection | None = client
        self._head_only = head_only
        self._chunked = False
        self._head = b""
        self._room = asyncio.Event()
        self._room.set()
        self.disconnected = asyncio.Event()

    # --- AsgiResponder ----------------------------------------------------------------------

    def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The head: kept until the first body bytes, so that both go out together."""
        client = self._client
        if client is None:
            return
        lines = [status_line(status), b"server: nexus\r\nx-content-type-options: nosniff\r\n"]
        lines.append(b"x-request-id: " + self._request_id.encode() + b"\r\n")
        sized = False
        for name, value in headers:
            sized = sized or name == b"content-length"
            lines.append(name + b": " + value + b"\r\n")
        close = client.must_close
        if not sized and not self._head_only and status not in (204, 304):
            self._chunked = not client.http10
            close = close or client.http10
            if self._chunked:
                lines.append(b"transfer-encoding: chunked\r\n")
        if close:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        self._head = b"".join(lines)

    def write(self, data: bytes) -> None:
        """Body bytes."""
        client = self._client
        if client is None or not data:
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        client.write(self._head + data)
        self._head = b""

    def end(self) -> None:
        """The answer is whole."""
        client = self._client
        if client is None:
            return
        last = self._head + (b"0\r\n\r\n" if self._chunked else b"")
        if last:
            client.write(last)
        self._client = None
        client.finish(close=client.http10 and not self._chunked and client.must_close)

    def gone(self) -> bool:
        """Whether the client has left."""
        return self._client is None

    async def drained(self) -> None:
        """Waits for room in the client's buffer."""
        client = self._client
        if client is not None and self._head:
            # An answer that begins with nothing to say: its head must not wait for its first byte.
            client.write(self._head)
            self._head = b""
        await self._room.wait()

    def fail(self, *, whole: bool, untouched: bool) -> None:
        """The application failed: a 500 if nothing went out, else the connection is cut."""
        client = self._client
        if client is None or whole:
            return
        self._client = None
        if untouched:
            fields: Headers = [
                (b"content-type", b"application/json"),
                (b"x-request-id", self._request_id.encode()),
            ]
            body = error_body(ApiError.internal(self._request_id))
            client.write(
                serialise_response(500, fields, body, close=True, head_only=self._head_only)
            )
            client.finish(close=True)
        else:
            client.cut()

    # --- ClientHandler ----------------------------------------------------------------------

    def on_client_gone(self) -> None:
        """The client left."""
        self._client = None
        self._room.set()
        self.disconnected.set()

    def on_client_paused(self) -> None:
        """The client reads slowly."""
        self._room.clear()

    def on_client_resumed(self) -> None:
        """The client caught up."""
        self._room.set()
