"""Machines on a network of their own: Linux network namespaces joined by a bridge.

Nothing reaches the network of the machine that runs the tests: the bridge lies in a namespace too.
All names begin with this process's own mark; only those are ever deleted, and only processes in
them are ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.processes import Process, clean_environment

__all__ = ["Machine", "Network", "why_no_namespaces"]

_ROOT = Path(__file__).parents[2]
_CLONE_NEWNET = 0x40000000


def _ip(*arguments: str) -> str:
    return subprocess.run(
        ["ip", *arguments], capture_output=True, text=True, timeout=20, check=True
    ).stdout


def why_no_namespaces() -> str:
    """Why this system makes no network namespaces; empty when it does."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if shutil.which("ip") is None:
        return "no `ip` command (Debian package iproute2)"
    if not Path("/proc/sys/net/ipv6").exists():
        return "the kernel has no IPv6"
    name = f"nxt{os.getpid()}-{secrets.token_hex(2)}"
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        return f"may not make network namespaces: {error.stderr.strip()}"
    try:
        _ip("-n", name, "link", "add", "probe", "type", "bridge")
        _ip("netns", "exec", name, "true")
    except subprocess.CalledProcessError as error:
        return f"may not make a bridge or run a program there: {error.stderr.strip()}"
    finally:
        _ip("netns", "del", name)
    return ""


