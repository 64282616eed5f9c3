"""``python -m tests.chaos.idle PORT COUNT``: holds that many silent connections to a port.

Says ``open N`` when all are open; on standard input, ``count`` is answered by how many are still
open, and the end of it closes them all.
"""

from __future__ import annotations

import asyncio
import resource
import sys


class _Idle(asyncio.Protocol):
    """A connection that says nothing."""

    def __init__(self, alive: set[_Idle]) -> None:
        self._alive = alive

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._alive.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._alive.discard(self)


async def _hold(port: int, count: int) -> None:
    loop = asyncio.get_running_loop()
    alive: set[_Idle] = set()
    for begin in range(0, count, 500):
        dials = (
            loop.create_connection(lambda: _Idle(alive), "127.0.0.1", port)
            for _ in range(min(500, count - begin))
        )
        await asyncio.gather(*dials, return_exceptions=True)
    _say(f"open {len(alive)}")
    while await loop.run_in_executor(None, sys.stdin.readline):
        _say(f"still {len(alive)}")
    for one in list(alive):
        one.transport.close()
    await asyncio.sleep(0)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Reads the arguments and holds the connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_hold(int(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    main()
