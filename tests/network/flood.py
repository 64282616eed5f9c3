"""Floods the network with whole adverts, one packet each: ``python -m tests.network.flood ADDRESS
COUNT [PORT [NAME]]`` sends from this address and port."""

from __future__ import annotations

import socket
import sys
import time

from zeroconf import (  # type: ignore[attr-defined]
    DNSAddress,
    DNSOutgoing,
    DNSPointer,
    DNSService,
    DNSText,
)

_TYPE = "_ollama._tcp.local."


def main() -> None:
    """Sends, 1000 a second."""
    address, count = sys.argv[1], int(sys.argv[2])
    port = sys.argv[3] if len(sys.argv) > 3 else "5353"
    label = sys.argv[4] if len(sys.argv) > 4 else "n"
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, int(port)))
    for number in range(count):
        name, host = f"{label}{number}.{_TYPE}", f"{label}-host{number}.local."
        out = DNSOutgoing(0x8400)
        out.add_answer_at_time(DNSPointer(_TYPE, 12, 1, 4500, name), 0)
        out.add_answer_at_time(DNSService(name, 33, 0x8001, 120, 0, 0, 11434, host), 0)
        out.add_answer_at_time(DNSText(name, 16, 0x8001, 4500, b"\x00"), 0)
        packed = socket.inet_aton(f"10.77.{1 + number // 250}.{1 + number % 250}")
        out.add_answer_at_time(DNSAddress(host, 1, 0x8001, 120, packed), 0)
        sock.sendto(out.packets()[0], ("224.0.0.251", 5353))
        time.sleep(0.001)
    sys.stdout.write("sent\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
