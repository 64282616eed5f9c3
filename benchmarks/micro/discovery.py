"""What idle discovery costs: ``python -m benchmarks.micro.discovery`` (part of ``make bench``).

Two gateways beside each other know the same six engines: one found them, three by its scan and
three by mDNS, and goes on looking; the other has them in its configuration and discovery switched
off. Both check their health every 3 s, ten times as often as by default, and so does the scan look
at the ports. The adverts are in a network namespace of this program's own, on a pair of virtual
interfaces; one of them announces itself anew every second. What the first gateway uses more of the
CPU and of memory is what discovery costs.

Linux, and the right to make a namespace (root, or user namespaces); without it, exits with 2.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

_CPU_MAX = 0.01
_MEMORY_MAX_MB = 10.0
_READY_S = 30.0
_INTERVAL_S = 3.0
_HERE = "127.0.0.1"
_NETWORK = "10.99.0.2"
_SCANNED = (11434, 8000, 8080)
_ANNOUNCED = (9001, 9002, 9003)
_ROOT = Path(__file__).resolve().parents[2]
_NAMESPACE = (
    "ip link set lo up && ip link add nx0 type veth peer name nx1 && "
    "ip addr add 10.99.0.1/24 dev nx0 && ip addr add 10.99.0.2/24 dev nx1 && "
    "ip link set nx0 up multicast on && ip link set nx1 up multicast on && "
    "ip route add 224.0.0.0/4 dev nx0 && "
)
_ADVERTISER = """
import asyncio, socket, sys
from zeroconf import IPVersion, ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

async def main() -> None:
    zeroconf = AsyncZeroconf(interfaces=["10.99.0.2"], ip_version=IPVersion.V4Only)
    infos = [
        ServiceInfo(
            "_ollama._tcp.local.", f"engine{port}._ollama._tcp.local.", port=int(port),
            properties={"type": "ollama"}, server=f"host{port}.local.",
            addresses=[socket.inet_aton("10.99.0.2")],
        )
        for port in sys.argv[1:]
    ]
    for info in infos:
        await (await zeroconf.async_register_service(info))
    print("ready", flush=True)
    while True:
        await asyncio.sleep(1)
        await (await zeroconf.async_update_service(infos[0]))

asyncio.run(main())
"""


def main() -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro.discovery")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the measurement")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:
        return _in_a_namespace(arguments.seconds)
    with tempfile.TemporaryDirectory(prefix="nexus-discovery-") as directory:
        return _measure(Path(directory), arguments.seconds)


def _in_a_namespace(seconds: float) -> int:
    """Runs this program again with a network of its own."""
    again = f'exec "$0" -m benchmarks.micro.discovery --inside --seconds {seconds}'
    flags = "-n" if os.geteuid() == 0 else "-rn"
    command = ("unshare", flags, "sh", "-c")
    try:
        able = subprocess.run((*command, f"{_NAMESPACE}true"), capture_output=True, text=True)
    except FileNotFoundError as error:
        able = subprocess.CompletedProcess((), 1, "", str(error))
    if able.returncode:
        sys.stdout.write(f"discovery: no network namespace to be had here: {able.stderr.strip()}\n")
        return 2
    return subprocess.run((*command, _NAMESPACE + again, sys.executable), cwd=_ROOT).returncode


def _measure(home: Path, seconds: float) -> int:
    with ExitStack() as stack:
        for port in _SCANNED:
            stack.enter_context(_engine(_HERE, port))
        for port in _ANNOUNCED:
            stack.enter_context(_engine(_NETWORK, port))
        stack.enter_context(
            _started((sys.executable, "-c", _ADVERTISER, *map(str, _ANNOUNCED)), "ready")
        )
        finding = stack.enter_context(_gateway(home / "on.toml", 9101, _found()))
        told = stack.enter_context(_gateway(home / "off.toml", 9102, _named()))
        for port in (9101, 9102):
            _until_healthy(port, len(_SCANNED) + len(_ANNOUNCED))
        time.sleep(2.0)  # what starting does is over
        before = [_cpu_s(pid) for pid in (finding, told)]
        began_s = time.monotonic()
        time.sleep(seconds)
        passed_s = time.monotonic() - began_s
        on, off = (
            (_cpu_s(pid) - used_s) / passed_s
            for pid, used_s in zip((finding, told), before, strict=True)
        )
        memory_on, memory_off = (_resident_mb(pid) for pid in (finding, told))
    cpu, memory = on - off, memory_on - memory_off
    sys.stdout.write(
        f"idle discovery, {passed_s:.0f} s, 6 engines, 3 adverts, interval {_INTERVAL_S:g} s\n"
        f"  CPU    {on:7.2%} of a core with, {off:6.2%} without: {cpu:6.2%} (at most 1 %)\n"
        f"  memory {memory_on:7.1f} MB with, {memory_off:6.1f} MB without: {memory:5.1f} MB "
        "(at most 10 MB)\n"
    )
    return int(cpu > _CPU_MAX or memory > _MEMORY_MAX_MB)


def _found() -> str:
    """Everything by default, except that it announces itself to nobody."""
    return "[discovery]\nannounce = false\n"


def _named() -> str:
    lines = ["[discovery]", "enabled = false"]
    places = [(_HERE, port) for port in _SCANNED] + [(_NETWORK, port) for port in _ANNOUNCED]
    for host, port in places:
        lines += ["[[backends]]", f'name = "e{port}"', f'url = "http://{host}:{port}"']
    return "\n".join(lines)


@contextmanager
def _gateway(file: Path, port: int, settings: str) -> Iterator[int]:
    health = f"[health_check]\ninterval_seconds = {_INTERVAL_S}\n"
    file.write_text(f"[server]\nport = {port}\n{health}{settings}")
    with _started((sys.executable, "-m", "nexus", "serve", "--config", str(file)), "") as pid:
        yield pid


@contextmanager
def _engine(host: str, port: int) -> Iterator[int]:
    command = (sys.executable, "-m", "nexus", "demo-engine", "--dialect", "ollama")
    with _started((*command, "--host", host, "--port", str(port)), "") as pid:
        yield pid


@contextmanager
def _started(command: Sequence[str], says: str) -> Iterator[int]:
    """The process id of a command, once it has said that; it ends with the block."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
    out = subprocess.PIPE if says else subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, env=kept)
    try:
        if process.stdout is not None and says.encode() not in process.stdout.readline():
            raise RuntimeError(f"{command[0]} did not start")
        yield process.pid
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _until_healthy(port: int, count: int) -> None:
    end_s = time.monotonic() + _READY_S
    while True:
        try:
            seen = _health(port)["backends"]["healthy"]
        except (OSError, ValueError, KeyError):
            seen = 0
        if seen == count:
            return
        if time.monotonic() > end_s:
            raise RuntimeError(f"only {seen} of {count} backends at port {port}")
        time.sleep(0.1)


def _health(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection(_HERE, port, timeout=5)
    try:
        connection.request("GET", "/health")
        answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


def _cpu_s(pid: int) -> float:
    """CPU time of all threads of a process so far, to the nanosecond (proc(5), schedstat)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no VmRSS of {pid}")


if __name__ == "__main__":
    sys.exit(main())
