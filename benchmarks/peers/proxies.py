"""How each proxy is installed, set up and started in front of one upstream.

Every gateway has its default settings, but for how many calls it serves at once. nginx, HAProxy and
Nexus write an access log, to a file; the others log as they do by default, to a file as well.
"""

from __future__ import annotations

import re
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
from benchmarks.macro.processes import Processes, free_port
from benchmarks.macro.servers import find_nginx, find_program, start_nexus, start_nginx
from benchmarks.macro.wire import PLAIN_MODEL, STREAM_MODEL
from benchmarks.peers.installs import installed, version

import nexus

__all__ = ["PROXIES", "Recipe", "Started", "most_streams", "raise_open_files"]

_VLLM_ROUTER = "vllm-router==0.1.17"
_SMG = "sglang-router==0.3.2"
_LITELLM = "litellm[proxy]==1.106.2"
_SPARE_FILES = 200


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy that runs, though it may not answer yet."""

    process: subprocess.Popen[bytes]
    port: int
    access_log: Path | None = None


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy: ``prepare`` installs or finds it and tells its version, ``start`` starts it on a
    core, in front of an upstream's port, to serve so many calls at once.

    ``exact``: it passes answers on byte for byte. ``slow``: it serves tens of requests per second,
    not thousands, and gets a load to match.
    """

    name: str
    prepare: Callable[[], str]
    start: Callable[[Processes, int, int, int], Started]
    exact: bool = True
    slow: bool = False
    ready_s: float = 30.0


def raise_open_files(streams: int) -> None:
    """Lets this process, and all that it starts, have the files that so many streams take: beyond
    the hard limit where the system lets it (root, mostly), else up to it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = max(hard, 2 * streams + _SPARE_FILES)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_streams(wanted: int) -> int:
    """So many of them as the limit of open files allows: a stream takes two in a proxy."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(wanted, (files - _SPARE_FILES) // 2 // 100 * 100)


def _said(command: list[str], pattern: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(pattern, result.stdout + result.stderr)
    return found[1] if found else "unknown"


def _nginx_version() -> str:
    return _said([find_nginx(), "-v"], r"nginx/(\S+)")


def _nginx(processes: Processes, core: int, upstream: int, calls: int) -> Started:
    # With less than a sixteenth of them free it closes connections that are about to be used.
    connections = max(8192, int(2.2 * calls))
    process, ports, log = start_nginx(processes, core, [upstream], connections)
    return Started(process=process, port=ports[0], access_log=log)


_HAPROXY_SETTINGS = """\
global
    maxconn {calls}
    nbthread 1
    log stdout format raw local0
defaults
    mode http
    log global
    option httplog
    option http-keep-alive
    option http-no-delay
    http-reuse always
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-request 60s
frontend in
    bind 127.0.0.1:{port} backlog 4096
    default_backend out
backend out
    server upstream 127.0.0.1:{upstream} maxconn {calls}
"""


def _find_haproxy() -> str:
    return find_program("haproxy", "haproxy")


def _haproxy_version() -> str:
    return _said([_find_haproxy(), "-v"], r"version ([\d.]+)")


def _haproxy(processes: Processes, core: int, upstream: int, calls: int) -> Started:
    port = free_port()
    settings = processes.directory / "haproxy.cfg"
    settings.write_text(_HAPROXY_SETTINGS.format(port=port, upstream=upstream, calls=calls + 50))
    process = processes.spawn("haproxy", [_find_haproxy(), "-f", str(settings)], core)
    return Started(process=process, port=port, access_log=processes.stdout("haproxy"))


def _vllm_router_version() -> str:
    installed("vllm-router", _VLLM_ROUTER, "vllm-router")
    return version("vllm-router", "vllm-router")


def _smg_version() -> str:
    installed("smg", _SMG, "smg")
    return version("smg", "sglang-router")


def _rust(
    processes: Processes,
    core: int,
    upstream: int,
    calls: int,
    name: str,
    command: list[str],
) -> Started:
    """Both Rust routers have the same options."""
    port = free_port()
    arguments = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--worker-urls": f"http://127.0.0.1:{upstream}",
        "--prometheus-host": "127.0.0.1",
        "--prometheus-port": str(free_port()),
        "--max-concurrent-requests": str(max(32768, 2 * calls)),
    }
    flat = [word for pair in arguments.items() for word in pair]
    return Started(process=processes.spawn(name, [*command, *flat], core), port=port)


def _vllm_router(processes: Processes, core: int, upstream: int, calls: int) -> Started:
    """As it is by default: it matches prompts against those it saw, and asks the engine to render
    and to tokenise each one first (which the upstream here refuses at once)."""
    program = str(installed("vllm-router", _VLLM_ROUTER, "vllm-router"))
    return _rust(processes, core, upstream, calls, "vllm-router", [program])


def _vllm_router_rr(processes: Processes, core: int, upstream: int, calls: int) -> Started:
    """With the cheapest of its policies."""
    program = str(installed("vllm-router", _VLLM_ROUTER, "vllm-router"))
    command = [program, "--policy", "round_robin"]
    return _rust(processes, core, upstream, calls, "vllm-router-rr", command)


def _smg(processes: Processes, core: int, upstream: int, calls: int) -> Started:
    program = str(installed("smg", _SMG, "smg"))
    return _rust(processes, core, upstream, calls, "smg", [program, "launch"])


def _litellm_version() -> str:
    installed("litellm", _LITELLM, "litellm")
    return version("litellm", "litellm")


def _litellm(processes: Processes, core: int, upstream: int, calls: int) -> Started:
    del calls
    port = free_port()
    settings = processes.directory / "litellm.yaml"
    lines = ["model_list:"]
    for model in (PLAIN_MODEL, STREAM_MODEL):
        base = f"http://127.0.0.1:{upstream}/v1"
        lines += [
            f"  - model_name: {model}",
            f"    litellm_params: {{model: openai/{model}, api_base: {base!r}, api_key: x}}",
        ]
    settings.write_text("\n".join(lines) + "\n")
    program = str(installed("litellm", _LITELLM, "litellm"))
    arguments = ["--config", str(settings), "--host", "127.0.0.1", "--port", str(port)]
    # Its list of prices from the package instead of the network; it wants a key.
    environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": "sk-bench"}
    process = processes.spawn("litellm", [program, *arguments], core, environment=environment)
    return Started(process=process, port=port)


def _nexus(processes: Processes, core: int, upstream: int, calls: int) -> Started:
    process, port, log = start_nexus(processes, core, [upstream], calls)
    return Started(process=process, port=port, access_log=log)


PROXIES = (
    Recipe(name="nginx", prepare=_nginx_version, start=_nginx),
    Recipe(name="haproxy", prepare=_haproxy_version, start=_haproxy),
    Recipe(name="nexus", prepare=lambda: nexus.__version__, start=_nexus),
    Recipe(name="vllm-router", prepare=_vllm_router_version, start=_vllm_router),
    Recipe(name="vllm-router-rr", prepare=_vllm_router_version, start=_vllm_router_rr),
    Recipe(name="smg", prepare=_smg_version, start=_smg),
    Recipe(
        name="litellm",
        prepare=_litellm_version,
        start=_litellm,
        exact=False,
        slow=True,
        ready_s=120.0,
    ),
)
"""In the order in which they are measured and shown."""
