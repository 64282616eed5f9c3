"""Browses by Nexus's own classes and tells what they tell: ``python -m tests.network.browse``.

A JSON line on standard output for each event; commands on standard input: ``ask KEY``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from time import monotonic
from typing import Any

import msgspec
import uvloop

from nexus.discovery.announce import MdnsAnnouncer
from nexus.discovery.mdns import MdnsBrowser
from nexus.discovery.multicast import Multicast
from nexus.discovery.sighting import Sighting
from nexus.telemetry.logs import configure_logging


def say(event: str, **fields: Any) -> None:
    """One JSON line."""
    line = msgspec.json.encode({"event": event, "at_s": monotonic(), **fields})
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Browses until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--announce", default="", help="host to announce")
    parser.add_argument("--id", default="abc123")
    given = parser.parse_args()
    configure_logging("info", "json")

    def seen(sighting: Sighting) -> None:
        say("seen", **msgspec.to_builtins(sighting))

    multicast = Multicast(look_s=0.5)
    browser = MdnsBrowser(
        ("_ollama._tcp.local", "_llm._tcp.local."),
        seen,
        lambda key: say("gone", key=key),
        own_id=given.id,
        multicast=multicast,
    )
    await browser.start()
    announcer = MdnsAnnouncer(
        host=given.announce, port=8000, instance_id=given.id, version="1.2.3", multicast=multicast
    )
    if given.announce:
        await announcer.start()
    say("browsing")
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := (await reader.readline()).decode().split(maxsplit=1):
        if line[0] == "ask":
            answered = await browser.ask_again(line[1].strip())
            say("asked", key=line[1].strip(), answered=answered)
    begin_s = monotonic()
    await announcer.aclose()
    await browser.aclose()
    say("closed", took_s=monotonic() - begin_s)


if __name__ == "__main__":
    uvloop.run(main())
