"""Announces one service by zeroconf until told otherwise: ``python -m tests.network.advertise``.

Commands on standard input, a line each: ``goodbye`` withdraws it, ``announce`` announces it again.
SIGTERM withdraws it and ends.
"""

from __future__ import annotations

import argparse
import signal
import sys

from zeroconf import IPVersion, ServiceInfo, Zeroconf


def say(text: str) -> None:
    """One line on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Reads the arguments, announces, obeys."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--type", default="_ollama._tcp.local.")
    parser.add_argument("--name", default="tiny")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--interface", required=True, help="the address to send from")
    parser.add_argument("--address", action="append", help="announced; default: the interface's")
    parser.add_argument("--txt", action="append", default=[], help="KEY=VALUE")
    parser.add_argument("--count", type=int, default=1, help="how many instances")
    given = parser.parse_args()
    version = IPVersion.V6Only if ":" in given.interface else IPVersion.V4Only
    zeroconf = Zeroconf(interfaces=[given.interface], ip_version=version)
    infos = [
        ServiceInfo(
            given.type,
            f"{given.name}{number or ''}.{given.type}",
            parsed_addresses=given.address or [given.interface],
            port=given.port,
            properties=dict(pair.split("=", 1) for pair in given.txt),
            server=f"{given.name}-host.local.",
        )
        for number in range(given.count)
    ]
    say("announcing")
    for info in infos:
        zeroconf.register_service(info, cooperating_responders=True)
    say("announced")
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(SystemExit(0)))
    try:
        for line in sys.stdin:
            for info in infos:
                if line.strip() == "goodbye":
                    zeroconf.unregister_service(info)
                elif line.strip() == "announce":
                    zeroconf.register_service(info, cooperating_responders=True)
            say(f"done {line.strip()}")
    finally:
        zeroconf.close()


if __name__ == "__main__":
    main()