class Machine:
    """One namespace: a machine with a loopback and ``eth0`` on the common network.

    ``v4`` is its IPv4 address, empty for a machine with IPv6 alone; ``v6`` its link-local address.
    """

    def __init__(self, network: Network, name: str, number: int, *, ipv4: bool) -> None:
        self.name = name
        self._network = network
        self.v4 = f"10.77.0.{number}" if ipv4 else ""

    @property
    def v6(self) -> str:
        """Its link-local IPv6 address, without scope."""
        told = json.loads(_ip("-n", self.name, "-j", "-6", "addr", "show", "eth0"))
        return next(
            str(one["local"])
            for link in told
            for one in link.get("addr_info", ())
            if one["scope"] == "link"
        )

    def link(self, *, up: bool) -> None:
        """Takes ``eth0`` down or up."""
        _ip("-n", self.name, "link", "set", "eth0", "up" if up else "down")

    def ipv6(self, *, on: bool) -> None:
        """Has ``eth0`` IPv6 or not."""
        self._network.sysctl(self.name, f"net.ipv6.conf.eth0.disable_ipv6={int(not on)}")

    def move_to(self, address: str) -> None:
        """Gives it another IPv4 address (/24)."""
        _ip("-n", self.name, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", self.name, "addr", "del", f"{self.v4}/24", "dev", "eth0")
        self.v4 = address

    def add_address(self, address: str) -> None:
        """Gives it one more IPv4 address, of no network."""
        _ip("-n", self.name, "addr", "add", f"{address}/32", "dev", "eth0")

    def add_bridges(self, count: int) -> None:
        """Gives it empty bridges with addresses, as containers do."""
        for number in range(count):
            name = f"br-{number}"
            _ip("-n", self.name, "link", "add", name, "type", "bridge")
            _ip("-n", self.name, "addr", "add", f"172.18.{number}.1/24", "dev", name)
            _ip("-n", self.name, "link", "set", name, "up")

    def replace_interface(self) -> None:
        """Takes ``eth0`` out and puts another in, with the same address."""
        _ip("-n", self.name, "link", "del", "eth0")
        self._network.connect(self)

    def run(self, *command: str) -> Process:
        """Starts a process on this machine; it ends with the network at the latest."""
        return self._network.started(
            Process(
                ["ip", "netns", "exec", self.name, *command],
                self._network.folder / f"{self.name}-{secrets.token_hex(3)}.log",
                clean_environment(
                    self._network.folder,
                    PYTHONPATH=os.pathsep.join(
                        [str(_ROOT), str(_ROOT / "src"), os.environ.get("PYTHONPATH", "")]
                    ),
                ),
            )
        )

    def python(self, module: str, *arguments: str) -> Process:
        """``python -m MODULE ARGUMENTS`` on this machine."""
        return self.run(sys.executable, "-m", module, *arguments)

    def request(
        self,
        method: str,
        port: int,
        path: str,
        body: dict[str, Any] | None = None,
        timeout_s: float = 5.0,
        host: str = "127.0.0.1",
    ) -> tuple[int, Any]:
        """One HTTP request from this machine; returns status and parsed JSON (or text)."""
        connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
        connection.sock = self._connected(host, port, timeout_s)
        try:
            data = json.dumps(body).encode() if body is not None else None
            headers = {"Content-Type": "application/json"} if data else {}
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            status = answer.status
        finally:
            connection.close()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def _connected(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """A socket of this namespace: made in a thread that has entered it."""
        made: list[socket.socket] = []
        failed: list[OSError] = []

        def make() -> None:
            try:
                descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
                try:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                finally:
                    os.close(descriptor)
                made.append(socket.create_connection((host, port), timeout_s))
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return made[0]


class Network:
    """A bridge in a namespace of its own, and machines on it. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = f"nxt{os.getpid()}-{secrets.token_hex(2)}"
        self._hub = f"{self._mark}-hub"
        self._names: list[str] = []
        self._processes: list[Process] = []

    def __enter__(self) -> Network:
        try:
            self._add_namespace(self._hub)
            _ip("-n", self._hub, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
            _ip("-n", self._hub, "link", "set", "br0", "up")
        except BaseException:
            self._delete()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._delete()

    def machine(self, *, ipv4: bool = True) -> Machine:
        """Adds a machine, its interface up and its addresses usable."""
        number = len(self._names)
        name = f"{self._mark}-{number}"
        self._add_namespace(name)
        for scope in ("default", "all"):
            self.sysctl(name, f"net.ipv6.conf.{scope}.accept_dad=0")
        _ip("-n", name, "link", "set", "lo", "up")
        machine = Machine(self, name, number, ipv4=ipv4)
        self.connect(machine)
        return machine

    def connect(self, machine: Machine) -> None:
        """Puts an ``eth0`` into a machine, plugged into the bridge."""
        port = machine.name.rpartition("-")[2]
        _ip(
            *("-n", machine.name, "link", "add", "eth0", "type", "veth"),
            *("peer", "name", f"v{port}", "netns", self._hub),
        )
        _ip("-n", self._hub, "link", "set", f"v{port}", "master", "br0")
        _ip("-n", self._hub, "link", "set", f"v{port}", "up")
        if machine.v4:
            _ip("-n", machine.name, "addr", "add", f"{machine.v4}/24", "dev", "eth0")
        machine.link(up=True)

    def started(self, process: Process) -> Process:
        """Keeps account of a process, to end it with the network."""
        self._processes.append(process)
        return process

    def _add_namespace(self, name: str) -> None:
        _ip("netns", "add", name)
        self._names.append(name)

    def sysctl(self, name: str, setting: str) -> None:
        """``NAME=VALUE`` in a namespace."""
        key, _, value = setting.partition("=")
        path = "/proc/sys/" + key.replace(".", "/")
        subprocess.run(
            ["ip", "netns", "exec", name, "sh", "-c", f"echo {value} > {path}"],
            timeout=20,
            check=True,
        )

    def _delete(self) -> None:
        for process in self._processes:
            with contextlib.suppress(Exception):
                process.kill()
        for name in self._names:
            for pid in self._pids(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            end_s = time.monotonic() + 5
            while any(self._pids(name)) and time.monotonic() < end_s:
                time.sleep(0.01)
        for name in reversed(self._names):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", name)
        self._names.clear()

    @staticmethod
    def _pids(name: str) -> Iterator[int]:
        with contextlib.suppress(subprocess.CalledProcessError):
            yield from (int(pid) for pid in _ip("netns", "pids", name).split())
