"""How many clients may be connected, of so many descriptors."""

from __future__ import annotations

import pytest

from nexus.config.schema import ServerConfig
from nexus.runtime.settings import server_limits


@pytest.mark.parametrize(
    ("descriptors", "calls", "clients"),
    [
        (256, 1000, 128),  # few: half for clients, half for backends
        (1024, 1000, 512),
        (20_000, 1000, 18_488),  # many: what calls, checks and pools need is kept
        (20_000, 100, 19_388),
        (2**63 - 1, 1000, 2**63 - 1 - 1512),
    ],
)
def test_backends_keep_their_descriptors(descriptors: int, calls: int, clients: int) -> None:
    """Each call may need one for its backend; of few descriptors clients get half."""
    limits = server_limits(ServerConfig(max_concurrent_requests=calls), descriptors)
    assert limits.connections == clients
