"""Who takes part: advertisers (avahi, zeroconf), engines, and Nexus's browser alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.network.namespaces import Machine
from tests.processes import Process, until

__all__ = ["Advertiser", "Avahi", "Browser", "Gateway", "engine"]

_AVAHI = """[server]
host-name=gpu-box
enable-dbus=no
use-ipv4=yes
use-ipv6=yes
allow-interfaces=eth0
[wide-area]
enable-wide-area=no
[publish]
publish-hinfo=no
publish-workstation=no
"""

_SERVICE = """<?xml version="1.0" standalone='no'?>
<!DOCTYPE service-group SYSTEM "avahi-service.dtd">
<service-group><name>{name}</name><service><type>{type}</type><port>{port}</port>{txt}</service>
</service-group>
"""


def engine(
    machine: Machine, *more: str, port: int = 11434, host: str = "0.0.0.0", model: str
) -> Process:
    """A fake Ollama on ``machine``, reachable from its network; listens when this returns.
    ``more`` are further arguments of ``nexus demo-engine``."""
    process = machine.python(
        *("nexus", "demo-engine", "--dialect", "ollama", "--model", model),
        *("--host", host, "--port", str(port)),
        *more,
    )
    process.says("(demo engine listens)")
    return process


class Browser:
    """:class:`MdnsBrowser` (and announcer) in a process of its own, and what it told."""

    def __init__(self, machine: Machine, *arguments: str) -> None:
        self.process = machine.python("tests.network.browse", *arguments)
        self.process.says("(browsing)")

    def events(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """What it said of ``event``, with these fields."""
        lines = (json.loads(line) for line in self.process.output.splitlines() if line[:1] == "{")
        return [
            line for line in lines if line.get("event") == event and fields.items() <= line.items()
        ]

    def wait(self, event: str, count: int = 1, timeout_s: float = 10.0, **fields: Any) -> Any:
        """Waits until ``event`` was told ``count`` times; returns the last."""
        what = f"{count} times {event} {fields}"
        try:
            until(lambda: len(self.events(event, **fields)) >= count, what, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.process.output}") from None
        return self.events(event, **fields)[count - 1]

    def cpu_s(self) -> float:
        """The CPU time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask_again(self, key: str) -> bool:
        """Whether the advertiser of ``key`` answers on the wire."""
        before = len(self.events("asked"))
        self.process.tell(f"ask {key}")
        return bool(self.wait("asked", before + 1)["answered"])


class Advertiser:
    """One service announced by python-zeroconf, from one address."""

    def __init__(self, machine: Machine, *arguments: str, ipv6: bool = False) -> None:
        self.process = machine.python(
            *("tests.network.advertise", "--interface", machine.v6 if ipv6 else machine.v4),
            *arguments,
        )
        self._told = 0
        self.process.says("(announced)")

    def tell(self, command: str) -> None:
        """``goodbye`` or ``announce``; waits until it was done."""
        self._told += 1
        self.process.tell(command)
        until(lambda: self.process.output.count("done ") >= self._told, command)

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()


class Avahi:
    """A real avahi-daemon that serves static service files; no D-Bus is needed."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        if shutil.which("avahi-daemon") is None:
            pytest.skip("no avahi-daemon (Debian package avahi-daemon)")
        self._services = folder / f"{machine.name}-services"
        self._services.mkdir()
        self._published = 0
        configuration = folder / f"{machine.name}-avahi.conf"
        configuration.write_text(_AVAHI)
        # `ip netns exec` gives the command mounts of its own, so /run and /etc here are its own.
        self.process = machine.run(
            "bash",
            "-c",
            "mount -t tmpfs tmpfs /run && mkdir /run/avahi-daemon"
            f" && mount --bind {self._services} /etc/avahi/services"
            " && exec avahi-daemon --no-drop-root --no-chroot --no-rlimits"
            f" -f {configuration}",
        )
        self.process.says("(Server startup complete)")

    def publish(self, name: str, port: int, *txt: str, type_: str = "_ollama._tcp") -> None:
        """Announces a service, or changes it."""
        records = "".join(f"<txt-record>{one}</txt-record>" for one in txt)
        text = _SERVICE.format(name=name, type=type_, port=port, txt=records)
        new = self._services / f".{name}.new"
        new.write_text(text)
        # avahi knows a changed file by the whole second of its time alone.
        self._published += 1
        os.utime(new, times=(self._published, self._published))
        new.rename(self._services / f"{name}.service")

    def withdraw(self, name: str) -> None:
        """Says goodbye."""
        (self._services / f"{name}.service").unlink()


class Gateway:
    """A real ``nexus serve`` on port 8000 of ``machine``. Its default configuration, but for a
    short grace period and quick health checks."""

    def __init__(
        self, machine: Machine, folder: Path, more: str = "", *, grace_s: float = 2.0
    ) -> None:
        self.machine = machine
        configuration = folder / f"{machine.name}.toml"
        configuration.write_text(
            f"[server]\nhost = '0.0.0.0'\ndrain_timeout_seconds = 5\n"
            f"[discovery]\ngrace_period_seconds = {grace_s}\n"
            f"[health_check]\ninterval_seconds = 0.5\ntimeout_seconds = 2\n" + more
        )
        self.process = machine.python("nexus", "serve", "--config", str(configuration))
        self.process.says('("listening"|listening)')

    def backends(self) -> dict[str, dict[str, Any]]:
        """What its admin API says of its backends, by name."""
        status, answer = self.machine.request("GET", 8000, "/admin/v1/backends")
        assert status == 200, answer
        return {one["name"]: one for one in answer["data"]}

    def models(self) -> set[str]:
        """The models that clients may ask for."""
        status, answer = self.machine.request("GET", 8000, "/v1/models")
        assert status == 200, answer
        return {one["id"] for one in answer["data"]}

    def chat(self, model: str) -> tuple[int, Any]:
        """One chat completion; status and answer."""
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        return self.machine.request("POST", 8000, "/v1/chat/completions", body, timeout_s=30)

    def wait_for(self, model: str, timeout_s: float = 10.0) -> float:
        """Waits until ``model`` is served; returns the seconds it took."""
        return self._until(lambda: model in self.models(), f"{model} served", timeout_s)

    def wait_without(self, timeout_s: float = 15.0) -> float:
        """Waits until it has no backend; returns the seconds it took."""
        return self._until(lambda: not self.backends(), "no backend", timeout_s)

    def log(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of ``event``."""
        lines = (json.loads(line) for line in self.process.output.splitlines() if line[:1] == "{")
        return [line for line in lines if line.get("event") == event]

    def _until(self, condition: Callable[[], object], what: str, timeout_s: float) -> float:
        try:
            return until(condition, what, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.process.output[-6000:]}") from None
