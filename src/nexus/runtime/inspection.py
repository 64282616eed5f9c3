"""Looks at a server before it is taken in: what it is, and what was asked to find out."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from nexus.core.backend import Backend, BackendSpec, EngineKind, parse_backend_url
from nexus.engines.adapter import Answer, Ask, Health
from nexus.engines.fingerprint import fingerprint
from nexus.engines.table import adapter_for
from nexus.health.probe import Probe, probe
from nexus.proxy.limits import PlaneLimits
from nexus.proxy.link import Link
from nexus.runtime.asking import fetch_answer

if TYPE_CHECKING:
    from nexus.runtime.gateway import Gateway

__all__ = ["Inspection", "inspect_server"]

_SHOWN_MAX = 6


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at a server came to. ``tried`` tells for people what was asked and answered."""

    probe: Probe
    tried: str

    @property
    def usable(self) -> bool:
        """Whether calls can go there, now or once it has loaded."""
        return self.probe.result.health in (Health.HEALTHY, Health.LOADING)


async def inspect_server(gateway: Gateway, spec: BackendSpec) -> Inspection:
    """Asks the server of ``spec``, which needs no name yet. Raises only on a fault of our own."""
    engine = spec.engine or EngineKind.GENERIC
    backend = Backend(
        spec=spec,
        address=parse_backend_url(spec.url),
        engine=engine,
        traits=adapter_for(engine).traits,
    )
    limits = PlaneLimits(
        connect_timeout_s=gateway.config.server.connect_timeout_seconds, pool_idle_per_backend=0
    )
    proxy = gateway.proxy_of(backend.address)
    link = Link(gateway.loop, backend, limits, gateway.plane.timers, proxy=proxy)
    tried: list[str] = []

    async def fetch(_: Backend, ask: Ask, timeout_s: float) -> Answer:
        answer = await fetch_answer(link, ask, timeout_s)
        method = "GET" if ask.body is None else "POST"
        tried.append(f"{method} {ask.path} ({answer.status or answer.error})")
        return answer

    try:
        found = await probe(
            backend,
            engine=spec.engine,
            known=(),
            adapters=adapter_for,
            fingerprint=fingerprint,
            fetch=fetch,
            timeout_s=gateway.health_settings.timeout_s,
            clock=monotonic,
        )
    finally:
        link.pool.close()
    shown = tried[:_SHOWN_MAX]
    if len(tried) > _SHOWN_MAX:
        shown.append(f"and {len(tried) - _SHOWN_MAX} more")
    return Inspection(probe=found, tried=", ".join(shown) or "nothing")
