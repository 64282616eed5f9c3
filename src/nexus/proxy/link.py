"""What the data plane keeps per backend: its connections and what never changes of its heads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from nexus.core.backend import Backend
from nexus.core.call import RouteReason
from nexus.engines.adapter import Adapter
from nexus.engines.table import adapter_for
from nexus.http1.headers import CREDENTIAL_HEADERS, Headers, encode_value
from nexus.http1.pool import Pool
from nexus.http1.timers import DeadlineQueues
from nexus.http1.tunnel import Proxy
from nexus.proxy.heads import answer_fields
from nexus.proxy.limits import PlaneLimits

if TYPE_CHECKING:
    from nexus.proxy.exchange import Exchange

__all__ = ["Link"]

_NAMES_MAX = 1024


class Link:
    """The way to one backend. Made anew when its address, credentials or engine change.

    ``active`` are the calls that are at it now; ``dropped_headers`` the client's fields that stay
    here: what the engine misreads, and what the operator configured in their place. The timeouts
    are the backend's own or else the server's, 0 for none; ``timer`` rings when the first of them
    or the silence is over."""

    __slots__ = (
        "_answer_heads",
        "_passed",
        "_passed_of",
        "_suffix",
        "active",
        "adapter",
        "backend",
        "dropped_headers",
        "first_byte_timeout_s",
        "first_ring_s",
        "forwards_credentials",
        "name",
        "pool",
        "request_timeout_s",
        "stream_idle_timeout_s",
        "timer",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        backend: Backend,
        limits: PlaneLimits,
        timers: DeadlineQueues[Exchange],
        *,
        proxy: Proxy | None = None,
        before: Link | None = None,
    ) -> None:
        """``before`` is the link that this one stands in for: it takes over the connections, if
        they lead to the same place, and knows the calls that are still under way there."""
        spec = backend.spec
        self.backend = backend
        self.adapter: Adapter = adapter_for(backend.engine)
        self.name = spec.name
        own = frozenset(name.lower().encode() for name in spec.headers)
        self.dropped_headers = backend.traits.dropped_headers | own
        # A credential among the configured headers is the backend's own key, spelled otherwise.
        self.forwards_credentials = spec.forwards_credentials and not own & CREDENTIAL_HEADERS
        self.active: set[Exchange] = set() if before is None else before.active
        self.request_timeout_s = _either(spec.request_timeout_s, limits.request_timeout_s)
        self.first_byte_timeout_s = _either(spec.first_byte_timeout_s, limits.first_byte_timeout_s)
        self.stream_idle_timeout_s = _either(
            spec.stream_idle_timeout_s, limits.stream_idle_timeout_s
        )
        rings = (limits.silence_s, self.request_timeout_s, self.first_byte_timeout_s)
        self.first_ring_s = min(length_s for length_s in rings if length_s)
        self.timer = timers.of(self.first_ring_s)
        idle_s = 30.0 if backend.address.tls else backend.traits.idle_s
        connect_timeout_s = _either(spec.connect_timeout_s, limits.connect_timeout_s)
        if before is not None and _same_way(before.backend, backend):
            self.pool: Pool = before.pool
            self.pool.idle_max = limits.pool_idle_per_backend
            self.pool.idle_s = idle_s
            self.pool.connect_timeout_s = connect_timeout_s
        else:
            if before is not None:
                before.pool.close_idle()
            self.pool = Pool(
                loop,
                backend.address,
                idle_max=limits.pool_idle_per_backend,
                idle_s=idle_s,
                connect_timeout_s=connect_timeout_s,
                tls_ca=spec.tls_ca,
                tls_verify=spec.tls_verify,
                proxy=proxy,
            )
            if before is not None:
                self.pool.connects = before.pool.connects
        query = "&".join(part for part in (backend.address.query, urlencode(spec.query)) if part)
        self._suffix = query.encode()
        self._answer_heads: dict[tuple[str, RouteReason, int], bytes] = {}
        self._passed_of: Headers = []
        self._passed = b""

    def serves(self, backend: Backend) -> bool:
        """Whether this link still fits what the registry knows."""
        own = self.backend
        if own is backend:
            return True
        if own.engine is not backend.engine or own.spec != backend.spec:
            return False
        # A health check made it anew with the same spec: the next look is a short one.
        self.backend = backend
        return True

    def prefix(self, method: bytes, path: bytes, query: bytes = b"") -> bytes:
        """Request line and the header fields that every request to this backend carries, without
        the final blank line. ``path`` is the OpenAI path, e.g. ``/v1/chat/completions``."""
        backend = self.backend
        spec = backend.spec
        queries = b"&".join(part for part in (self._suffix, query) if part)
        target = backend.address.base_path.encode() + path + (b"?" + queries if queries else b"")
        fields = {
            b"host": backend.address.authority.encode(),
            b"accept-encoding": b"identity",
        }
        if spec.api_key:
            fields[b"authorization"] = b"Bearer " + spec.api_key.encode()
        for name, value in spec.headers.items():
            fields[name.lower().encode()] = value.encode("latin-1", "replace")
        lines = [name + b": " + value for name, value in fields.items()]
        return b"\r\n".join((method + b" " + target + b" HTTP/1.1", *lines, b""))

    def passed_fields(self, headers: Headers) -> bytes:
        """The backend's fields of a plain answer that reach the client. One answer after the other
        most often brings the same list (``http1.upstream.AnswerMemo``)."""
        if headers is not self._passed_of:
            lines: list[bytes] = []
            answer_fields(headers, lines)
            self._passed_of = headers
            self._passed = b"".join(lines)
        return self._passed

    def answer_head(self, model_id: str, reason: RouteReason, attempts: int) -> bytes:
        """The ``x-nexus-*`` fields that every answer of this backend carries (behaviour § 2.3):
        the same ones for the same model, reason and number of attempts."""
        key = (model_id, reason, attempts)
        head = self._answer_heads.get(key)
        if head is None:
            backend = self.backend
            head = b"".join(
                (
                    b"x-nexus-backend: " + encode_value(backend.name) + b"\r\n",
                    b"x-nexus-engine: " + backend.engine.value.encode() + b"\r\n",
                    b"x-nexus-backend-type: "
                    + (b"cloud" if backend.traits.cloud else b"local")
                    + b"\r\n",
                    b"x-nexus-model: " + encode_value(model_id) + b"\r\n",
                    b"x-nexus-route-reason: " + reason.value.encode() + b"\r\n",
                    b"x-nexus-attempts: %d\r\n" % attempts,
                    b"x-content-type-options: nosniff\r\n",
                )
            )
            if len(self._answer_heads) < _NAMES_MAX:
                self._answer_heads[key] = head
        return head


def _same_way(one: Backend, other: Backend) -> bool:
    """Whether a connection to one is a connection to the other."""

    def way(backend: Backend) -> tuple[object, ...]:
        address, spec = backend.address, backend.spec
        return address.scheme, address.host, address.port, spec.tls_ca, spec.tls_verify

    return way(one) == way(other)


def _either(own: float | None, default: float) -> float:
    """A backend's own timeout, or the server's; 0 is "off"."""
    return default if own is None else own
