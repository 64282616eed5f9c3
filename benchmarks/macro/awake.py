"""Keeps the cores awake while something is measured.

A core with nothing to do goes to sleep, and waking it costs the one who sends it work: on a virtual
machine some 5 µs of kernel time, an exit to the host. With one core for the proxy and one for load
and upstream, the slower a proxy is, the more often the others sleep, so that its bill grows by what
it does not do. ``/dev/cpu_dma_latency`` (the kernel's PM QoS interface) held at 0 has idle cores
wait without sleeping, as under load they do anyway.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["awake"]

_DEVICE = Path("/dev/cpu_dma_latency")
_NO_LATENCY = struct.pack("i", 0)


@contextmanager
def awake(wanted: bool = True) -> Iterator[str]:
    """Cores do not sleep inside of it; tells how they are kept: ``awake`` or, where the system does
    not let us or it is not ``wanted``, ``sleeping``."""
    if not wanted:
        yield "sleeping"
        return
    try:
        device = _DEVICE.open("wb", buffering=0)
        device.write(_NO_LATENCY)
    except OSError:
        yield "sleeping"
        return
    with device:  # it holds as long as the file is open
        yield "awake"
