"""Names, addresses and ports that run short or lead astray (traps: uvloop)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.network.namespaces import Machine, Network

ROOT = Path(__file__).parents[2]


def told(machine: Machine, case: str, before: str = "true") -> str:
    """What a case of ``tests.network.trapped`` says on this machine, after a shell command there
    (files that it mounts are seen by the case alone)."""
    command = f"{before} && exec {sys.executable} -m tests.network.trapped {case}"
    done = subprocess.run(
        ["ip", "netns", "exec", machine.name, "sh", "-c", command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr[-3000:]


def test_a_name_of_two_families_and_an_engine_on_one(network: Network, tmp_path: Path) -> None:
    """A name that leads to IPv4 and IPv6 reaches an engine that listens on either alone, as
    ``localhost`` does on many machines."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 both.test localhost\n::1 both.test\n")
    machine = network.machine()
    assert told(machine, "families", f"mount --bind {hosts} /etc/hosts") == "fine\n"


def test_a_name_that_does_not_resolve(network: Network) -> None:
    """It is said to be one, of whatever form, and its backend is passed over."""
    assert told(network.machine(), "names") == "fine\n"


def test_no_local_port_left(network: Network) -> None:
    """EADDRNOTAVAIL is our own shortage: 503, no mark against the backend, which stays healthy."""
    machine = network.machine()
    for setting in ("net.ipv4.ip_local_port_range=40000 40063", "net.ipv4.tcp_tw_reuse=0"):
        network.sysctl(machine.name, setting)
    assert told(machine, "ports") == "fine\n"
