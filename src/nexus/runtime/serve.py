"""``nexus serve``: one process, one loop, ended by signals (behaviour § 10)."""

from __future__ import annotations

import asyncio
import errno
import signal
import sys

import uvloop

from nexus.config.loader import ConfigError, Loaded
from nexus.config.schema import LoggingConfig
from nexus.core.backend import EngineKind
from nexus.discovery.nearness import Nearness, nearness
from nexus.runtime.collecting import CycleCollector
from nexus.runtime.fleet import check_fleet
from nexus.runtime.gateway import Gateway, raise_descriptor_limit
from nexus.runtime.probing import probe_url
from nexus.runtime.reload import Reloader
from nexus.runtime.source import ConfigSource
from nexus.telemetry.access import AccessLog
from nexus.telemetry.logs import configure_logging, finish_logging, get_logger
from nexus.telemetry.text import printable

__all__ = ["run"]

_SERVERS = {
    EngineKind.OLLAMA: "an Ollama server",
    EngineKind.VLLM: "a vLLM server",
    EngineKind.LLAMACPP: "a llama.cpp server",
    EngineKind.EXO: "an exo server",
    EngineKind.LMSTUDIO: "an LM Studio server",
    EngineKind.SGLANG: "an SGLang server",
}


def run(loaded: Loaded, source: ConfigSource | None = None) -> int:
    """Serves until told to stop; returns the exit code (0: ended as asked, 1: could not start).

    ``source`` is where ``loaded`` is from: with it, the configuration is read again when it
    changes.
    """
    _configure_logging(loaded.config.logging)
    raise_descriptor_limit()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(loaded, source))
    finally:
        finish_logging()


async def serve(loaded: Loaded, source: ConfigSource | None = None) -> int:
    """The life of the gateway, from start to exit code."""
    log = get_logger("gateway")
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(
        lambda _loop, context: log.error(
            "loop_error", message=context.get("message"), exc_info=context.get("exception")
        )
    )
    config = loaded.config
    access_log = AccessLog(sys.stdout, config.logging.format)
    access_log.muted = _is_quiet(config.logging)

    def on_logging(logging: LoggingConfig) -> None:
        _configure_logging(logging)
        access_log.muted = _is_quiet(logging)

    try:
        check_fleet(loaded.backends, str(loaded.path))
    except ConfigError as error:
        sys.stderr.write(f"nexus: {error}\n")
        return 1
    gateway = Gateway(loaded, access_log=access_log)
    if source is not None:
        gateway.reloader = Reloader(gateway, source, on_logging=on_logging)
    stop, cut_now = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            cut_now.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    # Its default would end the process without a drain.
    loop.add_signal_handler(signal.SIGHUP, lambda: _on_hangup(gateway.reloader))
    try:
        await gateway.start()
    except OSError as error:
        sys.stderr.write(f"nexus: {await _why_not(loaded, error)}\n")
        await gateway.stop()
        return 1
    collector = CycleCollector(loop, lambda: len(gateway.server.connections))
    collector.start()
    where = {"config": str(loaded.path)} if loaded.path else {}
    if not loaded.config.server.unix:
        where["dashboard"] = f"{gateway.url}/"
    log.info("listening", url=gateway.url, backends=len(loaded.backends), **where)
    if not loaded.backends and not config.discovery.enabled:
        log.warning(
            "no_backends",
            hint="discovery is off: add [[backends]] to nexus.toml (see nexus.example.toml), or "
            "try: nexus demo",
        )
    await stop.wait()
    log.info("draining", in_flight=gateway.plane.in_flight)
    collector.close()
    await gateway.drain(cut_now)
    await gateway.stop()
    log.info("stopped")
    return 0


def _configure_logging(logging: LoggingConfig) -> None:
    configure_logging(logging.level, logging.format, logging.component_levels, background=True)


def _is_quiet(logging: LoggingConfig) -> bool:
    """Whether finished calls are not to be told: the access log's lines are of level info."""
    return logging.level in ("warning", "error")


def _on_hangup(reloader: Reloader | None) -> None:
    if reloader is None:
        get_logger("config").warning("reload_unavailable", hint="there is no file to read again")
    else:
        reloader.ask()


async def _why_not(loaded: Loaded, error: OSError) -> str:
    server = loaded.config.server
    if server.unix:
        return f"cannot listen on {server.unix}: {error.strerror or error}"
    where = f"{server.host}:{server.port}"
    if error.errno == errno.EADDRINUSE:
        return await _port_taken(loaded)
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"may not listen on {where}: ports below 1024 need privileges"
    return f"cannot listen on {where}: {error.strerror or error}"


async def _port_taken(loaded: Loaded) -> str:
    """Who has our port, and what to do: it may well be an engine that we are to serve."""
    server, discovery = loaded.config.server, loaded.config.discovery
    # What listens on all addresses is asked at one of them.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(server.host, server.host)  # noqa: S104
    shown = f"[{host}]" if ":" in host else host
    try:
        seen = await probe_url(f"http://{shown}:{server.port}", timeout_s=1.0)
    except ValueError:  # a proxy of the environment that is none
        return f"port {server.port} is in use by another program: start with --port N"
    found = seen.found
    if found is None or (found.engine is None and not found.nexus):
        return f"port {server.port} is in use by another program: start with --port N"
    start = f"start with --port {server.port + 10 if server.port < 65526 else 'N'}"
    if found.nexus:
        return f"port {server.port} is another Nexus: {start}"
    who = _SERVERS.get(found.engine, "an OpenAI-compatible server") if found.engine else ""
    names = ", ".join(model.id for model in (seen.result.models or ())[:2])
    if names:
        who = f"{who} with model {printable(names)[:200]}"
    looks = discovery.enabled and discovery.scan and discovery.auto_approve != "never"
    here = host == "localhost" or nearness(host) is Nearness.LOOPBACK
    if looks and here and server.port in discovery.scan_ports:
        return f"port {server.port} is {who}: {start}, it will be found by itself"
    return f"port {server.port} is {who}: {start} and name that server in [[backends]]"
