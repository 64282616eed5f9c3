"""The admin API's view of the gateway (``admin.control.AdminControl``)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from nexus.admin.control import FieldProblemsError, Json
from nexus.admin.gate import Gate
from nexus.config.edit import EditError, add_backend, change_backend, remove_backend
from nexus.config.fields import fields_of
from nexus.config.mask import masked
from nexus.config.parse import build_backend
from nexus.config.problem import ProblemList, nearest_name
from nexus.config.schema import BackendConfig
from nexus.config.secrets import read_backend_key
from nexus.config.specs import backend_config, backend_spec
from nexus.core.backend import Backend, BackendSpec, BackendStatus, Source, parse_backend_url
from nexus.core.errors import ApiError
from nexus.engines.adapter import Health
from nexus.health.report import CheckReport
from nexus.health.state import HealthState
from nexus.proxy.endpoints import ENDPOINTS
from nexus.proxy.heads import pinned_name
from nexus.registry.views import backend_view, backends_view, models_view, probe_view
from nexus.routing.profile import read_profile
from nexus.runtime.probing import ProbeReport, probe_spec
from nexus.telemetry.events import Subscription

if TYPE_CHECKING:
    from nexus.runtime.gateway import Gateway

__all__ = ["Admin", "read_backend_fields", "saved_table"]

_UNNAMED = "unnamed"
_TRIED_MAX = 6
_LISTENERS_MAX = 64


class Admin:
    """What the admin application asks, answered by the gateway's rooms."""

    def __init__(self, gateway: Gateway, gate: Gate) -> None:
        self._gateway = gateway
        self._gate = gate

    # --- backends ---------------------------------------------------------------------------

    def backends(self) -> list[Json]:
        """Every backend, by name."""
        data: list[Json] = backends_view(self._gateway.store.snapshot, monotonic())["data"]
        return data

    def backend(self, name: str) -> Json:
        """One backend. 404."""
        return self._view(self._known(name))

    async def add_backend(self, fields: Json, *, save: bool, force: bool) -> Json:
        """Probes it, then takes it in."""
        gateway = self._gateway
        named = "name" in fields
        config, key = read_backend_fields({"name": _UNNAMED, **fields})
        spec = backend_spec(config, api_key=key, source=Source.MANUAL)
        if not named:
            # A name of its own, so that no backend is taken for it while it has none.
            spec = replace(spec, name="")
        self._refuse_name(spec.name)
        self._refuse_twin(spec)
        seen = await self._look(spec)
        if seen.result.health not in (Health.HEALTHY, Health.LOADING) and not force:
            raise _unusable(spec, seen)
        if not named:
            spec = replace(spec, name=self._free_name(spec, seen))
            config = replace(config, name=spec.name)
        # Others may have been added while this one was looked at.
        self._refuse_name(spec.name)
        self._refuse_twin(spec)
        if save:
            table = saved_table(config)
            await self._save(lambda text: add_backend(text, table))
        else:
            gateway.add_backend(spec)
            gateway.backend_configs[spec.name] = config
        self._tell_health(spec.name, seen)
        return self.backend(spec.name)

    async def change_backend(self, name: str, fields: Json, *, save: bool) -> Json:
        """Changes some of its settings."""
        gateway = self._gateway
        before = self._known(name).spec
        if fields.get("name", name) != name:
            raise ApiError.bad_request(
                "name: cannot be changed. Add the backend under its new name and remove this one.",
                param="name",
            )
        raw = {**self._raw(name), **fields}
        config, key = read_backend_fields(
            {key: value for key, value in raw.items() if value is not None}
        )
        if not fields.keys() & {"api_key_env", "api_key_file"}:
            key = before.api_key
        spec = backend_spec(config, api_key=key, source=before.source)
        if spec != before:
            self._refuse_twin(spec)
        if save:
            await self._save(self._edit_of(name, config))
            gateway.backend_configs.pop(name, None)
            # The file may have had it so already, while what ran was changed without saving.
            spec = replace(spec, source=self._known(name).spec.source)
        elif spec != before:
            gateway.backend_configs[name] = config
        if spec != self._known(name).spec:
            gateway.change_backend(spec)
        return self.backend(name)

    async def remove_backend(self, name: str, *, save: bool) -> Json:
        """Forgets it."""
        backend = self._known(name)
        if backend.spec.source is Source.STATIC and not save:
            raise _conflict(
                "backend_in_config",
                f"Backend '{name}' is named in the configuration file and would be back with the "
                "next start. Drain it, or remove it from the file too with save: true.",
            )
        view = self._view(backend)
        if backend.spec.source is Source.STATIC:
            await self._save(lambda text: remove_backend(text, name))
            self._gateway.discovery.dismiss(name)
        else:
            self._gateway.remove_backend(name)
        return view

    def drain(self, name: str) -> Json:
        """No new calls there."""
        self._known(name)
        self._gateway.store.drain(name)
        return self.backend(name)

    def resume(self, name: str) -> Json:
        """New calls again."""
        self._known(name)
        self._gateway.store.resume(name)
        return self.backend(name)

    def approve(self, name: str) -> Json:
        """Lets a pending backend in, and has it checked."""
        backend = self._known(name)
        if backend.status is not BackendStatus.PENDING:
            raise _conflict(
                "not_pending",
                f"Backend '{name}' does not wait for approval: it is {backend.status.value}.",
            )
        self._gateway.approve_backend(name)
        return self.backend(name)

    async def probe(self, url: str) -> Json:
        """What answers at ``url``."""
        config, _ = read_backend_fields({"name": _UNNAMED, "url": url})
        spec = replace(backend_spec(config, source=Source.MANUAL), name="")
        seen = await self._look(spec)
        return probe_view(url, seen.engine, seen.result, label=seen.label)

    # --- models and routes ------------------------------------------------------------------

    def models(self) -> list[Json]:
        """Every model with its backends."""
        data: list[Json] = models_view(self._gateway.store.snapshot)["data"]
        return data

    def explain(self, body: bytes, *, endpoint: str, pin: str | None) -> Json:
        """Where a request would go. What is measured is the router's own time, with the
        explanation, which a call does not need."""
        gateway = self._gateway
        backends = gateway.store.snapshot.backends
        row = ENDPOINTS[endpoint.encode()]
        profile, _ = read_profile(
            body,
            endpoint,
            requires_messages=row.requires_messages,
            pin=pinned_name(pin.encode("latin-1"), backends) if pin else None,
        )
        began_s = perf_counter()
        plan = gateway.router.route(
            gateway.store.snapshot, profile, now_s=monotonic(), rng=gateway.rng, explain=True
        )
        decision_us = round((perf_counter() - began_s) * 1e6, 1)
        return gateway.router.explain_view(plan, decision_us=decision_us)

    # --- configuration ----------------------------------------------------------------------

    def config(self) -> Json:
        """The configuration as it runs, with what the admin API changed."""
        gateway = self._gateway
        loaded = gateway.loaded
        changed = gateway.backend_configs
        rows = [changed.get(one.name, one) for one in loaded.config.backends]
        named = {row.name for row in rows}
        rows += [config for name, config in changed.items() if name not in named]
        origins = dict(loaded.origins)
        for position, row in enumerate(rows):
            if row.name in changed:
                at = f"backends[{position}]."
                origins = {key: one for key, one in origins.items() if not key.startswith(at)}
                origins[at.removesuffix(".")] = "admin API"
        shown = masked(msgspec.structs.replace(loaded.config, backends=tuple(rows)))
        return {
            "file": None if loaded.path is None else str(loaded.path),
            "config": shown,
            "origins": origins,
            "needs_restart": [msgspec.to_builtins(one) for one in gateway.needs_restart],
        }

    async def reload(self) -> Json:
        """Reads the file again."""
        reloader = self._gateway.reloader
        if reloader is None:
            raise _conflict(
                "no_configuration", "This gateway runs without a configuration to read again."
            )
        diff = await reloader.reload("admin API")
        view: Json = msgspec.to_builtins(diff)
        return {"outcome": "unchanged" if diff.empty else "applied", **view}

    # --- what has been going on -------------------------------------------------------------

    def stats(self, window: str | None) -> Json:
        """Counts and percentiles of calls."""
        gateway = self._gateway
        return gateway.stats.view(monotonic(), gateway.plane.in_flight, window)

    def history(
        self, *, limit: int, backend: str | None, model: str | None, outcome: str | None
    ) -> list[Json]:
        """The last calls."""
        return self._gateway.history.view(
            limit=limit, backend=backend, model=model, outcome=outcome
        )

    def call(self, request_id: str) -> Json | None:
        """One of them."""
        return self._gateway.history.find(request_id)

    def subscribe(self) -> Subscription:
        """Listens to events."""
        gateway = self._gateway
        if gateway.plane.draining:
            raise ApiError.service_unavailable("Nexus is shutting down.", 1)
        if gateway.events.listeners >= _LISTENERS_MAX:
            raise ApiError.service_unavailable(
                f"{_LISTENERS_MAX} others listen to events already: close one of them.", 5
            )
        return gateway.events.subscribe()

    # --- sessions ---------------------------------------------------------------------------

    def session(self, token: str) -> Json:
        """Whether a key is needed, and whether this is a session."""
        gate = self._gate
        signed_in = bool(token) and gate.sessions.use(token, monotonic())
        return {"key_required": gate.key_required, "signed_in": signed_in or not gate.key_required}

    def sign_in(self, key: str, peer: str | None) -> str:
        """A session's token."""
        if not self._gate.key_required:
            return ""
        return self._gate.sign_in(key, peer, monotonic())

    def sign_out(self, token: str) -> None:
        """Ends a session."""
        self._gate.sessions.close(token)

    # --- inside -----------------------------------------------------------------------------

    def _known(self, name: str) -> Backend:
        backends = self._gateway.store.snapshot.backends
        backend = backends.get(name)
        if backend is None:
            nearest = nearest_name(name, backends)
            hint = f" Did you mean '{nearest}'?" if nearest else ""
            raise ApiError(
                404,
                "invalid_request_error",
                "backend_not_found",
                f"Backend '{_shown(name)}' does not exist.{hint}",
            )
        return backend

    def _view(self, backend: Backend) -> Json:
        live = self._gateway.store.snapshot.live[backend.name]
        return backend_view(backend, live, monotonic())

    def _raw(self, name: str) -> Json:
        """The backend's settings as ``[[backends]]`` would hold them."""
        gateway = self._gateway
        config = gateway.backend_configs.get(name) or self._named_in_file(name)
        if config is None:
            config = backend_config(gateway.store.snapshot.backends[name].spec)
        raw: Json = msgspec.to_builtins(config)
        return raw

    def _named_in_file(self, name: str) -> BackendConfig | None:
        return next((one for one in self._gateway.config.backends if one.name == name), None)

    def _edit_of(self, name: str, config: BackendConfig) -> Callable[[str], str]:
        """What writes a backend's settings, as they run, to the file."""
        before = self._named_in_file(name)
        if before is None:
            table = saved_table(config)
            return lambda text: add_backend(text, table)
        old, new = saved_table(before), saved_table(config)
        changes = {key: new.get(key) for key in {**old, **new} if old.get(key) != new.get(key)}
        return lambda text: change_backend(text, name, changes)

    async def _save(self, edit: Callable[[str], str]) -> None:
        """Raises ``ApiError`` 409 and ``ConfigError``; then nothing has changed."""
        reloader = self._gateway.reloader
        if reloader is None:
            raise _conflict(
                "not_saved", "This gateway runs without a configuration file to save to."
            )
        try:
            await reloader.save(edit)
        except EditError as error:
            raise _conflict("not_saved", str(error)) from None

    def _refuse_name(self, name: str) -> None:
        there = self._gateway.store.snapshot.backends.get(name)
        if there is not None and there.spec.source.named_by_operator:
            raise _conflict(
                "backend_exists", f"There is a backend named '{_shown(name)}' already.", "name"
            )

    def _refuse_twin(self, spec: BackendSpec) -> None:
        twin = self._gateway.store.same_server(spec)
        if twin is None:
            return
        # What was found gives way to what is named.
        if twin.spec.source.named_by_operator or not spec.source.named_by_operator:
            raise _conflict(
                "backend_exists",
                f"{_bare(spec.url)} is the same server as backend '{twin.name}'. Change that one "
                f"(PATCH /admin/v1/backends/{twin.name}), or remove it first.",
                "url",
            )

    async def _look(self, spec: BackendSpec) -> ProbeReport:
        try:
            return await probe_spec(spec, timeout_s=self._gateway.health_settings.timeout_s)
        except ValueError as error:  # a proxy of the environment that is none
            raise ApiError(
                422, "invalid_request_error", "backend_unusable", f"{error}.", param="url"
            ) from None

    def _free_name(self, spec: BackendSpec, seen: ProbeReport) -> str:
        """A name out of engine and host that nobody has."""
        address = parse_backend_url(spec.url)
        engine = spec.engine or seen.engine
        label = engine.value if engine else "backend"
        if address.host not in ("localhost", "127.0.0.1", "::1"):
            label = f"{label}-{address.host.partition('%')[0]}"
        taken = self._gateway.store.snapshot.backends
        name, number = label, 1
        while name in taken:
            number += 1
            name = f"{label}-{number}"
        return name

    def _tell_health(self, name: str, seen: ProbeReport) -> None:
        """What the probe saw is known at once; the checker's own check follows."""
        gateway = self._gateway
        settings = gateway.health_settings
        state = HealthState().apply(seen.result, monotonic(), settings, gateway.rng).state
        gateway.store.apply(
            CheckReport(
                name=name,
                status=state.status,
                reason=state.reason,
                result=seen.result,
                engine=seen.engine,
                duration_ms=seen.duration_s * 1000,
                at_s=time(),
                now_s=monotonic(),
            )
        )


