"""A new configuration while the gateway runs: all of it or nothing (behaviour § 8).

Read (in a thread, so that no call waits), compare, apply in one turn of the loop. Asked for by
SIGHUP, by the admin API, by a saved change, or by the file itself, which is looked at each second:
its time, size and inode, so that editors which rename and Kubernetes, which swaps a link, are seen
too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from nexus.config.diff import ConfigDiff, diff_configs, keep_unchangeable
from nexus.config.loader import Loaded, key_files
from nexus.config.problem import ConfigError, Problem
from nexus.config.schema import LoggingConfig
from nexus.runtime.fleet import FleetPlan, plan_fleet
from nexus.runtime.settings import (
    health_settings,
    plane_limits,
    routing_settings,
    server_limits,
)
from nexus.runtime.source import ConfigSource, Mark
from nexus.telemetry.logs import get_logger

if TYPE_CHECKING:
    from nexus.runtime.gateway import Gateway

__all__ = ["Reloader", "adopt_config"]

_INTERVAL_S = 1.0
_SETTLE_S = 0.2
_SETTLE_EMPTY_S = 2.0
"""An empty or missing file may be one that is just being written."""


class Reloader:
    """Reads the configuration again when it should be. ``on_logging`` applies ``[logging]``."""

    def __init__(
        self,
        gateway: Gateway,
        source: ConfigSource,
        *,
        on_logging: Callable[[LoggingConfig], None] | None = None,
        interval_s: float = _INTERVAL_S,
    ) -> None:
        self._gateway = gateway
        self._source = source
        self._on_logging = on_logging
        self._interval_s = interval_s
        self._log = get_logger("config")
        self._lock = asyncio.Lock()
        self._asked = asyncio.Event()
        self._awaited: tuple[str, ...] = ()
        """Key files of a configuration that was refused: with another of them it may be good."""
        self._seen = self._mark()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to watch the file."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def aclose(self) -> None:
        """Watches no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def ask(self) -> None:
        """Reads again soon (SIGHUP)."""
        self._asked.set()

    async def reload(self, trigger: str) -> ConfigDiff:
        """Reads again and applies what changed. Raises :class:`ConfigError` with all problems; then
        everything stays as it was."""
        async with self._lock:
            self._seen = mark = self._mark()
            try:
                self._refuse_pipe()
                loaded = await asyncio.to_thread(self._source.load)
                self._refuse_other_file(loaded)
                diff = self._adopt(loaded)
            except ConfigError as error:
                self._watch_for(error.files, mark)
                self._failed(error, trigger)
                raise
            self._watch_for((), mark)
            self._tell(diff, trigger)
            return diff

    async def save(self, edit: Callable[[str], str]) -> ConfigDiff:
        """Edits the file and applies what it holds then. Raises ``EditError`` and
        :class:`ConfigError`: nothing was written."""
        async with self._lock:
            self._refuse_pipe()
            loaded = await asyncio.to_thread(self._source.save, edit, self._plan)
            diff = self._adopt(loaded)
            self._awaited = ()
            self._seen = self._mark()
            self._tell(diff, "saved")
            return diff

    # --- inside -----------------------------------------------------------------------------

    def _adopt(self, loaded: Loaded) -> ConfigDiff:
        before = self._gateway.loaded.config.logging
        diff = adopt_config(self._gateway, loaded)
        after = self._gateway.loaded.config.logging
        if after != before and self._on_logging is not None:
            self._on_logging(after)
        return diff

    def _plan(self, loaded: Loaded) -> FleetPlan:
        return plan_of(self._gateway, loaded)

    def _refuse_pipe(self) -> None:
        """Whoever reads one waits for its writer, and the end of the process for whoever reads."""
        if not self._source.stands_still():
            message = "is a pipe or device, which is read once: what was read stays in force"
            raise ConfigError([Problem(source=str(self._source.find()), message=message)])

    def _refuse_other_file(self, loaded: Loaded) -> None:
        """A file that is gone is an accident, not the wish to run without a configuration."""
        path = self._gateway.loaded.path
        if path is not None and loaded.path != path:
            message = "is gone: what was read from it stays in force"
            raise ConfigError([Problem(source=str(path), message=message)])

    def _failed(self, error: ConfigError, trigger: str) -> None:
        problems = [str(problem) for problem in error.problems]
        self._gateway.metrics.reloaded(applied=False)
        self._gateway.events.publish("config", {"outcome": "failed", "problems": problems})
        self._log.error(
            "config_reload_failed",
            trigger=trigger,
            problems=problems,
            hint="the configuration that ran before stays in force",
        )

    def _tell(self, diff: ConfigDiff, trigger: str) -> None:
        outcome = "unchanged" if diff.empty else "applied"
        self._gateway.metrics.reloaded(applied=True)
        view: dict[str, Any] = msgspec.to_builtins(diff)
        if not diff.empty:
            self._gateway.events.publish("config", {"outcome": outcome, **view})
        told = {key: value for key, value in view.items() if value and key != "needs_restart"}
        self._log.info("config_reloaded", trigger=trigger, outcome=outcome, **told)
        if diff.needs_restart:
            keys = [change.key for change in diff.needs_restart]
            self._log.warning(
                "config_needs_restart",
                keys=keys,
                hint="these cannot change while the gateway runs: restart it",
            )

    def _mark(self) -> Mark:
        files = (*key_files(self._gateway.loaded.config), *self._awaited)
        return self._source.mark(*dict.fromkeys(files))

    def _watch_for(self, awaited: tuple[str, ...], before: Mark) -> None:
        """After reading files that stood as ``before``: one that is looked at only from now on has
        not changed since."""
        self._awaited = awaited
        known = dict(before)
        self._seen = tuple((path, known.get(path, state)) for path, state in self._mark())

    async def _watch(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._asked.wait()
            except TimeoutError:
                pass
            try:
                if self._asked.is_set():
                    self._asked.clear()
                    await self.reload("SIGHUP")
                elif self._mark() != self._seen:
                    await self._settled()
                    if self._mark() != self._seen:
                        await self.reload("file")
            except ConfigError:
                pass  # told in the log
            except Exception as error:
                self._gateway.unexpected(error, "reload")

    async def _settled(self) -> None:
        """Waits until who writes the file has done so."""
        mark: Mark = ()
        while mark != self._mark():
            mark = self._mark()
            doubtful = not mark or mark[0][1] is None or mark[0][1][2] == 0
            await asyncio.sleep(_SETTLE_EMPTY_S if doubtful else _SETTLE_S)


def plan_of(gateway: Gateway, loaded: Loaded) -> FleetPlan:
    """How the gateway's backends would change. Raises :class:`ConfigError`."""
    return plan_fleet(
        gateway.store.snapshot.backends,
        gateway.loaded.backends,
        loaded.backends,
        str(loaded.path),
    )


def adopt_config(gateway: Gateway, loaded: Loaded) -> ConfigDiff:
    """Applies a configuration to a running gateway, in one turn of the loop: calls under way keep
    what they began with. Raises :class:`ConfigError` before anything has changed."""
    plan = plan_of(gateway, loaded)
    running = gateway.loaded
    diff = diff_configs(running, loaded)
    before, config = running.config, keep_unchangeable(running.config, loaded.config)
    gateway.loaded = msgspec.structs.replace(loaded, config=config)
    gateway.config = config
    gateway.needs_restart = diff.needs_restart
    server = config.server
    if config.routing != before.routing:
        gateway.router.settings = routing_settings(config.routing)
        gateway.pages.aliases = config.routing.aliases
    if (limits := plane_limits(config)) != gateway.plane.limits:
        gateway.plane.change_limits(limits)
    if (bounds := server_limits(server, gateway.descriptors)) != gateway.server.limits:
        gateway.server.change_limits(bounds)
    gateway.budget.limit_bytes = server.max_buffered_bytes
    if config.telemetry.history_size != before.telemetry.history_size:
        gateway.history.resize(config.telemetry.history_size)
    if config.logging.content != before.logging.content:
        gateway.log_content(config.logging.content)
    if gateway.control.configure(server, loaded.admin_key):
        gateway.events.close()  # who listened with the old key asks again with the new one
    if (health := health_settings(config.health_check)) != gateway.health_settings:
        gateway.health_settings = health
        gateway.checker.configure(health)
    if config.models != before.models:
        gateway.store.override(config.models)
    gateway.reform_backends(plan)
    return diff
