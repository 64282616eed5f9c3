"""What Nexus answers by itself, without a task: models, health, liveness, readiness."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from urllib.parse import unquote

import msgspec

import nexus
from nexus.core.errors import ApiError
from nexus.core.snapshot import Snapshot
from nexus.http1.headers import Headers, serialise_response
from nexus.http1.message import Request
from nexus.registry.views import health_view, model_entry, model_list

__all__ = ["Pages"]

_MODEL_PREFIX = b"/v1/models/"
_JSON: Headers = [(b"content-type", b"application/json")]


class Pages:
    """The small GET pages. ``snapshot`` and ``draining`` are asked at each request."""

    __slots__ = ("_aliases", "_cached", "_draining", "_snapshot", "_started_s")

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        draining: Callable[[], bool],
        aliases: Mapping[str, str],
    ) -> None:
        self._snapshot = snapshot
        self._draining = draining
        self._aliases = aliases
        self._started_s = monotonic()
        self._cached: tuple[Snapshot, bytes] | None = None

    @property
    def aliases(self) -> Mapping[str, str]:
        """Further names for models, which ``/v1/models`` lists."""
        return self._aliases

    @aliases.setter
    def aliases(self, aliases: Mapping[str, str]) -> None:
        self._aliases = aliases
        self._cached = None

    def answer(self, request: Request, *, close: bool, headers: Headers) -> bytes | None:
        """The whole response, or ``None`` when the path is none of these.

        Raises ``ApiError``: 404 for an unknown model, 405 for a method other than GET and HEAD.
        """
        path = request.path
        if len(path) > 1:
            path = path.rstrip(b"/")
        if path == b"/v1/models":
            page = self._models
        elif path.startswith(_MODEL_PREFIX):
            page = None
        elif path in _PAGES:
            page = getattr(self, _PAGES[path])
        else:
            return None
        if request.method not in (b"GET", b"HEAD"):
            shown = request.path.decode("latin-1")
            raise ApiError.method_not_allowed(
                request.method.decode("latin-1"), shown, ("GET", "HEAD")
            )
        status = 200
        if page is None:
            body = self._model(path[len(_MODEL_PREFIX) :])
        else:
            status, body = page()
        return serialise_response(
            status, _JSON + headers, body, close=close, head_only=request.method == b"HEAD"
        )

    def _models(self) -> tuple[int, bytes]:
        snapshot = self._snapshot()
        if self._cached is None or self._cached[0] is not snapshot:
            self._cached = (snapshot, msgspec.json.encode(model_list(snapshot, self._aliases)))
        return 200, self._cached[1]

    def _model(self, raw_name: bytes) -> bytes:
        name = unquote(raw_name.decode("latin-1"), errors="replace")
        snapshot = self._snapshot()
        entry = model_entry(snapshot, name, self._aliases)
        if entry is None:
            raise ApiError.model_not_found(name, snapshot.listed[:10])
        return msgspec.json.encode(entry)

    def _health(self) -> tuple[int, bytes]:
        view = health_view(
            self._snapshot(),
            version=nexus.__version__,
            uptime_s=monotonic() - self._started_s,
        )
        return 200, msgspec.json.encode(view)

    def _livez(self) -> tuple[int, bytes]:
        return 200, b'{"status":"alive"}'

    def _readyz(self) -> tuple[int, bytes]:
        if self._draining():
            return 503, b'{"status":"draining"}'
        if not self._snapshot().routable:
            return 503, b'{"status":"no healthy backend"}'
        return 200, b'{"status":"ready"}'


_PAGES = {b"/health": "_health", b"/livez": "_livez", b"/readyz": "_readyz"}