def read_backend_fields(raw: Json) -> tuple[BackendConfig, str]:
    """A backend out of a request's fields, and its key. Raises :class:`FieldProblemsError`."""
    found = ProblemList(lambda _: ("request", None))
    config = build_backend(raw, found)
    for key in ("api_key_file", "tls_ca"):
        if getattr(config, key) and not Path(getattr(config, key)).is_absolute():
            found.report((key,), "give the file's whole path, from the root")
    if config.tls_ca and Path(config.tls_ca).exists() and not Path(config.tls_ca).is_file():
        # Reading a pipe would wait for its writer, and every client with it.
        found.report(("tls_ca",), "is no ordinary file")
    key = read_backend_key(config, os.environ, found.report, ())
    if found.problems:
        raise FieldProblemsError(found.problems)
    return config, key


def saved_table(config: BackendConfig) -> Json:
    """A backend's table as a person would write it: without what is the default."""
    raw: Json = msgspec.to_builtins(config)
    defaults = {name: field.default for name, field in fields_of(BackendConfig).items()}
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in raw.items()
        if value is not None and getattr(config, key) != defaults[key]
    }


def _unusable(spec: BackendSpec, seen: ProbeReport) -> ApiError:
    tried = list(seen.tried[:_TRIED_MAX])
    if len(seen.tried) > _TRIED_MAX:
        tried.append(f"and {len(seen.tried) - _TRIED_MAX} more")
    hint = ""
    if seen.result.health is Health.CREDENTIALS:
        hint = "Name the environment variable that holds its key in api_key_env. "
    return ApiError(
        422,
        "invalid_request_error",
        "backend_unusable",
        f"{_bare(spec.url)}: {seen.result.reason or seen.result.health.value}. "
        f"Tried {', '.join(tried) or 'nothing'}. {hint}Add it all the same with force: true.",
        param="url",
    )


def _conflict(code: str, message: str, param: str | None = None) -> ApiError:
    return ApiError(409, "invalid_request_error", code, message, param=param)


def _bare(url: str) -> str:
    """Without the query, where some services want their key."""
    return url.partition("?")[0]


def _shown(text: str) -> str:
    return "".join(ch if ch.isprintable() else "?" for ch in text[:200])
