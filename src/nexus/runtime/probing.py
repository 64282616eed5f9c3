"""Looking once at what answers at a URL, with or without a gateway around it.

What ``nexus backends probe`` prints, ``POST /admin/v1/probe`` answers and ``backends add`` and
discovery ask before they take a server in.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import monotonic

import msgspec

from nexus.core.backend import Backend, BackendSpec, EngineKind, Source, parse_backend_url
from nexus.engines.adapter import Answer, Ask, CheckResult, Health
from nexus.engines.fingerprint import Fingerprint, fingerprint
from nexus.engines.table import adapter_for
from nexus.health.probe import FetchAsk, probe
from nexus.health.probe import identify as identify_backend
from nexus.http1.timers import DeadlineQueues
from nexus.http1.tunnel import proxy_for
from nexus.proxy.limits import PlaneLimits
from nexus.proxy.link import Link
from nexus.runtime.asking import fetch_answer

__all__ = ["ProbeReport", "identify", "probe_spec", "probe_url"]


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What answers at ``url``.

    ``engine`` is ``None`` when it is nothing Nexus could use, ``label`` what people call the
    program. ``found`` is the fingerprint (``found.nexus``: another Nexus, or this one), ``None``
    when the engine was told instead. ``duration_s`` is of the whole look; ``tried`` tells for
    people each request of it and what came: ``GET /v1/models (connection refused)``.
    """

    url: str
    engine: EngineKind | None
    label: str
    result: CheckResult
    duration_s: float
    found: Fingerprint | None = None
    tried: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether requests could go there now: neither loading nor in want of a key."""
        return self.result.health is Health.HEALTHY

    @property
    def reachable(self) -> bool:
        """Whether a server that Nexus can use answered, be it loading or in want of a key."""
        return self.result.health not in (Health.LOST, Health.FAILED)


async def probe_url(
    url: str,
    *,
    engine: EngineKind | None = None,
    api_key: str = "",
    headers: Mapping[str, str] | None = None,
    tls_ca: str = "",
    tls_verify: bool = True,
    timeout_s: float = 5.0,
) -> ProbeReport:
    """Engine, health, models and load of what answers at ``url``; ``engine`` ``None`` finds it out.

    ``timeout_s`` bounds each round of requests. Raises ``ValueError`` when ``url`` is no URL of a
    backend; whatever the server does is told in the report.
    """
    spec = BackendSpec(
        name="probe",
        url=url,
        engine=engine,
        source=Source.MANUAL,
        api_key=api_key,
        headers=dict(headers or {}),
        tls_ca=tls_ca,
        tls_verify=tls_verify,
    )
    return await probe_spec(spec, timeout_s=timeout_s)


async def probe_spec(spec: BackendSpec, *, timeout_s: float = 5.0) -> ProbeReport:
    """As :func:`probe_url`, for a backend as it would be configured. Raises ``ValueError`` likewise
    (a bad URL, or a proxy of the environment that is none)."""
    backend = _backend(spec)
    tried: list[str] = []
    async with _line(backend, timeout_s, tried) as fetch:
        done = await probe(
            backend,
            engine=spec.engine,
            known=(),
            adapters=adapter_for,
            fingerprint=fingerprint,
            fetch=fetch,
            timeout_s=timeout_s,
            clock=monotonic,
        )
        result, found = done.result, done.found
        engine = done.engine or (found.engine if found is not None else None)
    evidence = "as told" if found is None else " and ".join(found.evidence)
    if engine is not None and evidence:
        result = msgspec.structs.replace(result, evidence={"engine": evidence, **result.evidence})
    return ProbeReport(
        url=spec.url,
        engine=engine,
        label=done.label,
        result=_with_hint(result, backend),
        duration_s=done.duration_s,
        found=found,
        tried=tuple(tried),
    )


async def identify(url: str, *, timeout_s: float = 2.0) -> Fingerprint:
    """Which program answers at ``url``, and nothing else: at most three GETs.

    Raises ``ValueError`` when ``url`` is no URL of a backend.
    """
    backend = _backend(BackendSpec(name="probe", url=url, source=Source.SCAN))
    async with _line(backend, timeout_s) as fetch:
        return await identify_backend(
            backend, fingerprint=fingerprint, fetch=fetch, timeout_s=timeout_s, clock=monotonic
        )


def _backend(spec: BackendSpec) -> Backend:
    engine = spec.engine or EngineKind.GENERIC
    return Backend(
        spec=spec,
        address=parse_backend_url(spec.url),
        engine=engine,
        traits=adapter_for(engine).traits,
    )


@asynccontextmanager
async def _line(
    backend: Backend, timeout_s: float, tried: list[str] | None = None
) -> AsyncIterator[FetchAsk]:
    """Connections to ``backend`` for the time of one look; what was asked is noted in ``tried``."""
    loop = asyncio.get_running_loop()
    link = Link(
        loop,
        backend,
        PlaneLimits(connect_timeout_s=timeout_s, pool_idle_per_backend=0),
        DeadlineQueues(loop, lambda _: None),
        proxy=proxy_for(backend.address, os.environ),
    )

    async def ask_backend(_: Backend, ask: Ask, timeout_s: float) -> Answer:
        answer = await fetch_answer(link, ask, timeout_s)
        if tried is not None:
            method = "GET" if ask.body is None else "POST"
            tried.append(f"{method} {ask.path} ({answer.status or answer.error})")
        return answer

    try:
        yield ask_backend
    finally:
        link.pool.close()


def _with_hint(result: CheckResult, backend: Backend) -> CheckResult:
    """What a person may have got wrong, said behind the reason."""
    reason = result.reason
    hint = ""
    if "WRONG_VERSION_NUMBER" in reason or "RECORD_LAYER_FAILURE" in reason:
        hint = "it does not speak TLS: try http://"
    elif "certificate not trusted" in reason:
        hint = "name its CA with tls_ca, or switch the check off with tls_verify = false"
    elif not backend.address.tls and "to HTTPS port" in reason:
        hint = "it speaks TLS: try https://"
    if not hint:
        return result
    return msgspec.structs.replace(result, reason=f"{reason} ({hint})")
