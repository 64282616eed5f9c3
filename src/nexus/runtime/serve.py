"""``nexus serve``: one process, one loop, ended by signals (behaviour § 10)."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import signal
import sys
import urllib.error
import urllib.request
from typing import Any

import uvloop

from nexus.config.loader import Loaded
from nexus.runtime.gateway import Gateway, raise_descriptor_limit
from nexus.telemetry.access import AccessLog
from nexus.telemetry.logs import configure_logging, get_logger

__all__ = ["run"]


def run(loaded: Loaded) -> int:
    """Serves until told to stop; returns the exit code (0: ended as asked, 1: could not start)."""
    logging = loaded.config.logging
    configure_logging(logging.level, logging.format, logging.component_levels)
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(loaded))


async def serve(loaded: Loaded) -> int:
    """The life of the gateway, from start to exit code."""
    log = get_logger("gateway")
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(
        lambda _loop, context: log.error(
            "loop_error", message=context.get("message"), exc_info=context.get("exception")
        )
    )
    config = loaded.config
    quiet = config.logging.level in ("warning", "error")
    access_log = None if quiet else AccessLog(sys.stdout, config.logging.format)
    gateway = Gateway(loaded, access_log=access_log)
    stop, cut_now = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            cut_now.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    # Its default would end the process without a drain.
    loop.add_signal_handler(
        signal.SIGHUP,
        lambda: log.warning("reload_unavailable", hint="restart to apply a changed configuration"),
    )
    try:
        await gateway.start()
    except OSError as error:
        sys.stderr.write(f"nexus: {_why_not(loaded, error)}\n")
        await gateway.stop()
        return 1
    _tune_collector()
    where = {"config": str(loaded.path)} if loaded.path else {}
    log.info("listening", url=gateway.url, backends=len(loaded.backends), **where)
    if not loaded.backends:
        log.warning(
            "no_backends",
            hint="add [[backends]] to nexus.toml (see nexus.example.toml), or try: nexus demo",
        )
    await stop.wait()
    log.info("draining", in_flight=gateway.plane.in_flight)
    await gateway.drain(cut_now)
    await gateway.stop()
    log.info("stopped")
    return 0


def _tune_collector() -> None:
    """What is loaded now stays for good: the cycle collector need not look at it ever again, nor
    run every few requests for garbage that calls do not make (8 % of a request's CPU)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _why_not(loaded: Loaded, error: OSError) -> str:
    server = loaded.config.server
    if server.unix:
        return f"cannot listen on {server.unix}: {error.strerror or error}"
    where = f"{server.host}:{server.port}"
    if error.errno == errno.EADDRINUSE:
        who = _who_is_there(server.host, server.port)
        if who:
            return (
                f"port {server.port} is {who}: start with --port {server.port + 10} and name that "
                "server in [[backends]]"
            )
        return f"port {server.port} is in use by another program: start with --port N"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"may not listen on {where}: ports below 1024 need privileges"
    return f"cannot listen on {where}: {error.strerror or error}"


def _who_is_there(host: str, port: int) -> str:
    """What answers ``/v1/models`` there, in a few words; empty when nobody says."""
    host = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - asked, not bound
    host = f"[{host}]" if ":" in host else host
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}:{port}/v1/models", timeout=1.0) as answer:
            listing: Any = json.loads(answer.read(65536))
        data = listing["data"]
        owner = str(data[0].get("owned_by", "")) if data else ""
        names = ", ".join(str(entry["id"]) for entry in data[:2])
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return ""
    engine = {
        "nexus": "another Nexus",
        "vllm": "a vLLM server",
        "llamacpp": "a llama.cpp server",
        "library": "an Ollama server",
        "sglang": "an SGLang server",
        "exo": "an exo server",
    }.get(owner, "an OpenAI-compatible server")
    return f"{engine} with model {names}" if names else engine
